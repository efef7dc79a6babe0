"""Putting the results of tasks together until every row of a shard has its record."""

from dataclasses import dataclass

from mimo_core.inference.task import Task
from mimo_core.runs.record import Record


@dataclass
class _Open:
    """A shard whose records are not complete yet."""

    rows: int
    records: dict[int, Record]


class Assembly:
    """Collects records by shard; a shard that is complete is given out once."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}

    def begin(self, task: Task, rows: int, kept: dict[int, Record]) -> None:
        """Expect a shard of so many rows, of which `kept` have their records from before."""
        assert len(task.rows) + len(kept) == rows
        self._open[task.shard] = _Open(rows, dict(kept))

    def add(self, shard: int, records: dict[int, Record]) -> list[Record] | None:
        """Add records by row; return the shard's records in the order of rows once all are there."""
        entry = self._open[shard]
        assert not entry.records.keys() & records.keys(), f"shard {shard}: a row has two records"
        entry.records.update(records)
        if len(entry.records) < entry.rows:
            return None
        del self._open[shard]
        return [entry.records[row] for row in range(entry.rows)]
