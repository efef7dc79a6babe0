"""Training images by number: kept in memory as far as they fit, read again each time beyond that."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Name = TypeVar("Name")
Image = TypeVar("Image")

MEMORY_BYTES = 4 << 30
"""Most that one source keeps in memory: every GPU's worker has its own."""


class ImageCache(Generic[Name, Image]):
    """Images, read when they are first needed. Safe to use from several threads.

    What does not fit is not exchanged: where images are drawn at random, none is more likely to come than another.

    Args:
        names: what `read` takes, for example paths.
        read: reads and prepares one image.
        size_of: bytes of a prepared image.
        memory: most bytes to keep.
    """

    def __init__(
        self,
        names: Sequence[Name],
        read: Callable[[Name], Image],
        size_of: Callable[[Image], int],
        *,
        memory: int = MEMORY_BYTES,
    ) -> None:
        self._names, self._read, self._size_of, self._left = names, read, size_of, memory
        self._kept: dict[int, Image] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int) -> Image:
        image = self._kept.get(number)
        if image is None:
            image = self._read(self._names[number])
            size = self._size_of(image)
            with self._lock:
                if number not in self._kept and size <= self._left:
                    self._kept[number] = image
                    self._left -= size
        return image
