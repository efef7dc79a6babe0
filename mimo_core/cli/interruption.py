"""Ctrl-C and SIGTERM as one clean interruption, in time whatever the main thread is busy with."""

import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
# `ray job stop` kills after 3 s: after this long the process ends, however far its orderly end has come.
_GRACE_SECONDS = 1.3
_REPORT_SECONDS = 0.3
_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interruption:
    """Turns the first signal into a KeyboardInterrupt, and sees to it that the process ends soon after.

    Python runs a signal's handler only between two steps of the main thread, which may sit in a call of Ray or of a
    library for seconds, and Ray puts a handler of its own in place while it connects. So a thread is woken by the
    signal itself: it ends the process when the main thread has not done so in time, and at once at a second signal.

    Args:
        report: says, given the cause in words, that the run has stopped and how to go on. Called once.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self.cause: str | None = None
        self._report = report
        self._said = False
        self._signalled = threading.Event()
        self._lock = threading.Lock()
        self._reader, self._writer = socket.socketpair()
        # What signal.set_wakeup_fd asks for.
        self._writer.setblocking(False)
        self._watcher = threading.Thread(target=self._watch, name="interruption", daemon=True)

    def install(self) -> None:
        """Take the signals over; on the main thread."""
        self._handlers = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._watcher.start()

    def remove(self) -> None:
        """Give the signals back."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._writer.close()
        self._watcher.join()
        self._reader.close()

    @property
    def happened(self) -> bool:
        """Whether a signal has come; one that has just come may need a moment to be noticed."""
        return self.cause is not None or self._signalled.wait(0.1)

    def report(self) -> None:
        """Say that the run has stopped, unless that is said already."""
        with self._lock:
            if self._said:
                return
            self._said = True
        self._report(self.cause or "the user")

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.cause = self.cause or _SIGNALS[signal.Signals(number)]
        raise KeyboardInterrupt(self.cause)

    def _watch(self) -> None:
        while number := self._reader.recv(1):
            if number[0] in _SIGNALS:
                self.cause = self.cause or _SIGNALS[signal.Signals(number[0])]
                self._signalled.set()
                break
        else:
            return
        # A second signal, or the end of the block, shows as something to read.
        if select.select([self._reader], [], [], _GRACE_SECONDS)[0] and not self._reader.recv(1):
            return
        reporter = threading.Thread(target=self.report, daemon=True)
        reporter.start()
        reporter.join(_REPORT_SECONDS)
        end_now()


def end_now(code: int = INTERRUPTED) -> NoReturn:
    """End the process, and with it the processes of an embedded Ray, which takes seconds to shut down in order."""
    for child in _descendants(os.getpid()):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(child, signal.SIGKILL)
    os._exit(code)


def _descendants(process: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = list(children.get(process, ()))
    for child in found:
        found += children.get(child, ())
    return found


@contextmanager
def interruptible(report: Callable[[str], None]) -> Iterator[Interruption]:
    """Handle the signals for the duration of the block; see `Interruption`."""
    interruption = Interruption(report)
    interruption.install()
    try:
        yield interruption
    finally:
        interruption.remove()
