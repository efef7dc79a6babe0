"""Less than the whole restoration: a share of what it changed, added to the image."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mimo_core.errors import ImageError
from mimo_core.images.pixels import Pixels, store_into
from mimo_core.inference.restorer import Restoration, Tick, unheard

# Values of a block of rows: a large image needs no float copy of its own.
_BLOCK_VALUES = 1 << 20


class _Inner(Protocol):
    calls: int

    def restore(self, images: Sequence[Pixels], tick: Tick = unheard) -> list[Restoration | ImageError]: ...


class PartialRestorer:
    """Restores as another restorer does, and applies a share of each change.

    What is mixed are the values before rounding where they are there, else the rounded pixels: half a level at most.
    """

    def __init__(self, restorer: _Inner, strength: float) -> None:
        """`strength`: 0 leaves images as they are, 1 restores them fully."""
        self._restorer = restorer
        self._strength = np.float32(strength)
        self.calls = restorer.calls

    def restore(self, images: Sequence[Pixels], tick: Tick = unheard) -> list[Restoration | ImageError]:
        """See `Restorer.restore`."""
        results = self._restorer.restore(images, tick)
        return [
            result if isinstance(result, ImageError) else self._weakened(image, result)
            for image, result in zip(images, results, strict=True)
        ]

    def _weakened(self, image: Pixels, restored: Restoration) -> Restoration:
        pixels = np.empty_like(image)
        if restored.values is None:
            self._mix(image, restored.pixels, pixels)
            return replace(restored, pixels=pixels)
        values = np.empty_like(restored.values)
        self._mix(image, restored.values, values)
        store_into(values, pixels)
        return replace(restored, pixels=pixels, values=values)

    def _mix(self, image: Pixels, restored: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        rows = max(1, _BLOCK_VALUES // (3 * image.shape[1]))
        for top in range(0, len(image), rows):
            before, after = (_unit(whole[top : top + rows]) for whole in (image, restored))
            after -= before
            after *= self._strength
            after += before
            store_into(after, out[top : top + rows])


def _unit(block: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return a block's values as 0..1, in memory of its own."""
    if block.dtype == np.float32:
        return np.array(block, np.float32)
    scaled: npt.NDArray[np.float32] = np.divide(block, np.float32(np.iinfo(block.dtype).max), dtype=np.float32)
    return scaled
