"""Carrying a run out from the command line: what a person sees of it, its interruption and its exit code."""

import shlex
from collections.abc import Callable, Sequence

from mimo_core.cli.display import Display
from mimo_core.cli.interruption import INTERRUPTED, end_now, interruptible
from mimo_core.cli.main import FAILED, OK, SOME_FAILED, USAGE, leave
from mimo_core.cli.mistakes import refuse_mistakes
from mimo_core.cli.streams import flush_streams
from mimo_core.errors import MimoError, SystemFailure, UsageError
from mimo_core.runs.config import RunConfig
from mimo_core.storage import Store, redact
from mimo_core.wording import Notice


def carry_out(job: str, config: RunConfig, argv: Sequence[str]) -> int:
    """Work on the run until it is finished, and print what became of it.

    Args:
        job: its name, as in `mimo restore`.
        config: what was asked for.
        argv: how, to say which command goes on after an interruption.

    Returns:
        The exit code; see `mimo_core.cli.main.run`.
    """
    refuse_mistakes(config)
    if config.dry_run:
        from mimo_core.cli.dry_run import print_dry_run

        return print_dry_run(config)

    def work(display: Display) -> int:
        # Ray takes a second to import, which `--help` need not.
        display.phase("loading the program")
        from mimo_core.cli.outcome import print_outcome
        from mimo_core.distributed.driver import run

        outcome = run(config, display)
        display.finish()
        print_outcome(outcome, config)
        return OK if outcome.tolerated(config.tolerate) else SOME_FAILED

    log = Store(config.output).name if config.log_format == "json" else None
    return attempt(job, work, lambda progressed: how_to_resume(job, config, argv, progressed=progressed), log)


def attempt(job: str, work: Callable[[Display], int], resumption: Callable[[bool], str], log: str | None = None) -> int:
    """Do the work of a job that can be resumed, and say how to go on with it where it is stopped.

    Args:
        job: its name, as in `mimo restore`.
        work: what is to be done; its exit code is returned.
        resumption: says in words, in mid-sentence, which command goes on, told whether workers have begun.
        log: see `Display`.
    """
    with Display(log) as display:

        def report(cause: str) -> None:
            display.finish()
            display.say(f"stopped by {cause}; what is committed stays; {resumption(display.progressed)}")

        def fail(text: str) -> None:
            display.finish()
            display.say(Notice(f"mimo {job}: {text}", level="error"))
            # Before there was any progress there may be nothing that could stay.
            kept = "What is committed stays. " if display.progressed else ""
            display.say(f"{kept}Once that is mended: {resumption(display.progressed)}")

        def lost(text: str) -> None:
            fail(text)
            flush_streams()
            end_now(FAILED)

        display.lost = lost
        with interruptible(report) as interruption:
            try:
                return work(display)
            except BaseException as error:
                # An interrupted library may raise something else than the interruption.
                if interruption.happened:
                    interruption.report()
                    leave(INTERRUPTED)
                if log is not None and isinstance(error, MimoError) and not isinstance(error, SystemFailure):
                    display.say(Notice(f"mimo {job}: {error}", level="error"))
                    return USAGE if isinstance(error, UsageError) else FAILED
                if not isinstance(error, SystemFailure):
                    raise
                fail(str(error))
                return FAILED


def how_to_resume(job: str, config: RunConfig, argv: Sequence[str], *, progressed: bool) -> str:
    """Return in words, in mid-sentence, which command goes on with a run that was stopped.

    `progressed` says whether workers have begun: a run that is to be started over has taken the old one's place then.
    """
    if config.mode == "overwrite" and progressed:
        # Once more, it would begin by removing what is committed.
        return "the same command without --mode overwrite goes on from here"
    return same_command(job, argv)


def same_command(job: str, argv: Sequence[str]) -> str:
    """Return that the same command goes on, with the command."""
    return f"the same command goes on from here:\n  mimo {job} {shlex.join(map(redact, argv))}"
