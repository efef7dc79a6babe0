"""Images of any size through a session of any limits: sizes, calls, and the way down when memory runs out."""

import os
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_core.engines import SessionLimits, SessionSpec, open_session
from mimo_core.engines.base import check_batch
from mimo_core.errors import DeviceFaultError, ErrorKind, ImageError, SessionOutOfMemoryError, UsageError
from mimo_core.images.tiling import TileGrid, TilePolicy
from mimo_core.inference.restorer import Restoration, Restorer
from mimo_core.metrics.psnr_ssim import psnr
from mimo_core.models.shipped import shipped
from mimo_core.models.weights import load_weights


class SmallSession:
    """A session under the protocol with so much memory (pixels at once): returns its input, notes its calls.

    It takes images that begin with three times 13 for ones that overflow, with 66 for ones that kill the device.
    """

    device_name = "small"

    def __init__(self, memory: int | None = None, limits: SessionLimits | None = None) -> None:
        self.limits = limits or SessionLimits(multiple_of=4)
        self.calls: list[tuple[int, int, int]] = []
        self._memory = memory

    def restore(self, batch: npt.NDArray) -> npt.NDArray:
        check_batch(batch, self.limits)
        self.calls.append(batch.shape[:3])
        if self._memory is not None and np.prod(batch.shape[:3]) > self._memory:
            raise SessionOutOfMemoryError("out of memory")
        if np.any(np.all(batch[:, 0, 0] == 13, axis=1)):
            raise ImageError(ErrorKind.DEVICE, "not finite")
        if np.any(np.all(batch[:, 0, 0] == 66, axis=1)):
            raise DeviceFaultError("dead")
        return batch

    def restore_float(self, batch: npt.NDArray) -> npt.NDArray[np.float32]:
        return self.restore(batch) / np.float32(np.iinfo(batch.dtype).max)

    def close(self) -> None:
        pass


def image(height: int, width: int, seed: int = 0, kind: type = np.uint8) -> npt.NDArray:
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, (height, width, 3)).astype(kind)


def restored(result: Restoration | ImageError) -> Restoration:
    assert isinstance(result, Restoration)
    return result


# Sizes


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (17, 31), (641, 359), (4, 4), (130, 1), (1, 130)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_every_size_comes_back_as_it_was(size: tuple[int, int], kind: type) -> None:
    for policy in (TilePolicy(None, 32, None, 1), TilePolicy((128, 128), 32, None, 3)):
        picture = image(*size, kind=kind)
        (result,) = Restorer(SmallSession(), policy).restore([picture])
        assert restored(result).pixels.dtype == kind
        assert np.array_equal(restored(result).pixels, picture)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (17, 31), (119, 83)])
def test_the_network_takes_every_size(size: tuple[int, int]) -> None:
    session = open_session(SessionSpec("torch", "cpu", "fp32", load_weights("golden:mimo-unet-lite"), threads=1))
    (result,) = Restorer(session, TilePolicy((96, 64), 16, None, 2)).restore([image(*size)])
    assert restored(result).pixels.shape == (*size, 3)
    assert restored(result).tiles == len(TileGrid.fit(*size, (96, 64), 16))


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    count=st.integers(1, 4),
    tile=st.none() | st.tuples(st.integers(65, 200), st.integers(65, 200)),
    overlap=st.integers(0, 32),
    call_pixels=st.none() | st.integers(1, 1 << 17),
    batch=st.integers(1, 6),
    limits=st.builds(
        SessionLimits,
        multiple_of=st.sampled_from([1, 4, 8]),
        max_batch=st.none() | st.integers(1, 4),
        max_pixels=st.none() | st.integers(80 * 80, 1 << 17),
        static_shape=st.none(),
        preferred_tile=st.none() | st.just((96, 128)),
    ),
    deep=st.booleans(),
)
def test_any_policy_and_any_limits_give_back_the_same_pixels(
    size: tuple[int, int],
    count: int,
    tile: tuple[int, int] | None,
    overlap: int,
    call_pixels: int | None,
    batch: int,
    limits: SessionLimits,
    deep: bool,
) -> None:
    """The session refuses whatever is beyond its limits, so a wrong call fails the test."""
    pictures = [image(*size, seed, np.uint16 if deep else np.uint8) for seed in range(count)]
    session = SmallSession(limits=limits)
    ticks: list[tuple[int, int]] = []
    policy = TilePolicy(tile, overlap, call_pixels, batch)
    results = Restorer(session, policy).restore(pictures, lambda done, tiles: ticks.append((done, tiles)))
    assert len(results) == count
    for picture, result in zip(pictures, results, strict=True):
        assert np.array_equal(restored(result).pixels, picture)
        assert restored(result).fallback is None
    assert len(ticks) == len(session.calls), "one sign of life a call"
    assert ticks[-1][0] == ticks[-1][1], "the last call ends a pass"


