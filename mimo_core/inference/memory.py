"""A bound on the decoded pixels that a pipeline holds, granted in the order of the images: no deadlock."""

import threading


class MemoryBudget:
    """Bytes shared by images that are numbered in the order in which the accelerator will take them.

    The oldest images, as many as one batch takes, are always granted, however large: the accelerator waits for them, so
    refusing them would stop everything. Images that have gone (broken ones, say) do not count among them.

    Args:
        limit: bytes that the images may hold together.
        batch: how many of the oldest images are granted regardless.
    """

    def __init__(self, limit: int, batch: int = 1) -> None:
        self._limit = limit
        self._batch = batch
        self._held: dict[int, int] = {}
        self._waiting: set[int] = set()
        self._condition = threading.Condition()

    def expect(self, ticket: int) -> None:
        """Announce an image before it is loaded, in increasing order of tickets."""
        with self._condition:
            self._waiting.add(ticket)

    def acquire(self, ticket: int, size: int) -> None:
        """Wait until `size` bytes are free, or the image is among the oldest."""
        with self._condition:
            self._condition.wait_for(lambda: self._may_hold(ticket, size))
            self._waiting.discard(ticket)
            self._held[ticket] = self._held.get(ticket, 0) + size

    def release(self, ticket: int) -> None:
        """Give everything back that the image holds or waits for."""
        with self._condition:
            self._waiting.discard(ticket)
            self._held.pop(ticket, None)
            self._condition.notify_all()

    def _may_hold(self, ticket: int, size: int) -> bool:
        older = sum(other < ticket for other in self._waiting | self._held.keys())
        return older < self._batch or sum(self._held.values()) + size <= self._limit
