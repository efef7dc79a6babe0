"""Ray as the scheduler: workers are actors, and what Ray says of their ends becomes what the pool understands."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from mimo_core.distributed.ray_errors import why_unfit
from mimo_core.distributed.ray_private import draining_nodes
from mimo_core.distributed.resources import Demand, describe_shortage, free_slots
from mimo_core.distributed.workers.scheduler import (
    Call,
    ResultLostError,
    Started,
    Worker,
    WorkerDiedError,
    WorkerUnfitError,
    WorkerUnreachableError,
)
from mimo_core.distributed.workers.worker import WorkerActor, WorkerSetup
from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.inference.task import Task
from mimo_core.wording import first_line


@dataclass(frozen=True, eq=False)
class RayWorker:
    """An actor; see `Worker`."""

    actor: Any

    def here(self) -> Call:
        """See `Worker`."""
        return self.actor.here.remote()

    def ready(self) -> Call:
        """See `Worker`."""
        return self.actor.ready.remote()

    def process(self, task: Task) -> Call:
        """See `Worker`."""
        return self.actor.process.remote(task)

    def hand_back(self) -> Call:
        """See `Worker`."""
        return self.actor.hand_back.remote()

    def snapshot(self) -> Call:
        """See `Worker`."""
        return self.actor.snapshot.remote()


class RayScheduler:
    """Starts actors on the connected cluster; see `Scheduler`.

    Args:
        keeps: whether workers that a run has finished with wait for the next one; else they end with it.
    """

    def __init__(self, *, keeps: bool = False) -> None:
        self._keeps = keeps
        self._idle: list[tuple[Demand, RayWorker]] = []
        self._started = 0

    def start(self, demand: Demand, setup: WorkerSetup, networks: tuple[Any, ...]) -> Started:
        """See `Scheduler`."""
        for place, (taken, worker) in enumerate(self._idle):
            if _suffices(taken, demand):
                del self._idle[place]
                return Started(worker, taken, worker.actor.assign.remote(setup, *networks))
        self._started += 1
        # What `ray list actors` and the dashboard show.
        name = f"mimo:{setup.store.name}:worker-{self._started}"
        actor = WorkerActor.options(name=name, **demand.options()).remote(  # type: ignore[attr-defined]
            setup, *networks
        )
        worker = RayWorker(actor)
        return Started(worker, demand, worker.ready())

    def room(self, demand: Demand) -> int:
        """See `Scheduler`."""
        return free_slots(demand) + sum(_suffices(taken, demand) for taken, _ in self._idle)

    def prepare(self, demand: Demand) -> None:
        """See `Scheduler`."""
        for taken, worker in [one for one in self._idle if not _suffices(one[0], demand)]:
            self._idle.remove((taken, worker))
            self.kill(worker)

    def wait(self, calls: Sequence[Call], timeout: float) -> list[Call]:
        """See `Scheduler`."""
        if not calls:
            time.sleep(timeout)
            return []
        # At once when something comes, together with whatever else is there.
        if not ray.wait(list(calls), num_returns=1, timeout=timeout)[0]:
            return []
        done, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        return list(done)

    def result(self, call: Call) -> Any:
        """See `Scheduler`."""
        try:
            return ray.get(call)
        except ActorUnavailableError as error:
            raise WorkerUnreachableError(first_line(error)) from error
        except (RayActorError, WorkerCrashedError, OutOfMemoryError) as error:
            if isinstance(error, RayActorError) and error.actor_init_failed:
                raise WorkerUnfitError(why_unfit(error)) from error
            raise WorkerDiedError(
                first_line(error), with_node=_tells_of_node(error), for_memory=_tells_of_memory(error)
            ) from error
        except (ObjectLostError, NodeDiedError) as error:
            raise ResultLostError(first_line(error)) from error
        except RayTaskError as error:
            raise SystemFailure(
                ErrorKind.INTERNAL, f"a worker failed for a reason that nobody foresaw: {error}"
            ) from error
        except RayError as error:
            raise SystemFailure(ErrorKind.DEVICE, f"Ray cannot run workers: {first_line(error)}") from error

    def release(self, demand: Demand, worker: Worker) -> None:
        """See `Scheduler`."""
        assert isinstance(worker, RayWorker)
        if self._keeps:
            self._idle.append((demand, worker))
        else:
            self.kill(worker)

    def kill(self, worker: Worker) -> None:
        """See `Scheduler`."""
        assert isinstance(worker, RayWorker)
        ray.kill(worker.actor)

    def draining(self) -> frozenset[str]:
        """See `Scheduler`."""
        return draining_nodes()

    def describe_shortage(self, demand: Demand) -> str:
        """See `Scheduler`."""
        return describe_shortage(demand)

    def has_node(self, node: str) -> bool:
        """See `Scheduler`."""
        return any(one["Alive"] and one["NodeID"] == node for one in ray.nodes())

    def close(self) -> None:
        """See `Scheduler`."""
        for _, worker in self._idle:
            self.kill(worker)
        self._idle.clear()


def _tells_of_memory(error: RayError) -> bool:
    return isinstance(error, OutOfMemoryError) or "running low on memory" in str(error)


def _tells_of_node(error: RayError) -> bool:
    return bool(getattr(error, "preempted", False)) or "node has died" in str(error).lower()


def _suffices(taken: Demand, demand: Demand) -> bool:
    """Return whether a worker that takes one thing can do what asks for another: the same, or one with more memory."""
    return taken.memory >= demand.memory and replace(taken, memory=demand.memory) == demand