def test_a_static_shape_is_met_by_padding_and_tiling() -> None:
    session = SmallSession(limits=SessionLimits(multiple_of=4, static_shape=(64, 96)))
    for size in ((1, 1), (64, 96), (200, 333), (64, 97)):
        (result,) = Restorer(session, TilePolicy(None, 64, None, 4)).restore([image(*size)])
        assert np.array_equal(restored(result).pixels, image(*size))
    assert {call[1:] for call in session.calls} == {(64, 96)}


# Calls


def test_images_of_one_shape_go_through_in_one_call() -> None:
    session = SmallSession()
    Restorer(session, TilePolicy(None, 32, None, 8)).restore([image(30, 40, seed) for seed in range(5)])
    assert session.calls == [(5, 32, 40)]


def test_tiles_go_through_in_batches() -> None:
    session = SmallSession()
    (result,) = Restorer(session, TilePolicy((128, 128), 16, None, 4)).restore([image(300, 300)])
    assert restored(result).tiles == 9
    assert [call[0] for call in session.calls] == [4, 4, 1]


def test_a_small_image_is_not_cut_and_a_large_one_is() -> None:
    policy = TilePolicy((512, 512), 32, 1 << 20, 1)
    assert not policy.cuts(720, 1280)
    assert policy.cuts(1025, 1024)
    assert policy.batch_of(720, 1280) == 1
    named = TilePolicy((512, 512), 32, None, 8)
    assert named.cuts(720, 1280)
    assert not named.cuts(512, 512)
    assert named.batch_of(512, 512) == 8
    assert not TilePolicy(None, 32, None, 8).cuts(9000, 9000)
    assert TilePolicy(None, 32, 1 << 20, 8).batch_of(512, 512) == 4


def test_a_policy_that_cannot_work_is_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"tiles of 64x512 leave nothing between overlaps of 32 pixels.*--overlap"):
        TilePolicy((64, 512), 32, None, 1)
    with pytest.raises(UsageError, match="at least one image, not 0"):
        TilePolicy(None, 32, None, 0)


# Memory


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    session = SmallSession(memory=2 * 64 * 64)
    pictures = [image(64, 64, seed) for seed in range(7)]
    results = Restorer(session, TilePolicy(None, 32, None, 8)).restore(pictures)
    assert [call[0] for call in session.calls] == [7, 3, 1, 2, 4, 2, 2]
    assert [restored(one).fallback for one in results] == ["batch 1", *["batch 2"] * 6]
    for picture, result in zip(pictures, results, strict=True):
        assert np.array_equal(restored(result).pixels, picture)


def test_an_image_that_does_not_fit_is_cut_into_smaller_and_smaller_tiles() -> None:
    session = SmallSession(memory=160 * 160)
    (result,) = Restorer(session, TilePolicy(None, 16, None, 1)).restore([image(500, 700)])
    assert restored(result).fallback == "tile 176x176"
    assert restored(result).tiles == len(TileGrid.fit(500, 700, (176, 176), 16))
    assert np.array_equal(restored(result).pixels, image(500, 700))


def test_fewer_tiles_at_once_come_before_smaller_tiles() -> None:
    session = SmallSession(memory=2 * 128 * 128)
    (result,) = Restorer(session, TilePolicy((128, 128), 16, None, 8)).restore([image(300, 300)])
    assert restored(result).fallback == "batch 2"
    assert restored(result).tiles == 9
    assert [call[0] for call in session.calls] == [8, 4, 2, 2, 2, 2, 1]


def test_the_smallest_tile_is_tried_before_giving_up() -> None:
    session = SmallSession(memory=128 * 128)
    (result,) = Restorer(session, TilePolicy(None, 32, None, 1)).restore([image(300, 300)])
    assert restored(result).fallback == "tile 128x128"


@pytest.mark.parametrize("tile", [None, (256, 256)])
def test_what_fits_in_no_way_is_the_images_error_not_the_workers(tile: tuple[int, int] | None) -> None:
    session = SmallSession(memory=100)
    for picture in (image(300, 300), image(50, 40)):
        (result,) = Restorer(session, TilePolicy(tile, 32, None, 2)).restore([picture])
        assert isinstance(result, ImageError)
        assert result.kind is ErrorKind.OUT_OF_MEMORY
        assert "not even tiles of" in str(result)
    fits = image(4, 4)
    assert isinstance(Restorer(session, TilePolicy(tile, 32, None, 2)).restore([fits])[0], Restoration)


def test_a_static_shape_that_does_not_fit_says_so() -> None:
    session = SmallSession(100, SessionLimits(multiple_of=4, static_shape=(64, 96)))
    (result,) = Restorer(session, TilePolicy(None, 16, None, 2)).restore([image(300, 300)])
    assert isinstance(result, ImageError)
    assert str(result).startswith("the static shape 64x96 does not fit")


