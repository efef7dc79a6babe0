"""The endless, repeatable stream of training batches, prepared ahead by threads so that training never waits."""

import fnmatch
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from mimo_core.datasets.pairs import image_files, list_pairs
from mimo_core.errors import UsageError
from mimo_core.training.blur import Shake
from mimo_core.training.sources import (
    AveragedFrames,
    ImagePairs,
    Pair,
    SharpPhotos,
    Source,
    read_clips,
)
from mimo_core.training.train_config import Data, PairData, PhotoData, VideoData


@dataclass(frozen=True)
class Batch:
    """Crops for one step: uint8 RGB, shape (N, 3, size, size), channels last."""

    blurred: Tensor
    sharp: Tensor


class Mixture:
    """Several sources with their shares. Sample number i depends on the seed and i alone.

    So the position in the data is one number, and every worker of a distributed training can draw its own part.

    Args:
        sources: where pairs come from, each with its share.
        seed: another seed gives another stream.
        repeats: how often each pair comes, turned differently each time.
        block: how many pairs lie between a pair and its next coming.
    """

    def __init__(self, sources: list[tuple[Source, float]], *, seed: int, repeats: int = 1, block: int = 1) -> None:
        total = sum(share for _, share in sources)
        self._sources = [source for source, _ in sources]
        self._bounds = np.cumsum([share / total for _, share in sources])
        self._seed, self._repeats, self._block = seed, repeats, block
        self._recent: dict[tuple[int, int], Pair] = {}
        self._lock = threading.Lock()

    def sample(self, index: int, size: int) -> Pair:
        """Return pair number `index` as crops of `size` x `size`, flipped and turned at random."""
        pair = self._drawn(index, size)
        rng = np.random.default_rng((self._seed, index, 1))
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        return Pair(*(_turn(image, turns, flip) for image in (pair.blurred, pair.sharp)))

    def _drawn(self, index: int, size: int) -> Pair:
        """Return the pair before it is turned: a block of them comes `repeats` times before the next block."""
        base = index // (self._block * self._repeats) * self._block + index % self._block
        # Kept only for speed: a pair that is missing here, after a resume, is drawn again and is the same.
        pair = self._recent.get((base, size))
        if pair is None:
            rng = np.random.default_rng((self._seed, base))
            which = min(int(np.searchsorted(self._bounds, rng.uniform(), side="right")), len(self._sources) - 1)
            pair = self._sources[which].draw(rng, size)
            if self._repeats > 1:
                with self._lock:
                    self._recent[base, size] = pair
                    while len(self._recent) > 2 * self._block:
                        del self._recent[next(iter(self._recent))]
        return pair

    def batch(self, first: int, count: int, size: int) -> Batch:
        """Return pairs first .. first + count - 1 as tensors."""
        pairs = [self.sample(index, size) for index in range(first, first + count)]
        return Batch(_tensor([pair.blurred for pair in pairs]), _tensor([pair.sharp for pair in pairs]))


class Loader:
    """Batches of a mixture in order, prepared by threads a bounded number ahead.

    Args:
        mixture: where samples come from.
        batch: samples in a batch, over all ranks.
        size_of: side of the crops of a batch by its number.
        start: number of the first batch.
        threads: how many prepare batches; OpenCV and NumPy let go of Python's lock meanwhile.
        rank: this worker's number among `world` workers; it gets its share of each batch.
        world: number of workers.
    """

    def __init__(
        self,
        mixture: Mixture,
        batch: int,
        size_of: Callable[[int], int],
        *,
        start: int = 0,
        threads: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch % world:
            raise UsageError(f"a batch of {batch} cannot be shared evenly by {world} workers")
        self._mixture, self._batch, self._next = mixture, batch, start
        self._share, self._rank = batch // world, rank
        self._size_of = size_of
        self._ahead = 2 * threads + 2
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="crops")
        self._pending: deque[Future[Batch]] = deque()
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        with self._lock:
            while len(self._pending) < self._ahead:
                first = self._next * self._batch + self._rank * self._share
                self._pending.append(
                    self._pool.submit(self._mixture.batch, first, self._share, self._size_of(self._next))
                )
                self._next += 1
            future = self._pending.popleft()
        return future.result()

    def close(self) -> None:
        """Stop the threads; batches in preparation are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def open_mixture(data: tuple[Data, ...], *, seed: int, repeats: int = 1, block: int = 1) -> Mixture:
    """Load all sources of a configuration; see `Mixture`.

    Raises:
        UsageError: a folder or file is missing or holds nothing to train on.
    """
    # One thread an operation: the loader's threads are the parallelism, and the network needs the rest.
    cv2.setNumThreads(1)
    return Mixture([(open_source(entry), entry.share) for entry in data], seed=seed, repeats=repeats, block=block)


def open_source(data: Data) -> Source:
    """Load one source of training pairs; see `open_mixture`."""
    if isinstance(data, PhotoData):
        shake = Shake(
            data.min_extent, data.max_extent, data.rotation, data.bend, moving=data.moving, encoded=data.encoded
        )
        return SharpPhotos(photo_files(data), shake, min_scale=data.min_scale, still=data.still)
    if isinstance(data, PairData):
        pairs = list_pairs(data.folder)[data.first : data.last]
        return ImagePairs(pairs, min_scale=data.min_scale, max_scale=data.max_scale)
    if isinstance(data, VideoData):
        return AveragedFrames(read_clips(data.path), counts=data.counts, min_scale=data.min_scale)
    raise UsageError(f"unknown kind of training data: {data!r}")


def photo_files(data: PhotoData) -> list[Path]:
    """Return the photographs of a source without those held out, in a fixed order.

    Raises:
        UsageError: a folder does not exist, or a held-out name matches nothing, which would hide a typing error.
    """
    files: list[Path] = []
    for folder in data.folders:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder")
        files += image_files(folder)
    for pattern in data.exclude:
        if not fnmatch.filter([file.name for file in files], pattern):
            raise UsageError(f"nothing to hold out matches {pattern!r}")
    return [file for file in files if not any(fnmatch.fnmatch(file.name, pattern) for pattern in data.exclude)]


def _turn(image: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    turned = np.rot90(image, turns)
    return turned[:, ::-1] if flip else turned


def _tensor(images: list[np.ndarray]) -> Tensor:
    # NHWC memory seen as NCHW is channels last already.
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
