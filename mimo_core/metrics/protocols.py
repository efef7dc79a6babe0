"""Scores as others compute them, to their last step: the model zoo's script, and RealBlur's.

The reference repository's, `psnr_float`, is among the usual ones in `mimo_core.metrics.psnr_ssim`.
"""

from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from mimo_core.images.pixels import Pixels, as_8bit
from mimo_core.metrics.definitions import Scores
from mimo_core.metrics.psnr_ssim import (
    K1,
    K2,
    SIGMA,
    SSIM_WINDOW,
    check_pair,
    check_rgb,
    check_values,
    decibels,
    has_ssim,
    unrounded,
)

_Real = npt.NDArray[np.float32]
_Exact = npt.NDArray[np.float64]

_MARGIN = SSIM_WINDOW // 2
_KERNEL = cv2.getGaussianKernel(SSIM_WINDOW, SIGMA, cv2.CV_64F)
# A strip of maps in float64 stays below 100 MB, whatever the image's size.
_STRIP_VALUES = 1 << 20
# The settings of RealBlur's script; with an epsilon of 0 every one of the iterations is made.
_ECC_ITERATIONS, _ECC_EPSILON, _ECC_BLUR = 100, 0, 5


def protocol_scores(
    names: Sequence[str], after: Pixels, reference: Pixels, values: npt.NDArray[np.float32] | None
) -> Scores:
    """Return the scores of those of the names that a protocol defines.

    Args:
        names: of metrics.
        after: the output, (H, W, 3) RGB, uint8 or uint16.
        reference: the ground truth, likewise.
        values: the output before it was rounded, (H, W, 3) float32; None: those of `after`.

    Raises:
        UsageError: shapes differ.
    """
    scores: Scores = {}
    if "psnr_zoo" in names or "ssim_zoo" in names:
        shown = zoo_values(unrounded(after, values))
        truth = as_8bit(reference)
        scores |= {"psnr_zoo": psnr_zoo(shown, truth), "ssim_zoo": ssim_zoo(shown, truth)}
    if "psnr_realblur" in names or "ssim_realblur" in names:
        psnr, ssim = realblur(as_8bit(after), as_8bit(reference))
        scores |= {"psnr_realblur": psnr, "ssim_realblur": ssim}
    return {name: score for name, score in scores.items() if name in names}


def zoo_values(values: _Real) -> _Real:
    """Return what the model zoo scores: 0..255 in float32, with the half step that is meant for a truncating cast.

    Args:
        values: a network's output, float32, 0..1; what lies outside is clipped.
    """
    shown = np.clip(values, np.float32(0), np.float32(1))
    shown += np.float32(0.5 / 255)
    shown *= np.float32(255)
    return np.clip(shown, np.float32(0), np.float32(255), out=shown)


def psnr_zoo(shown: _Real, reference: npt.NDArray[np.uint8]) -> float:
    """PSNR in dB as the model zoo has it: `zoo_values` against the 8-bit reference, peak 255, in float64.

    The half step counts as an error: an exact output has 54.15 dB (but where it is 255).
    """
    check_values(shown, reference)
    total = 0.0
    for strip in _strips(reference):
        total += float(np.square(np.subtract(shown[strip], reference[strip], dtype=np.float64)).sum())
    return decibels(total, reference.size, 255.0)


def ssim_zoo(shown: _Real, reference: npt.NDArray[np.uint8]) -> float | None:
    """SSIM as the model zoo has it: that of `zoo_values`, else `ssim`'s definition; None below 11 pixels a side."""
    check_values(shown, reference)
    return _mean_ssim(shown, reference, 255.0) if has_ssim(reference.shape) else None


