"""The metrics in PyTorch, on the accelerator that has just restored the image."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from mimo_core.images.pixels import Pixels, as_8bit
from mimo_core.metrics.definitions import Scores, check_metrics
from mimo_core.metrics.protocols import protocol_scores
from mimo_core.metrics.psnr_ssim import (
    K1,
    K2,
    LUMA,
    SSIM_WINDOW,
    channel_mixing,
    check_pair,
    check_rgb,
    check_values,
    decibels,
    gaussian,
    has_ssim,
    unrounded,
)
from mimo_core.torch_device import find_device, measuring_on

_PEAK = 255.0
_CENTRE = 128.0
_MARGIN = SSIM_WINDOW // 2
_KERNEL = [float(weight) for weight in gaussian()]
_MIXING = [[float(weight) for weight in row] for row in channel_mixing()]
# Some ten maps of a strip are alive at once: 160 MB in float32, whatever the image's size.
_STRIP_VALUES = 1 << 22

Blur = Callable[[torch.Tensor], torch.Tensor]


class TorchScorer:
    """Scores as `mimo_core.metrics.psnr_ssim` does, by the same formulas, on any PyTorch device.

    Blurs are sums of shifted rows and columns and not convolutions: which algorithm cuDNN chooses for those depends on
    the memory that is free, and a score's last digits would with it.
    """

    def __init__(self, metrics: Sequence[str], device: str) -> None:
        """Take the names of metrics, and `cpu`, `cuda` or `cuda:N`.

        Raises:
            UsageError: a name that is no metric's.
            SystemFailure: this machine does not have the device.
        """
        self._metrics = check_metrics(metrics)
        self._device = find_device(device)

    def score(self, before: Pixels, after: Pixels, reference: Pixels, values: npt.NDArray[np.float32] | None) -> Scores:
        """Return the record columns; see `mimo_core.metrics.scorer.Scorer.score`."""
        truth8, before8, after8 = (as_8bit(pixels) for pixels in (reference, before, after))
        for pixels in (before8, after8):
            check_rgb(check_pair(pixels, truth8)[0], "scoring on an accelerator")
        scores: Scores = {}
        with measuring_on(self._device), torch.inference_mode():
            truth, given, restored = (self._planes(pixels) for pixels in (truth8, before8, after8))
            for name in self._metrics:
                if name == "psnr_float":
                    scores[name] = self._psnr_float(unrounded(after, values), reference)
                elif name in _MEASURES:
                    scores[f"input_{name}"] = _MEASURES[name](given, truth)
                    scores[name] = _MEASURES[name](restored, truth)
        # To the last step means on the CPU, with the libraries of those scripts.
        return scores | protocol_scores(self._metrics, after, reference, values)

    def _planes(self, pixels: npt.NDArray[np.generic]) -> torch.Tensor:
        """Return (H, W, C) as (C, H, W) on the device, in the same type."""
        return torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device).permute(2, 0, 1).contiguous()

    def _psnr_float(self, values: npt.NDArray[np.float32], reference: Pixels) -> float:
        check_values(values, reference)
        peak = float(np.iinfo(reference.dtype).max)
        truth = self._planes(reference.astype(np.float32)).div_(peak)
        error = self._planes(values).clamp(0, 1).sub_(truth)
        return decibels(float(error.square_().sum(dtype=torch.float64)), error.numel(), 1.0)


def _psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    error = a.to(torch.int32).sub_(b)
    return decibels(float(error.square_().sum(dtype=torch.int64)), error.numel(), _PEAK)


def _psnr_y(a: torch.Tensor, b: torch.Tensor) -> float:
    red, green, blue = a.to(torch.float64).sub_(b)
    error = red.mul_(LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
    return decibels(float(error.square_().sum(dtype=torch.float64)), error.numel(), _PEAK)


def _ssim(a: torch.Tensor, b: torch.Tensor) -> float | None:
    return _mean_ssim(a, b, _blur) if has_ssim(tuple(a.shape[1:])) else None


def _ssim_matlab3d(a: torch.Tensor, b: torch.Tensor) -> float | None:
    if not has_ssim(tuple(a.shape[1:])):
        return None
    rows, columns = (
        torch.arange(-_MARGIN, side + _MARGIN, device=a.device).clamp_(0, side - 1) for side in a.shape[1:]
    )
    first, second = (planes[:, rows][:, :, columns] for planes in (a, b))
    return _mean_ssim(first, second, _blur_volume)


def _mean_ssim(a: torch.Tensor, b: torch.Tensor, blur: Blur) -> float:
    """Return the mean of the SSIM map over the valid region of (C, H, W) planes."""
    channels, height, width = a.shape
    valid_height, valid_width = height - 2 * _MARGIN, width - 2 * _MARGIN
    rows = max(1, _STRIP_VALUES // (channels * width))
    total = torch.zeros((), dtype=torch.float64, device=a.device)
    for top in range(0, valid_height, rows):
        strip = slice(top, min(top + rows, valid_height) + 2 * _MARGIN)
        total += _ssim_map(a[:, strip], b[:, strip], blur).sum(dtype=torch.float64)
    return float(total) / (channels * valid_height * valid_width)


def _ssim_map(a: torch.Tensor, b: torch.Tensor, blur: Blur) -> torch.Tensor:
    # Variances do not see a shift; values around zero keep float32's cancellation errors small.
    x, y = (planes.to(torch.float32).sub_(_CENTRE) for planes in (a, b))
    mean_x, mean_y, mean_product, mean_squares = map(blur, (x, y, x * y, x.square() + y.square()))
    product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    c1, c2 = (K1 * _PEAK) ** 2, (K2 * _PEAK) ** 2
    structure = (2 * (mean_product - product) + c2) / (mean_squares - squares + c2)
    # Back to the uncentred means: (x+c)(y+c) = xy + c(x+y) + cc, and likewise the sum of squares.
    shift = _CENTRE * (mean_x + mean_y + _CENTRE)
    return structure * (2 * (product + shift) + c1) / (squares + 2 * shift + c1)


def _blur(part: torch.Tensor) -> torch.Tensor:
    """Gaussian means of the valid region of (C, H, W) planes."""
    for axis in (2, 1):
        length = part.shape[axis] - 2 * _MARGIN
        blurred = part.narrow(axis, 0, length) * _KERNEL[0]
        for offset, weight in enumerate(_KERNEL[1:], 1):
            blurred.add_(part.narrow(axis, offset, length), alpha=weight)
        part = blurred
    return part


def _blur_volume(part: torch.Tensor) -> torch.Tensor:
    """Gaussian means over rows, columns and the three channels."""
    red, green, blue = _blur(part)
    return torch.stack([red * r + green * g + blue * b for r, g, b in _MIXING])


_MEASURES: dict[str, Callable[[torch.Tensor, torch.Tensor], float | None]] = {
    "psnr": _psnr,
    "ssim": _ssim,
    "psnr_y": _psnr_y,
    "ssim_matlab3d": _ssim_matlab3d,
}
