"""Nodes that are about to go away (a spot notice, `ray drain-node`): their workers get no more tasks."""

from collections.abc import Callable, Sequence

from mimo_core.distributed.workers.handle import WorkerHandle
from mimo_core.distributed.workers.scheduler import Scheduler

_LOOK_SECONDS = 2.0


class Draining:
    """Watches the nodes of workers, and takes back in time what these have not begun."""

    def __init__(self, scheduler: Scheduler, say: Callable[[str], None]) -> None:
        """`say`: is told in words."""
        self._scheduler = scheduler
        self._say = say
        self._looked = float("-inf")
        self._nodes: frozenset[str] = frozenset()

    def take_idle(self, handles: Sequence[WorkerHandle], now: float) -> list[WorkerHandle]:
        """Ask workers whose nodes are to go for what they have not begun; return those that have nothing any more."""
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._nodes = self._scheduler.draining()
        for handle in handles:
            if not handle.leaving and handle.info is not None and handle.info.node in self._nodes:
                handle.leaving = True
                handle.worker.hand_back()
                text = f"a node is to go away: its worker {handle.where} ends, and the rest goes to others"
                self._say(handle.notice(text))
        return [one for one in handles if one.leaving and not one.tasks]
