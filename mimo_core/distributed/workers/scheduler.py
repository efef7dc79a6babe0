"""The scheduler as the pool sees it: it starts workers, carries calls to them, and says how a call ended.

In a run it is Ray's (`ray_scheduler`); unit tests of the pool have one of their own, with a clock that they turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mimo_core.distributed.resources import Demand
from mimo_core.distributed.workers.worker import WorkerSetup
from mimo_core.errors import MimoError
from mimo_core.inference.task import Task

Call = Any
"""A call to a worker that has not been answered yet; opaque, and usable as a key of a dictionary."""


class WorkerUnreachableError(MimoError):
    """The worker cannot be reached just now; whether it lives is not known yet."""


class WorkerDiedError(MimoError):
    """The worker's process is gone.

    Attributes:
        with_node: whether its node went too, for which no image is to blame.
        for_memory: whether it is known to have been killed because its node ran out of memory.
    """

    def __init__(self, message: str, *, with_node: bool, for_memory: bool = False) -> None:
        super().__init__(message)
        self.with_node = with_node
        self.for_memory = for_memory


class WorkerUnfitError(MimoError):
    """The worker's process cannot run the program: a package is missing there, or another one is in its place."""


class ResultLostError(MimoError):
    """The worker had answered, and the answer went with the node that kept it."""


class Worker(Protocol):
    """A worker that was started; its calls return at once."""

    def here(self) -> Call:
        """Ask for the name of its host, answered as soon as its process runs, whatever its session does."""

    def ready(self) -> Call:
        """Ask for its `WorkerInfo`, or for the failure that kept its session from opening."""

    def process(self, task: Task) -> Call:
        """Give it a task; the answer is a `TaskResult`."""

    def hand_back(self) -> Call:
        """Let it begin no more images; its tasks come back as soon as those under way are finished."""

    def snapshot(self) -> Call:
        """Ask for the `Snapshot` of what it is doing."""


@dataclass(frozen=True)
class Started:
    """A worker that was asked for: what it takes, and the call that answers with its `WorkerInfo` or failure."""

    worker: Worker
    demand: Demand
    ready: Call


class Scheduler(Protocol):
    """What starts workers and carries calls to them."""

    def start(self, demand: Demand, setup: WorkerSetup, networks: tuple[Any, ...]) -> Started:
        """Start a worker, or take one that an earlier run has left.

        Args:
            demand: what it reserves.
            setup: what it is made from.
            networks: references to its further arguments.
        """

    def room(self, demand: Demand) -> int:
        """Return how many workers can be started now."""

    def prepare(self, demand: Demand) -> None:
        """Stop the workers of earlier runs that do not have what is asked for now."""

    def wait(self, calls: Sequence[Call], timeout: float) -> list[Call]:
        """Return the calls that are answered, as soon as one is; none after `timeout` seconds."""

    def result(self, call: Call) -> Any:
        """Return the answer to a call.

        Raises:
            WorkerUnreachableError, WorkerUnfitError, WorkerDiedError, ResultLostError: there is none.
            SystemFailure: the worker or Ray failed in a way that another try does not mend.
        """

    def release(self, demand: Demand, worker: Worker) -> None:
        """Take back a worker that has finished what it was given."""

    def kill(self, worker: Worker) -> None:
        """End a worker at once."""

    def has_node(self, node: str) -> bool:
        """Return whether the node of this identity is alive."""

    def draining(self) -> frozenset[str]:
        """Return the identities of the nodes that are about to go away."""

    def describe_shortage(self, demand: Demand) -> str:
        """Say what a worker waits for and what there is of it."""

    def close(self) -> None:
        """Stop all workers that wait for another run."""
