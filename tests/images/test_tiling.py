"""Grids cover every pixel with the context they promise; blending is exact, smooth and bounded in memory."""

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mimo_core.errors import ErrorKind, ImageError, UsageError
from mimo_core.images.pixels import pad_to
from mimo_core.images.tiling import BandBlender, Tile, TileGrid

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def cost_of(grid: TileGrid) -> float:
    """Pixels that are computed for each that is kept."""
    return len(grid) * grid.tile_height * grid.tile_width / (grid.height * grid.width)


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    multiple = draw(st.sampled_from([1, 2, 4, 8]))
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    tile = (multiple * draw(st.integers(1, 12)), multiple * draw(st.integers(1, 12)))
    overlap = draw(st.integers(0, 10))
    fitted = draw(st.booleans())
    try:
        if fitted:
            return TileGrid.fit(height, width, tile, overlap, multiple)
        return TileGrid(height, width, *tile, overlap, multiple)
    except UsageError:
        assume(False)
        raise


def run(grid: TileGrid, image: Pixels, batch: int, model: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]):  # type: ignore[no-untyped-def]
    peak = np.float32(np.iinfo(image.dtype).max)
    blender = BandBlender(grid, image.dtype, image.shape[2])
    for tiles, pixels in grid.batches(image, batch):
        for tile, restored in zip(tiles, model(pixels.astype(np.float32) / peak), strict=True):
            blender.add(tile, restored)
    return blender.result


@settings(deadline=None, max_examples=300)
@given(grid=grids())
def test_tiles_lie_on_the_lattice_and_cover_the_image_with_their_context(grid: TileGrid) -> None:
    for starts, tile, length in (
        (grid.row_starts, grid.tile_height, grid.padded_height),
        (grid.column_starts, grid.tile_width, grid.padded_width),
    ):
        assert starts[0] == 0
        assert starts[-1] + tile == length
        assert all(start % grid.multiple == 0 for start in starts)
        gaps = np.diff(starts)
        assert (gaps > 0).all()
        assert (tile - gaps >= 2 * grid.overlap).all()
        if len(gaps):
            assert gaps.max() - gaps.min() <= grid.multiple
    assert grid.padded_height >= grid.height
    assert grid.padded_width >= grid.width
    assert len(list(grid.tiles())) == len(grid) == math.prod(grid.shape)
    assert cost_of(grid) >= 1


@settings(deadline=None, max_examples=200)
@given(grid=grids(), batch=st.integers(1, 7), deep=st.booleans(), channels=st.sampled_from([1, 3]))
def test_identity_tiles_give_the_image_back_to_the_bit(grid: TileGrid, batch: int, deep: bool, channels: int) -> None:
    kind = np.uint16 if deep else np.uint8
    generator = np.random.default_rng(grid.height * 97 + grid.width)
    image = generator.integers(0, np.iinfo(kind).max + 1, (grid.height, grid.width, channels)).astype(kind)
    assert np.array_equal(run(grid, image, batch, lambda tiles: tiles), image)


@settings(deadline=None, max_examples=100)
@given(grid=grids())
def test_tiles_are_cut_from_the_padded_image(grid: TileGrid) -> None:
    image = np.random.default_rng(grid.height).integers(0, 256, (grid.height, grid.width, 3), dtype=np.uint8)
    padded = pad_to(image, grid.padded_height, grid.padded_width)
    for tile in grid.tiles():
        cut = grid.cut(image, [tile])[0]
        assert np.array_equal(cut, padded[tile.y : tile.y + grid.tile_height, tile.x : tile.x + grid.tile_width])


