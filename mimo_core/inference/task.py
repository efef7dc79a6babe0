"""What travels between the driver and its workers: shard numbers and row numbers one way, records the other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mimo_core.errors import ErrorKind, UsageError

if TYPE_CHECKING:
    from mimo_core.engines import Telemetry
    from mimo_core.runs.record import Record


@dataclass(frozen=True)
class Task:
    """A shard, or some rows of one, to be restored by one worker.

    Attributes:
        shard: number of the shard in the plan.
        rows: rows of the shard in increasing order.
        attempt: 1 for the first try of these images; written into their records.
        crashes: times that a worker died or hung while it had these rows.
        losses: times that the rows were lost with a node, for which no image is to blame.
        last: whether it is the last try, when nothing else is worked on.
    """

    shard: int
    rows: tuple[int, ...]
    attempt: int = 1
    crashes: int = 0
    losses: int = 0
    last: bool = False

    def __post_init__(self) -> None:
        if not self.rows or list(self.rows) != sorted(set(self.rows)):
            raise UsageError(f"a task needs distinct rows in increasing order, got {self.rows}")

    @property
    def suspect(self) -> bool:
        """Whether these rows must have a worker of their own, so that the next death tells who is to blame."""
        return self.crashes > 0


@dataclass(frozen=True)
class TaskResult:
    """What a worker made of a task: the records of its rows, or the failure that stopped it as a whole.

    A worker that was to hand back what it had not begun gives the records of some rows only, and no failure.

    Attributes:
        busy_seconds: time that the accelerator computed for it.
        peak_memory: most main memory that the worker's process has held so far, in bytes.
        device: host and name of the accelerator.
        telemetry: what the accelerator told of itself since the last result, where it does.
    """

    task: Task
    records: dict[int, Record] = field(default_factory=dict)
    failure: tuple[ErrorKind, str] | None = None
    busy_seconds: float = 0.0
    peak_memory: int = 0
    device: str = ""
    telemetry: Telemetry | None = None

    @property
    def left(self) -> Task | None:
        """What of the task was handed back."""
        rows = tuple(row for row in self.task.rows if row not in self.records)
        return replace(self.task, rows=rows) if rows and self.failure is None else None
