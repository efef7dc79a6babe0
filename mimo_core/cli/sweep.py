"""`mimo sweep SWEEP.yaml OUTPUT`: evaluate every cell of a grid, each a run of its own, and print one table."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from mimo_core.cli.arguments import parse


class SweepArguments(BaseModel):
    """Evaluate every cell of the grids in SWEEP (a YAML file), each a run of its own under OUTPUT; print one table."""

    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "recipes/sweep.yaml out/sweep --dry-run",
        "recipes/sweep.yaml out/sweep",
    )

    model_config = ConfigDict(frozen=True, extra="forbid")

    sweep: str = Field(description="YAML file with data, grids, cells, exclude, options and baseline")
    output: str = Field(description="folder or bucket prefix of the sweep; resumed where it holds one")
    dry_run: bool = Field(False, description="print the grid, and do nothing")


def main(argv: Sequence[str]) -> int:
    """Run the job; see `mimo_core.cli.main.run`. 3: some cell was not run, or some image of one failed."""
    arguments = parse(SweepArguments, argv, "mimo sweep")
    # NumPy and Arrow, which `--help` need not load.
    from mimo_core.cli.sweeping import carry_out

    return carry_out(arguments.sweep, arguments.output, argv, dry_run=arguments.dry_run)
