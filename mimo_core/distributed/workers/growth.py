"""How many workers to ask for: the minimum, what there is room for, and on a cluster some that wait for more room."""

from collections.abc import Callable, Sequence

from mimo_core.distributed.workers.handle import WorkerHandle
from mimo_core.distributed.workers.options import PoolOptions
from mimo_core.distributed.workers.queue import TaskQueue

_GROW_SECONDS = 2.0
# So many wait for a place at once, or as many as work. The autoscaler adds at most as many nodes at a time as there
# are, too (its `upscaling_speed`).
_FEWEST_ASKED = 8


class Growth:
    """Says when to start workers and how many, and which are asked for in vain.

    An autoscaler adds nodes for actors that wait for a place, so workers beyond what there is room for are how a run
    makes its demand known. Ray forgets them with the driver, however it ends, and adds up those of several drivers; a
    request for resources (`ray.autoscaler.sdk.request_resources`) would outlive a driver that is killed, and take the
    place of everybody else's. Where nothing grows they wait for what others give back.
    """

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._last = 0.0

    def is_due(self, now: float, handles: Sequence[WorkerHandle]) -> bool:
        """Return whether it is time to look; then not again for a while, unless there is no worker."""
        if now - self._last < _GROW_SECONDS and handles:
            return False
        self._last = now
        return True

    def wanted(self, handles: Sequence[WorkerHandle], queue: TaskQueue, room: Callable[[], int]) -> int:
        """Return how many workers to start; none if not positive."""
        if queue.only_last_tries:
            return 1 - len(handles)
        wanted = self._options.minimum - len(handles)
        unplaced = sum(one.host is None for one in handles)
        if not queue or (unplaced and not self._options.asks):
            return wanted
        maximum = self._options.maximum
        more = room() if not unplaced else 0
        if self._options.asks:
            asked = max(_FEWEST_ASKED, len(handles) - unplaced) - unplaced
            more = max(more, min(asked, queue.waiting - _without_tasks(handles)))
        return max(wanted, more if maximum is None else min(more, maximum - len(handles)))

    def in_vain(self, handles: Sequence[WorkerHandle], queue: TaskQueue) -> list[WorkerHandle]:
        """Return the workers that wait for a place while there are fewer tasks than workers that will ask for one."""
        if not self._options.asks:
            return []
        spare = min(_without_tasks(handles) - queue.waiting, len(handles) - self._options.minimum)
        return [one for one in handles if one.host is None][-spare:] if spare > 0 else []


def _without_tasks(handles: Sequence[WorkerHandle]) -> int:
    """Return how many workers are on their way to their first task."""
    return sum(one.info is None for one in handles)
