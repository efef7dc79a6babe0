"""Makes 25 common mistakes as a person makes them, and tells what is answered, with which exit code, and how soon.

    .venv/bin/python tests/docs/mistakes.py          prints docs/mistakes.md

The exit codes and answers are tested by tests/docs/test_mistakes_table.py; the seconds are those of the machine.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mistake:
    """What somebody did wrong, how the command looks, its exit code, and words of the answer that tell what to do."""

    what: str
    command: str
    code: int
    words: str


@dataclass(frozen=True)
class Answer:
    """What was told, and after how many seconds the command ended."""

    code: int
    text: str
    seconds: float


MISTAKES = (
    Mistake("a path that is not there", "restore phots out", 2, "there is nothing at phots"),
    Mistake("a list that is not there", "restore list.csv out", 2, "there is no list at list.csv"),
    Mistake("a folder without images", "restore texts out", 2, "no images"),
    Mistake("no OUTPUT", "restore photos", 2, "OUTPUT"),
    Mistake("a glob that the shell opened", "restore photos/a.png photos/b.png", 2, "was the glob quoted?"),
    Mistake("an option with a typo", "restore photos out --precison fp32", 2, "did you mean --precision?"),
    Mistake("a job with a typo", "restor photos out", 2, "did you mean restore"),
    Mistake("a value that there is not", "restore photos out --format jpeg2", 2, "--format"),
    Mistake("a number that is none", "restore photos out --overlap wide", 2, "--overlap"),
    Mistake("OUTPUT is a file", "restore photos note.txt", 2, "name a folder"),
    Mistake("OUTPUT holds other things", "restore photos texts", 2, "choose an OUTPUT that is empty"),
    Mistake("OUTPUT within a file system that takes nothing", "restore photos /proc/out", 2, "choose another one"),
    Mistake("weights that are not there", "restore photos out --weights mine.pkl", 2, "mine.pkl"),
    Mistake("a name of weights with a typo", "restore photos out --weights mimo-unet-lit", 2, "mimo-unet-lite"),
    Mistake("weights that are none", "restore photos out --weights note.txt", 2, "note.txt"),
    Mistake("a GPU that is not there", "restore photos out --device cuda", 2, "say --device cpu"),
    Mistake("int8 with weights that are not made for it", "restore photos out --precision int8", 2, "mimo quantize"),
    Mistake("a card that is not there", "restore photos out --engine vacc", 2, "vacc"),
    Mistake("a bucket without credentials", "restore s3://archive/2019 out", 2, "set AWS_ACCESS_KEY_ID"),
    Mistake("OUTPUT on a server that cannot hold a run", "restore photos sftp://host/out", 2, "cannot be kept there"),
    Mistake("references that are not there", "restore photos out --reference sharp", 2, "--reference sharp"),
    Mistake("ground truth of other names", "evaluate photos texts out", 2, "no image has a reference in texts"),
    Mistake("an option in a file with a typo", "restore photos out --config bad.yaml", 2, "precison"),
    Mistake("a report of no run", "report texts", 2, "texts"),
    Mistake("the status of no run", "status nowhere", 2, "nowhere"),
)


PREFACE = """<!-- Written by tests/docs/mistakes.py; do not edit. -->

# Mistakes and their answers

The mistakes that are made most, and what is said to them: in one line, with the remedy, before anything is done.
Seconds are those from the command to its end, on two cores of an AMD EPYC that were busy with other things. What goes
wrong later (a full disk, a folder that may not be read, a server that is away) stops a run with exit code 1, or makes a
record of the image: [when something is wrong](help.md), [what happens when](troubles.md).
"""


def prepare(place: Path) -> None:
    """Make the folder in which the mistakes are made."""
    (place / "photos").mkdir()
    for name in ("a", "b"):
        (place / "photos" / f"{name}.png").symlink_to(ROOT / "samples" / "blurred" / "window.png")
    (place / "texts").mkdir()
    (place / "texts" / "readme.txt").write_text("mine")
    (place / "note.txt").write_text("mine")
    (place / "bad.yaml").write_text("precison: fp32\n")


def environment() -> dict[str, str]:
    """The environment of a shell in which nothing is set up."""
    others = ("AWS_", "RAY_", "FSSPEC", "MIMO_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    kept |= {"AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return kept | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def make(mistake: Mistake, place: Path) -> Answer:
    """Make the mistake, as a process of its own."""
    command = [sys.executable, "-m", "mimo_core.cli.main", *mistake.command.split()]
    begun = time.monotonic()
    done = subprocess.run(
        command, cwd=place, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    return Answer(done.returncode, done.stdout + done.stderr, time.monotonic() - begun)


def page(answers: Sequence[Answer], place: Path) -> str:
    """Return docs/mistakes.md."""
    lines = [PREFACE, "| mistake | `mimo ...` | what is said | exit code | seconds |", "|---|---|---|---|---|"]
    for mistake, answer in zip(MISTAKES, answers, strict=True):
        said = " ".join(answer.text.split()).replace(str(place), "/home/me").replace("|", "\\|")
        said = said.removeprefix(f"mimo {mistake.command.split()[0]}: ").replace("`", "'")
        lines.append(f"| {mistake.what} | `{mistake.command}` | {said} | {answer.code} | {answer.seconds:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        sys.stdout.write(page([make(mistake, Path(folder)) for mistake in MISTAKES], Path(folder)))
