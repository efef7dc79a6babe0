"""What is going on right now: images in flight, totals, and rates."""

import threading
import time

import pytest

from mimo_core.inference.progress import BusyClock, ProgressBoard, RateMeter, RunProgress, within


def test_an_image_is_in_flight_while_a_stage_has_it() -> None:
    board = ProgressBoard()
    with board.stage("infer", 3, {0: "a", 2: "b"}) as watch:
        seen = board.snapshot().in_flight
        assert {(one.shard, one.row, one.key, one.stage) for one in seen} == {
            (3, 0, "a", "infer"),
            (3, 2, "b", "infer"),
        }
        time.sleep(0.02)
    assert board.snapshot().in_flight == ()
    assert watch.milliseconds >= 20


def test_a_stage_that_fails_leaves_nothing_in_flight() -> None:
    board = ProgressBoard()
    with pytest.raises(RuntimeError), board.stage("read", 0, {0: "a"}):
        raise RuntimeError
    assert board.snapshot().in_flight == ()


def test_a_tick_is_a_sign_of_life() -> None:
    board = ProgressBoard()
    with board.stage("infer", 0, {0: "a"}):
        time.sleep(0.05)
        before = board.snapshot().in_flight[0].seconds
        board.tick(0, {0: "a", 9: "gone"}, 1, 2)
        after = board.snapshot().in_flight[0].seconds
    assert before >= 0.05 > after


def test_an_image_of_many_tiles_says_how_far_it_is() -> None:
    board = ProgressBoard()
    with board.stage("infer", 0, {0: "small.png", 1: "wall.tif"}):
        assert within(board.snapshot().in_flight) == ""
        board.tick(0, {0: "small.png"}, 3, 4)
        assert within(board.snapshot().in_flight) == ""
        board.tick(0, {1: "wall.tif"}, 57, 130)
        assert within(board.snapshot().in_flight) == "wall.tif: tile 57 of 130"
    assert within(board.snapshot().in_flight) == ""


def test_many_threads_are_counted_without_loss() -> None:
    board = ProgressBoard()

    def work(shard: int) -> None:
        for row in range(200):
            with board.stage("read", shard, {row: "x"}):
                pass
            board.finish(failed=row % 4 == 0)

    threads = [threading.Thread(target=work, args=(shard,)) for shard in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = board.snapshot()
    assert (snapshot.finished, snapshot.failed, snapshot.in_flight) == (800, 200, ())


def test_rates_over_the_run_and_over_the_last_seconds() -> None:
    meter = RateMeter(window=10)
    assert (meter.now, meter.run) == (0.0, 0.0)
    for second in range(101):
        meter.note(second * 2 if second <= 50 else 100 + (second - 50) * 6, float(second))
    assert meter.now == pytest.approx(6)
    assert meter.run == pytest.approx(4)


def test_a_rate_is_never_negative_nor_without_time() -> None:
    meter = RateMeter()
    meter.note(10, 1.0)
    assert (meter.now, meter.run) == (0.0, 0.0)
    meter.note(4, 2.0)
    assert (meter.now, meter.run) == (0.0, 0.0)


def test_the_share_of_nothing_is_all() -> None:
    assert RunProgress(0, 0, 0, 0, 0, None, 1).share == 1
    assert RunProgress(4, 1, 0, 0, 0, None, 1).share == 0.25


def test_time_that_several_share_is_counted_once() -> None:
    clock, noted = BusyClock(), list[float]()
    begun = time.monotonic()
    with clock.work(noted.append):
        with clock.work(noted.append):
            time.sleep(0.05)
        with clock.work(noted.append):
            time.sleep(0.05)
    assert len(noted) == 3
    assert 0.1 <= sum(noted) <= time.monotonic() - begun
    # What lies between is not work.
    time.sleep(0.05)
    with clock.work(noted.append):
        pass
    assert noted[3] < 0.05
