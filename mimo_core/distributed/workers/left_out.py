"""Workers that are left out for a while, because where they are nothing works that works elsewhere."""

from collections import Counter
from collections.abc import Iterator

from mimo_core.distributed.workers.handle import WorkerHandle

_FIRST_SECONDS = 30.0
_LONGEST_SECONDS = 600.0


class LeftOut:
    """Keeps such workers, so that no other takes their place, until it is time to try there again."""

    def __init__(self) -> None:
        self._until: dict[WorkerHandle, float] = {}
        self._failures: Counter[str | None] = Counter()

    def __iter__(self) -> Iterator[WorkerHandle]:
        return iter(tuple(self._until))

    def add(self, handle: WorkerHandle, now: float) -> float:
        """Leave a worker out, each time twice as long as the last on its host; return for how many seconds."""
        seconds = min(_FIRST_SECONDS * 2.0 ** self._failures[handle.host], _LONGEST_SECONDS)
        self._failures[handle.host] += 1
        self._until[handle] = now + seconds
        return seconds

    def take_due(self, now: float, *, at_least_one: bool) -> list[WorkerHandle]:
        """Take out those whose time is over; the first of all where somebody has to work, whatever the time."""
        due = [handle for handle, until in self._until.items() if until <= now]
        if at_least_one and not due and self._until:
            due = [min(self._until, key=self._until.__getitem__)]
        for handle in due:
            del self._until[handle]
        return due

    def forgive(self, host: str | None) -> None:
        """Forget what failed on a host where something has worked since."""
        self._failures.pop(host, None)
