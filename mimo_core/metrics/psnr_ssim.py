"""PSNR and SSIM in the definitions that deblurring papers use, fast enough to score every image of a run."""

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from mimo_core.errors import UsageError
from mimo_core.images.pixels import Pixels

Blur = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

SSIM_WINDOW = 11
"""Side of the Gaussian window in pixels; images smaller than this have no SSIM."""

SIGMA = 1.5
"""Standard deviation of that window in pixels."""

K1, K2 = 0.01, 0.03
"""SSIM's stabilising constants, in units of the peak."""

LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
"""Weights of R, G and B in ITU-R BT.601 luma of 16..235, for values of 0..255."""

# Sums over a strip of rows stay inside the processor's cache, where a whole image's maps would not.
_STRIP_VALUES = 1 << 17


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio in dB over all values of all channels, float64; +inf for identical images.

    `a` and `b`: HW or HWC, both uint8 or both uint16, the same shape; the peak is that type's maximum.
    """
    first, second = check_pair(a, b)
    # Squares of integers add up exactly in float64, so neither strips nor threads change the result.
    total = sum(cv2.norm(first[strip], second[strip], cv2.NORM_L2SQR) for strip in _strips(first, _STRIP_VALUES * 8))
    return decibels(total, first.size, float(np.iinfo(first.dtype).max))


def psnr_float(values: npt.NDArray[np.float32], reference: Pixels) -> float:
    """PSNR in dB of a network's output before it is rounded; +inf where nothing differs.

    The definition of the reference repository's evaluation (chosj95/MIMO-UNet): output clipped to 0..1 against the
    reference divided by its type's maximum, peak 1, over all values of all channels. Like there, differences and their
    squares are rounded to float32, and added in float64.

    Args:
        values: (H, W, C) float32, 0..1; what lies outside is clipped.
        reference: (H, W, C), uint8 or uint16.
    """
    check_values(values, reference)
    scale = np.float32(np.iinfo(reference.dtype).max)
    total = 0.0
    for strip in _strips(reference, _STRIP_VALUES):
        truth = np.divide(reference[strip], scale, dtype=np.float32)
        error = np.clip(values[strip], 0, 1) - truth
        total += float(np.square(error, out=error).sum(dtype=np.float64))
    return decibels(total, reference.size, 1.0)


def psnr_y(a: Pixels, b: Pixels) -> float:
    """PSNR in dB of the luma of two RGB images; +inf where it is the same.

    Luma is ITU-R BT.601's of 16..235, as MATLAB's and scikit-image's `rgb2ycbcr` give it, not rounded; the peak is
    the type's maximum (255), as is usual, and not luma's own range.

    `a` and `b`: (H, W, 3) RGB, both uint8 or both uint16, the same shape.
    """
    first, second = check_pair(a, b)
    check_rgb(first, "psnr_y")
    weights = np.array([LUMA], np.float64)
    total = 0.0
    for strip in _strips(first, _STRIP_VALUES):
        # Luma is linear: the difference of two is the luma of the difference, less the offset of 16. In float64,
        # for colours that cancel each other out leave few digits of float32.
        difference = cv2.transform(np.subtract(first[strip], second[strip], dtype=np.float64), weights)
        total += cv2.norm(difference, cv2.NORM_L2SQR)
    return decibels(total, first.size // 3, float(np.iinfo(first.dtype).max))


def ssim(a: Pixels, b: Pixels) -> float | None:
    """Structural similarity: 11x11 Gaussian window, sigma 1.5, K1 0.01, K2 0.03, valid region, mean of the channels.

    `a` and `b`: HW or HWC, both uint8 or both uint16, the same shape. None where a side is below 11 pixels. Equals
    scikit-image's `structural_similarity(gaussian_weights=True, use_sample_covariance=False)` to about 1e-6.
    Source: Wang et al., IEEE TIP 13(4), 2004.
    """
    first, second = check_pair(a, b)
    return _mean_ssim(first, second, _blur) if has_ssim(first.shape) else None


def ssim_matlab3d(a: Pixels, b: Pixels) -> float | None:
    """Return the figure that MATLAB's `ssim(A, ref)` gives for RGB images, which many GoPro papers report as SSIM.

    MATLAB takes the array for a volume: its Gaussian window is 11x11x11 with sigma 1.5, so that colours are blended
    too, borders are replicated in all three directions, and the mean is over the whole image. It is higher than `ssim`.

    `a` and `b`: (H, W, 3) RGB, both uint8 or both uint16, the same shape. None where a side is below 11 pixels.
    """
    first, second = check_pair(a, b)
    check_rgb(first, "ssim_matlab3d")
    if not has_ssim(first.shape):
        return None
    margins = (SSIM_WINDOW // 2,) * 4
    first, second = (cast(Pixels, cv2.copyMakeBorder(side, *margins, cv2.BORDER_REPLICATE)) for side in (first, second))
    return _mean_ssim(first, second, _blur_volume)


def has_ssim(shape: tuple[int, ...]) -> bool:
    """Return whether images of this shape, (H, W, ...), are large enough for SSIM's window."""
    return min(shape[:2]) >= SSIM_WINDOW


def decibels(total: float, count: int, peak: float) -> float:
    """Return the PSNR for the sum of `count` squared errors; +inf for a sum of 0."""
    return 10.0 * math.log10(peak * peak * count / total) if total else math.inf


