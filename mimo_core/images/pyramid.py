"""An image made smaller, and a correction that was found there brought to full size."""

from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from mimo_core.images.pixels import Array, Pixels, pad_to_multiple, store_into

# Values per band: enlarged corrections of a large image need no second float copy of it.
_BAND_VALUES = 1 << 20
_SUPPORT = 4
"""Rows of the correction that a band takes more on each side than it covers: cubic interpolation reaches two."""


def shrink(image: Array, factor: int) -> Array:
    """Return an (H, W, 3) image `factor` times smaller, by the means of areas; sides round up, the edge is mirrored."""
    if factor == 1:
        return image
    padded = pad_to_multiple(image, factor)
    size = padded.shape[1] // factor, padded.shape[0] // factor
    return cast(Array, cv2.resize(padded, size, interpolation=cv2.INTER_AREA))


def residual_of(values: npt.NDArray[np.float32], image: Pixels) -> npt.NDArray[np.float32]:
    """Return what restoration changed: float32 restored values 0..1 minus the image's, same shape."""
    return cast(npt.NDArray[np.float32], values - _to_float(image))


def make_residual(values: npt.NDArray[np.float32], image: Pixels) -> npt.NDArray[np.float32]:
    """Turn restored values into the residual in their own place, where a second array would be too large."""
    rows = max(1, _BAND_VALUES // (3 * image.shape[1]))
    for first in range(0, image.shape[0], rows):
        band = np.s_[first : first + rows]
        np.subtract(values[band], _to_float(image[band]), out=values[band])
    return values


def add_enlarged(image: Pixels, residual: npt.NDArray[np.float32], factor: int, out: npt.NDArray[Any]) -> None:
    """Add a residual of the shrunk image, cubically enlarged, to the image; the sum is clipped to its range.

    Args:
        image: (H, W, 3), uint8 or uint16.
        residual: float32 in units of the full range, of the shape of `shrink(image, factor)`.
        factor: how much smaller the residual is.
        out: takes the result: of the image's shape, and float32 (0..1) or the image's type, which is rounded to.

    Raises:
        ImageError: DEVICE for residuals that are no numbers.
    """
    height, width = image.shape[:2]
    # Bands begin at whole rows of the residual, so that their edges fall on the same sampling grid.
    coarse_rows = max(1, _BAND_VALUES // max(1, 3 * width * factor))
    for first in range(0, residual.shape[0], coarse_rows):
        last = min(first + coarse_rows, residual.shape[0])
        above, below = max(first - _SUPPORT, 0), min(last + _SUPPORT, residual.shape[0])
        size = residual.shape[1] * factor, (below - above) * factor
        enlarged = cv2.resize(residual[above:below], size, interpolation=cv2.INTER_CUBIC)
        top, bottom = first * factor, min(last * factor, height)
        if top >= height:
            break
        band = enlarged[top - above * factor : bottom - above * factor, :width] + _to_float(image[top:bottom])
        store_into(np.clip(band, np.float32(0), np.float32(1), out=band), out[top:bottom])


def _to_float(image: Pixels) -> npt.NDArray[np.float32]:
    scaled: npt.NDArray[np.float32] = np.divide(image, np.float32(np.iinfo(image.dtype).max), dtype=np.float32)
    return scaled
