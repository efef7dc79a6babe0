"""What a run asks of its cluster: on a fake scheduler, and of a real autoscaler that adds nodes and takes them away."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from archives import TORCH, assert_same_run, count_outputs, make_archive, restore_undisturbed
from fake_scheduler import FakeScheduler, FakeWorker
from fixtures_clusters import Cluster, autoscaling_cluster
from fixtures_runs import Runs
from processes import marked, wait_until

from mimo_core.distributed.execution.prefetch import Prefetch
from mimo_core.distributed.resources import Demand
from mimo_core.distributed.workers.options import PoolOptions
from mimo_core.distributed.workers.pool import WorkerPool
from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.inference.task import Task, TaskResult


def work(
    shards: int,
    scheduler: FakeScheduler,
    each: Callable[[], None],
    *,
    minimum: int = 1,
    maximum: int | None = None,
    asks: bool = True,
) -> set[int]:
    """Let a pool work on so many shards of one image; return those that are done."""
    options = PoolOptions(minimum, maximum, Demand(cpus=1), timeout=30.0, asks=asks)
    pool = WorkerPool(None, (), options, lambda text: None, scheduler, scheduler.clock)  # type: ignore[arg-type]
    tasks = Prefetch((Task(shard, (0,)) for shard in range(shards)), 256)
    wait_until(lambda: len(tasks) == min(shards, 256), "tasks are read ahead")
    done = set()
    for event in pool.run(tasks):
        assert scheduler.now < 10_000, "the pool does not end"
        if isinstance(event, TaskResult):
            done.add(event.task.shard)
        each()
    return done


def test_a_run_asks_for_more_workers_than_there_is_room_for_and_grows_where_it_is_given() -> None:
    scheduler = FakeScheduler(1)
    most = []

    def grow() -> None:
        # An autoscaler: in the end there is room for all that is asked for.
        most.append(len(scheduler.alive))
        if scheduler.now > 10:
            scheduler.slots = min(64, max(scheduler.slots, len(scheduler.alive)))

    assert work(500, scheduler, grow) == set(range(500))
    assert most[0] == 8
    assert max(most) > 32


def test_it_asks_for_no_more_than_there_is_work_for() -> None:
    scheduler = FakeScheduler(1)
    most = []
    assert work(5, scheduler, lambda: most.append(len(scheduler.alive))) == set(range(5))
    assert max(most) == 5
    # The last ones to wait for a place are given up before the last tasks are done.
    assert most[-1] <= 1


@pytest.mark.parametrize(("maximum", "asks", "expected"), [(3, True, 3), (None, False, 1)])
def test_it_asks_for_no_more_than_it_may(maximum: int | None, asks: bool, expected: int) -> None:
    scheduler = FakeScheduler(1)
    most = []
    work(20, scheduler, lambda: most.append(len(scheduler.alive)), maximum=maximum, asks=asks)
    assert max(most) == expected


def test_workers_that_wait_for_a_place_do_not_hide_that_none_can_start() -> None:
    def broken(worker: FakeWorker) -> None:
        worker.failure = (ErrorKind.DEVICE, "no such device")

    with pytest.raises(SystemFailure, match="no such device"):
        work(20, FakeScheduler(1, broken), lambda: None)


def nodes(cluster: Cluster) -> int:
    """How many nodes there are besides the head."""
    return sum("raylet/raylet" in command for command in marked(f"{cluster.mark}-head").values()) - 1


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_grows_from_nothing_with_the_work_and_shrinks_to_nothing(
    runs: Runs, tmp_path: Path, tiny_weights: Path
) -> None:
    source, output, undisturbed = tmp_path / "in", tmp_path / "out", tmp_path / "undisturbed"
    keys = make_archive(source, 120)
    restore_undisturbed(source, undisturbed, tiny_weights)
    options = (*TORCH, "--weights", tiny_weights, "--shard-size", 3, "--cpus-per-worker", 1)
    with autoscaling_cluster(4) as made:
        assert nodes(made) == 0
        run = runs.start(source, output, *options, on=made, faults="pause-image:0.5")
        run.until(lambda: len(made.workers()) == 4, "four workers")
        run.until(lambda: count_outputs(output) > 10, "outputs")
        # What nobody asks for any more goes, also where nobody could take the request back.
        os.kill(run.process.pid, signal.SIGKILL)
        wait_until(lambda: nodes(made) == 0, "an empty cluster")
        again = runs.start(source, output, *options, on=made)
        again.until(lambda: nodes(made) > 1, "nodes")
        finished = again.end()
        assert finished.code == 0, finished.text
        wait_until(lambda: nodes(made) == 0, "an empty cluster")
    assert_same_run(output, undisturbed, keys)
