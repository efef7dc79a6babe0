"""Images of any size through a session: padding, tiles, batches, and smaller steps when memory runs out."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mimo_core.engines import Session
from mimo_core.errors import ErrorKind, ImageError, SessionOutOfMemoryError
from mimo_core.images.pixels import Pixels, crop_to, multiple_above, pad_to_multiple, quantise
from mimo_core.images.tiling import BandBlender, Tile, TileGrid, TilePolicy

Tick = Callable[[int, int], None]
"""Is told, as a sign of life, how many tiles of a pass are done, and how many it has."""

# Below this a tile is little more than its own overlap.
_SMALLEST_TILE = 128


@dataclass(frozen=True)
class Restoration:
    """A restored image.

    Attributes:
        pixels: of the input's type and size.
        tiles: the number of tiles.
        fallback: what was reduced because memory ran out, if anything.
        values: float32, 0..1, before rounding, where they are asked for.
        scales: the passes that were taken, such as `1/2,1`.
        more: further pages of the image.
    """

    pixels: Pixels
    tiles: int = 1
    fallback: str | None = None
    values: npt.NDArray[np.float32] | None = None
    scales: str = "1"
    more: "tuple[Restoration, ...]" = ()


def unheard(done: int, tiles: int) -> None:
    """Take a sign of life that nobody waits for."""


class Restorer:
    """Restores images with one session by one policy, within the session's limits.

    Use it on the session's thread, or on as many threads as `calls` says.
    """

    def __init__(self, session: Session, policy: TilePolicy, *, keep_values: bool = False) -> None:
        """`keep_values`: whether restorations have their values before rounding, too."""
        self._session = session
        self._keep_values = keep_values
        self._limits = session.limits
        self._policy = policy
        self._multiple = session.limits.multiple_of
        self._tile = self._tile_within_limits()
        self.calls = min(session.limits.calls, policy.batch)
        self._callers = ThreadPoolExecutor(self.calls, "call") if self.calls > 1 else None

    def keeping_values(self) -> "Restorer":
        """Return a restorer that shares everything with this one, whose restorations have unrounded values, too."""
        other = copy(self)
        other._keep_values = True
        return other

    def restore(self, images: Sequence[Pixels], tick: Tick = unheard) -> list[Restoration | ImageError]:
        """Restore images of one shape and type; each gets its result, or the error that is its alone.

        Args:
            images: (H, W, 3) RGB, uint8 or uint16, all alike, at most `policy.batch_of(H, W)`.
            tick: called after each call of the session with the tiles done and all those of this pass.

        Raises:
            DeviceFaultError: the session is dead.
        """
        height, width = images[0].shape[:2]
        most = self._most(height, width)
        if self._policy.cuts(height, width) or self._limits.static_shape is not None or most < 1:
            return [self._alone(image, tick) for image in images]
        results: list[Restoration | ImageError] = []
        for start in range(0, len(images), most):
            results += self._together(list(images[start : start + most]), tick, fallback=None)
        return results

    def _most(self, height: int, width: int) -> int:
        """Return how many images of this size the session takes at once by its limits, 0 where not even one."""
        most = self._limits.max_batch or self._policy.batch
        if self._limits.max_pixels is None:
            return most
        padded = multiple_above(height, self._multiple) * multiple_above(width, self._multiple)
        return min(most, self._limits.max_pixels // padded)

    def _tile_within_limits(self) -> tuple[int, int] | None:
        """Return the policy's tile, or the session's where the policy has none or a larger one than it takes."""
        tile = self._policy.tile or self._limits.preferred_tile
        largest = self._limits.max_pixels
        if largest is None or (tile is not None and self._most(*tile)):
            return tile
        side = math.isqrt(largest) // self._multiple * self._multiple
        return side, side

    def _together(self, images: list[Pixels], tick: Tick, fallback: str | None) -> list[Restoration | ImageError]:
        height, width = images[0].shape[:2]
        batch = np.stack([pad_to_multiple(image, self._multiple) for image in images])
        try:
            restored = self._computed_together(cast(Pixels, batch))
        except (SessionOutOfMemoryError, ImageError) as error:
            if len(images) > 1:
                middle = len(images) // 2
                results: list[Restoration | ImageError] = []
                for half in (images[:middle], images[middle:]):
                    note = f"batch {len(half)}" if isinstance(error, SessionOutOfMemoryError) else fallback
                    results += self._together(half, tick, note)
                return results
            if isinstance(error, ImageError):
                return [error]
            return [self._in_smaller_tiles(images[0], tick, max(height, width))]
        tick(1, 1)
        return [
            self._restoration(crop_to(one, height, width), image.dtype, fallback=fallback)
            for one, image in zip(restored, images, strict=True)
        ]

    def _computed_together(self, batch: Pixels) -> npt.NDArray[Any]:
        return self._session.restore_float(batch) if self._keep_values else self._session.restore(batch)

    def _restoration(
        self, computed: npt.NDArray[Any], dtype: npt.DTypeLike, tiles: int = 1, fallback: str | None = None
    ) -> Restoration:
        if not self._keep_values:
            return Restoration(cast(Pixels, computed), tiles, fallback)
        return Restoration(quantise(computed, dtype), tiles, fallback, computed)

    def _alone(self, image: Pixels, tick: Tick) -> Restoration | ImageError:
        """Restore one image in tiles of the policy's (or the session's static) size."""
        static = self._limits.static_shape
        tile = static or self._tile
        assert tile is not None
        try:
            grid = self._static_grid(image, static) if static is not None else self._grid(image, tile)
            return self._in_fewer_tiles_at_once(image, grid, tick)
        except SessionOutOfMemoryError as error:
            if static is not None:
                return ImageError(
                    ErrorKind.OUT_OF_MEMORY,
                    f"the static shape {static[0]}x{static[1]} does not fit the device's memory: {error}",
                )
            return self._in_smaller_tiles(image, tick, max(tile))
        except ImageError as error:
            return error

    def _in_fewer_tiles_at_once(self, image: Pixels, grid: TileGrid, tick: Tick) -> Restoration:
        """Halve the number of tiles in a call until they fit; raises SessionOutOfMemoryError if not even one does."""
        tile = grid.tile_height, grid.tile_width
        # Calls side by side need not be large.
        size = 1 if self.calls > 1 else max(1, min(self._policy.batch_of(*tile), self._most(*tile)))
        fallback = None
        while True:
            try:
                return replace(self._in_tiles(image, grid, tick, size), fallback=fallback)
            except SessionOutOfMemoryError:
                if size == 1:
                    raise
                size //= 2
                fallback = f"batch {size}"

    def _in_smaller_tiles(self, image: Pixels, tick: Tick, side: int) -> Restoration | ImageError:
        """Halve the tile until it fits."""
        smallest = multiple_above(max(_SMALLEST_TILE, 2 * self._policy.overlap + self._multiple), self._multiple)
        while side > smallest:
            side = max(smallest, multiple_above(side // 2, self._multiple))
            try:
                restoration = self._in_tiles(image, self._grid(image, (side, side)), tick, 1)
            except SessionOutOfMemoryError:
                continue
            except ImageError as error:
                return error
            return replace(restoration, fallback=f"tile {side}x{side}")
        return ImageError(
            ErrorKind.OUT_OF_MEMORY,
            f"not even tiles of {min(side, smallest)} pixels fit the device's memory; use a smaller model",
        )

    def _in_tiles(self, image: Pixels, grid: TileGrid, tick: Tick, size: int) -> Restoration:
        blender = BandBlender(grid, np.float32 if self._keep_values else image.dtype)
        done = 0
        for tiles, results in self._computed(grid.batches(image, size)):
            for tile, values in zip(tiles, results, strict=True):
                blender.add(tile, values)
            done += len(tiles)
            tick(done, len(grid))
        return self._restoration(blender.result, image.dtype, len(grid))

    def _computed(
        self, batches: Iterable[tuple[tuple[Tile, ...], Pixels]]
    ) -> Iterator[tuple[tuple[Tile, ...], npt.NDArray[np.float32]]]:
        """Yield tiles with their restored pixels, in order, with as many calls under way as the session takes."""
        if self._callers is None:
            for tiles, pixels in batches:
                yield tiles, self._session.restore_float(pixels)
            return
        under_way: deque[tuple[tuple[Tile, ...], Future[npt.NDArray[np.float32]]]] = deque()
        for tiles, pixels in batches:
            under_way.append((tiles, self._callers.submit(self._session.restore_float, pixels)))
            if len(under_way) == self.calls:
                oldest, result = under_way.popleft()
                yield oldest, result.result()
        for tiles, result in under_way:
            yield tiles, result.result()

    def _grid(self, image: Pixels, tile: tuple[int, int]) -> TileGrid:
        height, width = image.shape[:2]
        return TileGrid.fit(height, width, tile, self._policy.overlap, self._multiple)

    def _static_grid(self, image: Pixels, static: tuple[int, int]) -> TileGrid:
        overlap = min(self._policy.overlap, (min(static) - self._multiple) // 2)
        height, width = image.shape[:2]
        return TileGrid(height, width, static[0], static[1], overlap, self._multiple)
