"""What can go wrong in storage: which failures are tried again, and what the final ones mean to a run."""

import errno
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mimo_core.errors import ErrorKind, ImageError, MimoError, SystemFailure

T = TypeVar("T")

# Errors of a network file system or a busy device that another try may not meet.
_TRANSIENT_ERRNOS = frozenset(
    {
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EREMOTEIO,
        errno.EMFILE,
        errno.ENFILE,
    }
)
_SYSTEM_ERRNOS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EMFILE: "too many files are open in this process (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
}


@dataclass(frozen=True)
class Retries:
    """How often and how patiently a transient failure is tried again: exponential waits in seconds, with jitter.

    Attributes:
        attempts: tries of an operation before it is asked whether the storage as a whole is away.
        first_s, cap_s: the first wait and the longest.
        alone_s: for how long one object may fail while its storage answers.
        patience_s: for how long a storage that is away is waited for; None as long as this process has been told.
    """

    attempts: int = 6
    first_s: float = 0.2
    cap_s: float = 8.0
    alone_s: float = 20.0
    patience_s: float | None = None

    def wait(self, attempt: int) -> float:
        """Return seconds to wait after the failed attempt number `attempt` (from 0)."""
        # Jitter keeps hundreds of workers that met the same outage from returning in the same instant.
        return min(self.first_s * 2.0 ** min(attempt, 30), self.cap_s) * random.uniform(0.5, 1.0)

    def call(self, act: Callable[[], T], transient: Callable[[BaseException], bool]) -> T:
        """Run `act`, again after every transient failure, until the attempts are used up; then its error is raised."""
        for attempt in range(self.attempts - 1):
            try:
                return act()
            except Exception as error:
                if isinstance(error, MimoError) or not transient(error):
                    raise
                time.sleep(self.wait(attempt))
        return act()


def is_transient_os_error(error: BaseException) -> bool:
    """Return whether a local operation's error may pass by itself."""
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS


def read_fault(error: OSError, name: str) -> MimoError:
    """Return the error of the program for a failed local read of `name` (a path or redacted URL)."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return SystemFailure(ErrorKind.STORAGE, f"{name}: {_SYSTEM_ERRNOS[error.errno]}")
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return ImageError(ErrorKind.NOT_FOUND, f"{name}: no such file")
    if error.errno == errno.ELOOP:
        return ImageError(ErrorKind.NOT_FOUND, f"{name}: a link that leads back to itself")
    if error.errno == errno.ENAMETOOLONG:
        return ImageError(ErrorKind.NOT_FOUND, f"{name}: the name is too long for the file system")
    if isinstance(error, PermissionError):
        return ImageError(ErrorKind.NO_PERMISSION, f"{name}: no permission to read")
    if isinstance(error, IsADirectoryError):
        return ImageError(ErrorKind.NOT_AN_IMAGE, f"{name} is a folder")
    return ImageError(ErrorKind.STORAGE, f"{name}: {error.strerror or type(error).__name__}")


def write_fault(error: OSError, name: str, *, whole_store: bool = False) -> MimoError:
    """Return the error of the program for a failed local write of `name`; `whole_store`: nothing can be written."""
    if error.errno in _SYSTEM_ERRNOS:
        return SystemFailure(ErrorKind.WRITE, f"{name}: {_SYSTEM_ERRNOS[error.errno]}")
    if isinstance(error, PermissionError):
        text = f"{name}: no permission to write"
    elif error.errno == errno.ENAMETOOLONG:
        text = f"{name}: the name is too long for the file system"
    elif isinstance(error, (NotADirectoryError, FileExistsError, IsADirectoryError)):
        text = f"{name}: a file and a folder want the same name"
    else:
        text = f"{name}: {error.strerror or type(error).__name__}"
    return (SystemFailure if whole_store else ImageError)(ErrorKind.WRITE, text)
