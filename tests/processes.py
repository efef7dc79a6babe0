"""Processes that tests start, and find again: each carries a mark in its environment, which its children inherit.

So a test finds the processes of its own run or cluster, and ends them, whatever else runs Ray on the machine.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


MARK = "MIMO_TEST_MARK"


# Generous, for the machine may be busy; a wait that takes this long has failed.
PATIENCE = 240.0


def wait_until(condition: Callable[[], object], what: str, within: float = PATIENCE, every: float = 0.02) -> float:
    """Wait for the condition, at most so long; return the seconds that it took."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > within:
            raise AssertionError(f"waited {within:g} s in vain: {what}")
        time.sleep(every)
    return time.monotonic() - begun


def marked(mark: str) -> dict[int, str]:
    """Living processes with this mark: command line by process number."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                state = (folder / "stat").read_text().rsplit(")", 1)[-1].split()[0]
                if command and state != "Z":
                    found[int(folder.name)] = command
    return found


def workers_of(mark: str) -> list[int]:
    """Process numbers of the restoring Ray workers with this mark, in order."""
    return sorted(pid for pid, command in marked(mark).items() if command.startswith("ray::Worker"))


def end_all(mark: str) -> None:
    """Kill every process with this mark."""
    for _ in range(20):
        left = marked(mark)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        time.sleep(0.1)


def shell_environment(mark: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a user's shell: nothing of Ray or faults is inherited from the tests' own."""
    base = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MIMO_"))}
    base.update(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1", COLUMNS="200", RAY_USAGE_STATS_ENABLED="0")
    base[MARK] = mark
    base.update(extra or {})
    return base
