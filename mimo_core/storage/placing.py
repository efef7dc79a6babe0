"""System calls by which a local file gets its place: names, locks on what is unfinished, folders on the disk."""

# Names need not be Unicode, and each operation is one system call on a descriptor: the work of os, not of pathlib.
# ruff: noqa: PTH108, PTH116, PTH123

import errno
import fcntl
import os
from contextlib import suppress

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def link(temporary: str, path: str, data: bytes | bytearray | memoryview) -> None:
    """Give a finished file its name, unless that is taken (FileExistsError)."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # Over NFS a repeated request may find the link that the first one made.
        if os.stat(temporary).st_nlink != 2:
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # File systems without hard links (FAT, some FUSE): exclusive still, but readers may see it half written.
        with open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def lock(descriptor: int) -> bool:
    """Mark an unfinished file as being written; False where another process has marked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Without locks on this file system a writer may lose its file, and then begins anew.
        return True
    return True


def unlink_unused(path: str) -> bool:
    """Remove an unfinished file; False where somebody is writing it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not lock(descriptor):
            return False
        os.unlink(path)
    finally:
        os.close(descriptor)
    return True


def sync_folder(path: str) -> None:
    """Write a folder's names to the disk."""
    # Makes the rename itself survive a power cut; some mounted file systems cannot, and are no worse for it.
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
