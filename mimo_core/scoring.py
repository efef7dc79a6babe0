"""The metrics by name, and the scorer that computes the chosen ones where that is cheapest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from mimo_core.errors import UsageError

if TYPE_CHECKING:
    from mimo_core.metrics import Pixels

Scores = dict[str, float | None]


@dataclass(frozen=True)
class Metric:
    """A measure of an image against its reference.

    Attributes:
        name: its record column, and what `--metrics` takes.
        definition: one line.
        of_input: whether the input is scored too, in the column `input_NAME`.
    """

    name: str
    definition: str
    of_input: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The record columns that it fills."""
        return (f"input_{self.name}", self.name) if self.of_input else (self.name,)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR in dB over all values of the 8-bit RGB arrays, peak 255"),
        Metric("ssim", "SSIM of the 8-bit RGB arrays: 11x11 Gaussian, sigma 1.5, valid region, mean of the channels"),
        Metric(
            "psnr_float",
            "PSNR in dB of the output as float clipped to 0..1 against the reference, before any rounding, peak 1",
            of_input=False,
        ),
        Metric("psnr_y", "PSNR in dB of BT.601 luma (16..235, not rounded) of the 8-bit RGB arrays, peak 255"),
        Metric(
            "ssim_matlab3d",
            "what MATLAB's ssim gives for 8-bit RGB: 11x11x11 Gaussian over the colours too, borders replicated",
        ),
    )
}
"""Every metric by its name."""

ALL = tuple(METRICS)
"""The names of all metrics, in the order of their columns."""


class Scorer(Protocol):
    """Computes the chosen metrics; usable from any threads at once."""

    def score(self, before: Pixels, after: Pixels, reference: Pixels, values: npt.NDArray[np.float32] | None) -> Scores:
        """Return the record columns of the chosen metrics, those of the input included.

        Args:
            before: the input, (H, W, 3) RGB, uint8 or uint16.
            after: the output, likewise; 16 bits are scored as the 8 bits that they round to.
            reference: the ground truth, likewise.
            values: the output before it was rounded, (H, W, 3) float32; None: `psnr_float` is that of `after`.

        Raises:
            UsageError: shapes differ.
            ImageError: the device has too little memory for this image.
            SystemFailure: the device failed.
        """
        ...


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names in the order of the columns, each once.

    Raises:
        UsageError: a name that is no metric's.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise UsageError(f"there is no metric {', '.join(map(repr, unknown))}; known are {', '.join(ALL)}")
    return tuple(name for name in ALL if name in names)


def open_scorer(metrics: Sequence[str], device_type: str) -> Scorer:
    """Return what computes the metrics: OpenCV on the CPU, PyTorch where the device is CUDA's.

    Args:
        metrics: names in `METRICS`.
        device_type: `cpu`, `cuda` (or `cuda:N`), `vacc`: all but CUDA score on the CPU.

    Raises:
        UsageError: a name that is no metric's.
        SystemFailure: the device cannot be used.
    """
    if device_type.split(":")[0] != "cuda":
        return CpuScorer(metrics)
    from mimo_core.torch_scoring import TorchScorer

    return TorchScorer(metrics, device_type)


class CpuScorer:
    """Scores by `mimo_core.metrics`, on the calling thread."""

    def __init__(self, metrics: Sequence[str]) -> None:
        self._metrics = check_metrics(metrics)

    def score(self, before: Pixels, after: Pixels, reference: Pixels, values: npt.NDArray[np.float32] | None) -> Scores:
        """Return the record columns; see `Scorer.score`."""
        from mimo_core import metrics

        measures: dict[str, Callable[[Pixels, Pixels], float | None]] = {
            "psnr": metrics.psnr,
            "ssim": metrics.ssim,
            "psnr_y": metrics.psnr_y,
            "ssim_matlab3d": metrics.ssim_matlab3d,
        }
        truth, input8, output8 = (metrics.as_8bit(pixels) for pixels in (reference, before, after))
        scores: Scores = {}
        for name in self._metrics:
            if name == "psnr_float":
                scores[name] = metrics.psnr_float(unrounded(after, values), reference)
                continue
            scores[f"input_{name}"] = measures[name](input8, truth)
            scores[name] = measures[name](output8, truth)
        return scores


def unrounded(after: Pixels, values: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    """Return the output as float32 0..1: as it was before rounding, or else the rounded one."""
    if values is not None:
        return values
    scaled: npt.NDArray[np.float32] = np.divide(after, np.float32(np.iinfo(after.dtype).max), dtype=np.float32)
    return scaled
