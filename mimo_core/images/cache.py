"""Decoded images that are wanted again: the cells of a sweep look at the same inputs and references."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from mimo_core.errors import UsageError
from mimo_core.images.codecs import Image, decode
from mimo_core.storage import Entry, info_url, read_url


class DecodedImages:
    """Keeps decoded images up to some bytes, the longest unused going first; for any number of threads.

    Args:
        limit: bytes of pixels kept at most.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise UsageError(f"a cache needs some bytes, got {limit}")
        self._limit = limit
        self._kept: OrderedDict[tuple[str, str], Image] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, url: str, version: str | None) -> Image | None:
        """Return the image of a file in this version; None where it is not kept, or the version is not known."""
        with self._lock:
            found = self._kept.get((url, version)) if version is not None else None
            if found is not None and version is not None:
                self._kept.move_to_end((url, version))
            return found

    def put(self, url: str, version: str | None, image: Image) -> None:
        """Keep an image, whose pixels nobody may change from here on."""
        size = image.nbytes
        if version is None or size > self._limit:
            return
        with self._lock:
            old = self._kept.pop((url, version), None)
            self._bytes += size - (old.nbytes if old is not None else 0)
            self._kept[url, version] = image
            while self._bytes > self._limit:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes


@dataclass(frozen=True, eq=False)
class Fetched:
    """A file on its way to pixels: its bytes, or at once the image that was decoded from them before.

    Attributes:
        url: where it was read.
        entry: size and version that it has.
        data: its bytes, empty where the image is there.
        image: decoded, None where it is still to be.
    """

    url: str
    entry: Entry
    data: bytes
    image: Image | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return len(self.data) if self.image is None else self.entry.size or 0


def max_bytes_of(max_pixels: int) -> int:
    """Return the most bytes that a file of so many pixels is taken to have: RGBA of 16 bits, and what goes with it."""
    return 8 * max_pixels + (256 << 20)


class ImageFiles:
    """Reads and decodes image files; one that was decoded before, and has not changed since, is not read again.

    Args:
        max_pixels: more are refused.
        kept: where decoded images are kept; None keeps none.
        pages: of a file that has several, all, or the first alone.
    """

    def __init__(
        self, max_pixels: int, kept: DecodedImages | None = None, *, pages: Literal["all", "first"] = "all"
    ) -> None:
        self._max_pixels = max_pixels
        self._pages = pages
        self._kept = kept

    def read(self, url: str) -> Fetched:
        """Read a file, or ask only whether it is the one that is kept.

        Raises:
            ImageError, SystemFailure: see `read_url`.
        """
        if self._kept is not None and (entry := info_url(url)) is not None:
            image = self._kept.get(url, entry.version)
            if image is not None and image.width * image.height <= self._max_pixels:
                return Fetched(url, entry, b"", image)
        data, entry = read_url(url, max_bytes=max_bytes_of(self._max_pixels))
        return Fetched(url, entry, data)

    def read_again(self, file: Fetched) -> Fetched | None:
        """Return a file that could not be decoded as it is when it is read once more; None where it is the same."""
        data, entry = read_url(file.url, max_bytes=max_bytes_of(self._max_pixels))
        if entry.version != file.entry.version or data == file.data:
            return None
        return Fetched(file.url, entry, data)

    def decode(self, file: Fetched) -> Image:
        """Return the image of a file.

        Raises:
            ImageError: see `codecs.decode`.
        """
        if file.image is not None:
            return file.image
        image = decode(file.data, max_pixels=self._max_pixels, pages=self._pages)
        if self._kept is not None:
            self._kept.put(file.url, file.entry.version, image)
        return image
