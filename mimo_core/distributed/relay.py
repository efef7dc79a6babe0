"""The relay: an actor beside the driver through which the workers of a training and the driver hear of each other."""

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mimo_core.errors import MimoError

_ASK_SECONDS = 0.2


@dataclass(frozen=True)
class RelayMessages:
    """What the driver learns from the workers.

    Attributes:
        lines: For people, since the last time.
        working: Whether the leading worker is at work.
        finished: Whether the training came to its configured end; None before the leading worker has ended.
        failure: What made a worker give up, if it is of the kind that another try does not mend.
    """

    lines: tuple[str, ...]
    working: bool
    finished: bool | None
    failure: MimoError | None


class Relay:
    """Takes what the workers say until the driver asks for it, and tells them whether it wants them to stop."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._working, self._stopping = False, False
        self._finished: bool | None = None
        self._failure: MimoError | None = None

    def say(self, line: str) -> None:
        """Take a line for people."""
        self._lines.append(line)

    def begin(self) -> None:
        """Note that the leading worker is at work."""
        self._working = True

    def lose(self, line: str) -> None:
        """Note that the workers are gone, and take a line that says why."""
        self._working = False
        self._lines.append(line)

    def end(self, finished: bool) -> None:
        """Note that the leading worker has done its part, and whether that was all of the training."""
        self._finished = finished

    def fail(self, failure: MimoError) -> None:
        """Take an error that ends the training; the first one counts."""
        self._failure = self._failure or failure

    def stop(self) -> None:
        """Make the workers stop after their step."""
        self._stopping = True

    def stopping(self) -> bool:
        """Return whether the workers shall stop."""
        return self._stopping

    def take(self) -> RelayMessages:
        """Give the driver what there is; lines are given once."""
        messages = RelayMessages(tuple(self._lines), self._working, self._finished, self._failure)
        self._lines.clear()
        return messages


def open_relay() -> Any:
    """Start a relay on this process's node; it ends with this process, and comes back if something else ends it."""
    node = ray.get_runtime_context().get_node_id()
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    return ray.remote(Relay).options(**options).remote()


class StopSignal:
    """Whether the driver wants the workers to stop: the relay's answer, fetched now and then."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay
        self._next = 0.0
        self._stop = False

    def __call__(self) -> bool:
        """Return the newest answer; one takes about a millisecond to fetch, so it is not asked for at every step."""
        if time.monotonic() >= self._next:
            self._stop = ray.get(self._relay.stopping.remote())
            self._next = time.monotonic() + _ASK_SECONDS
        return self._stop
