"""A worker's pipeline: read and decode ahead, infer on one thread, encode, write and score behind it, all bounded."""

from __future__ import annotations

import platform
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mimo_core.engines import Monitored, Session, SessionHost, SessionSpec, Telemetry
from mimo_core.errors import ErrorKind, ImageError, SystemFailure, UsageError
from mimo_core.hardware import peak_memory
from mimo_core.images.cache import DecodedImages
from mimo_core.inference.fault_hook import Faults
from mimo_core.inference.loaded import Loaded
from mimo_core.inference.memory import MemoryBudget
from mimo_core.inference.open_restorer import AnyRestorer, restorer_by
from mimo_core.inference.progress import BusyClock, ProgressBoard, Snapshot
from mimo_core.inference.restorer import Restoration
from mimo_core.inference.stages import Stages
from mimo_core.inference.task import Task, TaskResult
from mimo_core.metrics.definitions import need_values
from mimo_core.metrics.scorer import open_scorer
from mimo_core.runs.plan import COMMIT, DamagedPlanError, PlanRow, ShardReader, read_plan
from mimo_core.runs.recipe import Recipe
from mimo_core.runs.record import Record
from mimo_core.storage import Store
from mimo_core.storage.outages import waited_for

if TYPE_CHECKING:
    from mimo_core.metrics.fid.extractor import FeatureExtractor


@dataclass(frozen=True)
class PipelineOptions:
    """How wide the pipeline is. Nothing here changes a byte of the outputs.

    Attributes:
        readers: threads that read and decode ahead of the session.
        writers: threads that encode, write, hash and score behind it.
        memory: bytes of decoded pixels held at once.
    """

    readers: int = 2
    writers: int = 2
    memory: int = 2 << 30

    def __post_init__(self) -> None:
        if self.readers < 1 or self.writers < 1 or self.memory < 1:
            raise UsageError(f"a pipeline needs at least one reader, one writer and some memory, got {self}")


class _Running:
    """A task on its way: its records so far, the failure that stopped it, and what of it is still under way."""

    def __init__(self, task: Task, conclude: Callable[[_Running], TaskResult]) -> None:
        self.task = task
        self._conclude = conclude
        self.future: Future[TaskResult] = Future()
        self.records: dict[int, Record] = {}
        self.failure: tuple[ErrorKind, str] | None = None
        self.busy = 0.0
        self._lock = threading.Lock()
        # One for the feeding itself, one for each image under way.
        self._open = 1

    def fail(self, kind: ErrorKind, message: str) -> None:
        """Stop the task as a whole; the first failure is the one that is told."""
        with self._lock:
            self.failure = self.failure or (kind, message)

    def worked(self, seconds: float) -> None:
        """Note for how long the accelerator computed for it."""
        with self._lock:
            self.busy += seconds

    def begin(self) -> None:
        """Note that one more image is under way."""
        with self._lock:
            self._open += 1

    def end(self) -> None:
        """Note that an image, or the feeding, has ended; the last one to end gives the task's result."""
        with self._lock:
            self._open -= 1
            if self._open:
                return
        if self.failure is None and len(self.records) != len(self.task.rows):
            # A shard that is never complete would make the run end as if all were well.
            missing = sorted(set(self.task.rows) - self.records.keys())
            self.failure = ErrorKind.INTERNAL, f"rows {missing[:5]} of shard {self.task.shard} came out without records"
        self.future.set_result(self._conclude(self))


@dataclass(frozen=True)
class _Item:
    """An image on its way: its place in the pipeline's order, its task and row, and its loading."""

    ticket: int
    running: _Running
    index: int
    row: PlanRow
    loading: Future[Loaded]


_Group = list[tuple[_Item, Loaded]]


@dataclass(frozen=True)
class _TaskEnd:
    """Says to the inferring thread that no more images of this task follow."""

    running: _Running


