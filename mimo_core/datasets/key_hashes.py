"""Which of very many keys are equal, in a few bytes of memory for each."""

from array import array
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from mimo_core.errors import UsageError


class KeyHashes:
    """64-bit hashes of keys, 8 bytes each: tells which may be repeated. Equal hashes must be looked at again."""

    def __init__(self) -> None:
        """Empty."""
        self._hashes = array("Q")

    @staticmethod
    def hash(key: str) -> int:
        """Return the hash that is kept of a key: Python's own, which is another one in another process."""
        return hash(key) & 0xFFFF_FFFF_FFFF_FFFF

    def add(self, key: str) -> None:
        """Keep the hash of one more key."""
        self._hashes.append(self.hash(key))

    def add_all(self, keys: Sequence[str]) -> None:
        """Keep the hashes of more keys."""
        self._hashes.frombytes(np.fromiter(map(hash, keys), np.int64, len(keys)).tobytes())

    def __len__(self) -> int:
        """Return how many keys were added."""
        return len(self._hashes)

    def _array(self) -> npt.NDArray[np.uint64]:
        return np.frombuffer(self._hashes, dtype=np.uint64) if self._hashes else np.empty(0, np.uint64)

    def repeated(self, others: "KeyHashes | None" = None) -> frozenset[int]:
        """Return the hashes that occur more than once here, or here and in `others` too."""
        mine = np.sort(self._array())
        twice = set(mine[1:][mine[1:] == mine[:-1]].tolist())
        if others is not None and len(others):
            twice |= set(_members(mine, others._array()))
        return frozenset(twice)

    def intersects(self, hashes: frozenset[int], others: "KeyHashes | None" = None) -> bool:
        """Return whether any of `hashes` is here or in `others`."""
        wanted = np.sort(np.array(sorted(hashes), dtype=np.uint64))
        arrays = [self._array()] + ([others._array()] if others is not None else [])
        return any(_members(wanted, found) for found in arrays)


def _members(ordered: npt.NDArray[np.uint64], asked: npt.NDArray[np.uint64]) -> list[int]:
    """Return those of `asked` that are in the sorted `ordered`."""
    if not len(ordered):
        return []
    found: list[int] = []
    for start in range(0, len(asked), 1 << 20):
        piece = asked[start : start + (1 << 20)]
        places = np.minimum(np.searchsorted(ordered, piece), len(ordered) - 1)
        found += piece[ordered[places] == piece].tolist()
    return found


class KeySet:
    """A set of keys by 128-bit hashes, 16 bytes each: no two of any number of keys that exist are taken for equal."""

    def __init__(self) -> None:
        """Empty, and open for additions."""
        self._high = array("Q")
        self._low = array("Q")
        self._sorted: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]] | None = None

    def add(self, key: str) -> None:
        """Add one more key."""
        if self._sorted is not None:
            raise UsageError("a frozen set of keys takes no more of them")
        high, low = _hash128(key)
        self._high.append(high)
        self._low.append(low)

    def freeze(self) -> None:
        """Sort, after which membership can be asked and nothing added."""
        high = np.frombuffer(self._high, dtype=np.uint64) if self._high else np.empty(0, np.uint64)
        low = np.frombuffer(self._low, dtype=np.uint64) if self._low else np.empty(0, np.uint64)
        order = np.argsort(high, kind="stable")
        self._sorted = high[order], low[order]
        self._high, self._low = array("Q"), array("Q")

    def __contains__(self, key: str) -> bool:
        """Return whether the key was added."""
        if self._sorted is None:
            raise UsageError("a set of keys is asked only after it is frozen")
        high, low = _hash128(key)
        highs, lows = self._sorted
        value = np.uint64(high)
        start, end = np.searchsorted(highs, value, "left"), np.searchsorted(highs, value, "right")
        return bool(np.any(lows[start:end] == np.uint64(low)))


def _hash128(key: str) -> tuple[int, int]:
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