@settings(deadline=None, max_examples=40)
@given(grid=grids().filter(lambda grid: len(grid) <= 30))
def test_the_weights_sum_to_one_and_no_used_pixel_is_near_an_inner_tile_edge(grid: TileGrid) -> None:
    total = np.zeros((grid.height, grid.width))
    for chosen in grid.tiles():
        blender = BandBlender(grid, np.uint16, 1)
        for tile in grid.tiles():
            blender.add(tile, np.full((grid.tile_height, grid.tile_width, 1), float(tile == chosen), np.float32))
        weight = blender.result[..., 0] / 65535
        total += weight
        used_rows, used_columns = np.nonzero(weight)
        if not len(used_rows):
            continue
        # A quarter of what two tiles share is left unused at the tile's edge: at least half the promised context.
        margin = grid.overlap // 2
        if chosen.row > 0:
            assert used_rows.min() - chosen.y >= margin
        if chosen.row < grid.shape[0] - 1:
            assert chosen.y + grid.tile_height - 1 - used_rows.max() >= margin
        if chosen.column > 0:
            assert used_columns.min() - chosen.x >= margin
        if chosen.column < grid.shape[1] - 1:
            assert chosen.x + grid.tile_width - 1 - used_columns.max() >= margin
    assert np.abs(total - 1).max() <= len(grid) / 65535


@settings(deadline=None, max_examples=200)
@given(height=st.integers(1, 300), width=st.integers(1, 300), side=st.integers(1, 100), overlap=st.integers(0, 20))
def test_a_fitted_grid_has_no_more_tiles_and_never_costs_more(height: int, width: int, side: int, overlap: int) -> None:
    tile = -(-side // 4) * 4
    try:
        asked = TileGrid(height, width, tile, tile, overlap)
    except UsageError:
        assume(False)
    fitted = TileGrid.fit(height, width, (side, side), overlap)
    assert fitted.tile_height <= tile
    assert fitted.tile_width <= tile
    assert len(fitted) == len(asked)
    assert cost_of(fitted) <= cost_of(asked)


def test_the_cost_of_the_overlap_in_the_limit() -> None:
    # 256-pixel tiles with 32 pixels on each side compute 256^2 pixels for 192^2 kept: 1.78 times.
    assert cost_of(TileGrid(192 * 100 + 64, 192 * 100 + 64, 256, 256, 32)) == pytest.approx(256**2 / 192**2, rel=0.01)
    assert cost_of(TileGrid.whole(360, 640)) == 1.0
    assert cost_of(TileGrid.whole(359, 641)) == pytest.approx(360 * 644 / (359 * 641))


def test_an_image_smaller_than_a_static_tile_is_one_padded_tile() -> None:
    grid = TileGrid(3, 5, 360, 640, 32, 8)
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    assert len(grid) == 1
    assert grid.cut(image, list(grid.tiles())).shape == (1, 360, 640, 3)
    assert np.array_equal(run(grid, image, 4, lambda tiles: tiles), image)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (17, 31), (641, 359)])
