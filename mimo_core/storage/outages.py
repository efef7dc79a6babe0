"""Storages that this process waits for at the moment: who wants to know is told, and who works here can be asked."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_waits: dict[str, int] = {}
_since: dict[str, float] = {}
_listeners: list[Callable[[str], None]] = []
# Who only looks at a run need not wait for its storage; a run sets this for its driver and its workers.
_patience = 0.0


def set_patience(seconds: float) -> None:
    """Set how long this process waits for a storage that is away, where a call does not say."""
    global _patience
    _patience = seconds


def patience() -> float:
    """Return how long this process waits for a storage that is away (seconds)."""
    return _patience


@contextmanager
def patient(seconds: float, say: Callable[[str], None]) -> Iterator[None]:
    """Wait so long during the block, and tell in words, on whatever thread, what is waited for and when it is back."""
    before = _patience
    set_patience(seconds)
    _listeners.append(say)
    try:
        yield
    finally:
        _listeners.remove(say)
        set_patience(before)


def waited_for() -> str | None:
    """Return the storage that has been waited for longest, None where there is none."""
    with _lock:
        return min(_since, key=_since.__getitem__, default=None)


@contextmanager
def waiting(place: str, reason: str, seconds: float) -> Iterator[None]:
    """Mark a storage as being waited for during the block, which raises when it was in vain."""
    with _lock:
        first = place not in _waits
        _waits[place] = _waits.get(place, 0) + 1
        since = _since.setdefault(place, time.monotonic())
    if first:
        _tell(f"{place} does not answer ({reason}); waiting up to {seconds:g} s for it")
    back = False
    try:
        yield
        back = True
    finally:
        with _lock:
            _waits[place] -= 1
            last = not _waits[place]
            if last:
                del _waits[place], _since[place]
        if last and back:
            _tell(f"{place} answers again after {time.monotonic() - since:.0f} s")


def _tell(text: str) -> None:
    for say in _listeners.copy():
        say(text)
