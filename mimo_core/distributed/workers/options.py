"""What a pool is told, and what it tells of tasks."""

from dataclasses import dataclass

from mimo_core.distributed.resources import Demand
from mimo_core.errors import ErrorKind
from mimo_core.inference.task import Task, TaskResult


@dataclass(frozen=True)
class Quarantined:
    """A task of one image that killed its worker (or hung it) even alone; not tried again, and recorded by a kind."""

    task: Task
    kind: ErrorKind


Event = TaskResult | Quarantined


@dataclass(frozen=True)
class PoolOptions:
    """How many workers (a maximum of None is what the cluster has), what each takes, and when one counts as hung.

    `timeout` is for an image, `patience` for a storage that is away, in seconds. With `asks`, workers are asked for
    that there is no room for yet, so that a cluster which can grow does.
    """

    minimum: int
    maximum: int | None
    demand: Demand
    timeout: float
    patience: float = 300.0
    asks: bool = False
