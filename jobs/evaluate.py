"""`mimo evaluate SOURCE REFERENCE OUTPUT`: restore in memory and score against ground truth."""

import sys
from collections.abc import Sequence

from jobs.arguments import parse
from jobs.main import entry
from jobs.running import carry_out
from mimo_core.config import EvaluateConfig


def main(argv: Sequence[str]) -> int:
    """Run the job; see `jobs.main.run` for the exit codes."""
    return carry_out("evaluate", parse(EvaluateConfig, argv, "mimo evaluate"), argv)


if __name__ == "__main__":
    entry("evaluate", sys.argv[1:])
