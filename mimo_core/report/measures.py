"""The numbers behind the charts: scores and gains of images, histograms, and the pace of a run without its pauses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mimo_core.metrics.definitions import DEFINITIONS
from mimo_core.report.run_data import RunData, Values
from mimo_core.runs.statistics import STAGES, Mean
from mimo_core.sweep.comparison import Difference, interval


@dataclass(frozen=True)
class Score:
    """A metric as the page shows it: what people call it, its unit and digits.

    `step` is the finest sensible width of a histogram's bin.
    """

    column: str
    name: str
    unit: str
    digits: int
    step: float

    @property
    def before(self) -> str | None:
        """The column of the same score of the input."""
        return f"input_{self.column}" if DEFINITIONS[self.column].of_input else None

    @property
    def tie(self) -> float:
        """Below this, in either direction, values are equal: half of the last digit that is shown."""
        return float(0.5 * 10.0**-self.digits)

    @property
    def axis(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def show(self, value: float | None, *, sign: bool = False, unit: bool = True) -> str:
        """Return the value as text; a dash where there is none."""
        if value is None or math.isnan(value):
            return "–"
        # What rounds to nothing has no sign that would mean something.
        signed = "+" if sign and abs(value) >= self.tie else ""
        text = f"{value if signed or not sign else 0.0:{signed}.{self.digits}f}" if math.isfinite(value) else "∞"
        # A hyphen is no minus sign.
        return f"{text.replace('-', '−')} {self.unit if unit else ''}".strip()

    def show_difference(self, found: Difference) -> str:
        """Return a mean difference with its interval, and that it is a tie where the interval holds zero."""
        text = self.show(found.mean, sign=True)
        if found.images < 2:
            return text
        low, high = (self.show(end, sign=True, unit=False) for end in (found.low, found.high))
        return f"{text} [{low}, {high}]" + (", tie" if self.is_tie(found) else "")

    def is_tie(self, found: Difference) -> bool:
        """Return whether a mean difference may as well be none: its interval holds zero, or it rounds to zero."""
        return abs(found.mean) < self.tie or (found.images > 1 and found.low <= 0 <= found.high)


PSNR = Score("psnr", "PSNR", "dB", 2, 0.05)
SSIM = Score("ssim", "SSIM", "", 4, 0.001)
SCORES = (
    PSNR,
    SSIM,
    Score("psnr_float", "PSNR of float", "dB", 2, 0.05),
    Score("psnr_y", "PSNR of luma", "dB", 2, 0.05),
    Score("ssim_matlab3d", "SSIM as MATLAB", "", 4, 0.001),
    Score("psnr_zoo", "PSNR of the zoo", "dB", 3, 0.05),
    Score("ssim_zoo", "SSIM of the zoo", "", 4, 0.001),
    Score("psnr_realblur", "PSNR of RealBlur", "dB", 3, 0.05),
    Score("ssim_realblur", "SSIM of RealBlur", "", 4, 0.001),
    Score("sharpness", "Sharpness (indication)", "dB", 2, 0.05),
    Score("piqe", "PIQE (indication, lower is better)", "", 1, 1.0),
)


@dataclass(frozen=True)
class Means:
    """Means of a score over the images that have it: of input and output, and the gain over those that have both,
    of which only those in the run's table count.

    `equal` counts outputs that are identical to their reference, whose PSNR is infinite and in no mean.
    """

    score: Score
    before: float | None
    after: float
    gain: Difference | None
    images: int
    equal: int


def means_of(run: RunData) -> list[Means]:
    """Return the means of every score that the records hold."""
    scores = run.status.statistics.scores
    found = []
    for score in SCORES:
        after, before = scores.get(score.column, Mean()), scores.get(score.before or "", Mean())
        if after.finite_mean is None:
            continue
        gains = gains_of(run, score)
        gains = gains[np.isfinite(gains)]
        gain = interval(gains) if len(gains) else None
        found.append(Means(score, before.finite_mean, after.finite_mean, gain, after.count, after.infinite))
    return found


def gains_of(run: RunData, score: Score) -> Values:
    """Return output less input for each record; NaN where either is missing or infinite."""
    if score.before is None:
        return np.full(run.table.num_rows, math.nan)
    before, after = run.values(score.before), run.values(score.column)
    known = np.isfinite(before) & np.isfinite(after)
    return np.where(known, np.where(known, after, 0.0) - np.where(known, before, 0.0), math.nan)


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of several series over common bins; `edges` has one value more than each of the counts."""

    edges: Values
    counts: tuple[Values, ...]


