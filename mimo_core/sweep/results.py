"""What became of the cells of a sweep, as results.json has it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mimo_core.sweep.comparison import Difference
from mimo_core.sweep.figures import Figures
from mimo_core.sweep.sweep_config import Choices

Status = Literal["done", "not_run"]


@dataclass(frozen=True)
class Result:
    """What became of one cell.

    Attributes:
        name: of the cell.
        choices: what makes it another cell than its neighbours.
        status: whether every image of it has its record.
        reason: why it was not run; empty for one that was.
        figures: what it came to.
        baseline: name of the cell that it is compared with; its own where it is the baseline.
        differences: from that cell, by score.
    """

    name: str
    choices: Choices
    status: Status
    reason: str = ""
    figures: Figures | None = None
    baseline: str | None = None
    differences: dict[str, Difference] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Result:
        """Return the inverse of `to_json`."""
        figures = plain["figures"]
        return cls(
            name=plain["name"],
            choices=plain["choices"],
            status=plain["status"],
            reason=plain["reason"],
            figures=None if figures is None else Figures(**figures),
            baseline=plain["baseline"],
            differences={score: Difference(**values) for score, values in plain["differences"].items()},
        )
