"""Images in which nothing moves: whom that is to be laid to, the image, its storage, or the storage as a whole."""

from collections.abc import Sequence

from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.inference.progress import InFlight, Snapshot

# What these wait for is no affair of the image, nor of its decoder or the device.
_STORAGE_STAGES = frozenset({"read", "write"})
# Requests over a network end by themselves before, and say why; what does not is a mounted file system.
_STALL_SECONDS = 300.0


class Stalls:
    """Tells which images make no progress, and whether anything else does."""

    def __init__(self, timeout: float, patience: float, now: float) -> None:
        """Take the seconds without progress after which an image hangs, and those that a storage is waited for."""
        self._timeout = timeout
        self._storage_timeout = max(timeout, patience + _STALL_SECONDS)
        self._progressed = now
        self._waiting: set[tuple[int, int]] = set()

    def progress(self, now: float) -> None:
        """Note that an image was finished anywhere."""
        self._progressed = now
        self._waiting.clear()

    def stuck(self, snapshot: Snapshot) -> list[InFlight]:
        """Return the images of a worker that have made no progress for too long."""
        return [
            one
            for one in snapshot.in_flight
            if one.seconds > (self._storage_timeout if one.stage in _STORAGE_STAGES else self._timeout)
        ]

    def judge(self, stuck: Sequence[InFlight], now: float) -> None:
        """Find out whether it is the storage that has stalled.

        Raises:
            SystemFailure: several images wait for it, and nothing else was finished meanwhile.
        """
        waiting = [one for one in stuck if one.stage in _STORAGE_STAGES]
        if not waiting or now - self._progressed < self._storage_timeout:
            return
        self._waiting |= {(one.shard, one.row) for one in waiting}
        if len(self._waiting) > 1:
            raise SystemFailure(
                ErrorKind.STORAGE,
                f"the storage has stalled: {waiting[0].key} and others have been in {waiting[0].stage} for "
                f"{waiting[0].seconds:.0f} s, and nothing else was finished meanwhile",
            )


def blame(stuck: Sequence[InFlight]) -> ErrorKind:
    """Return the kind by which images that made no progress are recorded, if they are."""
    waits = bool(stuck) and all(one.stage in _STORAGE_STAGES for one in stuck)
    return ErrorKind.STORAGE if waits else ErrorKind.TIMEOUT
