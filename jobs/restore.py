"""`mimo restore SOURCE OUTPUT`: restore every image of a folder, bucket or list."""

import sys
from collections.abc import Sequence

from jobs.arguments import parse
from jobs.main import entry
from jobs.running import carry_out
from mimo_core.config import RestoreConfig


def main(argv: Sequence[str]) -> int:
    """Run the job; see `jobs.main.run` for the exit codes."""
    return carry_out("restore", parse(RestoreConfig, argv, "mimo restore"), argv)


if __name__ == "__main__":
    entry("restore", sys.argv[1:])
