"""`mimo restore SOURCE OUTPUT`: restore every image of a folder, bucket or list."""

from collections.abc import Sequence

from mimo_core.cli.arguments import parse
from mimo_core.runs.config import RestoreConfig


def main(argv: Sequence[str]) -> int:
    """Run the job; see `mimo_core.cli.main.run` for the exit codes."""
    config = parse(RestoreConfig, argv, "mimo restore")
    # What it imports, `--help` need not load.
    from mimo_core.cli.running import carry_out

    return carry_out("restore", config, argv)
