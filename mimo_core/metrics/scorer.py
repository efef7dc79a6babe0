"""The metrics by name, and the scorer that computes the chosen ones where that is cheapest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from mimo_core.images.pixels import as_8bit
from mimo_core.metrics.definitions import METRICS, Scores, check_metrics

if TYPE_CHECKING:
    from mimo_core.images.pixels import Pixels


class Scorer(Protocol):
    """Computes the chosen metrics; usable from any threads at once."""

    def score(self, before: Pixels, after: Pixels, reference: Pixels, values: npt.NDArray[np.float32] | None) -> Scores:
        """Return the record columns of the chosen metrics, those of the input included.

        Args:
            before: the input, (H, W, 3) RGB, uint8 or uint16.
            after: the output, likewise; 16 bits are scored as the 8 bits that they round to.
            reference: the ground truth, likewise.
            values: the output before it was rounded, (H, W, 3) float32; None: what is scored unrounded is `after`.

        Raises:
            UsageError: shapes differ.
            ImageError: the device has too little memory for this image.
            SystemFailure: the device failed.
        """
        ...


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
    from mimo_core.metrics.torch_scorer import TorchScorer

    return TorchScorer(metrics, device_type)


def score_pair(metrics: Sequence[str], image: Pixels, reference: Pixels) -> Scores:
    """Return the scores of one image against its ground truth, by metric; 16 bits are scored as 8.

    Args:
        metrics: names in `METRICS`; `psnr_float` is that of the integers, none being known from before rounding.
        image: (H, W, 3) RGB, uint8 or uint16.
        reference: likewise, of the same size.

    Raises:
        UsageError: a name that is no metric's, or shapes differ.
    """
    from mimo_core.metrics import psnr_ssim
    from mimo_core.metrics.protocols import protocol_scores

    measures, image8, truth = _measures(), as_8bit(image), as_8bit(reference)
    return {
        name: psnr_ssim.psnr_float(psnr_ssim.unrounded(image, None), reference)
        if name == "psnr_float"
        else measures[name](image8, truth)
        for name in check_metrics(metrics)
        if name in METRICS
    } | protocol_scores(metrics, image, reference, None)


def _measures() -> dict[str, Callable[[Pixels, Pixels], float | None]]:
    """Return the functions of the metrics of two 8-bit images."""
    # Only here: the names of the metrics need no OpenCV.
    from mimo_core.metrics import psnr_ssim

    return {
        "psnr": psnr_ssim.psnr,
        "ssim": psnr_ssim.ssim,
        "psnr_y": psnr_ssim.psnr_y,
        "ssim_matlab3d": psnr_ssim.ssim_matlab3d,
    }


class CpuScorer:
    """Scores by `mimo_core.metrics.psnr_ssim`, on the calling thread."""

    def __init__(self, metrics: Sequence[str]) -> None:
        self._metrics = check_metrics(metrics)

    def score(self, before: Pixels, after: Pixels, reference: Pixels, values: npt.NDArray[np.float32] | None) -> Scores:
        """Return the record columns; see `Scorer.score`."""
        from mimo_core.metrics import psnr_ssim
        from mimo_core.metrics.protocols import protocol_scores

        measures = _measures()
        truth, input8, output8 = (as_8bit(pixels) for pixels in (reference, before, after))
        scores: Scores = {}
        for name in self._metrics:
            if name == "psnr_float":
                scores[name] = psnr_ssim.psnr_float(psnr_ssim.unrounded(after, values), reference)
                continue
            if name in measures:
                scores[f"input_{name}"] = measures[name](input8, truth)
                scores[name] = measures[name](output8, truth)
        return scores | protocol_scores(self._metrics, after, reference, values)
