"""Tiles with overlap over an image of any size, and their feathered blending in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from mimo_core.errors import UsageError
from mimo_core.images.pixels import Array, multiple_above, padding_index, store_into


@dataclass(frozen=True)
class Tile:
    """One window of a grid: its place in the grid, and the top left pixel of its place in the padded image."""

    row: int
    column: int
    y: int
    x: int


@dataclass(frozen=True)
class TileGrid:
    """Windows of one size that cover an image, each with `overlap` pixels of context beyond what is kept of it.

    The image is padded at the bottom and the right (reflection; see `preprocess.padding_index`) to a multiple of
    `multiple`, or to one tile where it is smaller than that; results are cropped back. Tiles are spread evenly, where
    others shift the last one inward: as many tiles, but every seam gets an equal share of the spare context. All tiles
    start at multiples of `multiple`, so that the network samples a tile on the same lattice as the whole image.

    Attributes:
        height, width: the image, in pixels.
        tile_height, tile_width: each window, in pixels; multiples of `multiple`.
        overlap: least context on each side of a seam, in pixels: neighbours share at least twice as many.
        multiple: what the network needs heights and widths to be multiples of.
    """

    height: int
    width: int
    tile_height: int
    tile_width: int
    overlap: int = 0
    multiple: int = 4

    def __post_init__(self) -> None:
        """Refuse sizes and overlaps that cannot make a grid (UsageError)."""
        if min(self.height, self.width, self.tile_height, self.tile_width, self.multiple) < 1 or self.overlap < 0:
            raise UsageError(f"a grid needs positive sizes and an overlap of 0 or more, not {self}")
        if self.tile_height % self.multiple or self.tile_width % self.multiple:
            raise UsageError(
                f"a tile must be a multiple of {self.multiple} pixels in both directions, "
                f"not {self.tile_height}x{self.tile_width}"
            )
        for name, side, tile in (("high", self.height, self.tile_height), ("wide", self.width, self.tile_width)):
            if side > tile and _stride(tile, self.overlap, self.multiple) < self.multiple:
                raise UsageError(
                    f"tiles {tile} pixels {name} are too small for an overlap of {self.overlap} pixels on each side: "
                    f"make them larger than {2 * self.overlap + self.multiple - 1}, or the overlap smaller"
                )

    @classmethod
    def whole(cls, height: int, width: int, multiple: int = 4) -> TileGrid:
        """Return a single tile that covers the padded image: no seams."""
        return cls(height, width, multiple_above(height, multiple), multiple_above(width, multiple), 0, multiple)

    @classmethod
    def fit(cls, height: int, width: int, tile: tuple[int, int], overlap: int, multiple: int = 4) -> TileGrid:
        """Return the cheapest grid with as many tiles as `tile` = (height, width) needs: none larger than it has to be.

        For engines that take any shape; a static shape is given to the constructor as it is.
        """
        # Refuses what cannot work in the words of the tile asked for.
        asked = cls(
            height, width, multiple_above(tile[0], multiple), multiple_above(tile[1], multiple), overlap, multiple
        )
        rows, columns = asked.shape
        shrunk_height = _smallest_tile(height, rows, overlap, multiple)
        shrunk_width = _smallest_tile(width, columns, overlap, multiple)
        return cls(height, width, shrunk_height, shrunk_width, overlap, multiple)

    @property
    def padded_height(self) -> int:
        """Height in pixels of the image that the tiles cover exactly."""
        return max(self.tile_height, multiple_above(self.height, self.multiple))

    @property
    def padded_width(self) -> int:
        """Width in pixels of the image that the tiles cover exactly."""
        return max(self.tile_width, multiple_above(self.width, self.multiple))

    @cached_property
    def row_starts(self) -> tuple[int, ...]:
        """Top pixel of each row of tiles."""
        return _starts(self.padded_height, self.tile_height, self.overlap, self.multiple)

    @cached_property
    def column_starts(self) -> tuple[int, ...]:
        """Left pixel of each column of tiles."""
        return _starts(self.padded_width, self.tile_width, self.overlap, self.multiple)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return len(self.row_starts), len(self.column_starts)

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.row_starts) * len(self.column_starts)

    def rows(self) -> Iterator[tuple[Tile, ...]]:
        """Yield the tiles, row after row from the top, each row from the left."""
        for row, y in enumerate(self.row_starts):
            yield tuple(Tile(row, column, y, x) for column, x in enumerate(self.column_starts))

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles in the order in which `BandBlender.add` takes them."""
        for row in self.rows():
            yield from row

    def batches(self, image: Array, size: int) -> Iterator[tuple[tuple[Tile, ...], Array]]:
        """Yield at most `size` tiles at a time, in order, with their pixels, N x tile_height x tile_width x C."""
        if size < 1:
            raise UsageError(f"a batch holds at least one tile, not {size}")
        pending: list[Tile] = []
        for tile in self.tiles():
            pending.append(tile)
            if len(pending) == size:
                yield tuple(pending), self.cut(image, pending)
                pending = []
        if pending:
            yield tuple(pending), self.cut(image, pending)

    def cut(self, image: Array, tiles: Sequence[Tile]) -> Array:
        """Copy the tiles' pixels: height x width x C -> N x tile_height x tile_width x C, padded where needed."""
        if image.ndim != 3 or image.shape[:2] != (self.height, self.width):
            raise UsageError(f"this grid cuts {self.height}x{self.width} HWC images, not {image.shape}")
        out: Any = np.empty((len(tiles), self.tile_height, self.tile_width, image.shape[2]), image.dtype)
        for number, tile in enumerate(tiles):
            bottom, right = tile.y + self.tile_height, tile.x + self.tile_width
            if bottom <= self.height and right <= self.width:
                out[number] = image[tile.y : bottom, tile.x : right]
            else:
                # Padding happens a tile at a time: no padded copy of a large image is ever made.
                rows, columns = self._padding
                out[number] = image[np.ix_(rows[tile.y : bottom], columns[tile.x : right])]
        return out  # type: ignore[no-any-return]

    @cached_property
    def _padding(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        return padding_index(self.height, self.padded_height), padding_index(self.width, self.padded_width)


class BandBlender:
    """Blends restored tiles, added in the grid's order, into the image, rounding each row when it is finished.

    Across a seam the weight moves smoothly (smoothstep) from one tile to the next within the middle half of what both
    share; the outer quarters, where a tile lacks context, are not used. The blend is `a + (b - a) * w`, so weights sum
    to 1 and tiles that agree are returned to the bit. In memory: the output, and float32 for one row of tiles and the
    seam above it (measured: 55 to 80 MB beside the 144 MB output of an 8000x6000 image, with tiles of 256 to 512).

    One image, one thread at a time.
    """

    def __init__(self, grid: TileGrid, dtype: npt.DTypeLike, channels: int = 3) -> None:
        """Take the `dtype` of the output: np.uint8 or np.uint16, or np.float32 for one that is not rounded."""
        if np.dtype(dtype) not in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32)):
            raise UsageError(f"images are blended into uint8, uint16 or float32, not {np.dtype(dtype)}")
        self._grid = grid
        self._output: npt.NDArray[Any] = np.empty((grid.height, grid.width, channels), dtype)
        self._row_seams = _seams(grid.row_starts, grid.tile_height)
        self._column_seams = _seams(grid.column_starts, grid.tile_width)
        self._pending = grid.tiles()
        self._expected = next(self._pending, None)
        self._band: npt.NDArray[np.float32] | None = None
        self._carry: npt.NDArray[np.float32] | None = None

    @property
    def result(self) -> npt.NDArray[Any]:
        """The blended image, height x width x C; available when every tile has been added."""
        if self._expected is not None:
            raise UsageError(f"the image is not complete: {self._expected} is missing")
        return self._output

    def add(self, tile: Tile, values: npt.NDArray[Any]) -> None:
        """Blend one restored tile in: tile_height x tile_width x C, float 0..1, or already of the output's type.

        Raises:
            UsageError: the tile is out of order or of another shape.
            ImageError: DEVICE for NaN; then the blender is of no further use.
        """
        grid = self._grid
        if tile != self._expected:
            raise UsageError(f"tiles are added in the grid's order: {self._expected} is next, not {tile}")
        if values.shape != (grid.tile_height, grid.tile_width, self._output.shape[2]):
            raise UsageError(f"a tile of shape {values.shape} does not belong to {grid}")
        floats = _to_float(values, self._output.dtype)
        if len(grid) == 1:
            store_into(floats[: grid.height, : grid.width], self._output)
        else:
            self._add_to_band(tile, floats)
        self._expected = next(self._pending, None)

    def _add_to_band(self, tile: Tile, values: npt.NDArray[np.float32]) -> None:
        grid = self._grid
        above, below = self._row_seams[tile.row], self._row_seams[tile.row + 1]
        left, right = self._column_seams[tile.column], self._column_seams[tile.column + 1]
        top, bottom = above.start, min(below.stop, grid.height)
        end = min(right.stop, grid.width)
        if bottom <= top:
            return
        if self._band is None:
            self._band = np.empty((bottom - top, grid.width, values.shape[2]), np.float32)
        band = self._band
        used = values[top - tile.y : bottom - tile.y]
        # Left seam: the tile before wrote its side; this one fades in over it.
        stop = min(left.stop, end)
        if stop > left.start:
            _fade(band[:, left.start : stop], used[:, left.start - tile.x : stop - tile.x], left.weights[:, np.newaxis])
        if end > left.stop:
            band[:, left.stop : end] = used[:, left.stop - tile.x : end - tile.x]
        if tile.column == grid.shape[1] - 1:
            self._finish_band(above, below)

    def _finish_band(self, above: _Seam, below: _Seam) -> None:
        """Blend a whole row of tiles with the seam above it, store what is final, and keep the seam below."""
        band, height = self._band, self._grid.height
        if band is None:
            return
        top = above.start
        if self._carry is not None:
            seam = self._carry
            _fade(seam, band[: len(seam)], above.weights[:, np.newaxis, np.newaxis])
            band[: len(seam)] = seam
        final = min(below.start, height)
        store_into(band[: final - top], self._output[top:final])
        self._carry = band[final - top :].copy() if final < min(below.stop, height) else None
        self._band = None


