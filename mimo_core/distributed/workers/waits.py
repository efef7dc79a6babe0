"""Storages that workers wait for: told once each, and laid to a node where workers elsewhere go on meanwhile."""

from collections.abc import Callable, Sequence

from mimo_core.distributed.workers.handle import WorkerHandle
from mimo_core.storage import outages

# A worker has waited for so long, and for so long of that another was served. When a storage is back, some notice it
# sooner than others: they ask it every few seconds.
_SHUT_OUT_SECONDS = 20.0
_MEANWHILE_SECONDS = 15.0


class Waits:
    """Watches what workers say that they wait for."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say`: is told in words."""
        self._say = say
        self._told: set[str] = set()

    def note(self, handle: WorkerHandle, now: float) -> None:
        """Note since when a worker waits, by the snapshot that it has given last."""
        if handle.snapshot.waiting is None:
            if handle.waiting_since is not None:
                handle.waited_until = now
            handle.waiting_since = None
        elif handle.waiting_since is None:
            handle.waiting_since = now

    def tell(self, handles: Sequence[WorkerHandle]) -> None:
        """Say what workers have begun or ceased to wait for, if this process does not say so itself."""
        waited = {one.snapshot.waiting: one for one in handles if one.snapshot.waiting is not None}
        for place, handle in waited.items():
            if place not in self._told and place != outages.waited_for():
                self._told.add(place)
                self._say(handle.notice(f"a worker {handle.place} waits for {place}, which does not answer"))
        for place in self._told - waited.keys():
            self._told.remove(place)
            self._say(f"no worker waits for {place} any more")

    def shut_out(self, handle: WorkerHandle, handles: Sequence[WorkerHandle], now: float) -> bool:
        """Return whether a worker waits for a storage that serves others."""
        since = handle.waiting_since
        if since is None or now - since < _SHUT_OUT_SECONDS:
            return False
        return any(
            one.waiting_since is None and one.progressed - max(since, one.waited_until) > _MEANWHILE_SECONDS
            for one in handles
        )
