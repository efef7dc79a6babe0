"""Stored samples to gray or RGB: depths that arrays do not have, palettes, inks and Lab."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mimo_core.images.containers.base import icc_space, unsupported

# D50 XYZ to linear sRGB, adapted by Bradford's matrix: ICC.1:2022, annex E, and IEC 61966-2-1.
_XYZ_TO_SRGB = np.array(
    [[3.1341, -1.6173, -0.4907], [-0.9788, 1.9162, 0.0334], [0.0720, -0.2290, 1.4057]], dtype=np.float32
)
_D50 = np.array([0.9642, 1.0, 0.8249], dtype=np.float32)


def widened(samples: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """Return samples of 1 to 16 bits over the whole range of uint8 (up to 8 bits) or uint16.

    Raises:
        ImageError: UNSUPPORTED, more than 16 bits.
    """
    if bits > 16:
        raise unsupported(f"an image of {bits}-bit samples")
    kind: Any = np.uint8 if bits <= 8 else np.uint16
    if bits in (8, 16):
        return np.ascontiguousarray(samples, dtype=kind)
    most, whole = (1 << bits) - 1, int(np.iinfo(kind).max)
    steps = np.arange(most + 1, dtype=np.uint32)
    table: npt.NDArray[Any] = ((steps * whole + most // 2) // most).astype(kind)
    wide: npt.NDArray[Any] = table[np.minimum(samples, most)]
    return wide


def inks_to_rgb(inks: npt.NDArray[Any], profile: bytes) -> npt.NDArray[Any]:
    """Return CMYK as sRGB: by its profile as a viewer shows it, without one as the light that the inks leave.

    Args:
        inks: (H, W, 4) uint8 or uint16, 0 for no ink.
        profile: an ICC profile; one for other colours than CMYK is taken for none.
    """
    most = np.iinfo(inks.dtype).max
    if icc_space(profile) != "CMYK":
        light = (most - inks).astype(np.float32)
        rgb = light[:, :, :3] * (light[:, :, 3:] / most)
        return np.rint(rgb).astype(inks.dtype)
    import imagecodecs

    try:
        converted: npt.NDArray[Any] = imagecodecs.cms_transform(
            np.ascontiguousarray(inks), profile, _srgb(), colorspace="cmyk", outcolorspace="rgb"
        )
    except (RuntimeError, ValueError) as error:
        raise unsupported(f"its CMYK profile ({error})", "convert it to RGB first") from error
    return converted


@cache
def _srgb() -> bytes:
    import imagecodecs

    return bytes(imagecodecs.cms_profile("srgb"))


def lab_to_rgb(lab: npt.NDArray[np.float32], dtype: Any) -> npt.NDArray[Any]:
    """Return CIE Lab (D50) as sRGB.

    Args:
        lab: (H, W, 3) float32: L 0 to 100, a and b about -128 to 127.
        dtype: uint8 or uint16 of the result.
    """
    y = (lab[:, :, 0] + 16) / 116
    f = np.stack([y + lab[:, :, 1] / 500, y, y - lab[:, :, 2] / 200], axis=2)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _D50
    linear = np.clip(xyz @ _XYZ_TO_SRGB.T, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    result: npt.NDArray[Any] = np.rint(curved * np.iinfo(dtype).max).astype(dtype)
    return result


def straight(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return pixels whose colours were multiplied by their alpha, (H, W, 4) or (H, W, 2), with straight alpha."""
    most = np.iinfo(pixels.dtype).max
    alpha = pixels[:, :, -1:].astype(np.float32)
    colours = pixels[:, :, :-1].astype(np.float32) * (most / np.maximum(alpha, 1))
    return np.concatenate([np.rint(np.minimum(colours, most)).astype(pixels.dtype), pixels[:, :, -1:]], axis=2)
