"""The workers of one run, or of several in turn: those that a run leaves are kept for the next that asks the same."""

from dataclasses import replace
from typing import Any

import ray

from mimo_core.distributed.resources import Demand, free_slots
from mimo_core.distributed.workers.worker import Worker, WorkerSetup


class Staff:
    """Hires workers and lets them go.

    Args:
        keeps: whether workers that a run has finished with wait for the next one; else they end with it.
    """

    def __init__(self, *, keeps: bool = False) -> None:
        self._keeps = keeps
        self._idle: list[tuple[Demand, Any]] = []

    def hire(self, demand: Demand, setup: WorkerSetup, networks: tuple[Any, ...]) -> tuple[Any, Demand, Any]:
        """Return a worker that waits, or a new one; what it takes; and a reference to its `WorkerInfo` or failure."""
        for place, (taken, actor) in enumerate(self._idle):
            if _suffices(taken, demand):
                del self._idle[place]
                return actor, taken, actor.assign.remote(setup, *networks)
        actor = Worker.options(**demand.options()).remote(setup, *networks)  # type: ignore[attr-defined]
        return actor, demand, actor.ready.remote()

    def room(self, demand: Demand) -> int:
        """Return how many workers can be hired now."""
        return free_slots(demand) + sum(_suffices(taken, demand) for taken, _ in self._idle)

    def release(self, demand: Demand, actor: Any) -> None:
        """Take a worker back that has finished what it was given."""
        if self._keeps:
            self._idle.append((demand, actor))
        else:
            ray.kill(actor)

    def prepare(self, demand: Demand) -> None:
        """Let those go that wait and have not what is asked for now."""
        for taken, actor in [one for one in self._idle if not _suffices(one[0], demand)]:
            self._idle.remove((taken, actor))
            ray.kill(actor)

    def close(self) -> None:
        """Let all go that wait."""
        for _, actor in self._idle:
            ray.kill(actor)
        self._idle.clear()


def _suffices(taken: Demand, demand: Demand) -> bool:
    """Whether a worker that takes one thing can do what asks for another: the same, with memory to spare at most."""
    return taken.memory >= demand.memory and replace(taken, memory=demand.memory) == demand
