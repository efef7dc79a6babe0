"""A scheduler without Ray for unit tests of the pool: workers are scripts, and time passes only while it waits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mimo_core.distributed.resources import Demand
from mimo_core.distributed.workers.scheduler import Started
from mimo_core.distributed.workers.worker import WorkerInfo, WorkerSetup
from mimo_core.errors import ErrorKind
from mimo_core.inference.progress import Snapshot
from mimo_core.inference.task import Task, TaskResult
from mimo_core.runs.record import Record


@dataclass(eq=False)
class FakeCall:
    """A call that is answered at a time of the scheduler's clock, by a value or an error; at None never."""

    at: float | None
    answer: Any


@dataclass(eq=False)
class FakeWorker:
    """A worker whose answers a test decides.

    Attributes:
        number: from 0 in the order of starting.
        tasks: what it was given.
        seconds: how long a task takes.
        lands: how long it takes until its process runs, None for ever.
        starts: how long it takes to be ready, None for ever, and
        failure: what keeps it from becoming so.
        lost: the error that every call to it ends with.
        answers: what it makes of a task; by default a result with a record a row.
        snapshots: what it tells of itself; an error is raised to the pool; None: it does not answer.
        node, host: where it is.
    """

    number: int
    scheduler: "FakeScheduler"
    tasks: list[Task] = field(default_factory=list)
    seconds: float = 1.0
    lands: float | None = 0.0
    starts: float | None = 1.0
    failure: tuple[ErrorKind, str] | None = None
    lost: Exception | None = None
    answers: Callable[[Task], Any] = lambda task: restored(task)
    snapshots: Callable[[], Any] = Snapshot
    node: str = "node"
    host: str = ""
    killed: bool = False
    released: bool = False
    waits: bool = False
    handed_back: bool = False
    landing: FakeCall | None = None

    @property
    def name(self) -> str:
        """Of its host."""
        return self.host or f"host-{self.number}"

    def here(self) -> FakeCall:
        self.landing = self.scheduler.call(None if self.waits else self.lands, self.lost or self.name)
        return self.landing

    def ready(self) -> FakeCall:
        info = WorkerInfo(self.node, self.name, 1000 + self.number, "fake")
        return self.scheduler.call(self.starts, self.lost or self.failure or info)

    def process(self, task: Task) -> FakeCall:
        self.tasks.append(task)
        answer = self.answers(task)
        return self.scheduler.call(None if answer is None else self.seconds, answer)

    def hand_back(self) -> FakeCall:
        self.handed_back = True
        return self.scheduler.call(0.0, None)

    def snapshot(self) -> FakeCall:
        answer = self.snapshots()
        return self.scheduler.call(None if answer is None else 0.0, answer)


class FakeScheduler:
    """Room for so many workers on nodes that are all alive; `script` prepares each worker before it starts."""

    def __init__(self, slots: int, script: Callable[[FakeWorker], None] = lambda worker: None) -> None:
        self.slots = slots
        self.now = 0.0
        self.workers: list[FakeWorker] = []
        self.dead_nodes: set[str] = set()
        self.draining_nodes: set[str] = set()
        self._script = script
        self._queue: list[tuple[FakeWorker, FakeCall]] = []

    def clock(self) -> float:
        return self.now

    def call(self, seconds: float | None, answer: Any) -> FakeCall:
        return FakeCall(None if seconds is None else self.now + seconds, answer)

    @property
    def alive(self) -> list[FakeWorker]:
        return [worker for worker in self.workers if not worker.killed and not worker.released]

    def start(self, demand: Demand, setup: WorkerSetup, networks: tuple[Any, ...]) -> Started:
        worker = FakeWorker(len(self.workers), self)
        self._script(worker)
        full = self.room(demand) < 1
        self.workers.append(worker)
        ready = worker.ready()
        if full:
            worker.waits = True
            ready.at = None
            self._queue.append((worker, ready))
        return Started(worker, demand, ready)

    def room(self, demand: Demand) -> int:
        return max(0, self.slots - len(self.alive))

    def prepare(self, demand: Demand) -> None:
        pass

    def wait(self, calls: Sequence[FakeCall], timeout: float) -> list[FakeCall]:
        self._queue = [one for one in self._queue if not one[0].killed]
        while self._queue and len(self.alive) - len(self._queue) < self.slots:
            worker, ready = self._queue.pop(0)
            ready.at = None if worker.starts is None else self.now + worker.starts
            if worker.landing is not None and worker.lands is not None:
                worker.landing.at = self.now + worker.lands
        due = [call.at for call in calls if call.at is not None]
        soonest = min(due, default=self.now + timeout)
        self.now = max(self.now, min(soonest, self.now + timeout))
        return [call for call in calls if call.at is not None and call.at <= self.now]

    def result(self, call: FakeCall) -> Any:
        if isinstance(call.answer, Exception):
            raise call.answer
        return call.answer

    def release(self, demand: Demand, worker: FakeWorker) -> None:
        worker.released = True

    def kill(self, worker: FakeWorker) -> None:
        worker.killed = True

    def has_node(self, node: str) -> bool:
        return node not in self.dead_nodes

    def draining(self) -> frozenset[str]:
        return frozenset(self.draining_nodes)

    def describe_shortage(self, demand: Demand) -> str:
        return "waiting for a worker"

    def close(self) -> None:
        pass


def restored(task: Task) -> TaskResult:
    """A result in which every row is restored."""
    records = {
        row: Record(f"{task.shard}/{row}", f"/in/{task.shard}/{row}", "restored", attempt=task.attempt)
        for row in task.rows
    }
    return TaskResult(task, records, busy_seconds=0.5, device="host: fake")
