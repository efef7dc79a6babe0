"""Regular files, and what must not be opened as one."""

# ruff: noqa: PTH116

import os
import stat

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.storage.entry import Entry

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def open_regular(path: str) -> int:
    """Return a descriptor to read a regular file; anything else is NOT_AN_IMAGE and never opened."""
    # Looked at before it is opened, for opening alone can hang (FIFO) or act (tape, watchdog); and opened without
    # blocking, for it may be exchanged in between.
    _refuse_special(path, os.stat(path).st_mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _refuse_special(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_special(path: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "no regular file")
        raise ImageError(ErrorKind.NOT_AN_IMAGE, f"{path} is {kind}")


def refuse_larger(path: str, size: int, max_bytes: int | None) -> None:
    """TOO_LARGE for a file of more than `max_bytes`."""
    if max_bytes is not None and size > max_bytes:
        raise ImageError(ErrorKind.TOO_LARGE, f"{path} has {size} bytes; at most {max_bytes} are read")


def entry_of(key: str, status: os.stat_result) -> Entry:
    """Return the entry that a file's status gives."""
    if not stat.S_ISREG(status.st_mode):
        return Entry(key, None, None)
    return Entry(key, status.st_size, str(status.st_mtime_ns))
