"""The geometric self-ensemble: the mean over an image's four rotations, each restored by itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from mimo_core.errors import ImageError
from mimo_core.images.pixels import Pixels, quantise
from mimo_core.inference.restorer import Restoration, Restorer, Tick, unheard

TURNS = 4


class EnsembleRestorer:
    """Restores as a `Restorer` does, four times for each image, and takes the mean before anything is rounded.

    Source: what the paper of MIMO-UNet calls MIMO-UNet++ (Cho et al., ICCV 2021) is MIMO-UNet+ restored this way.
    """

    def __init__(self, restorer: Restorer) -> None:
        """`restorer` keeps unrounded values."""
        self._restorer = restorer
        self.calls = restorer.calls

    def restore(self, images: Sequence[Pixels], tick: Tick = unheard) -> list[Restoration | ImageError]:
        """See `Restorer.restore`. The tiles are those of all rotations."""
        results: list[Restoration | ImageError] = list(self._restorer.restore(images, tick))
        for turn in range(1, TURNS):
            turned = [cast(Pixels, np.ascontiguousarray(np.rot90(image, turn))) for image in images]
            for index, result in enumerate(self._restorer.restore(turned, tick)):
                results[index] = _sum(results[index], result, turn)
        return [_mean(result, image) for result, image in zip(results, images, strict=True)]


def _sum(first: Restoration | ImageError, other: Restoration | ImageError, turn: int) -> Restoration | ImageError:
    if isinstance(first, ImageError):
        return first
    if isinstance(other, ImageError):
        return other
    assert first.values is not None
    assert other.values is not None
    values = first.values + np.rot90(other.values, -turn)
    return replace(first, values=values, tiles=first.tiles + other.tiles, fallback=first.fallback or other.fallback)


def _mean(result: Restoration | ImageError, image: Pixels) -> Restoration | ImageError:
    if isinstance(result, ImageError):
        return result
    assert result.values is not None
    values = result.values * np.float32(1 / TURNS)
    return replace(result, pixels=quantise(values, image.dtype), values=values)
