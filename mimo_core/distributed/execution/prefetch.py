"""Taking things from a slow iterator ahead of the one who needs them and must not wait."""

import threading
from collections import deque
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """An iterator that gives what a thread has taken from another one so far, and None where there is nothing yet.

    What the other one raises is raised in its turn. `close` ends the thread once the other one has given its next.
    """

    def __init__(self, items: Iterator[T], most: int) -> None:
        """`most`: how many are held."""
        self._items = items
        self._most = most
        self._held: deque[T] = deque()
        self._error: Exception | None = None
        self._ended = False
        self._changed = threading.Condition()
        threading.Thread(target=self._fetch, name="prefetch", daemon=True).start()

    def __iter__(self) -> "Prefetch[T]":
        return self

    def __next__(self) -> T | None:
        with self._changed:
            if self._held:
                self._changed.notify_all()
                return self._held.popleft()
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopIteration
            return None

    def __len__(self) -> int:
        """Things that are held."""
        return len(self._held)

    def __bool__(self) -> bool:
        return True

    def close(self) -> None:
        """Fetch nothing more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _fetch(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    self._changed.wait_for(lambda: self._ended or len(self._held) < self._most)
                    if self._ended:
                        return
                    self._held.append(item)
        except Exception as error:  # noqa: BLE001 - raised where the items are taken
            with self._changed:
                self._error = error
        finally:
            self.close()
            if isinstance(self._items, Generator):
                self._items.close()
