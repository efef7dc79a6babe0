"""The folder on this machine's disk for what is made or downloaded once and used by many processes."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE_VARIABLE = "MIMO_CACHE"


def cache_folder() -> Path:
    """Return where downloaded weights lie: $MIMO_CACHE, else `mimo-restore` in $XDG_CACHE_HOME or ~/.cache."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mimo-restore"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file for this process alone; others that ask for it wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
