"""What a pool is told, and what it tells of tasks."""

from dataclasses import dataclass

from mimo_core.distributed.resources import Demand
from mimo_core.inference.task import Task, TaskResult


@dataclass(frozen=True)
class Quarantined:
    """A task of one image that killed its worker (or hung it) even alone; it is not tried again."""

    task: Task
    hung: bool


Event = TaskResult | Quarantined


@dataclass(frozen=True)
class PoolOptions:
    """How many workers (a maximum of None is what the cluster has), what each takes, and when one counts as hung."""

    minimum: int
    maximum: int | None
    demand: Demand
    timeout: float
