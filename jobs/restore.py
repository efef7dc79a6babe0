"""`mimo restore SOURCE OUTPUT`: restore every image of a folder, bucket or list."""

import shlex
import sys
from collections.abc import Sequence

from jobs.arguments import parse
from jobs.display import Display
from jobs.interruption import INTERRUPTED, interruptible
from jobs.main import FAILED, OK, SOME_FAILED, entry, leave
from mimo_core.config import RestoreConfig
from mimo_core.errors import SystemFailure
from mimo_core.storage import redact


def main(argv: Sequence[str]) -> int:
    """Run the job; see `jobs.main.run` for the exit codes."""
    config = parse(RestoreConfig, argv, "mimo restore")
    if config.dry_run:
        from jobs.rehearsal import rehearse

        return rehearse(config)
    with Display() as display:

        def farewell(cause: str) -> None:
            display.finish()
            display.say(f"stopped by {cause}; what is committed stays; {how_to_resume(config, argv)}")

        with interruptible(farewell) as interruption:
            try:
                # Ray takes a second to import, which `--help` need not.
                from cluster.driver import restore
                from jobs.outcome import print_outcome

                outcome = restore(config, display)
            except BaseException as error:
                # An interrupted library may raise something else than the interruption.
                if interruption.happened:
                    interruption.say_farewell()
                    leave(INTERRUPTED)
                if not isinstance(error, SystemFailure):
                    raise
                display.finish()
                display.say(f"mimo restore: {error}")
                display.say(f"What is committed stays. Once that is mended: {how_to_resume(config, argv)}")
                return FAILED
        display.finish()
        print_outcome(outcome, config)
    return SOME_FAILED if outcome.statistics.failed else OK


def how_to_resume(config: RestoreConfig, argv: Sequence[str]) -> str:
    """Return in words, in mid-sentence, which command goes on with a run that was stopped."""
    if config.mode == "overwrite":
        # Once more, it would begin by removing what is committed.
        return "the same command without --mode overwrite goes on from here"
    return f"the same command goes on from here:\n  mimo restore {shlex.join(map(redact, argv))}"


if __name__ == "__main__":
    entry("restore", sys.argv[1:])
