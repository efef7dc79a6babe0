"""One driver's work on a real run folder, with a scheduler without Ray: every row one record, each shard one part."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_scheduler import FakeScheduler, FakeWorker, restored
from inprocess import recipe_of

from mimo_core.datasets.imagelist import ImageEntry
from mimo_core.distributed.execution.execution import Execution, TooManyFailuresError
from mimo_core.distributed.outcome import Outcome
from mimo_core.distributed.preparation import Prepared
from mimo_core.distributed.resources import Demand
from mimo_core.distributed.workers.options import PoolOptions
from mimo_core.distributed.workers.pool import WorkerPool
from mimo_core.distributed.workers.scheduler import WorkerDiedError
from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.inference.fault_hook import Faults
from mimo_core.inference.progress import RunProgress
from mimo_core.inference.task import Task, TaskResult
from mimo_core.runs.config import RestoreConfig
from mimo_core.runs.folder import RunFolder, RunManifest
from mimo_core.runs.lease import Lease, LeaseLostError
from mimo_core.runs.plan import read_plan
from mimo_core.runs.plan_writer import write_plan
from mimo_core.runs.record import Record
from mimo_core.storage import Store

IMAGES, SHARD = 14, 4


class RecordingObserver:
    """Keeps what an execution says and shows."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.shown: list[RunProgress] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def phase(self, text: str) -> None:
        pass

    def lost(self, text: str) -> None:
        raise AssertionError(text)

    def progress(self, progress: RunProgress) -> None:
        self.shown.append(progress)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run of fourteen images in four shards that nobody has worked on."""
    run = RunFolder(Store(str(tmp_path / "out")))
    entries = (ImageEntry(f"{number:02d}.png", f"/in/{number:02d}.png", None, 100, "1") for number in range(IMAGES))
    write_plan(run.store, entries, shard_size=SHARD)
    run.begin(RunManifest.of(config_of(run), recipe_of()))
    return run


def config_of(folder: RunFolder, **options: object) -> RestoreConfig:
    return RestoreConfig.model_validate({"source": "/in", "output": str(folder.store), **options})


def work(
    folder: RunFolder,
    script: Callable[[FakeWorker], None] = lambda worker: None,
    *,
    observer: RecordingObserver | None = None,
    lease: Lease | None = None,
    **options: object,
) -> Outcome:
    """Work on the run as one driver does, with two workers."""
    observer = observer or RecordingObserver()
    config, recipe, plan = config_of(folder, **options), recipe_of(), read_plan(folder.store)
    assert plan is not None
    scheduler = FakeScheduler(2, script)
    demand = Demand(cpus=1)
    pool = WorkerPool(
        None,  # type: ignore[arg-type]
        (),
        PoolOptions(1, None, demand, config.timeout),
        observer.say,
        scheduler,
        scheduler.clock,
    )
    held = lease or Lease.acquire(folder.store, observer.say)
    try:
        return Execution(config, folder, held, Prepared(recipe, plan, demand), pool, observer, Faults()).run()
    finally:
        held.release()
        assert scheduler.alive == [], "workers are left"


def answering(make: Callable[[Task], Any]) -> Callable[[FakeWorker], None]:
    return lambda worker: setattr(worker, "answers", make)


def with_failures(rows: set[tuple[int, int]], kind: ErrorKind = ErrorKind.TRUNCATED) -> Callable[[Task], TaskResult]:
    """Results in which these rows have failed."""

    def answer(task: Task) -> TaskResult:
        result = restored(task)
        for row in task.rows:
            if (task.shard, row) in rows:
                key = f"{task.shard}/{row}"
                result.records[row] = Record(
                    key, f"/in/{key}", "failed", error_kind=kind.value, error="why", attempt=task.attempt
                )
        return result

    return answer


def records(folder: RunFolder) -> dict[int, list[Record]]:
    return {shard: folder.read(shard) for shard in sorted(folder.committed())}


def test_every_shard_becomes_one_part_in_the_order_of_its_rows(folder: RunFolder) -> None:
    observer = RecordingObserver()
    outcome = work(folder, observer=observer)
    found = records(folder)
    assert [len(rows) for rows in found.values()] == [4, 4, 4, 2]
    assert [row.key for row in found[1]] == ["1/0", "1/1", "1/2", "1/3"]
    assert (outcome.statistics.images, outcome.statistics.restored, outcome.session_images) == (14, 14, 14)
    assert outcome.devices == ("fake",)
    summary = json.loads(folder.store.read("summary.json"))
    assert summary["records"]["restored"] == 14
    assert (observer.shown[-1].done, observer.shown[-1].total) == (14, 14)


def test_what_is_committed_is_not_done_again(folder: RunFolder) -> None:
    given: list[Task] = []

    def note(task: Task) -> TaskResult:
        given.append(task)
        return restored(task)

    with pytest.raises(SystemFailure, match="disk full"):
        work(folder, answering(lambda task: stopping_at(2, task)))
    done = folder.committed()
    assert 2 not in done
    outcome = work(folder, answering(note))
    assert {task.shard for task in given} == {0, 1, 2, 3} - done
    assert outcome.statistics.images == 14
    assert outcome.session_images == 14 - sum(len(folder.read(shard)) for shard in done)


def stopping_at(shard: int, task: Task) -> TaskResult:
    if task.shard == shard:
        return TaskResult(task, failure=(ErrorKind.STORAGE, "disk full"))
    return restored(task)


def test_failed_images_alone_are_tried_again_and_the_part_is_replaced(folder: RunFolder) -> None:
    bad = {(1, 0), (3, 1)}
    assert work(folder, answering(with_failures(bad))).statistics.failed == 2
    given: list[Task] = []

    def note(task: Task) -> TaskResult:
        given.append(task)
        return restored(task)

    outcome = work(folder, answering(note), mode="retry-failed")
    assert sorted((task.shard, task.rows, task.attempt) for task in given) == [(1, (0,), 2), (3, (1,), 2)]
    assert (outcome.statistics.restored, outcome.statistics.failed, outcome.session_images) == (14, 0, 2)
    assert [row.attempt for row in folder.read(1)] == [2, 1, 1, 1]


def test_an_image_that_kills_its_worker_gets_its_record_and_the_shard_is_committed(folder: RunFolder) -> None:
    def fatal(task: Task) -> Any:
        if task.shard == 1 and 2 in task.rows:
            return WorkerDiedError("killed", with_node=False)
        return restored(task)

    observer = RecordingObserver()
    outcome = work(folder, answering(fatal), observer=observer)
    assert (outcome.statistics.restored, outcome.statistics.failed) == (13, 1)
    row = folder.read(1)[2]
    assert (row.key, row.source, row.error_kind) == ("06.png", "/in/06.png", "crashed_worker")
    reason = "its worker died on this image alone, three times, at last when nothing else ran"
    assert f"06.png: {reason}; recorded as crashed_worker" in observer.said


def test_the_run_stops_when_more_images_fail_than_allowed_and_goes_on_later(folder: RunFolder) -> None:
    bad = {(0, 0), (1, 0), (2, 0)}
    with pytest.raises(TooManyFailuresError, match="3 images failed, more than --max-failed 2 allows"):
        work(folder, answering(with_failures(bad)), max_failed="2")
    assert folder.summary() is None
    outcome = work(folder, answering(with_failures(bad)), max_failed="25%")
    assert (outcome.statistics.images, outcome.statistics.failed) == (14, 3)


def test_what_fails_for_a_reason_outside_of_images_at_the_very_end_is_recorded(folder: RunFolder) -> None:
    """Fewer than the breaker needs: nothing can show any more that the cause lies outside."""
    everything = {(shard, row) for shard in range(4) for row in range(SHARD)}
    outcome = work(folder, answering(with_failures(everything, ErrorKind.STORAGE)))
    assert outcome.statistics.error_kinds == {"storage": 14}


def test_a_driver_that_has_lost_its_lease_commits_nothing(folder: RunFolder) -> None:
    lease = Lease.acquire(folder.store, print)
    assert folder.store.create("lease/epoch-00000099.json", b"{}")
    with pytest.raises(LeaseLostError, match="another driver has taken this run over"):
        work(folder, lease=lease)
    assert folder.committed() == set()
    assert folder.summary() is None


def test_a_worker_that_could_not_start_stands_in_the_summary(folder: RunFolder) -> None:
    def script(worker: FakeWorker) -> None:
        if worker.number == 1:
            worker.failure = (ErrorKind.DEVICE, "die 1 does not answer")

    assert work(folder, script).failed_starts == ("die 1 does not answer",)
    assert json.loads(folder.store.read("summary.json"))["last_session"]["failed_starts"] == ["die 1 does not answer"]


class SlowFolder(RunFolder):
    """A run's folder whose second part cannot be read before the first one has been replaced."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.replaced = threading.Event()
        self.in_time = True

    def read(self, shard: int) -> list[Record]:
        if shard == 1:
            self.in_time = self.replaced.wait(60)
        return super().read(shard)

    def commit(self, *arguments: Any, **options: Any) -> Any:
        statistics = super().commit(*arguments, **options)
        self.replaced.set()
        return statistics


def test_work_goes_on_while_it_is_read_what_is_left_to_do(folder: RunFolder) -> None:
    """It may be in a hundred thousand parts of a bucket."""
    work(folder, answering(with_failures({(0, 1), (1, 2)})))
    slow = SlowFolder(folder.store)
    assert work(slow, mode="retry-failed").statistics.restored == IMAGES
    assert slow.in_time
