"""The Frechet distance between two sets of features, to the last digit the same wherever it is computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import numpy.typing as npt
import torch

from mimo_core.errors import UsageError
from mimo_core.metrics.fid.threads import open_threads

Rows = npt.NDArray[np.float32]

_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Distribution:
    """The normal distribution that a set of features is taken for.

    Attributes:
        count: images.
        mean: (F,) float64.
        factor: (R, F) float64; its transpose times itself is the covariance (with count - 1 as the divisor).
    """

    count: int
    mean: torch.Tensor
    factor: torch.Tensor


def distribution(rows: Rows | Iterable[Rows]) -> Distribution:
    """Return the distribution of features; one pass, in memory that does not grow with the images.

    Args:
        rows: (N, F) float32 in the order of the images' keys, whole or in blocks; how they are cut changes no digit.

    Raises:
        UsageError: fewer than two rows, rows of several lengths, or values that are not finite.
    """
    blocks = [rows] if isinstance(rows, np.ndarray) else rows
    with open_threads(1) as thread:
        return thread.submit(_distribution, blocks).result()


def distance(first: Distribution, second: Distribution) -> float:
    """Return the squared Frechet distance of two normal distributions, which is the FID of their sets of features.

    It is |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)) (Heusel et al., NeurIPS 2017). With C = F'F the last trace
    is the sum of the singular values of F1 F2', which stays exact where a covariance is singular; the matrix square
    root that is usual does not.

    Raises:
        UsageError: they have different numbers of features.
    """
    if first.mean.shape != second.mean.shape:
        raise UsageError(
            f"sets of {first.mean.shape[0]} and of {second.mean.shape[0]} features an image have no distance"
        )
    with open_threads(1) as thread:
        return thread.submit(_distance, first, second).result()


def _distribution(rows: Iterable[Rows]) -> Distribution:
    blocks = _in_blocks(rows)
    begin = list(islice(blocks, 2))
    if not begin or sum(len(block) for block in begin) < 2:
        raise UsageError(f"FID compares sets of at least two images, not of {len(begin)}")
    if len(begin) == 1 and begin[0].shape[0] <= begin[0].shape[1]:
        return _of_few(begin[0])
    return _of_many(chain(begin, blocks))


def _of_few(rows: torch.Tensor) -> Distribution:
    """Return the distribution of no more rows than features: they are the factor, and no covariance is needed."""
    mean = rows.mean(0)
    return Distribution(len(rows), mean, (rows - mean) / math.sqrt(len(rows) - 1))


def _of_many(blocks: Iterable[torch.Tensor]) -> Distribution:
    """Return the distribution of a stream of rows: means and scatters of its blocks, merged (Chan et al., 1979)."""
    count, mean, scatter = 0, torch.zeros(1), torch.zeros(1)
    for block in blocks:
        added, its_mean = block.shape[0], block.mean(0)
        centred = block - its_mean
        if count == 0:
            mean, scatter = torch.zeros_like(its_mean), torch.zeros(2 * its_mean.shape, dtype=its_mean.dtype)
        apart = its_mean - mean
        total = count + added
        scatter = scatter.addmm(centred.T, centred).addr(apart, apart, alpha=count * added / total)
        mean = mean + apart * (added / total)
        count = total
    values, vectors = torch.linalg.eigh(scatter / (count - 1))
    return Distribution(count, mean, values.clamp(min=0).sqrt()[:, None] * vectors.T)


def _distance(first: Distribution, second: Distribution) -> float:
    apart = (first.mean - second.mean).square().sum()
    spread = first.factor.square().sum() + second.factor.square().sum()
    shared = torch.linalg.svdvals(first.factor @ second.factor.T).sum()
    # Rounding may leave equal sets a hair below zero.
    return max(0.0, float(apart + spread - 2 * shared))


def _in_blocks(rows: Iterable[Rows]) -> Iterator[torch.Tensor]:
    """Cut rows anew into blocks of 2048, the last one shorter, as float64."""
    waiting: list[Rows] = []
    count = 0
    for part in rows:
        _check(part, waiting)
        for begin in range(0, len(part), _BLOCK):
            piece = part[begin : begin + _BLOCK]
            waiting.append(piece)
            count += len(piece)
            if count >= _BLOCK:
                together = np.concatenate(waiting)
                yield _tensor(together[:_BLOCK])
                waiting = [together[_BLOCK:]]
                count -= _BLOCK
    if count:
        yield _tensor(np.concatenate(waiting))


def _check(part: Rows, before: list[Rows]) -> None:
    if part.ndim != 2:
        raise UsageError(f"features come as rows (N, F), not in the shape {part.shape}")
    if before and part.shape[1] != before[0].shape[1]:
        raise UsageError(f"rows of {before[0].shape[1]} and of {part.shape[1]} features do not make one set")
    if not np.isfinite(part).all():
        raise UsageError("features hold values that are not finite")


def _tensor(rows: Rows) -> torch.Tensor:
    # A copy in PyTorch's own memory: the order of sums may depend on where a foreign array begins.
    return torch.tensor(rows, dtype=torch.float64)
