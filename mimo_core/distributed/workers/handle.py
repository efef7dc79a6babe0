"""A worker as the pool sees it."""

from dataclasses import dataclass, field

from mimo_core.distributed.resources import Demand
from mimo_core.distributed.workers.scheduler import Call, Started, Worker
from mimo_core.distributed.workers.worker import SLOTS, WorkerInfo
from mimo_core.inference.progress import Snapshot
from mimo_core.inference.task import Task
from mimo_core.wording import Notice, count


@dataclass(eq=False)
class WorkerHandle:
    """A worker with what it was given and what it last said.

    Attributes:
        worker: what calls go to.
        demand: what it takes.
        ready: the call that its `WorkerInfo` or failure answers.
        here: the call that its host answers as soon as its process runs; None afterwards.
        host: where it is, once its process runs, and
        opening_since: since when it opens its session there.
        leaving: whether its node is to go away, so that it gets no more tasks.
        waits: whether there was no room for it when it was asked for.
        info: where it is in full, once it is ready.
        tasks: what it works on, by the calls that the results answer.
        snapshot: what it last said of itself.
        reported: images in the results that came back.
        poll: the call that the next snapshot answers, if it was asked for one, and
        polled: when it was, in seconds of the pool's clock, as all times here.
        lost_calls: calls whose answers were lost.
        waiting_since: since when it waits for a storage that does not answer, None while it does not, and
        waited_until: when it last ceased to.
        progressed: when it last finished an image.
        unreachable_since: since when it cannot be reached; None while it can.
    """

    worker: Worker
    demand: Demand
    ready: Call
    here: Call | None = None
    host: str | None = None
    opening_since: float = 0.0
    leaving: bool = False
    waits: bool = False
    info: WorkerInfo | None = None
    tasks: dict[Call, Task] = field(default_factory=dict)
    snapshot: Snapshot = field(default_factory=Snapshot)
    reported: int = 0
    poll: Call | None = None
    polled: float = 0.0
    lost_calls: set[Call] = field(default_factory=set)
    waiting_since: float | None = None
    waited_until: float = 0.0
    progressed: float = 0.0
    unreachable_since: float | None = None

    @classmethod
    def of(cls, started: Started, *, waits: bool = False) -> "WorkerHandle":
        """Take a worker that was asked for, and ask it where it is."""
        return cls(started.worker, started.demand, started.ready, started.worker.here(), waits=waits)

    @property
    def calls(self) -> list[Call]:
        """The calls that an answer may still come to."""
        ready = [self.ready] if self.info is None else []
        asked = [call for call in (self.here, self.poll) if call is not None]
        return [*ready, *asked, *(call for call in self.tasks if call not in self.lost_calls)]

    @property
    def unreported(self) -> int:
        """Images that it has finished in tasks that are not finished."""
        return max(0, self.snapshot.finished - self.reported)

    @property
    def has_suspect(self) -> bool:
        """Whether it has a task that must be alone with it."""
        return any(task.suspect for task in self.tasks.values())

    @property
    def takes_more(self) -> bool:
        """Whether it can be given another task."""
        return self.info is not None and len(self.tasks) < SLOTS and not self.has_suspect and not self.leaving

    @property
    def where(self) -> str:
        """The host it is on, in words."""
        return f"on {self.host}" if self.host is not None else "while starting"

    @property
    def place(self) -> str:
        """Where it is, and whether it has begun to work, in words."""
        starting = self.info is None and self.host is not None
        return f"{self.where} while starting" if starting else self.where

    def notice(self, text: str, shard: int | None = None) -> Notice:
        """Return a text that is about it."""
        return Notice(text, shard=shard, worker=self.host)

    @property
    def tasks_go_on(self) -> str:
        """What becomes of its tasks when it is given up, in words that end a sentence."""
        shards = len(self.tasks)
        return f"; its {count(shards, 'shard')} {'goes' if shards == 1 else 'go'} to others" if shards else ""
