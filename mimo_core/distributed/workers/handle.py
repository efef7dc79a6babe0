"""A worker as the pool sees it."""

from dataclasses import dataclass, field
from typing import Any

import ray

from mimo_core.distributed.resources import Demand
from mimo_core.distributed.workers.worker import WorkerInfo
from mimo_core.errors import SystemFailure
from mimo_core.inference.progress import Snapshot
from mimo_core.inference.task import Task


@dataclass
class Member:
    """An actor with what it was given and what it last said.

    Attributes:
        actor: the worker.
        demand: what it takes.
        ready: reference to its `WorkerInfo` or failure.
        info: where it is, once it is ready.
        tasks: what it works on, by references to the results.
        snapshot: what it last said of itself.
        reported: images in the results that came back.
        poll: reference to the next snapshot, if it is asked for one, and
        polled: when it was; all times are those of the monotonic clock.
        answered: when it last answered.
        lost: references that went astray.
        doubted: since when it cannot be reached.
    """

    actor: Any
    demand: Demand
    ready: Any
    info: WorkerInfo | None = None
    tasks: dict[Any, Task] = field(default_factory=dict)
    snapshot: Snapshot = field(default_factory=Snapshot)
    reported: int = 0
    poll: Any = None
    polled: float = 0.0
    answered: float = 0.0
    lost: set[Any] = field(default_factory=set)
    doubted: float | None = None

    @property
    def exclusive(self) -> bool:
        """Whether it has a task that must be alone with it."""
        return any(task.suspect for task in self.tasks.values())

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return f"on {self.info.host}" if self.info is not None else "while starting"

    def node_is_lost(self, error: Exception) -> bool:
        """Whether an error of its calls means that its node is gone, and no image is to blame."""
        if isinstance(error, SystemFailure):
            return False
        if getattr(error, "preempted", False) or "node has died" in str(error).lower():
            return True
        if self.info is None:
            return False
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        return self.info.node not in alive