class Pipeline:
    """Works with one session, from construction to `close`. Tasks are restored in the order of their submission.

    Three kinds of threads work in it. The feeder reads the rows of each task and hands them to the readers, in order,
    as far ahead as the bounds allow; the inferring thread takes the loaded images in the same order, groups
    neighbours of equal shape into batches, and never waits for storage as long as the readers keep up; the writers
    finish each image. Where the session takes several calls at once, the inferring thread hands single images on to so
    many threads, so that the accelerator does not wait while the host prepares one image and puts another together.

    Raises:
        SystemFailure: the session cannot be opened.
    """

    def __init__(
        self,
        output: Store,
        recipe: Recipe,
        session: SessionSpec | SessionHost,
        options: PipelineOptions,
        faults: Faults | None = None,
        extractor: FeatureExtractor | None = None,
        decoded: DecodedImages | None = None,
    ) -> None:
        """Open the session, unless it is given one, which it leaves open.

        Args:
            output: the run's folder.
            recipe: what is done.
            session: what to open, or an open session of that kind that nobody else uses meanwhile.
            options: how wide it is.
            faults: to be played.
            extractor: where the run asks for features of its images.
            decoded: where decoded images are kept that may be wanted again.
        """
        self._output = output
        self._shards: ShardReader | None = None
        self._recipe = recipe
        self._board = ProgressBoard()
        self._clock = BusyClock()
        host = session if isinstance(session, SessionHost) else SessionHost(session)
        self._own = None if host is session else host
        monitored = host.session
        self._take_telemetry: Callable[[], Telemetry | None] = (
            monitored.take_telemetry if isinstance(monitored, Monitored) else lambda: None
        )
        self._budget = MemoryBudget(options.memory, recipe.batch)
        self._window = threading.BoundedSemaphore(options.readers + options.writers + 2 * recipe.batch)
        self._tasks: queue.SimpleQueue[_Running | None] = queue.SimpleQueue()
        self._loaded: queue.SimpleQueue[_Item | _TaskEnd | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(options.readers, "read")
        self._writers = ThreadPoolExecutor(options.writers, "write")
        self.device_name = host.session.device_name
        scorer = open_scorer(recipe.metrics, host.spec.device)
        self._stages = Stages(
            output, recipe, self.device_name, self._board, faults or Faults(), scorer, extractor, decoded
        )
        self._feeding = threading.Thread(target=self._feed_for_ever, name="feed", daemon=True)
        self._feeding.start()
        self._inferring = host.do(self._infer_for_ever)

    def submit(self, task: Task) -> Future[TaskResult]:
        """Queue a task; its result holds one record for each of its rows, or the failure that stopped it."""
        running = _Running(task, self._conclude)
        self._tasks.put(running)
        return running.future

    def snapshot(self) -> Snapshot:
        """Return what is going on, at any time and from any thread."""
        return replace(self._board.snapshot(), waiting=waited_for())

    def close(self) -> None:
        """Finish what was submitted, then give the session back if it is its own."""
        self._tasks.put(None)
        self._feeding.join()
        self._inferring.result()
        if self._own is not None:
            self._own.close()
        self._readers.shutdown()
        self._writers.shutdown()

    def _conclude(self, running: _Running) -> TaskResult:
        return TaskResult(
            running.task,
            running.records,
            running.failure,
            running.busy,
            peak_memory(),
            f"{platform.node()} {self.device_name}",
            self._take_telemetry(),
        )

    # Feeding

    def _feed_for_ever(self) -> None:
        ticket = 0
        while (running := self._tasks.get()) is not None:
            for index, row in self._rows(running):
                if running.failure is not None:
                    break
                self._window.acquire()
                self._budget.expect(ticket)
                running.begin()
                loading = self._readers.submit(self._load, ticket, running.task, index, row)
                self._loaded.put(_Item(ticket, running, index, row, loading))
                ticket += 1
            self._loaded.put(_TaskEnd(running))
        self._loaded.put(None)

    def _rows(self, running: _Running) -> list[tuple[int, PlanRow]]:
        """Read the rows of a task from the plan; where that fails, the task fails and has none."""
        task = running.task
        try:
            rows = self._plan_reader().shard(task.shard)
            return [(index, rows[index]) for index in task.rows]
        except (SystemFailure, ImageError) as error:
            running.fail(error.kind, f"shard {task.shard} of the plan cannot be read: {error}")
        except UsageError as error:
            running.fail(ErrorKind.INTERNAL, f"shard {task.shard} of the plan cannot be read: {error}")
        except IndexError:
            running.fail(ErrorKind.INTERNAL, f"shard {task.shard} has {len(rows)} rows, no row {task.rows[-1]}")
        return []

    def _plan_reader(self) -> ShardReader:
        if self._shards is None:
            plan = read_plan(self._output)
            if plan is None:
                raise DamagedPlanError(f"{self._output.show(COMMIT)} is gone")
            self._shards = ShardReader(plan)
        return self._shards

    def _load(self, ticket: int, task: Task, index: int, row: PlanRow) -> Loaded:
        loaded = self._stages.load(task, index, row)
        self._budget.acquire(ticket, loaded.nbytes)
        return loaded

    # Inferring

    def _infer_for_ever(self, session: Session) -> None:
        restorer = restorer_by(self._recipe, session, keep_values=need_values(self._recipe.metrics))
        if restorer.calls == 1:
            self._infer_in_groups(lambda group: self._infer(restorer, group), self._recipe.tile_policy.batch_of)
        else:
            with ThreadPoolExecutor(restorer.calls, "infer") as threads:
                self._infer_in_groups(lambda group: threads.submit(self._infer, restorer, group), lambda *_: 1)

    def _infer_in_groups(self, infer: Callable[[_Group], object], most: Callable[[int, int], int]) -> None:
        """Take the loaded images in order and infer neighbours of equal shape together, at most so many."""
        group: _Group = []
        while (item := self._loaded.get()) is not None:
            if isinstance(item, _TaskEnd):
                # Batches end with their task, so that they depend on the plan alone.
                infer(group)
                group = []
                item.running.end()
                continue
            loaded = self._loaded_or_recorded(item)
            if loaded is None:
                continue
            if group and not loaded.like(group[0][1]):
                infer(group)
                group = []
            group.append((item, loaded))
            if len(group) == most(*loaded.pixels.shape[:2]):
                infer(group)
                group = []

    def _loaded_or_recorded(self, item: _Item) -> Loaded | None:
        """Wait for the image; where it cannot be loaded, see to its record and return None."""
        try:
            loaded = item.loading.result()
        except SystemFailure as failure:
            item.running.fail(failure.kind, str(failure))
        except Exception as error:  # noqa: BLE001 - becomes the image's record
            self._record(item, self._stages.failure(item.running.task, item.row, error))
        else:
            if item.running.failure is None:
                return loaded
        self._release(item)
        return None

    def _infer(self, restorer: AnyRestorer, group: _Group) -> None:
        if not group:
            return
        running = group[0][0].running
        restorations: Sequence[Restoration | Exception]
        try:
            with self._clock.work(running.worked):
                restorations, seconds = self._stages.infer(
                    restorer, running.task, [(item.index, item.row, loaded) for item, loaded in group]
                )
        except SystemFailure as failure:
            running.fail(failure.kind, str(failure))
            restorations, seconds = [], 0.0
        except Exception as error:  # noqa: BLE001 - becomes the image's record
            if len(group) > 1:
                # One image may be to blame; its neighbours are not.
                for one in group:
                    self._infer(restorer, [one])
                return
            restorations, seconds = [error], 0.0
        for (item, loaded), restoration in zip(group, restorations, strict=False):
            self._writers.submit(self._write, item, loaded, restoration, seconds / len(group), len(group))
        if not restorations:
            for item, _ in group:
                self._release(item)

    # Writing

    def _write(
        self, item: _Item, loaded: Loaded, restoration: Restoration | Exception, infer_seconds: float, batch: int
    ) -> None:
        try:
            if isinstance(restoration, Exception):
                raise restoration
            record = self._stages.finish(item.running.task, item.index, item.row, loaded, restoration, infer_seconds)
            self._record(item, replace(record, batch=batch))
        except SystemFailure as failure:
            item.running.fail(failure.kind, str(failure))
        except Exception as error:  # noqa: BLE001 - becomes the image's record
            self._record(item, self._stages.failure(item.running.task, item.row, error, loaded))
        finally:
            self._release(item)

    def _record(self, item: _Item, record: Record) -> None:
        item.running.records[item.index] = record
        self._board.finish(failed=record.status == "failed")

    def _release(self, item: _Item) -> None:
        self._budget.release(item.ticket)
        self._window.release()
        item.running.end()
