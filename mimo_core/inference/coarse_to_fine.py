"""Coarse to fine around the network: an image is restored smaller first, where long blur is short."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mimo_core.errors import ImageError
from mimo_core.images.pixels import Pixels, quantise
from mimo_core.images.pyramid import add_enlarged, make_residual, residual_of, shrink
from mimo_core.images.scales import JUDGED_FACTORS, format_scales
from mimo_core.inference.ensemble import EnsembleRestorer
from mimo_core.inference.restorer import Restoration, Restorer, Tick, unheard

Result = Restoration | ImageError

_NOTHING = 0.4 / 255
"""Residuals up to this are those of images that are sharp at that scale (measured: up to 0.33 levels of 255)."""
_LONGER = 1.3
"""How many times larger the residual at half size is where blur is too long for full size (measured: 1.6 to 6; where
full size serves better, up to 1.25)."""
_COARSER = 0.8
"""Share of the residual at half size from which on a quarter is worth a pass (measured: equal gains at 0.7 to 0.9)."""
_SMALLEST_SIDE = 128
"""Images that are narrower than this show too little to be judged, and are restored at full size."""
# A larger image is judged by windows, so that its judgement costs little time and memory.
_MOST_JUDGED_WHOLE = 1 << 20
_WINDOW = 256
_WINDOWS_A_SIDE = 3


def choose_factors(sizes: Mapping[int, float]) -> tuple[int, ...]:
    """Return the passes that suit an image, by how many times smaller each sees it, the coarsest first.

    Blur that is too long for the network leaves a small residual at full size and a larger one where the image is
    smaller; blur that the network handles at full size is hardly there when the image is smaller.

    Args:
        sizes: mean absolute residual of the unrestored image shrunk by each of `JUDGED_FACTORS`, in units of the full
            range.
    """
    if sizes[2] <= max(_LONGER * sizes[1], _NOTHING):
        return (1,)
    return (4, 2) if sizes[4] > _COARSER * sizes[2] else (2,)


class CoarseToFineRestorer:
    """Restores as a `Restorer` does, in passes from coarse to fine.

    A pass restores the image shrunk by a factor and adds what this changed, enlarged, to the image at its own size.
    Coarse passes see blur that is longer than the network's view, and more of the image in each tile. Between two
    passes the image has its own type.
    """

    def __init__(
        self,
        full: Restorer | EnsembleRestorer,
        coarse: Restorer | EnsembleRestorer,
        factors: tuple[int, ...] | None,
        *,
        keep_values: bool = False,
    ) -> None:
        """Nothing is restored yet.

        Args:
            full: restores at full size, keeping unrounded values where `keep_values` asks for them.
            coarse: the same, always keeping them.
            factors: by how much the image of each pass is smaller, falling; None decides for every image by itself.
            keep_values: whether restorations have their values before rounding, too.
        """
        self._full, self._coarse = full, coarse
        self._factors = factors
        self._keep_values = keep_values
        self.calls = full.calls

    def restore(self, images: Sequence[Pixels], tick: Tick = unheard) -> list[Result]:
        """See `Restorer.restore`. The tiles are those of all passes that made the result."""
        if self._factors is not None:
            return self._along(self._factors, images, tick)
        results: dict[int, Result] = {}
        alike: dict[tuple[int, ...], list[int]] = {}
        for index, judged in enumerate(self._judged(images, tick)):
            if isinstance(judged, tuple):
                alike.setdefault(judged, []).append(index)
            else:
                results[index] = judged
        for factors, indexes in alike.items():
            restored = self._along(factors, [images[index] for index in indexes], tick)
            results.update(zip(indexes, restored, strict=True))
        return [results[index] for index in range(len(images))]

    def _along(self, factors: tuple[int, ...], images: Sequence[Pixels], tick: Tick) -> list[Result]:
        """Take images through these passes."""
        results: list[Result] = [Restoration(image, tiles=0, scales=format_scales(factors)) for image in images]
        for factor in factors:
            alive = [(index, one) for index, one in enumerate(results) if isinstance(one, Restoration)]
            if not alive:
                break
            shrunk = [shrink(one.pixels, factor) for _, one in alive]
            restored = (self._full if factor == 1 else self._coarse).restore(shrunk, tick)
            keep_values = self._keep_values and factor == factors[-1]
            for (index, before), small, after in zip(alive, shrunk, restored, strict=True):
                try:
                    results[index] = _added(before, small, after, factor, keep_values=keep_values)
                except ImageError as error:
                    results[index] = error
        return results

    def _judged(self, images: Sequence[Pixels], tick: Tick) -> list[Result | tuple[int, ...]]:
        """Decide on the passes for images of one shape; those that full size alone suits may come back restored."""
        way = _way_to_judge(*images[0].shape[:2])
        if way == "not":
            return list(self._along((1,), images, tick))
        if way == "by windows":
            return [self._judged_by_windows(image, tick) for image in images]
        judged: list[Result | tuple[int, ...]] = []
        for measured in self._measured(images, tick):
            if isinstance(measured, ImageError):
                judged.append(measured)
                continue
            factors = choose_factors(measured.sizes)
            values = measured.full.values if self._keep_values else None
            full = replace(measured.full, values=values, scales=format_scales(factors))
            judged.append(full if factors == (1,) else factors)
        return judged

    def _judged_by_windows(self, image: Pixels, tick: Tick) -> ImageError | tuple[int, ...]:
        measured = self._measured(windows_of(image), tick)
        for one in measured:
            if isinstance(one, ImageError):
                return one
        sizes = [one.sizes for one in measured if not isinstance(one, ImageError)]
        return choose_factors({factor: sum(one[factor] for one in sizes) for factor in JUDGED_FACTORS})

    def _measured(self, images: Sequence[Pixels], tick: Tick) -> list["_Measured | ImageError"]:
        """Restore images of one shape at each of the judged factors; see `_Measured`."""
        errors: dict[int, ImageError] = {}
        sizes: list[dict[int, float]] = [{} for _ in images]
        full: dict[int, Restoration] = {}
        for factor in JUDGED_FACTORS:
            shrunk = [shrink(image, factor) for image in images]
            for index, (small, result) in enumerate(zip(shrunk, self._coarse.restore(shrunk, tick), strict=True)):
                if isinstance(result, ImageError):
                    errors.setdefault(index, result)
                    continue
                sizes[index][factor] = float(np.abs(residual_of(values_of(result), small)).mean())
                if factor == 1:
                    full[index] = result
        return [errors.get(index) or _Measured(sizes[index], full[index]) for index in range(len(images))]


@dataclass(frozen=True)
class _Measured:
    """How large an image's residual is, by the factors of `JUDGED_FACTORS`, and the image restored at full size."""

    sizes: dict[int, float]
    full: Restoration


