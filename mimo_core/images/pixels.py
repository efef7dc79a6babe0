"""Arrays of pixels: their type, padding and cropping, rounding from float and to 8 bits."""

from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from mimo_core.errors import ErrorKind, ImageError, UsageError

Array = TypeVar("Array", bound=npt.NDArray[Any])

Pixels8 = npt.NDArray[np.uint8]
"""An image of 8 bits, otherwise as `Pixels`."""

Pixels = Pixels8 | npt.NDArray[np.uint16]
"""An image as it is stored: (H, W, C) or (H, W), RGB or gray, whole levels of 8 or 16 bits."""

_NAN = "the engine returned values that are not numbers (NaN)"

# Rows per block when rounding: temporaries then fit the cache and a large image needs no second float copy.
_BLOCK_VALUES = 1 << 18


def quantise(values: npt.NDArray[np.floating], dtype: npt.DTypeLike) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Round floats 0..1 of any shape to uint8 or uint16: clip, add half a step, scale to the maximum, truncate.

    Computed in float32, as the model zoo does; whole levels k/255 and k/65535 come back as exactly k.

    Raises:
        ImageError: DEVICE for NaN, which would otherwise be saved as arbitrary pixels.
    """
    out = np.empty(values.shape, np.dtype(dtype))
    quantise_into(values, out)
    return out


def quantise_into(values: npt.NDArray[np.floating], out: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> None:
    """Do as `quantise` into an array of the same shape, in blocks of rows, so that temporaries stay small."""
    _require(out.dtype in (np.uint8, np.uint16), f"pixels are stored as uint8 or uint16, not {out.dtype}")
    _require(values.shape == out.shape, f"cannot store the shape {values.shape} as {out.shape}")
    if values.size == 0:
        return
    peak = np.float32(np.iinfo(out.dtype).max)
    half = np.float32(0.5 / float(peak))
    rows = max(1, _BLOCK_VALUES * len(values) // values.size)
    for top in range(0, len(values), rows):
        block = np.clip(values[top : top + rows].astype(np.float32, copy=False), np.float32(0), np.float32(1))
        if np.isnan(np.min(block)):
            raise ImageError(ErrorKind.DEVICE, _NAN)
        block += half
        block *= peak
        np.clip(block, np.float32(0), peak, out=block)
        out[top : top + rows] = block.astype(out.dtype)


def store_into(values: npt.NDArray[np.floating], out: npt.NDArray[Any]) -> None:
    """Write floats 0..1 into an array of the same shape: as they are into float32, else as `quantise_into` does.

    Raises:
        ImageError: DEVICE for NaN, either way.
    """
    if out.dtype != np.float32:
        quantise_into(values, out)
        return
    if np.isnan(np.min(values)):
        raise ImageError(ErrorKind.DEVICE, _NAN)
    out[:] = values


def multiple_above(length: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `length`."""
    _require(length > 0 and multiple > 0, f"lengths and multiples are positive, not {length} and {multiple}")
    return -(-length // multiple) * multiple


def padding_index(length: int, padded: int) -> npt.NDArray[np.intp]:
    """Return which source row (or column) each of `padded` ones repeats: the image itself, then its reflection.

    Reflection leaves the edge row out and needs `padded - length < length`; where that is impossible the last row is
    repeated instead.
    """
    _require(0 < length <= padded, f"cannot pad {length} pixels to {padded}")
    index = np.arange(padded)
    if padded - length < length:
        return np.where(index < length, index, 2 * (length - 1) - index)
    return np.minimum(index, length - 1)


def pad_to(image: Array, height: int, width: int) -> Array:
    """Pad HWC at the bottom and the right to exactly height x width (see `padding_index`); itself where it fits."""
    _require(image.ndim == 3, f"HWC expected, not {_name(image)}")
    if image.shape[:2] == (height, width):
        return image
    rows = padding_index(image.shape[0], height)
    columns = padding_index(image.shape[1], width)
    out = np.empty((height, width, image.shape[2]), image.dtype)
    out[: image.shape[0], : image.shape[1]] = image
    out[: image.shape[0], image.shape[1] :] = image[:, columns[image.shape[1] :]]
    out[image.shape[0] :] = out[rows[image.shape[0] :]]
    return cast(Array, out)


def pad_to_multiple(image: Array, multiple: int) -> Array:
    """Pad HWC at the bottom and the right to the next multiple in both directions (see `pad_to`)."""
    _require(image.ndim == 3, f"HWC expected, not {_name(image)}")
    return pad_to(image, multiple_above(image.shape[0], multiple), multiple_above(image.shape[1], multiple))


def crop_to(image: Array, height: int, width: int) -> Array:
    """Return the top left height x width pixels of an HWC image, as a view: undoes `pad_to`."""
    _require(
        image.ndim == 3 and 0 < height <= image.shape[0] and 0 < width <= image.shape[1],
        f"cannot crop {_name(image)} to {height}x{width}",
    )
    return cast(Array, image[:height, :width])


def as_8bit(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Return the 8-bit array that scores are computed on: uint8 as it is, uint16 scaled by 1/257 and rounded."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    if pixels.dtype == np.uint16:
        # 65535 = 255 * 257, so the scaling is exact in integers.
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    raise UsageError(f"scores are computed on uint8 or uint16 pixels, not {pixels.dtype}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


def _name(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype} of shape {'x'.join(map(str, array.shape))}"
