"""Ctrl-C and SIGTERM as one clean interruption of the main thread."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Turns the first signal into a KeyboardInterrupt that names it, and a second one into an immediate end."""

    def __init__(self) -> None:
        self._interrupted = False

    def install(self) -> None:
        """Take the signals over; again after Ray has connected, which takes SIGTERM for itself."""
        for number in _SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._interrupted:
            os._exit(128 + number)
        self._interrupted = True
        raise KeyboardInterrupt("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Handle the signals for the duration of the block."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    interruption = Interruption()
    interruption.install()
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
