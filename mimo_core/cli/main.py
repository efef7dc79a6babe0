"""The `mimo` command: finds the job by name and turns its outcome into an exit code."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NoReturn

from mimo_core.cli.interruption import INTERRUPTED, end_now
from mimo_core.cli.streams import flush_streams, mend_streams, show
from mimo_core.errors import MimoError, UsageError
from mimo_core.version import __version__

GROUPS = {
    "runs": {
        "restore": "restore every image of a folder, bucket or list",
        "evaluate": "restore in memory and score against ground truth, or score what another tool restored",
        "sweep": "evaluate a grid of choices, and end in one table",
    },
    "looking at archives": {
        "triage": "look at each image without the network, and predict what restoring it would gain",
        "preview": "restore a sample in several ways, on one page to choose by",
    },
    "looking at runs": {
        "status": "show how far a run is, from any machine, while it works or after",
        "report": "write one page about a run, several runs or a sweep: scores, speed, failures, pictures",
        "verify": "check a finished run: every image once, every output as its record says",
    },
    "weights": {
        "weights": "list, inspect and convert network weights",
        "export": "write a network as ONNX, for other runtimes and compilers",
        "quantize": "prepare weights for int8, with a report of what that costs",
        "train": "train or fine-tune weights",
    },
    "this machine": {
        "bench": "measure restoring on this machine",
        "doctor": "say what this machine has for all this, and what is wrong with it",
        "completion": "make bash, zsh or fish complete jobs and options",
    },
}
JOBS = {name: text for group in GROUPS.values() for name, text in group.items()}
_EXAMPLES = (
    "mimo restore photos restored",
    "mimo restore s3://archive/2019 s3://restored/2019",
    "mimo evaluate GoPro/test GoPro/test scores",
    "mimo report scores",
)

OK, FAILED, USAGE, SOME_FAILED = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mimo JOB ...` and return the exit code: 0, or 3 if images failed, 2 wrong use, 130 interrupted, 1 else."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        _print_help()
        return OK if arguments else USAGE
    if arguments[0] in ("-V", "--version"):
        print(f"mimo {__version__}")
        return OK
    job = arguments[0]
    if job not in JOBS:
        near = get_close_matches(job, JOBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(JOBS)}"
        show(f"mimo: no job is named {job!r}; {hint}", sys.stderr)
        return USAGE
    return run(job, arguments[1:])


def run(job: str, argv: Sequence[str]) -> int:
    """Run one job with its arguments; errors become a line on standard error and an exit code."""
    try:
        return int(import_module(f"mimo_core.cli.{job}").main(list(argv)))
    except UsageError as error:
        show(f"mimo {job}: {error}", sys.stderr)
        return USAGE
    except MimoError as error:
        show(f"mimo {job}: {error}", sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"mimo {job}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`mimo status | head`): nothing is left to say.
        return FAILED


def entry(job: str, argv: Sequence[str]) -> NoReturn:
    """Run one job as a process of its own (`python -m jobs.<job>`)."""
    mend_streams()
    leave(run(job, argv))


def cli() -> NoReturn:
    """Run `mimo`."""
    mend_streams()
    leave(main())


def leave(code: int) -> NoReturn:
    """End the process with this exit code."""
    if not flush_streams() and code == OK:
        code = FAILED
    if code == INTERRUPTED:
        end_now()
    sys.exit(code)


def _print_help() -> None:
    print("usage: mimo JOB [arguments]\n\nRestore (deblur) and evaluate huge image archives with MIMO-UNet.")
    width = max(map(len, JOBS))
    for title, jobs in GROUPS.items():
        print(f"\n{title}:")
        for name, text in jobs.items():
            print(f"  {name:<{width}}  {text}")
    print("\nexamples:", *_EXAMPLES, sep="\n  ")
    print("\n`mimo JOB --help` shows a job's arguments, `mimo --version` the version.")


if __name__ == "__main__":
    cli()