def _way_to_judge(height: int, width: int) -> Literal["not", "whole", "by windows"]:
    if min(height, width) < _SMALLEST_SIDE:
        return "not"
    return "whole" if height * width <= _MOST_JUDGED_WHOLE else "by windows"


def passes_of(shape: tuple[int, int], factors: tuple[int, ...], *, judged: bool) -> list[tuple[int, int]]:
    """Return the (height, width) of everything that the network sees of an image, tiles aside.

    Args:
        shape: (height, width) of the image.
        factors: of the passes that it took.
        judged: whether those were chosen for it by looking at it.
    """

    def shrunk(height: int, width: int, factor: int) -> tuple[int, int]:
        return -(-height // factor), -(-width // factor)

    passes = [shrunk(*shape, factor) for factor in factors]
    way = _way_to_judge(*shape) if judged else "not"
    if way == "not":
        return passes
    window, corners = _windows(*shape)
    looks = [shape] if way == "whole" else [window] * len(corners)
    seen = [shrunk(*look, factor) for look in looks for factor in JUDGED_FACTORS]
    # Judged whole, what full size suits is restored already.
    return seen if way == "whole" and factors == (1,) else [*seen, *passes]


def windows_of(image: Pixels) -> list[Pixels]:
    """Return squares spread evenly over an image, all of one shape: what a large one is judged by."""
    (height, width), corners = _windows(*image.shape[:2])
    return [image[top : top + height, left : left + width] for top, left in corners]


def _windows(height: int, width: int) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Return the shape of the windows of an image, and their corners (top, left)."""
    shape = min(height, _WINDOW), min(width, _WINDOW)
    places = [number / (_WINDOWS_A_SIDE - 1) for number in range(_WINDOWS_A_SIDE)]
    tops, lefts = (
        sorted({round((side - window) * place) for place in places})
        for side, window in zip((height, width), shape, strict=True)
    )
    return shape, [(top, left) for top in tops for left in lefts]


def values_of(restoration: Restoration) -> npt.NDArray[np.float32]:
    """Return the unrounded values of a restoration that has kept them."""
    assert restoration.values is not None
    return restoration.values


def _added(before: Restoration, small: Pixels, after: Result, factor: int, *, keep_values: bool) -> Result:
    """Return an image with what a pass over its shrunk version changed; values before rounding on demand."""
    if isinstance(after, ImageError):
        return after
    whole = replace(before, tiles=before.tiles + after.tiles, fallback=before.fallback or after.fallback)
    if factor == 1:
        return replace(whole, pixels=after.pixels, values=after.values)
    residual = make_residual(values_of(after), small)
    if keep_values:
        values = np.empty(before.pixels.shape, np.float32)
        add_enlarged(before.pixels, residual, factor, values)
        return replace(whole, pixels=quantise(values, before.pixels.dtype), values=values)
    pixels = np.empty_like(before.pixels)
    add_enlarged(before.pixels, residual, factor, pixels)
    return replace(whole, pixels=pixels)
