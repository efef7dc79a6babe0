"""The kernel distance between two sets of features (KID), which unlike FID is not biased by the number of images."""

from collections.abc import Iterable

import numpy as np
import torch

from mimo_core.errors import UsageError
from mimo_core.metrics.fid.distance import Rows
from mimo_core.metrics.fid.threads import open_threads

_TOGETHER = 1000
_MOST = 20_000


def kernel_distance(first: Iterable[Rows], second: Iterable[Rows], images: int) -> float:
    """Return the squared maximum mean discrepancy of two sets under the kernel (x'y / F + 1)^3: the KID.

    It is that of Binkowski et al. (ICLR 2018), the mean over subsets of at most 1,000 images, whose estimates are
    unbiased: below zero where two sets are alike. Each subset is spread evenly over the whole set; of more than 20,000
    images every n-th counts, and no others are held in memory.

    Args:
        first: (N, F) float32 in blocks, in the order of the images' keys; how they are cut changes no digit.
        second: likewise.
        images: N of each set.

    Raises:
        UsageError: fewer than two images, or one of the sets has not so many.
    """
    if images < 2:
        raise UsageError("KID compares sets of at least two images")
    sets = [_thinned(rows, images) for rows in (first, second)]
    with open_threads(1) as thread:
        return thread.submit(_mean, *sets).result()


def _thinned(blocks: Iterable[Rows], images: int) -> Rows:
    step = -(-images // _MOST)
    kept, seen = [], 0
    for block in blocks:
        kept.append(block[-seen % step :: step].copy())
        seen += len(block)
    if seen != images:
        raise UsageError(f"KID compares sets of equally many images, not {images} and {seen}")
    return np.concatenate(kept)


def _mean(first: Rows, second: Rows) -> float:
    subsets = -(-len(first) // _TOGETHER)
    found = [_discrepancy(*(_tensor(rows[start::subsets]) for rows in (first, second))) for start in range(subsets)]
    return float(np.mean(found))


def _tensor(rows: Rows) -> torch.Tensor:
    # A copy in PyTorch's own memory: the order of sums may depend on where a foreign array begins.
    return torch.tensor(rows, dtype=torch.float64)


def _discrepancy(first: torch.Tensor, second: torch.Tensor) -> float:
    count, features = first.shape

    def kernel(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (one @ other.T / features + 1) ** 3

    def within(rows: torch.Tensor) -> torch.Tensor:
        values = kernel(rows, rows)
        return (values.sum() - values.diagonal().sum()) / (count * (count - 1))

    return float(within(first) + within(second) - 2 * kernel(first, second).mean())