def gaussian() -> npt.NDArray[np.float32]:
    """Return SSIM's window along one direction: (11,), its sum 1."""
    offsets = np.arange(SSIM_WINDOW, dtype=np.float64) - SSIM_WINDOW // 2
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    kernel: npt.NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return kernel


def channel_mixing() -> npt.NDArray[np.float32]:
    """Return what SSIM's window does along three channels with replicated borders: (3, 3), the rows' sums 1."""
    mixing = np.zeros((3, 3), np.float64)
    for channel in range(3):
        for offset, weight in enumerate(gaussian().astype(np.float64), -(SSIM_WINDOW // 2)):
            mixing[channel, min(max(channel + offset, 0), 2)] += weight
    return mixing.astype(np.float32)


def check_pixels(pixels: Pixels) -> None:
    """Refuse what is no image to score.

    Raises:
        UsageError: neither uint8 nor uint16, neither HW nor HWC, or without a pixel.
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"scores are computed on uint8 or uint16 pixels, not {pixels.dtype}")
    if pixels.ndim not in (2, 3) or pixels.size == 0:
        raise UsageError(f"scores compare HW or HWC images with at least one pixel, not the shape {pixels.shape}")


def check_pair(a: Pixels, b: Pixels) -> tuple[Pixels, Pixels]:
    """Return both images as contiguous HWC, after the checks that make a score meaningful.

    Raises:
        UsageError: they differ in type or shape, or are no images.
    """
    if a.dtype != b.dtype:
        raise UsageError(f"scores compare two uint8 or two uint16 images, not {a.dtype} with {b.dtype}")
    check_pixels(a)
    if a.shape != b.shape:
        raise UsageError(f"scores compare images of one shape, not {a.shape} with {b.shape}")
    shape = a.shape if a.ndim == 3 else (*a.shape, 1)
    return cast(Pixels, np.ascontiguousarray(a).reshape(shape)), cast(Pixels, np.ascontiguousarray(b).reshape(shape))


def check_values(values: npt.NDArray[np.float32], reference: Pixels) -> None:
    """Refuse what is no network's output for this reference (UsageError)."""
    if values.dtype != np.float32:
        raise UsageError(f"psnr_float scores float32 values of 0..1, not {values.dtype}; psnr scores integers")
    check_pixels(reference)
    if values.shape != reference.shape:
        raise UsageError(f"scores compare images of one shape, not {values.shape} with {reference.shape}")


def check_rgb(pixels: Pixels, name: str) -> None:
    """Refuse images without three channels for a metric that is defined by them (UsageError)."""
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise UsageError(f"{name} is defined for RGB images, not for the shape {pixels.shape}")


def _strips(pixels: Pixels, values: int) -> Iterator[slice]:
    """Yield rows in strips of about so many values."""
    rows = max(1, values // pixels[0].size)
    return (slice(top, top + rows) for top in range(0, len(pixels), rows))


def _mean_ssim(a: Pixels, b: Pixels, blur: Blur) -> float:
    """Return the mean of the SSIM map over the valid region of HWC images."""
    height, width, channels = (int(side) for side in a.shape)
    valid_height = height - SSIM_WINDOW + 1
    rows = max(16, _STRIP_VALUES // (width * channels))
    total = 0.0
    for top in range(0, valid_height, rows):
        bottom = min(top + rows, valid_height) + SSIM_WINDOW - 1
        total += _ssim_sum(a[top:bottom], b[top:bottom], blur)
    return total / float(valid_height * (width - SSIM_WINDOW + 1) * channels)


def _ssim_sum(a: Pixels, b: Pixels, blur: Blur) -> float:
    """Return the sum of the SSIM map over the valid region of one strip of rows (HWC)."""
    peak = float(np.iinfo(a.dtype).max)
    # Variances do not see a shift; values around zero keep float32's cancellation errors small.
    centre = np.float32((peak + 1) / 2)
    x = np.subtract(a, centre, dtype=np.float32)
    y = np.subtract(b, centre, dtype=np.float32)
    product = x * y
    squares = x * x
    squares += y * y
    mean_x, mean_y, mean_product, mean_squares = (blur(part) for part in (x, y, product, squares))
    means_product = mean_x * mean_y
    means_squares = mean_x * mean_x
    means_squares += mean_y * mean_y
    c1, c2 = np.float32((K1 * peak) ** 2), np.float32((K2 * peak) ** 2)
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


_KERNEL = gaussian()
_MIXING = channel_mixing()


def _blur(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Gaussian means of the valid region of an HWC strip."""
    margin = SSIM_WINDOW // 2
    blurred: Any = cv2.sepFilter2D(part, cv2.CV_32F, _KERNEL, _KERNEL, borderType=cv2.BORDER_REPLICATE)
    inner: npt.NDArray[np.float32] = blurred.reshape(part.shape)[margin:-margin, margin:-margin]
    values: npt.NDArray[np.float32] = np.ascontiguousarray(inner)
    return values


def _blur_volume(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Gaussian means over rows, columns and the three channels."""
    return cast(npt.NDArray[np.float32], cv2.transform(_blur(part), _MIXING))


def unrounded(after: Pixels, values: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    """Return the output as float32 0..1: as it was before rounding, or else the rounded one."""
    if values is not None:
        return values
    scaled: npt.NDArray[np.float32] = np.divide(after, np.float32(np.iinfo(after.dtype).max), dtype=np.float32)
    return scaled
