"""Where engines keep compiled models on the local disk: a folder for each, bounded, and never needed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mimo_core.storage.disk_cache import cache_folder, locked

MOST_BYTES = 1 << 30
"""Compiled models kept on the disk; beyond that the ones that were not used for longest go."""
_MODELS = "*.blob"
_SEAL = "sha256"


@contextmanager
def kept(engine: str, *identity: object) -> Iterator[Path | None]:
    """Give the folder of one compiled model while it is compiled or read; None where the disk does not take it.

    Processes that need the same new model wait for the one that compiles it; the others find it there. A model that is
    not what was compiled is removed before it is read: engines notice some damage only in what the network computes.

    Args:
        engine: name of the engine, for the folder.
        identity: everything that the compiled model depends on.
    """
    root = cache_folder() / engine
    folder = root / hashlib.sha256(repr(identity).encode()).hexdigest()[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The time of the last use, by which old ones are told.
        folder.touch()
        lock = folder / "lock"
        lock.touch()
    except OSError:
        yield None
        return
    if _is_whole(folder):
        yield folder
        return
    with locked(lock):
        if not _is_whole(folder):
            for damaged in folder.glob(_MODELS):
                damaged.unlink(missing_ok=True)
        yield folder
        # A seal that the disk does not take costs the next process a compilation.
        with suppress(OSError):
            (folder / _SEAL).write_text(_digest(folder))
    prune(root, MOST_BYTES)


def prune(root: Path, most: int) -> None:
    """Remove the models that were not used for longest, until those that stay take at most so many bytes."""
    taken = 0
    for folder in sorted(root.iterdir(), key=_last_use, reverse=True):
        taken += sum(_size(file) for file in folder.glob("*"))
        if taken > most:
            shutil.rmtree(folder, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    try:
        return (folder / _SEAL).read_text() == _digest(folder)
    except OSError:
        return False


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.glob(_MODELS)):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _last_use(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        # Another process has just removed it.
        return 0.0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
