"""The tasks that nobody works on: new ones, retries, suspects that need a worker to themselves, and last tries."""

from collections import deque
from collections.abc import Iterator, Sized
from dataclasses import replace

from mimo_core.inference.task import Task


class TaskQueue:
    """Gives out tasks in the order in which they should be worked on.

    Args:
        fresh: new tasks; None where there is none yet.
    """

    def __init__(self, fresh: Iterator[Task | None]) -> None:
        self._fresh = fresh
        self._exhausted = False
        self._retries: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._last_tries: deque[Task] = deque()
        self.again = 0
        """Tasks that were given back to be tried again."""

    def __bool__(self) -> bool:
        """Whether there are tasks left, or may come."""
        return bool(not self._exhausted or self._retries or self._suspects or self._last_tries)

    @property
    def has_suspects(self) -> bool:
        """Whether a task waits for a worker that has nothing else."""
        return bool(self._suspects)

    @property
    def only_last_tries(self) -> bool:
        """Whether nothing is left but what must have all workers' resources to itself."""
        return bool(self._last_tries and self._exhausted and not self._retries and not self._suspects)

    @property
    def waiting(self) -> int:
        """Tasks that are known to wait for a worker; there may be more."""
        fresh = len(self._fresh) if isinstance(self._fresh, Sized) else 0
        return fresh + len(self._retries) + len(self._suspects) + len(self._last_tries)

    def add(self, task: Task) -> None:
        """Take a task that is to be tried again."""
        self.again += 1
        (self._suspects if task.suspect else self._retries).append(task)

    def add_last(self, task: Task) -> None:
        """Take a task that is tried once more when all others are done."""
        self.again += 1
        self._last_tries.append(replace(task, last=True))

    def wait_for_first(self) -> bool:
        """Return whether it is known by now if there is anything to do at all."""
        if self._exhausted or self._retries:
            return True
        first = self.next_fresh()
        if first is not None:
            self._retries.append(first)
        return first is not None or self._exhausted

    def next_suspect(self) -> Task:
        """Return the next of those that need a worker to themselves; there must be one."""
        return self._suspects.popleft()

    def next_last_try(self) -> Task:
        """Return the next of those that must be alone; there must be one."""
        return self._last_tries.popleft()

    def next(self) -> Task | None:
        """Return the next of those that may share a worker, None where there is none (yet)."""
        return self._retries.popleft() if self._retries else self.next_fresh()

    def next_fresh(self) -> Task | None:
        """Return the next new task, None where there is none (yet)."""
        try:
            return None if self._exhausted else next(self._fresh)
        except StopIteration:
            self._exhausted = True
            return None