# Errors


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_one_bad_image_does_not_hurt_its_batch(count: int) -> None:
    for bad in range(count):
        pictures = [image(20, 20, seed) for seed in range(count)]
        pictures[bad][0, 0] = 13
        results = Restorer(SmallSession(), TilePolicy(None, 32, None, 8)).restore(pictures)
        assert [isinstance(one, ImageError) for one in results] == [index == bad for index in range(count)]
        assert all(one.fallback is None for one in results if isinstance(one, Restoration))


def test_a_bad_image_in_tiles_is_its_own_error() -> None:
    picture = image(300, 300)
    picture[0, 0] = 13
    for memory in (None, 200 * 200):
        results = Restorer(SmallSession(memory), TilePolicy((256, 256), 32, None, 2)).restore(
            [picture, image(300, 300)]
        )
        assert isinstance(results[0], ImageError)
        assert np.array_equal(restored(results[1]).pixels, image(300, 300))


def test_a_dead_device_is_nobodys_own() -> None:
    pictures = [image(20, 20), image(20, 20)]
    pictures[1][0, 0] = 66
    with pytest.raises(DeviceFaultError):
        Restorer(SmallSession(), TilePolicy(None, 32, None, 2)).restore(pictures)


# Tiles against the whole, with weights that were trained: random ones react to far more context


def trained_weights() -> str:
    names = [one.name for one in shipped() if one.trained]
    name = os.environ.get("MIMO_TEST_WEIGHTS") or (names[0] if names else None)
    if name is None:
        pytest.skip("needs trained weights: none are shipped and MIMO_TEST_WEIGHTS is unset")
    return name


def gradients(pixels: npt.NDArray, columns: list[int], rows: list[int]) -> tuple[float, float]:
    """Mean absolute step between neighbours across these borders, and everywhere else."""
    values = pixels.astype(np.float64)
    at, elsewhere = [], []
    for axis, borders in ((1, columns), (0, rows)):
        steps = np.moveaxis(np.abs(np.diff(values, axis=axis)), axis, 0)
        near = np.zeros(len(steps), bool)
        for border in borders:
            near[border - 4 : border + 4] = True
        at.append(steps[near].ravel())
        elsewhere.append(steps[~near].ravel())
    return float(np.concatenate(at).mean()), float(np.concatenate(elsewhere).mean())


@pytest.mark.slow
@pytest.mark.parametrize("tile", [(512, 512), (256, 256)])
def test_tiles_of_a_real_photograph_cannot_be_told_from_the_whole(shared_data: Path, tile: tuple[int, int]) -> None:
    path = sorted((shared_data / "gopro_pairs" / "blur").glob("*.png"))[0]
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    height, width = picture.shape[:2]
    session = open_session(SessionSpec("torch", "cpu", "fp32", load_weights(trained_weights()), threads=1))
    (whole,) = Restorer(session, TilePolicy(None, 32, None, 1)).restore([picture])
    (tiled,) = Restorer(session, TilePolicy(tile, 32, None, 1)).restore([picture])
    grid = TileGrid.fit(height, width, tile, 32)
    assert restored(tiled).tiles == len(grid) > 1
    one, other = restored(whole).pixels, restored(tiled).pixels
    agreement = psnr(one, other)
    off = np.abs(one.astype(int) - other)
    columns = [(left + before) // 2 for before, left in _borders(grid.column_starts, grid.tile_width)]
    rows = [(top + before) // 2 for before, top in _borders(grid.row_starts, grid.tile_height)]
    at, elsewhere = gradients(other, columns, rows)
    cost = len(grid) * grid.tile_height * grid.tile_width / (height * width)
    at_whole, elsewhere_whole = gradients(one, columns, rows)
    print(
        f"\n{width}x{height} in {len(grid)} tiles of {grid.tile_width}x{grid.tile_height}: {agreement:.2f} dB, "
        f"{100 * np.mean(off <= 2):.4f} % within 2 levels, most {off.max()}; gradient at borders / elsewhere "
        f"{at / elsewhere:.3f} (untiled, same places {at_whole / elsewhere_whole:.3f}); cost {cost:.2f}"
    )
    assert np.abs(one.astype(int) - picture).mean() > 0.1, "weights that change nothing would test nothing"
    assert agreement >= 50
    assert np.mean(off <= 2) >= 0.999
    # The scene itself is not even: what tiling adds is measured against the same places without tiles.
    assert abs((at / elsewhere) / (at_whole / elsewhere_whole) - 1) < 0.05


def _borders(starts: tuple[int, ...], tile: int) -> list[tuple[int, int]]:
    return [(before + tile, after) for before, after in pairwise(starts)]
