"""PSNR and SSIM as the deblurring field defines them, fast enough to score every image of a run."""

import math
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from mimo_core.errors import UsageError

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

SSIM_WINDOW = 11
"""Side of the Gaussian window in pixels; images smaller than this have no SSIM."""

_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03
# Sums over a strip of rows stay inside the processor's cache, where a whole image's maps would not.
_STRIP_VALUES = 1 << 17


def as_8bit(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """The 8-bit array that scores are computed on: uint8 as it is, uint16 scaled by 1/257 and rounded."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    if pixels.dtype == np.uint16:
        # 65535 = 255 * 257, so the scaling is exact in integers.
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    raise UsageError(f"scores are computed on uint8 or uint16 pixels, not {pixels.dtype}")


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio in dB over all values of all channels, float64; +inf for identical images.

    `a` and `b`: HW or HWC, both uint8 or both uint16, the same shape; the peak is that type's maximum.
    """
    first, second = _pair(a, b)
    rows = max(1, _STRIP_VALUES * 8 // max(1, first[0].size))
    total = 0.0
    for top in range(0, first.shape[0], rows):
        # Squares of integers add up exactly in float64, so neither strips nor threads change the result.
        total += cv2.norm(first[top : top + rows], second[top : top + rows], cv2.NORM_L2SQR)
    if total == 0.0:
        return math.inf
    peak = float(np.iinfo(first.dtype).max)
    return 10.0 * math.log10(peak * peak * first.size / total)


def ssim(a: Pixels, b: Pixels) -> float | None:
    """Structural similarity: 11x11 Gaussian window, sigma 1.5, K1 0.01, K2 0.03, valid region, mean of the channels.

    `a` and `b`: HW or HWC, both uint8 or both uint16, the same shape. None where a side is below 11 pixels. Equals
    scikit-image's `structural_similarity(gaussian_weights=True, use_sample_covariance=False)` to about 1e-6.
    Source: Wang et al., IEEE TIP 13(4), 2004.
    """
    first, second = _pair(a, b)
    height, width, channels = (int(side) for side in first.shape)
    if height < SSIM_WINDOW or width < SSIM_WINDOW:
        return None
    valid_height = height - SSIM_WINDOW + 1
    rows = max(16, _STRIP_VALUES // (width * channels))
    total = 0.0
    for top in range(0, valid_height, rows):
        bottom = min(top + rows, valid_height) + SSIM_WINDOW - 1
        total += _ssim_sum(first[top:bottom], second[top:bottom])
    return total / float(valid_height * (width - SSIM_WINDOW + 1) * channels)


def _ssim_sum(a: Pixels, b: Pixels) -> float:
    """Sum of the SSIM map over the valid region of one strip of rows (HWC)."""
    peak = float(np.iinfo(a.dtype).max)
    # Variances do not see a shift; values around zero keep float32's cancellation errors small.
    centre = np.float32((peak + 1) / 2)
    x = np.subtract(a, centre, dtype=np.float32)
    y = np.subtract(b, centre, dtype=np.float32)
    product = x * y
    squares = x * x
    squares += y * y
    mean_x, mean_y, mean_product, mean_squares = (_blur(part) for part in (x, y, product, squares))
    means_product = mean_x * mean_y
    means_squares = mean_x * mean_x
    means_squares += mean_y * mean_y
    c1, c2 = np.float32((_K1 * peak) ** 2), np.float32((_K2 * peak) ** 2)
    # Only the variances' sum is needed, never each: four filtered maps do where the formula reads like five.
    mean_product -= means_product
    mean_product *= 2
    mean_product += c2
    mean_squares -= means_squares
    mean_squares += c2
    # Back to the uncentred means: (x+c)(y+c) = xy + c(x+y) + cc, and likewise the sum of squares.
    mean_x += mean_y
    mean_x += centre
    mean_x *= centre
    means_product += mean_x
    means_product *= 2
    means_product += c1
    mean_x *= 2
    means_squares += mean_x
    means_squares += c1
    means_product *= mean_product
    means_squares *= mean_squares
    means_product /= means_squares
    return float(np.sum(means_product, dtype=np.float64))


def _gaussian() -> npt.NDArray[np.float32]:
    offsets = np.arange(SSIM_WINDOW, dtype=np.float64) - SSIM_WINDOW // 2
    weights = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    kernel: npt.NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return kernel


_KERNEL = _gaussian()


def _blur(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Gaussian means of the valid region of an HWC strip."""
    margin = SSIM_WINDOW // 2
    blurred: Any = cv2.sepFilter2D(part, cv2.CV_32F, _KERNEL, _KERNEL, borderType=cv2.BORDER_REPLICATE)
    inner: npt.NDArray[np.float32] = blurred.reshape(part.shape)[margin:-margin, margin:-margin]
    values: npt.NDArray[np.float32] = np.ascontiguousarray(inner)
    return values


def _pair(a: Pixels, b: Pixels) -> tuple[Pixels, Pixels]:
    """Both images as contiguous HWC, after the checks that make a score meaningful."""
    if a.dtype != b.dtype or a.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"scores compare two uint8 or two uint16 images, not {a.dtype} with {b.dtype}")
    if a.shape != b.shape:
        raise UsageError(f"scores compare images of one shape, not {a.shape} with {b.shape}")
    if a.ndim not in (2, 3) or a.size == 0:
        raise UsageError(f"scores compare HW or HWC images with at least one pixel, not the shape {a.shape}")
    shape = a.shape if a.ndim == 3 else (*a.shape, 1)
    return cast(Pixels, np.ascontiguousarray(a).reshape(shape)), cast(Pixels, np.ascontiguousarray(b).reshape(shape))