def histogram(series: Sequence[Values], step: float, most_bins: int = 48) -> Histogram | None:
    """Return a histogram with round edges: bins of 1, 2 or 5 times a power of ten, none finer than `step`.

    The first edge is not above the lowest value and the last not below the highest, exactly. Bins are wider than `step`
    where float64 has less than 1000 values in a bin. Values that are not finite are left out; None where no value is
    left.
    """
    finite = [values[np.isfinite(values)] for values in series]
    together = np.concatenate(finite) if finite else np.empty(0)
    if not len(together):
        return None
    low, high = float(together.min()), float(together.max())
    # Few images in many bins would be a comb.
    bins = min(most_bins, max(6, 2 * math.isqrt(max(map(len, finite)))))
    finest = max(step, 1000 * math.ulp(max(-low, high)))
    width = _round_up(max(high / bins - low / bins, finest))
    # Dividing rounds: only the products, which are the edges, tell whether they enclose the extremes.
    first, last = round(low / width), round(high / width)
    first -= first * width > low
    last += last * width < high
    # The last bin of NumPy is closed, so that a highest value on an edge needs no bin of its own.
    edges: Values = np.arange(first, max(last, first + 1) + 1, dtype=np.float64) * width
    return Histogram(edges, tuple(np.histogram(values, edges)[0].astype(np.float64) for values in finite))


def _round_up(width: float) -> float:
    power = 10.0 ** math.floor(math.log10(width))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= width * (1 - 1e-9))


@dataclass(frozen=True, eq=False)
class Pace:
    """Throughput over the time that was worked: pauses between sessions are cut out.

    Attributes:
        seconds: worked.
        edges: of the bins, in seconds worked.
        rates: images per second in each bin.
        pauses: (seconds worked before it, its length in seconds).
        images: that were finished in it.
    """

    seconds: float
    edges: Values
    rates: Values
    pauses: tuple[tuple[float, float], ...]
    images: int

    @property
    def rate(self) -> float | None:
        """Images per second over the time worked, None where that was no time."""
        return self.images / self.seconds if self.seconds > 0 else None


_SHORTEST_PAUSE = 300.0
_FEWEST = 10


def pace_of(run: RunData, bins: int = 80) -> Pace | None:
    """Return the pace of the run; None with too few records to tell, or where only some of them were read."""
    times = np.sort(run.finished_seconds())
    times = times[np.isfinite(times)]
    if len(times) < _FEWEST or run.sampled:
        return None
    gaps = np.diff(times)
    # Images that each take minutes are no pauses.
    pauses = gaps > max(_SHORTEST_PAUSE, 20 * float(np.median(gaps)))
    # The first image has no beginning that is known, and does not count.
    worked = np.cumsum(np.where(pauses, 0.0, gaps))
    seconds = float(worked[-1])
    if seconds <= 0:
        return None
    number = min(bins, max(5, len(times) // 4))
    edges = np.linspace(0.0, seconds, number + 1)
    rates = np.histogram(worked, edges)[0] / np.diff(edges)
    marks = tuple((float(worked[place]), float(gaps[place])) for place in np.flatnonzero(pauses))
    return Pace(seconds, edges, rates, marks, len(gaps))


def stage_means(run: RunData) -> dict[str, float]:
    """Return the mean milliseconds that each stage took, over all images that were not left out."""
    statistics = run.status.statistics
    number = max(1, statistics.images - statistics.skipped)
    return {stage: statistics.stage_ms[stage] / number for stage in STAGES if statistics.stage_ms.get(stage)}


def mean_infer_rate(run: RunData) -> float | None:
    """Return images per second of one session: 1000 / mean infer_ms."""
    times = run.values("infer_ms")
    times = times[np.isfinite(times) & (times > 0)]
    return 1000.0 / float(times.mean()) if len(times) else None


def paired(first: RunData, second: RunData, column: str) -> Values:
    """Return second less first for the keys that have a finite value in both, in the order of the second's records."""
    known = dict(zip(first.texts("key"), first.values(column).tolist(), strict=True))
    keys = second.texts("key")
    earlier = np.array([known.get(key, math.nan) for key in keys], dtype=np.float64)
    later = second.values(column)
    both = np.isfinite(earlier) & np.isfinite(later)
    return np.asarray(later[both] - earlier[both], dtype=np.float64)