def test_sizes_that_people_try(height: int, width: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for grid in (
        TileGrid.whole(height, width),
        TileGrid.fit(height, width, (128, 128), 16),
        TileGrid(height, width, 64, 128, 8, 8),
    ):
        assert np.array_equal(run(grid, image, 3, lambda tiles: tiles), image)


def test_already_rounded_tiles_are_taken_as_they_are() -> None:
    image = np.random.default_rng(2).integers(0, 256, (100, 90, 3), dtype=np.uint8)
    grid = TileGrid.fit(100, 90, (48, 48), 8)
    blender = BandBlender(grid, np.uint8)
    for tiles, pixels in grid.batches(image, 2):
        for tile, values in zip(tiles, pixels, strict=True):
            blender.add(tile, values)
    assert np.array_equal(blender.result, image)


def photograph(shared_data: Path) -> npt.NDArray[np.uint8]:
    image = cv2.imread(str(shared_data / "gopro_pairs" / "blur" / "GOPR0372_07_00-000047.png"))
    return image[:, :, ::-1].copy()


def sharpen(tiles: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A restoration with a bounded receptive field (12 pixels): within the context, tiled must equal untiled."""
    return np.stack([tile + 1.5 * (tile - cv2.GaussianBlur(tile, (25, 25), 4)) for tile in tiles])


def test_a_model_that_sees_less_than_the_unused_margin_is_tiled_without_a_trace(shared_data: Path) -> None:
    image = photograph(shared_data)
    height, width = image.shape[:2]
    whole = run(TileGrid.whole(height, width), image, 1, sharpen)
    # The outer quarter of what two tiles share (at least 2 * 24 pixels) is 12 pixels wide.
    tiled = run(TileGrid(height, width, 256, 256, 24), image, 4, sharpen)
    assert np.array_equal(tiled, whole)


def test_tiles_that_disagree_meet_without_an_edge(shared_data: Path) -> None:
    image = photograph(shared_data) // 2 + 64
    height, width = image.shape[:2]
    grid = TileGrid(height, width, 256, 256, 32)
    peak = np.float32(255)
    blender = BandBlender(grid, np.uint8)
    for tiles, pixels in grid.batches(image, 4):
        for tile, values in zip(tiles, pixels, strict=True):
            # Neighbours differ by 8 levels in brightness.
            offset = np.float32(4 / 255 if (tile.row + tile.column) % 2 else -4 / 255)
            blender.add(tile, values.astype(np.float32) / peak + offset)
    difference = blender.result.astype(np.int16) - image
    steps = max(np.abs(np.diff(difference, axis=axis)).max() for axis in (0, 1))
    assert difference.min() == -4
    assert difference.max() == 4
    # 8 levels over a ramp of 32 pixels and more: never more than one level from one pixel to the next.
    assert steps <= 1


def test_memory_stays_bounded_by_the_output_and_one_row_of_tiles() -> None:
    grid = TileGrid(1600, 8000, 256, 256, 32)
    zeros = np.zeros((256, 256, 3), np.float32)
    tracemalloc.start()
    try:
        blender = BandBlender(grid, np.uint8)
        for tile in grid.tiles():
            blender.add(tile, zeros)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    output, band = 1600 * 8000 * 3, 256 * 8000 * 3 * 4
    assert peak < output + 1.5 * band
    assert not blender.result.any()


def test_tiles_out_of_order_or_of_another_shape_are_refused() -> None:
    grid = TileGrid(100, 100, 64, 64, 8)
    first, second = list(grid.tiles())[:2]
    blender = BandBlender(grid, np.uint8)
    values = np.zeros((64, 64, 3), np.float32)
    with pytest.raises(UsageError, match="in the grid's order"):
        blender.add(second, values)
    with pytest.raises(UsageError, match="does not belong"):
        blender.add(first, values[:60])
    with pytest.raises(UsageError, match="float or uint8, not int64"):
        blender.add(first, values.astype(np.int64))
    with pytest.raises(UsageError, match=r"not complete: Tile\(row=0, column=0"):
        _ = blender.result
    for tile in grid.tiles():
        blender.add(tile, values)
    assert blender.result.shape[:2] == (grid.height, grid.width)
    with pytest.raises(UsageError, match="in the grid's order"):
        blender.add(first, values)


def test_not_a_number_in_a_tile_is_an_error() -> None:
    grid = TileGrid(100, 100, 64, 64, 8)
    blender = BandBlender(grid, np.uint8)
    values = np.full((64, 64, 3), np.nan, np.float32)
    first, second = list(grid.tiles())[:2]
    blender.add(first, values)
    # Rows are rounded when they are complete: with the last tile of a row.
    with pytest.raises(ImageError, match="NaN") as caught:
        blender.add(second, values)
    assert caught.value.kind is ErrorKind.DEVICE


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((10, 10, 30, 32, 0), "multiple of 4 pixels in both directions, not 30x32"),
        ((100, 10, 64, 64, 32), "64 pixels high are too small for an overlap of 32"),
        ((10, 100, 64, 64, 31), "64 pixels wide are too small for an overlap of 31"),
        ((0, 10, 64, 64, 0), "positive sizes"),
        ((10, 10, 64, 64, -1), "overlap of 0 or more"),
    ],
)
def test_grids_that_cannot_work_are_refused(arguments: tuple[int, int, int, int, int], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        TileGrid(*arguments)


def test_a_grid_refuses_another_image_and_an_empty_batch() -> None:
    grid = TileGrid(100, 100, 64, 64, 8)
    with pytest.raises(UsageError, match="cuts 100x100 HWC images"):
        grid.cut(np.zeros((100, 101, 3), np.uint8), [Tile(0, 0, 0, 0)])
    with pytest.raises(UsageError, match="at least one tile"):
        next(grid.batches(np.zeros((100, 100, 3), np.uint8), 0))
