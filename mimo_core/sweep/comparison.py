"""How much better one cell is than another: paired over the images that both have, with bootstrap intervals."""

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

CONFIDENCE = 0.95
_RESAMPLINGS = 2000
# From here on the bootstrap of a mean and the normal interval agree to the digits that are shown.
_LARGE = 10_000
_SEED = 2108


@dataclass(frozen=True)
class Difference:
    """The mean of a score's differences over images, with a 95 % bootstrap interval.

    Attributes:
        mean: of (score of the cell - score of the baseline).
        low, high: ends of the interval; the mean itself where there is one image.
        images: that both cells have finite scores of.
    """

    mean: float
    low: float
    high: float
    images: int


def paired_difference(cell: pa.Table, baseline: pa.Table, score: str) -> Difference | None:
    """Compare two cells by a score of the images that both have; None where there is none.

    Args:
        cell, baseline: columns `key` and the score.
        score: its column; images without a finite value in both are left out.
    """
    mine, its = (table.select(["key", score]) for table in (cell, baseline))
    joined = mine.join(its.rename_columns(["key", "baseline"]), "key", join_type="inner").sort_by("key")
    differences = pc.subtract(joined[score], joined["baseline"]).to_numpy(zero_copy_only=False).astype(np.float64)
    differences = differences[np.isfinite(differences)]
    return None if not len(differences) else interval(differences, seed=zlib.crc32(score.encode()))


def interval(differences: npt.NDArray[np.float64], seed: int = 0) -> Difference:
    """Return the mean of differences (n,) with its percentile bootstrap interval; equal numbers give an equal one.

    Above 10,000 differences the interval is the normal one, which the bootstrap's approaches.
    """
    number, mean = len(differences), float(differences.mean())
    if number > _LARGE:
        half = 1.959964 * float(differences.std(ddof=1)) / number**0.5
        return Difference(mean, mean - half, mean + half, number)
    rng = np.random.default_rng([_SEED, seed])
    means = np.empty(_RESAMPLINGS)
    for index in range(_RESAMPLINGS):
        means[index] = differences[rng.integers(number, size=number)].mean()
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Difference(mean, float(low), float(high), number)