@dataclass(frozen=True)
class _Seam:
    """Where one tile fades into the next along one axis: pixels [start, stop) and the next tile's weights there."""

    start: int
    stop: int
    weights: npt.NDArray[np.float32]


def _seams(starts: tuple[int, ...], tile: int) -> list[_Seam]:
    """Return the seam before each tile and after the last; the outer two are empty, at the image's borders."""
    nothing = np.empty(0, np.float32)
    seams = [_Seam(0, 0, nothing)]
    # No wider than the closest tiles are apart: then at most two tiles meet anywhere.
    closest = min((after - before for before, after in pairwise(starts)), default=0)
    for before, after in pairwise(starts):
        shared = before + tile - after
        width = min(shared // 2, closest)
        start = after + (shared - width) // 2
        position = (np.arange(width) + 0.5) / max(width, 1)
        seams.append(_Seam(start, start + width, (position * position * (3 - 2 * position)).astype(np.float32)))
    end = starts[-1] + tile
    return [*seams, _Seam(end, end, nothing)]


def _fade(under: npt.NDArray[np.float32], over: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> None:
    """Change `under` to `under + (over - under) * weights`: exactly itself where both agree."""
    step = over - under
    step *= weights[: len(under)] if weights.ndim == 3 else weights[: under.shape[1]]
    under += step


def _to_float(values: npt.NDArray[Any], stored: np.dtype[Any]) -> npt.NDArray[np.float32]:
    if values.dtype == stored and stored.kind == "u":
        scaled: npt.NDArray[np.float32] = np.divide(values, np.float32(np.iinfo(stored).max), dtype=np.float32)
        return scaled
    if not np.issubdtype(values.dtype, np.floating):
        raise UsageError(f"a restored tile is float or {stored}, not {values.dtype}")
    return values.astype(np.float32, copy=False)


def _stride(tile: int, overlap: int, multiple: int) -> int:
    """Greatest distance between neighbouring tiles that keeps the overlap and the lattice."""
    return (tile - 2 * overlap) // multiple * multiple


def _starts(padded: int, tile: int, overlap: int, multiple: int) -> tuple[int, ...]:
    """First pixels of the tiles along one axis: the fewest that keep the overlap, evenly spread on the lattice."""
    if padded <= tile:
        return (0,)
    count = 1 + -(-(padded - tile) // _stride(tile, overlap, multiple))
    steps = (padded - tile) // multiple
    return tuple(steps * number // (count - 1) * multiple for number in range(count))


def _smallest_tile(length: int, count: int, overlap: int, multiple: int) -> int:
    """Return the smallest tile on the lattice with which `count` tiles cover `length` pixels and keep the overlap."""
    padded = multiple_above(length, multiple)
    # count tiles with 2 * overlap shared at each of the count - 1 seams.
    tile = multiple_above(-(-(padded + (count - 1) * 2 * overlap) // count), multiple)
    while len(_starts(padded, tile, overlap, multiple)) > count:
        # A stride that the lattice rounds down can need a little more.
        tile += multiple
    return tile


@dataclass(frozen=True)
class TilePolicy:
    """When an image is cut into tiles.

    Attributes:
        tile: (height, width) of tiles in pixels; None never cuts unless memory runs out.
        overlap: pixels of context on each side of a tile.
        call_pixels: most pixels in one call of the session: larger images are cut, batches kept below. None: any.
        batch: most images or tiles in one call.
    """

    tile: tuple[int, int] | None
    overlap: int
    call_pixels: int | None
    batch: int

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UsageError(f"a batch holds at least one image, not {self.batch}")
        if self.tile is not None and min(self.tile) <= 2 * self.overlap:
            raise UsageError(
                f"tiles of {self.tile[0]}x{self.tile[1]} leave nothing between overlaps of {self.overlap} pixels on "
                f"each side: use larger tiles or a smaller --overlap"
            )

    def batch_of(self, height: int, width: int) -> int:
        """Return how many images (or tiles) of this size go into one call."""
        if self.call_pixels is None:
            return self.batch
        return max(1, min(self.batch, self.call_pixels // (height * width)))

    def cuts(self, height: int, width: int) -> bool:
        """Return whether an image of this size is cut into tiles."""
        if self.tile is None or (height <= self.tile[0] and width <= self.tile[1]):
            return False
        return self.call_pixels is None or height * width > self.call_pixels
