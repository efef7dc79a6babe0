"""Pixels turned from one orientation to another, as EXIF counts them (CIPA DC-008, tag 274)."""

from typing import Any

import numpy as np

from mimo_core.errors import ImageError
from mimo_core.images.containers import Metadata
from mimo_core.images.containers.directory import read_directories
from mimo_core.images.pixels import Pixels

UPRIGHT = 1
_TAG = 274


def orientation_of(metadata: Metadata) -> int:
    """Return 1 to 8; 1 where there is none, or nothing that can be understood."""
    if not metadata.exif:
        return UPRIGHT
    try:
        found = read_directories(metadata.exif)[0].integer(_TAG, UPRIGHT)
    except ImageError:
        return UPRIGHT
    return found if 1 <= found <= 8 else UPRIGHT


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return stored pixels as a viewer shows them."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    whole: Any = np.ascontiguousarray(pixels)
    return whole  # type: ignore[no-any-return]


def stored(pixels: Pixels, orientation: int) -> Pixels:
    """Return pixels that a viewer shows as they are stored under an orientation: the inverse of `upright`."""
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    whole: Any = np.ascontiguousarray(pixels)
    return whole  # type: ignore[no-any-return]