def realblur(output: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8]) -> tuple[float | None, float | None]:
    """PSNR in dB and SSIM as RealBlur's script has them: after intensity and position are matched.

    The output is scaled to the reference's intensity by least squares, then aligned to it by a homography that
    maximises the enhanced correlation coefficient (ECC), and both are compared where the aligned output has pixels.

    Args:
        output: (H, W, 3) RGB.
        reference: likewise.

    Returns:
        PSNR and SSIM, each None where the images cannot be aligned, SSIM also below 11 pixels a side.
    """
    check_rgb(check_pair(output, reference)[0], "psnr_realblur")
    truth, given = (pixels.astype(np.float32) / np.float32(255) for pixels in (reference, output))
    power = np.sum(given * given)
    if not power:
        return None, None
    given = (np.sum(truth * given) / power) * given
    warp = _homography(truth, given)
    if warp is None:
        return None, None
    size = (truth.shape[1], truth.shape[0])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    aligned = cast(_Real, cv2.warpPerspective(given, warp, size, flags=flags, borderMode=cv2.BORDER_REFLECT))
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    mask = cast(_Real, cv2.warpPerspective(np.ones_like(given), warp, size, flags=flags, borderValue=0))
    aligned *= mask
    truth *= mask
    count = int(mask.sum(dtype=np.float64))
    if not count:
        return None, None
    error = np.subtract(truth, aligned)
    psnr = decibels(float(np.square(error).sum(dtype=np.float64)), count, 1.0)
    return psnr, _masked_ssim(truth, aligned, mask) if has_ssim(truth.shape) else None


def _homography(truth: _Real, given: _Real) -> _Real | None:
    """Return the homography (3, 3) from the reference's pixels to the output's, None where none is found."""
    template, moved = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (truth, given))
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ECC_ITERATIONS, _ECC_EPSILON)
    start = np.eye(3, dtype=np.float32)
    try:
        # OpenCV's stubs do not know that there need be no mask.
        find: Any = cv2.findTransformECC
        found = find(template, moved, start, cv2.MOTION_HOMOGRAPHY, criteria, None, _ECC_BLUR)[1]
    except cv2.error:
        # It says so where nothing correlates, as with images of one colour.
        return None
    warp: _Real = np.asarray(found, np.float32)
    return warp if np.isfinite(warp).all() else None


def _strips(pixels: npt.NDArray[np.generic]) -> list[slice]:
    rows = max(1, _STRIP_VALUES // pixels[0].size)
    return [slice(top, top + rows) for top in range(0, len(pixels), rows)]


def _mean_ssim(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], peak: float) -> float:
    """Return the mean of the SSIM map over the valid region of HWC images, in float64."""
    valid = np.zeros((a.shape[0] - 2 * _MARGIN, *a.shape[1:]), bool)
    total = sum(float(_ssim_map(a[rows], b[rows], peak).sum()) for _, rows in _windows(valid))
    return total / float((a.shape[0] - 2 * _MARGIN) * (a.shape[1] - 2 * _MARGIN) * a.shape[2])


def _masked_ssim(a: _Real, b: _Real, mask: _Real) -> float | None:
    """Return the mean of the channels' means of the SSIM map over the valid region, where the mask is 1."""
    inner = mask[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    weights = inner.sum(axis=(0, 1), dtype=np.float64)
    if not weights.all():
        return None
    totals = np.zeros(inner.shape[2], np.float64)
    for strip, rows in _windows(inner):
        totals += (_ssim_map(a[rows], b[rows], 1.0) * inner[strip]).sum(axis=(0, 1))
    return float((totals / weights).mean())


def _windows(valid: npt.NDArray[np.generic]) -> list[tuple[slice, slice]]:
    """Return strips of the valid region's rows, each with the rows of the image that it is computed from."""
    return [(strip, slice(strip.start, strip.stop + 2 * _MARGIN)) for strip in _strips(valid)]


def _ssim_map(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], peak: float) -> _Exact:
    """Return the SSIM map of the valid region of HWC rows."""
    x, y = (np.asarray(side, np.float64) for side in (a, b))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = map(_blur, (x, y, x * x, y * y, x * y))
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    structure = (2 * (mean_xy - product) + c2) / (mean_xx + mean_yy - squares + c2)
    found: _Exact = structure * ((2 * product + c1) / (squares + c1))
    return found


def _blur(part: _Exact) -> _Exact:
    blurred = cv2.sepFilter2D(part, cv2.CV_64F, _KERNEL, _KERNEL).reshape(part.shape)
    return cast(_Exact, blurred[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN])
