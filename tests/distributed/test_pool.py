"""The pool against a scheduler without Ray: growth, silence, lost connections, failed starts, deaths and quarantine."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from fake_scheduler import FakeScheduler, FakeWorker, restored

from mimo_core.distributed.resources import Demand
from mimo_core.distributed.workers.openings import MAX_STUCK_OPENINGS, OPENING_SECONDS
from mimo_core.distributed.workers.options import PoolOptions, Quarantined
from mimo_core.distributed.workers.pool import (
    MAX_DEATHS_WITHOUT_PROGRESS,
    UNREACHABLE_SECONDS,
    WorkerPool,
)
from mimo_core.distributed.workers.scheduler import (
    ResultLostError,
    WorkerDiedError,
    WorkerUnfitError,
    WorkerUnreachableError,
)
from mimo_core.distributed.workers.worker import SLOTS
from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.inference.progress import InFlight, Snapshot
from mimo_core.inference.task import Task, TaskResult

TIMEOUT = 30.0


class Trial:
    """A pool at work on a fake scheduler, and what came of it."""

    def __init__(
        self,
        slots: int,
        script: Callable[[FakeWorker], None] = lambda worker: None,
        *,
        minimum: int = 1,
        maximum: int | None = None,
    ) -> None:
        self.scheduler = FakeScheduler(slots, script)
        self.said: list[str] = []
        self.done: list[TaskResult] = []
        self.quarantined: list[Quarantined] = []
        options = PoolOptions(minimum, maximum, Demand(cpus=1), TIMEOUT)
        self.pool = WorkerPool(
            None,  # type: ignore[arg-type]
            (),
            options,
            self.said.append,
            self.scheduler,
            self.scheduler.clock,
        )

    def run(self, tasks: Iterable[Task | None], each: Callable[["Trial"], None] = lambda trial: None) -> "Trial":
        for event in self.pool.run(iter(tasks)):
            assert self.scheduler.now < 10_000, "the pool does not end"
            if isinstance(event, TaskResult):
                self.done.append(event)
            elif isinstance(event, Quarantined):
                self.quarantined.append(event)
            each(self)
        return self

    @property
    def rows_done(self) -> list[tuple[int, int]]:
        return sorted((result.task.shard, row) for result in self.done for row in result.task.rows)


def shards(number: int, rows: int = 3) -> list[Task]:
    return [Task(shard, tuple(range(rows))) for shard in range(number)]


def every_row(number: int, rows: int = 3) -> list[tuple[int, int]]:
    return [(shard, row) for shard in range(number) for row in range(rows)]


def in_flight(shard: int, row: int, seconds: float = 0.0, stage: str = "infer") -> Snapshot:
    return Snapshot((InFlight(shard, row, f"{shard}/{row}", stage, seconds),))


def first_worker(script: Callable[[FakeWorker], None]) -> Callable[[FakeWorker], None]:
    return lambda worker: script(worker) if worker.number == 0 else None


def dying_on(bad: set[tuple[int, int]], error: Callable[[], Exception], worker: FakeWorker) -> None:
    def answer(task: Task) -> Any:
        return error() if any((task.shard, row) in bad for row in task.rows) else restored(task)

    worker.answers = answer


def death(*, with_node: bool = False) -> WorkerDiedError:
    return WorkerDiedError("the worker's process has ended", with_node=with_node)


# Work


def test_every_task_is_done_once_and_the_workers_are_released() -> None:
    trial = Trial(3).run(shards(20))
    assert trial.rows_done == every_row(20)
    assert all(worker.released for worker in trial.scheduler.workers)
    assert trial.said == []


def test_no_tasks_start_no_worker() -> None:
    assert Trial(3).run([]).scheduler.workers == []


def test_a_worker_has_the_next_task_while_it_works_and_no_more() -> None:
    most: Counter[int] = Counter()

    def script(worker: FakeWorker) -> None:
        def answer(task: Task) -> TaskResult:
            waiting = len(worker.tasks) - sum(one.task in worker.tasks for one in trial.done)
            most[worker.number] = max(most[worker.number], waiting)
            return restored(task)

        worker.answers = answer

    trial = Trial(2, script)
    trial.run(shards(12))
    assert set(most.values()) == {SLOTS}


def test_closing_kills_every_worker() -> None:
    trial = Trial(2)
    for _, _event in zip(range(10), trial.pool.run(iter(shards(50))), strict=False):
        pass
    trial.pool.close()
    assert trial.scheduler.alive == []


# Growth


def test_the_pool_grows_to_what_the_cluster_has() -> None:
    trial = Trial(4).run(shards(60))
    assert len(trial.scheduler.workers) == 4


def test_the_pool_grows_no_further_than_its_maximum() -> None:
    trial = Trial(8, maximum=3).run(shards(60))
    assert len(trial.scheduler.workers) == 3


def test_the_pool_grows_when_nodes_join() -> None:
    trial = Trial(1)

    def joined(trial: Trial) -> None:
        if trial.scheduler.now > 10:
            trial.scheduler.slots = 3

    trial.run(shards(60), joined)
    assert len(trial.scheduler.workers) == 3
    assert trial.rows_done == every_row(60)


def test_no_further_worker_starts_while_one_is_starting() -> None:
    """What it will take is not yet taken, so that the room would be counted twice."""

    def script(worker: FakeWorker) -> None:
        worker.lands = worker.starts = 20.0

    trial = Trial(1, script)

    def joined(trial: Trial) -> None:
        trial.scheduler.slots = 3 if trial.scheduler.now > 5 else 1
        if trial.scheduler.now < 20:
            assert len(trial.scheduler.workers) == 1

    trial.run(shards(60), joined)
    assert len(trial.scheduler.workers) == 3


def test_a_full_cluster_is_told_at_once_and_then_every_half_minute() -> None:
    trial = Trial(0)

    def freed(trial: Trial) -> None:
        trial.scheduler.slots = 1 if trial.scheduler.now > 80 else 0

    trial.run(shards(4), freed)
    assert trial.said == ["waiting for a worker"] * 3
    assert trial.rows_done == every_row(4)


# Silence


def test_a_worker_that_falls_silent_over_its_tasks_is_replaced() -> None:
    def mute(worker: FakeWorker) -> None:
        worker.answers = lambda task: None
        worker.snapshots = lambda: None

    trial = Trial(1, first_worker(mute)).run(shards(4))
    assert trial.scheduler.workers[0].killed
    assert trial.rows_done == every_row(4)
    assert trial.said == [
        f"a worker made no progress for {TIMEOUT:g} s on nothing it would tell; it is replaced",
    ]


def test_a_worker_that_answers_is_not_replaced_however_long_its_task_takes() -> None:
    def slow(worker: FakeWorker) -> None:
        worker.seconds = 5 * TIMEOUT

    trial = Trial(1, slow).run(shards(2))
    assert len(trial.scheduler.workers) == 1
    assert trial.rows_done == every_row(2)


def test_workers_that_nobody_asked_meanwhile_are_not_silent() -> None:
    """The driver was held up, by its storage or a stop signal, when all that it had asked was answered."""
    trial = Trial(2, lambda worker: setattr(worker, "seconds", 0.2))
    held = []

    def held_up(tasks: list[Task]) -> Iterator[Task]:
        for task in tasks:
            if not held and task.shard > 2 and all(one.tasks and one.poll is None for one in trial.pool._workers):
                trial.scheduler.now += 10 * TIMEOUT
                held.append(task)
            yield task

    trial.run(held_up(shards(20)))
    assert held
    assert len(trial.scheduler.workers) == 2
    assert trial.rows_done == every_row(20)
    assert trial.said == []


def test_tasks_that_are_not_there_yet_are_waited_for() -> None:
    def dribbling(tasks: list[Task]) -> Iterator[Task | None]:
        for task in tasks:
            yield from [None] * 40
            yield task

    trial = Trial(2).run(dribbling(shards(6)))
    assert trial.rows_done == every_row(6)
    assert all(worker.released for worker in trial.scheduler.workers)
    assert Trial(2).run(iter([None, None])).scheduler.workers == []


def test_an_image_that_hangs_twice_is_quarantined_and_its_neighbours_go_on() -> None:
    def script(worker: FakeWorker) -> None:
        def answer(task: Task) -> Any:
            return None if (0, 1) in [(task.shard, row) for row in task.rows] else restored(task)

        def snapshot() -> Snapshot:
            hangs = any(task.shard == 0 and 1 in task.rows for task in worker.tasks)
            return in_flight(0, 1, worker.scheduler.now) if hangs else Snapshot()

        worker.answers, worker.snapshots = answer, snapshot

    trial = Trial(1, script).run(shards(3))
    assert [(one.task.shard, one.task.rows, one.kind) for one in trial.quarantined] == [(0, (1,), ErrorKind.TIMEOUT)]
    assert trial.rows_done == [row for row in every_row(3) if row != (0, 1)]
    assert all("on 0/1; it is replaced" in line for line in trial.said)
    assert len(trial.said) == 2


def waiting_for_storage(worker: FakeWorker, rows: set[tuple[int, int]]) -> None:
    """Let a worker come to no end with these rows, and say that it is reading them."""
    begun: dict[tuple[int, int], float] = {}

    def held() -> list[tuple[int, int]]:
        given = [(task.shard, row) for task in worker.tasks for row in task.rows]
        return [one for one in given if one in rows]

    def answer(task: Task) -> Any:
        return None if any((task.shard, row) in rows for row in task.rows) else restored(task)

    def snapshot() -> Snapshot:
        now = worker.scheduler.now
        stuck = [(one, now - begun.setdefault(one, now)) for one in held()]
        return Snapshot(tuple(InFlight(*one, f"{one[0]}/{one[1]}", "read", seconds) for one, seconds in stuck))

    worker.answers, worker.snapshots = answer, snapshot


def test_an_image_that_waits_for_its_storage_does_not_hang() -> None:
    def script(worker: FakeWorker) -> None:
        worker.seconds = 5 * TIMEOUT
        worker.snapshots = lambda: in_flight(0, 0, worker.scheduler.now, "read")

    trial = Trial(1, script).run(shards(1))
    assert trial.rows_done == every_row(1)
    assert trial.said == []


def test_a_file_that_is_read_without_end_is_laid_to_the_storage() -> None:
    trial = Trial(2, lambda worker: waiting_for_storage(worker, {(0, 1)})).run(shards(2000))
    assert [(one.task.rows, one.kind) for one in trial.quarantined] == [((1,), ErrorKind.STORAGE)]
    assert trial.rows_done == [row for row in every_row(2000) if row != (0, 1)]
    assert all("s on 0/1; it is replaced" in line for line in trial.said)


def test_a_storage_that_stalls_for_all_ends_the_run_and_blames_no_image() -> None:
    trial = Trial(2, lambda worker: waiting_for_storage(worker, set(every_row(10))))
    with pytest.raises(SystemFailure, match=r"the storage has stalled: .* and nothing else was finished") as caught:
        trial.run(shards(10))
    assert caught.value.kind is ErrorKind.STORAGE
    assert trial.quarantined == []
    assert trial.scheduler.now < 700


def waits_while(worker: FakeWorker, away: Callable[[float], bool]) -> None:
    """Let a worker finish nothing, and say what it waits for, as long as its storage is away."""
    worker.answers = lambda task: None if away(worker.scheduler.now) else restored(task)
    worker.snapshots = lambda: Snapshot(waiting="s3://b" if away(worker.scheduler.now) else None)


def test_a_node_from_which_the_storage_does_not_answer_is_left_out_while_it_serves_others() -> None:
    """It would go on waiting for minutes, with tasks that others could do."""
    trial = Trial(2, first_worker(lambda worker: waits_while(worker, lambda now: True))).run(shards(60))
    assert trial.rows_done == every_row(60)
    assert trial.scheduler.now < 70
    assert trial.said == [
        "a worker on host-0 waits for s3://b, which does not answer",
        "a worker on host-0 cannot use the storage: s3://b does not answer there; it is left out for 30 s; "
        "its 2 shards go to others",
        "no worker waits for s3://b any more",
    ]


def test_an_outage_that_all_wait_for_leaves_nobody_out() -> None:
    def script(worker: FakeWorker) -> None:
        waits_while(worker, lambda now: False)
        worker.snapshots = lambda: Snapshot(waiting="s3://b" if 10 < worker.scheduler.now < 100 else None)
        worker.answers = lambda task: slow(worker, task)

    def slow(worker: FakeWorker, task: Task) -> TaskResult:
        # What is begun before the outage comes to its end after it.
        worker.seconds = 95.0 if 5 < worker.scheduler.now < 100 else 1.0
        return restored(task)

    trial = Trial(3, script).run(shards(60))
    assert trial.rows_done == every_row(60)
    assert len(trial.scheduler.workers) == 3
    assert trial.said == [
        "a worker on host-2 waits for s3://b, which does not answer",
        "no worker waits for s3://b any more",
    ]


def test_who_notices_last_that_a_storage_is_back_is_not_left_out() -> None:
    def script(worker: FakeWorker) -> None:
        back = 30.0 if worker.number == 0 else 20.0
        waits_while(worker, lambda now: 2 < now < back)
        worker.answers = lambda task: later(worker, task, back)

    def later(worker: FakeWorker, task: Task, back: float) -> TaskResult:
        worker.seconds = back - worker.scheduler.now + 1 if worker.scheduler.now < back else 1.0
        return restored(task)

    trial = Trial(2, script).run(shards(80))
    assert trial.rows_done == every_row(80)
    assert len(trial.scheduler.workers) == 2
    assert not any("left out" in line for line in trial.said)


# Lost connections


def test_a_worker_that_is_unreachable_for_a_moment_goes_on() -> None:
    def script(worker: FakeWorker) -> None:
        lost = iter([WorkerUnreachableError("connection reset")])
        worker.snapshots = lambda: next(lost, Snapshot())

    trial = Trial(1, script).run(shards(6))
    assert len(trial.scheduler.workers) == 1
    assert trial.rows_done == every_row(6)


def test_tasks_whose_answers_were_lost_are_done_by_others_and_blamed_on_no_image() -> None:
    def script(worker: FakeWorker) -> None:
        worker.answers = lambda task: WorkerUnreachableError("connection reset")

    trial = Trial(1, first_worker(script)).run(shards(4))
    assert trial.rows_done == every_row(4)
    assert trial.scheduler.workers[0].killed
    assert {task.crashes for worker in trial.scheduler.workers for task in worker.tasks} == {0}
    assert {task.losses for task in trial.scheduler.workers[1].tasks} == {0, 1}


def test_a_worker_that_stays_unreachable_is_given_up_after_a_minute() -> None:
    def script(worker: FakeWorker) -> None:
        worker.answers = lambda task: WorkerUnreachableError("connection reset")
        worker.snapshots = lambda: WorkerUnreachableError("connection reset")

    trial = Trial(1, first_worker(script)).run(shards(4))
    assert trial.scheduler.now >= UNREACHABLE_SECONDS
    assert trial.rows_done == every_row(4)
    assert trial.said == ["a worker was lost with its node (on host-0); its 2 shards go to others"]


def test_an_answer_that_is_lost_with_its_node_is_worked_out_again() -> None:
    trial = Trial(1, first_worker(lambda worker: setattr(worker, "answers", lambda task: ResultLostError("gone")))).run(
        shards(2)
    )
    assert trial.rows_done == every_row(2)
    assert trial.quarantined == []


# Starting


def test_the_run_goes_on_without_a_worker_that_cannot_start_and_tries_there_again() -> None:
    def script(worker: FakeWorker) -> None:
        if worker.number == 1:
            worker.failure = (ErrorKind.DEVICE, "die 1 does not answer")

    trial = Trial(3, script)
    most: list[int] = []
    trial.run(shards(200), lambda trial: most.append(trial.pool.workers))
    assert trial.rows_done == every_row(200)
    assert trial.pool.failed_starts == ["die 1 does not answer"]
    assert trial.said == ["a worker on host-1 cannot start: die 1 does not answer; it is left out for 30 s"]
    # Its place stays taken for as long, by itself.
    at = most.index(3)
    assert 2 in most[:at]
    assert len(trial.scheduler.workers) == 4


def test_nodes_that_join_after_a_failed_start_are_used() -> None:
    def script(worker: FakeWorker) -> None:
        if worker.number == 1:
            worker.failure = (ErrorKind.DEVICE, "die 1 does not answer")

    trial = Trial(2, script)

    def joined(trial: Trial) -> None:
        trial.scheduler.slots = 6 if trial.scheduler.now > 10 else 2

    most: list[int] = []

    def each(trial: Trial) -> None:
        joined(trial)
        if trial.scheduler.now < 25:
            most.append(trial.pool.workers)

    trial.run(shards(300), each)
    assert max(most) == 5, "all but the place of the one that is left out"
    assert trial.rows_done == every_row(300)


def test_a_worker_that_fails_before_the_others_run_is_left_out() -> None:
    def script(worker: FakeWorker) -> None:
        if worker.number == 0:
            worker.failure = (ErrorKind.DEVICE, "die 0 does not answer")
        else:
            worker.lands, worker.starts = 5.0, 6.0

    trial = Trial(2, script, minimum=2, maximum=2).run(shards(10))
    assert trial.rows_done == every_row(10)
    assert trial.said == ["a worker on host-0 cannot start: die 0 does not answer; it is left out for 30 s"]


def test_a_worker_whose_place_another_waits_for_ends_the_run_when_it_fails() -> None:
    def script(worker: FakeWorker) -> None:
        worker.failure = (ErrorKind.DEVICE, "die 0 does not answer")

    with pytest.raises(SystemFailure, match=r"die 0 does not answer \(on host-0\)"):
        Trial(1, script, minimum=2).run(shards(10))


def test_a_run_none_of_whose_workers_can_start_stops() -> None:
    def script(worker: FakeWorker) -> None:
        worker.failure = (ErrorKind.STORAGE, "node x cannot see the output")

    with pytest.raises(SystemFailure, match="cannot see the output") as caught:
        Trial(1, script).run(shards(2))
    assert caught.value.kind is ErrorKind.STORAGE


# Opening


def test_a_worker_that_hangs_while_it_opens_its_session_is_replaced() -> None:
    trial = Trial(1, first_worker(lambda worker: setattr(worker, "starts", None))).run(shards(4))
    assert trial.scheduler.workers[0].killed
    assert trial.rows_done == every_row(4)
    assert OPENING_SECONDS < trial.scheduler.now < 2 * OPENING_SECONDS
    # It has all it needs: nobody is told that it waits for room.
    assert trial.said == ["a worker on host-0 is replaced: its session did not open within 120 s"]


def test_a_worker_that_opens_slowly_does_not_keep_others_from_starting() -> None:
    trial = Trial(4, first_worker(lambda worker: setattr(worker, "starts", None)))

    def each(trial: Trial) -> None:
        if 10 < trial.scheduler.now < 20:
            assert trial.pool.workers == 3

    trial.run(shards(1000), each)
    assert trial.rows_done == every_row(1000)
    assert trial.said == [
        "a worker on host-0 cannot start: its session did not open within 120 s; it is left out for 30 s"
    ]


def test_workers_that_all_hang_while_they_open_end_the_run_with_the_reason() -> None:
    trial = Trial(1, lambda worker: setattr(worker, "starts", None))
    with pytest.raises(SystemFailure, match=r"3 workers in a row did not start, the last one on host-2: its session"):
        trial.run(shards(2))
    assert len(trial.scheduler.workers) == MAX_STUCK_OPENINGS


def test_a_worker_for_which_there_is_no_room_is_not_hung() -> None:
    trial = Trial(0)

    def freed(trial: Trial) -> None:
        trial.scheduler.slots = 1 if trial.scheduler.now > 3 * OPENING_SECONDS else 0

    trial.run(shards(2), freed)
    assert set(trial.said) == {"waiting for a worker"}
    assert len(trial.scheduler.workers) == 1


# Storage


def out_of_reach(worker: FakeWorker) -> None:
    def answer(task: Task) -> TaskResult:
        failure = (ErrorKind.NO_PERMISSION, "s3://b/x: the credentials are missing")
        return replace(restored(task), records={}, failure=failure)

    worker.answers = answer


def test_a_node_that_cannot_use_the_storage_is_left_out_and_its_tasks_go_to_others() -> None:
    trial = Trial(3, lambda worker: out_of_reach(worker) if worker.number == 1 else None).run(shards(20))
    assert trial.rows_done == every_row(20)
    assert trial.said == [
        "a worker on host-1 cannot use the storage: s3://b/x: the credentials are missing; it is left out for 30 s; "
        "its 2 shards go to others"
    ]
    assert all(not task.suspect for worker in trial.scheduler.workers for task in worker.tasks)
    trial.pool.close()
    assert trial.scheduler.alive == []


def test_a_node_that_is_left_out_is_tried_again_ever_less_often() -> None:
    def script(worker: FakeWorker) -> None:
        # Whoever starts there: the first two are elsewhere.
        if worker.number > 1:
            worker.host = "sick"
            out_of_reach(worker)

    trial = Trial(3, script).run(shards(600))
    assert trial.rows_done == every_row(600)
    waits = [line.partition("left out for ")[2].partition(";")[0] for line in trial.said]
    assert waits == ["30 s", "60 s", "120 s", "240 s"][: len(waits)]
    assert len(waits) >= 3
    assert all(line.startswith("a worker on sick cannot use the storage") for line in trial.said)


def test_a_node_that_is_mended_works_again() -> None:
    def script(worker: FakeWorker) -> None:
        if worker.number == 1:
            out_of_reach(worker)

    trial = Trial(2, script)
    most: list[int] = []
    trial.run(shards(200), lambda trial: most.append(trial.pool.workers))
    assert len(trial.scheduler.workers[2].tasks) > 50
    assert trial.rows_done == every_row(200)


def test_a_storage_that_fails_for_every_worker_ends_the_run_and_starts_no_more_of_them() -> None:
    trial = Trial(40, out_of_reach, minimum=3, maximum=3)
    with pytest.raises(SystemFailure, match=r"the credentials are missing \(on host-\d\)") as caught:
        trial.run(shards(30))
    assert caught.value.kind is ErrorKind.NO_PERMISSION
    assert len(trial.scheduler.workers) == 3


def test_a_shard_that_no_worker_gets_done_ends_the_run() -> None:
    """Its part of the plan is damaged, say."""

    def script(worker: FakeWorker) -> None:
        def answer(task: Task) -> TaskResult:
            failure = (ErrorKind.STORAGE, "shard 3 of the plan cannot be read")
            return replace(restored(task), records={}, failure=failure) if task.shard == 3 else restored(task)

        worker.answers = answer

    with pytest.raises(SystemFailure, match="shard 3 of the plan cannot be read"):
        Trial(3, script).run(shards(10_000))


# Deaths


def test_a_death_with_its_node_blames_no_image() -> None:
    script = first_worker(lambda worker: setattr(worker, "answers", lambda task: death(with_node=True)))
    trial = Trial(1, script).run(shards(3))
    assert trial.rows_done == every_row(3)
    assert all(not task.suspect for worker in trial.scheduler.workers for task in worker.tasks)


def test_a_death_on_a_node_that_is_gone_since_blames_no_image() -> None:
    def script(worker: FakeWorker) -> None:
        worker.node = "lost"
        worker.answers = lambda task: death()

    trial = Trial(1, first_worker(script))
    trial.scheduler.dead_nodes.add("lost")
    trial.run(shards(3))
    assert trial.rows_done == every_row(3)
    assert all(not task.suspect for worker in trial.scheduler.workers for task in worker.tasks)


def test_a_shard_that_is_lost_with_its_node_again_and_again_ends_the_run() -> None:
    def script(worker: FakeWorker) -> None:
        worker.answers = lambda task: death(with_node=True)

    with pytest.raises(SystemFailure, match="was given to worker after worker, and none finished it"):
        Trial(1, script).run(shards(1))


def test_poison_images_are_quarantined_and_every_other_is_done() -> None:
    bad = {(0, 2), (3, 0), (3, 5)}
    trial = Trial(2, lambda worker: dying_on(bad, death, worker)).run(shards(5, rows=8))
    found = sorted((one.task.shard, *one.task.rows) for one in trial.quarantined)
    assert found == sorted(bad)
    assert trial.rows_done == [row for row in every_row(5, rows=8) if row not in bad]
    assert {one.kind for one in trial.quarantined} == {ErrorKind.CRASHED_WORKER}


def test_a_suspect_is_alone_with_its_worker() -> None:
    def script(worker: FakeWorker) -> None:
        dying_on({(1, 1)}, death, worker)
        inner = worker.answers

        def answer(task: Task) -> Any:
            held = [one for one in trial.pool._workers if one.worker is worker]
            others = [one for handle in held for one in handle.tasks.values()]
            if task.suspect:
                assert others == [], "a suspect shares its worker"
            assert not any(one.suspect for one in others), "a suspect gets company"
            return inner(task)

        worker.answers = answer

    trial = Trial(2, script)
    trial.run(shards(12))
    assert [one.task.rows for one in trial.quarantined] == [(1,)]


def test_workers_that_die_whatever_they_do_end_the_run() -> None:
    trial = Trial(2, lambda worker: setattr(worker, "answers", lambda task: death()))
    with pytest.raises(SystemFailure, match=f"{MAX_DEATHS_WITHOUT_PROGRESS} workers died in a row"):
        trial.run(shards(40))


def test_deaths_between_which_images_are_finished_do_not_end_the_run() -> None:
    bad = {(shard, 0) for shard in range(0, 40, 2)}
    trial = Trial(2, lambda worker: dying_on(bad, death, worker)).run(shards(40, rows=2))
    assert len(trial.quarantined) == len(bad)


def test_a_session_that_died_counts_like_its_worker() -> None:
    def script(worker: FakeWorker) -> None:
        worker.answers = lambda task: replace(restored(task), records={}, failure=(ErrorKind.DEVICE, "die 0 fell"))

    trial = Trial(1, first_worker(script)).run(shards(3))
    assert trial.scheduler.workers[0].killed
    assert trial.rows_done == every_row(3)


def test_a_storage_that_fails_for_a_task_ends_the_run() -> None:
    def script(worker: FakeWorker) -> None:
        worker.answers = lambda task: replace(restored(task), records={}, failure=(ErrorKind.STORAGE, "disk full"))

    with pytest.raises(SystemFailure, match="disk full"):
        Trial(1, script).run(shards(3))


def test_an_image_whose_workers_others_have_killed_is_restored_at_the_end() -> None:
    deaths = 0

    def script(worker: FakeWorker) -> None:
        def answer(task: Task) -> Any:
            nonlocal deaths
            if task.last or (1, 1) not in [(task.shard, row) for row in task.rows]:
                return restored(task)
            deaths += 1
            return death()

        worker.answers = answer

    trial = Trial(3, script).run(shards(12))
    assert trial.rows_done == every_row(12)
    assert trial.quarantined == []
    assert deaths > 3


def test_the_last_try_has_the_cluster_to_itself() -> None:
    trial = Trial(4, lambda worker: dying_on({(1, 1), (3, 0)}, death, worker), minimum=4)
    beside: list[int] = []

    def each(trial: Trial) -> None:
        last = [worker for worker in trial.scheduler.alive if worker.tasks and worker.tasks[-1].last]
        beside.extend(len(trial.scheduler.alive) for _ in last)

    trial.run(shards(12), each)
    assert set(beside) == {1}
    assert sorted((one.task.shard, one.task.rows, one.task.last) for one in trial.quarantined) == [
        (1, (1,), True),
        (3, (0,), True),
    ]
    assert trial.rows_done == [row for row in every_row(12) if row not in [(1, 1), (3, 0)]]


def test_many_poison_images_do_not_end_the_run_at_their_last_tries() -> None:
    bad = {(shard, 0) for shard in range(2 * MAX_DEATHS_WITHOUT_PROGRESS)}
    trial = Trial(2, lambda worker: dying_on(bad, death, worker)).run(shards(2 * MAX_DEATHS_WITHOUT_PROGRESS))
    assert {(one.task.shard, one.task.rows[0]) for one in trial.quarantined} == bad


def test_a_kill_for_memory_is_called_so() -> None:
    def killed() -> WorkerDiedError:
        return WorkerDiedError("the node was running low on memory", with_node=False, for_memory=True)

    trial = Trial(2, lambda worker: dying_on({(1, 1)}, killed, worker)).run(shards(4))
    assert [one.kind for one in trial.quarantined] == [ErrorKind.OUT_OF_MEMORY]
    assert any(line.startswith("a worker was killed for want of memory on host-") for line in trial.said)


def test_a_node_on_which_the_program_cannot_run_is_left_out() -> None:
    def script(worker: FakeWorker) -> None:
        if worker.number == 1:
            worker.lost = WorkerUnfitError("the program cannot run there: No module named 'cv2'")

    trial = Trial(2, script, minimum=2, maximum=2).run(shards(6))
    assert trial.rows_done == every_row(6)
    assert trial.said == [
        "a worker while starting cannot start: the program cannot run there: No module named 'cv2'; it is left out for "
        "30 s"
    ]


def test_a_cluster_on_which_the_program_cannot_run_ends_the_run_at_once() -> None:
    def script(worker: FakeWorker) -> None:
        worker.lost = WorkerUnfitError("the program cannot run there: No module named 'cv2'")

    trial = Trial(2, script, minimum=2, maximum=2)
    with pytest.raises(SystemFailure, match="No module named 'cv2'"):
        trial.run(shards(6))
    assert len(trial.scheduler.workers) == 2


def test_a_node_that_is_to_go_away_gets_no_more_tasks_and_hands_back_what_it_has_not_begun() -> None:
    def script(worker: FakeWorker) -> None:
        worker.node = f"node-{worker.number}"
        worker.seconds = 5.0

    def drain(trial: Trial) -> None:
        if trial.scheduler.now >= 8:
            trial.scheduler.draining_nodes.add("node-0")

    trial = Trial(2, script, minimum=2, maximum=2).run(shards(24), drain)
    leaving = trial.scheduler.workers[0]
    assert leaving.handed_back
    assert leaving.killed
    # Those of before the notice.
    assert len(leaving.tasks) <= 6
    assert sum("a node is to go away" in line for line in trial.said) == 1
    assert trial.rows_done == every_row(24)


def test_rows_that_come_back_are_given_to_others() -> None:
    def script(worker: FakeWorker) -> None:
        worker.answers = lambda task: (
            replace(restored(task), records={0: restored(task).records[0]}) if len(task.rows) == 3 else restored(task)
        )

    trial = Trial(2, script).run(shards(6))
    assert sorted((one.task.shard, row) for one in trial.done for row in one.records) == every_row(6)
    assert {one.task.attempt for one in trial.done} == {1}
