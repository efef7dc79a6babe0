"""What restorations never do and failing networks or devices do: foreign colours, checkerboards, blocks of noise."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mimo_core.images.pixels import Pixels, as_8bit

_BLOCK = 32
"""Side in pixels of the blocks that are looked at."""
_COLOUR, _BRIGHTNESS, _PATTERN = 5.0, 64.0, 1.0
"""Levels of 255 from which on a block is suspect; docs/guard.md has what was measured."""
_COLOUR_ALONG_EDGES = 0.3
"""Share of a change of brightness that a change of colour may be beside it: coloured edges move, too."""


@dataclass(frozen=True)
class Suspicion:
    """The worst of what is suspect in a restored image.

    Attributes:
        what: in words, such as `colours change`.
        levels: by how many levels of 255, root mean square over the block.
        x, y: the block's upper left corner in pixels.
    """

    what: str
    levels: float
    x: int
    y: int

    def __str__(self) -> str:
        """Return it as a record says it."""
        return f"{self.what} by {self.levels:.1f} levels at {self.x},{self.y}"


def suspicion(before: Pixels, after: Pixels) -> Suspicion | None:
    """Return what is suspect in a restored image, None where nothing is.

    Blur spreads light, so that a restoration only moves it within the length of the blur: along edges
    brightness changes, colour much less, and no pattern of the finest pitch appears. Three measures follow from that,
    each over blocks: the root mean square of the change of colour beyond a share of that of brightness, that of
    brightness, and the mean amplitude of a checkerboard that was not there before.

    Args:
        before: (H, W, 3) RGB, uint8 or uint16.
        after: the same image restored.
    """
    if min(before.shape[:2]) < 2 * _BLOCK:
        return None
    found = [one for one in _measured(as_8bit(before), as_8bit(after)) if one[0] >= one[1]]
    if not found:
        return None
    levels, _, what, (row, column) = max(found, key=lambda one: one[0] / one[1])
    return Suspicion(what, levels, int(column) * _BLOCK, int(row) * _BLOCK)


def _measured(before: Pixels, after: Pixels) -> Iterator[tuple[float, float, str, tuple[np.intp, ...]]]:
    """Yield (largest over the blocks, its limit, words, row and column of the block) of each measure."""
    # What fills blocks fills them at half size too, at a quarter of the cost.
    half = before.shape[1] // 2, before.shape[0] // 2
    small = [cv2.resize(image, half, interpolation=cv2.INTER_AREA) for image in (before, after)]
    change: Any = cv2.subtract(small[1], small[0], dtype=cv2.CV_32F)
    brightness: Any = cv2.transform(change, np.full((1, 3), 1 / 3, np.float32))
    squares = cv2.transform(cv2.multiply(change, change), np.full((1, 3), 1 / 3, np.float32))
    bright = _means(cv2.multiply(brightness, brightness), _BLOCK // 2)
    colour = np.sqrt(np.maximum(_means(squares, _BLOCK // 2) - bright, 0))
    yield _largest(colour - _COLOUR_ALONG_EDGES * np.sqrt(bright), _COLOUR, "colours change")
    yield _largest(np.sqrt(bright), _BRIGHTNESS, "brightness changes")
    pattern = np.abs(_checkerboard(after)) - np.abs(_checkerboard(before))
    yield _largest(pattern, _PATTERN, "a checkerboard appears")


def _largest(measure: npt.NDArray[Any], limit: float, what: str) -> tuple[float, float, str, tuple[np.intp, ...]]:
    place = np.unravel_index(int(measure.argmax()), measure.shape)
    return float(measure[place]), limit, what, place


def _checkerboard(image: Pixels) -> npt.NDArray[Any]:
    """Return the mean amplitude of a checkerboard of single pixels in each block, in levels, signed."""
    gray: Any = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = (side // 2 * 2 for side in gray.shape)
    cells = gray[:height, :width].astype(np.int16)
    amplitude = cells[0::2, 0::2] - cells[0::2, 1::2] - cells[1::2, 0::2] + cells[1::2, 1::2]
    return _means(amplitude.astype(np.float32) / np.float32(4), _BLOCK // 2)


def _means(plane: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """Return the means of whole blocks of a plane; what is left at the right and the bottom belongs to none."""
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    whole = plane[: rows * side, : columns * side]
    found: npt.NDArray[Any] = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    return found
