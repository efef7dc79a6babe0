"""`mimo evaluate SOURCE REFERENCE OUTPUT`: restore in memory and score against ground truth."""

from collections.abc import Sequence

from mimo_core.cli.arguments import parse
from mimo_core.runs.config import EvaluateConfig


def main(argv: Sequence[str]) -> int:
    """Run the job; see `mimo_core.cli.main.run` for the exit codes."""
    config = parse(EvaluateConfig, argv, "mimo evaluate")
    # What it imports, `--help` need not load.
    from mimo_core.cli.running import carry_out

    return carry_out("evaluate", config, argv)
