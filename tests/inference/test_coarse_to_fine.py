"""Passes from coarse to fine with the shipped weights on real photographs: what they give, and how auto decides."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from mimo_core.engines import Session, SessionSpec, open_session
from mimo_core.errors import ImageError
from mimo_core.images.pixels import pad_to_multiple, quantise
from mimo_core.images.tiling import TilePolicy
from mimo_core.inference import coarse_to_fine
from mimo_core.inference.coarse_to_fine import CoarseToFineRestorer, choose_factors, windows_of
from mimo_core.inference.ensemble import EnsembleRestorer
from mimo_core.inference.restorer import Restoration, Restorer
from mimo_core.metrics.psnr_ssim import psnr
from mimo_core.models.weights import load_weights
from mimo_core.training.blur import Shake, photograph
from mimo_core.training.sources import read_rgb

SAMPLES = Path(__file__).parents[2] / "samples"
POLICY = TilePolicy(tile=(192, 192), overlap=16, call_pixels=None, batch=4)
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    opened = open_session(SessionSpec("torch", "cpu", "fp32", load_weights("mimo-unet-lite")))
    yield opened
    opened.close()


def passes(
    session: Session, factors: tuple[int, ...] | None, *, keep_values: bool = False, ensemble: bool = False
) -> CoarseToFineRestorer:
    restorer = Restorer(session, POLICY, keep_values=keep_values or ensemble)
    if ensemble:
        together = EnsembleRestorer(restorer)
        return CoarseToFineRestorer(together, together, factors, keep_values=keep_values)
    return CoarseToFineRestorer(restorer, restorer.keeping_values(), factors, keep_values=keep_values)


def whole(results: list[Restoration | ImageError]) -> list[Restoration]:
    for one in results:
        assert isinstance(one, Restoration)
    return [one for one in results if isinstance(one, Restoration)]


def sample(number: int, side: int = 192) -> tuple[Pixels, Pixels]:
    """Return the middle of a sample: mildly blurred, and sharp."""
    name = sorted(file.name for file in (SAMPLES / "blurred").iterdir())[number]
    images = [read_rgb(SAMPLES / folder / name) for folder in ("blurred", "sharp")]
    top, left = ((length - side) // 2 for length in images[0].shape[:2])
    first, second = (np.ascontiguousarray(image[top : top + side, left : left + side]) for image in images)
    return first, second


def shaken(number: int, extent: float, side: int = 192) -> tuple[Pixels, Pixels]:
    """Return a sharp sample as a camera sees it that shakes over so many pixels, and sharp."""
    sharp = sample(number, side)[1]
    return photograph(sharp, np.random.default_rng(number), Shake(0.0, extent), extent=extent), sharp


def by_hand(session: Session, image: Pixels, factors: tuple[int, ...]) -> Pixels:
    """Return the image after these passes, computed plainly: the whole image, no tiles, no bands."""
    restorer = Restorer(session, POLICY, keep_values=True)
    height, width = image.shape[:2]
    for factor in factors:
        padded = pad_to_multiple(image, factor)
        size = padded.shape[1] // factor, padded.shape[0] // factor
        small = cv2.resize(padded, size, interpolation=cv2.INTER_AREA) if factor > 1 else padded
        (restored,) = whole(restorer.restore([small]))
        assert restored.values is not None
        change = restored.values - small / np.float32(255)
        enlarged = cv2.resize(change, padded.shape[1::-1], interpolation=cv2.INTER_CUBIC) if factor > 1 else change
        image = quantise(np.clip(image / np.float32(255) + enlarged[:height, :width], 0, 1), np.uint8)
    return image


@pytest.mark.parametrize("factors", [(2,), (4, 2), (4, 2, 1)])
def test_passes_add_what_each_scale_changes(session: Session, factors: tuple[int, ...]) -> None:
    image = shaken(0, 20)[0][:190, :187]
    (result,) = whole(passes(session, factors).restore([image]))
    # A value on the edge between two levels may fall to either side.
    assert np.abs(result.pixels.astype(int) - by_hand(session, image, factors)).max() <= 1
    assert result.scales == {1: "1/2", 2: "1/4,1/2", 3: "1/4,1/2,1"}[len(factors)]
    assert result.values is None


def test_long_blur_is_restored_from_a_coarse_scale_and_mild_blur_at_full_size(session: Session) -> None:
    strong, mild = shaken(1, 24), sample(3)
    auto, plain = passes(session, None), Restorer(session, POLICY)
    restored, usual = whole(auto.restore([strong[0], mild[0]])), whole(plain.restore([strong[0], mild[0]]))
    assert [one.scales for one in restored][1] == "1"
    assert restored[0].scales in ("1/2", "1/4,1/2")
    gain, usual_gain = (psnr(one[0].pixels, strong[1]) - psnr(strong[0], strong[1]) for one in (restored, usual))
    assert gain > 0.5
    assert usual_gain < 0.2
    # What full size suits is exactly what it was without scales.
    np.testing.assert_array_equal(restored[1].pixels, usual[1].pixels)


def test_auto_gives_what_its_scales_give_when_named(session: Session) -> None:
    images = [shaken(number, extent)[0] for number, extent in ((1, 20), (1, 4), (1, 32))]
    together = whole(passes(session, None).restore(images))
    factors = {"1": (1,), "1/2": (2,), "1/4,1/2": (4, 2)}
    assert [one.scales for one in together] == ["1/2", "1", "1/4,1/2"]
    for image, one in zip(images, together, strict=True):
        (named,) = whole(passes(session, factors[one.scales]).restore([image]))
        np.testing.assert_array_equal(one.pixels, named.pixels)
        assert (one.scales, one.tiles) == (named.scales, named.tiles)


def test_a_large_image_is_judged_by_windows(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    image = shaken(1, 24)[0]
    (judged_whole,) = whole(passes(session, None).restore([image]))
    monkeypatch.setattr(coarse_to_fine, "_MOST_JUDGED_WHOLE", 128 * 128)
    monkeypatch.setattr(coarse_to_fine, "_WINDOW", 128)
    (judged_by_windows,) = whole(passes(session, None).restore([image]))
    assert judged_by_windows.scales == judged_whole.scales
    np.testing.assert_array_equal(judged_by_windows.pixels, judged_whole.pixels)


def test_windows_reach_every_edge_and_are_alike() -> None:
    image = np.zeros((700, 300, 3), np.uint8)
    windows = windows_of(image)
    assert {window.shape for window in windows} == {(256, 256, 3)}
    for window in windows:
        window += 1
    assert all(image[y, x].all() for y in (0, -1) for x in (0, -1))
    assert [window.shape for window in windows_of(np.zeros((100, 9000, 3), np.uint8))] == [(100, 256, 3)] * 3


def test_values_before_rounding_are_those_of_the_pixels(session: Session) -> None:
    images = [shaken(1, 24)[0], sample(3)[0]]
    for factors in (None, (4, 2), (2, 1)):
        for one in whole(passes(session, factors, keep_values=True).restore(images)):
            assert one.values is not None
            np.testing.assert_array_equal(quantise(one.values, np.uint8), one.pixels)


def test_a_mean_over_rotations_is_taken_in_each_pass(session: Session) -> None:
    image = shaken(1, 24)[0]
    (turned,) = whole(passes(session, (4, 2), ensemble=True).restore([np.ascontiguousarray(np.rot90(image))]))
    (straight,) = whole(passes(session, (4, 2), ensemble=True).restore([image]))
    assert np.abs(np.rot90(straight.pixels).astype(int) - turned.pixels).max() <= 1
    assert straight.tiles == 4 * 2


def test_sixteen_bits_stay_sixteen_bits(session: Session) -> None:
    image = shaken(0, 20)[0]
    (deep,) = whole(passes(session, (4, 2)).restore([image.astype(np.uint16) * 257]))
    (usual,) = whole(passes(session, (4, 2)).restore([image]))
    assert deep.pixels.dtype == np.uint16
    assert np.abs(deep.pixels / 257 - usual.pixels).mean() < 0.5


def test_what_is_too_small_to_be_judged_is_restored_at_full_size(session: Session) -> None:
    image = shaken(1, 24)[0][:100]
    (auto,), (full,) = whole(passes(session, None).restore([image])), whole(Restorer(session, POLICY).restore([image]))
    assert auto.scales == "1"
    np.testing.assert_array_equal(auto.pixels, full.pixels)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (5, 5)])
def test_the_smallest_images_pass(session: Session, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for factors in (None, (4, 2, 1)):
        (one,) = whole(passes(session, factors).restore([image]))
        assert one.pixels.shape == image.shape


@pytest.mark.parametrize(
    ("levels", "factors"),
    [
        # At full size, 1/2 and 1/4, in levels of 255; as measured on real photographs.
        pytest.param((2.02, 1.21, 0.17), (1,), id="mild"),
        pytest.param((0.0, 0.0, 0.0), (1,), id="one-colour"),
        pytest.param((0.06, 0.07, 0.06), (1,), id="sharp"),
        pytest.param((0.15, 0.03, 0.07), (1,), id="sharp-and-noisy"),
        pytest.param((1.60, 3.48, 1.17), (2,), id="longer"),
        pytest.param((0.44, 1.46, 4.22), (4, 2), id="longest"),
        pytest.param((0.65, 0.80, 0.65), (1,), id="hardly-longer"),
    ],
)
def test_the_residual_says_which_scale_sees_the_blur(levels: tuple[float, ...], factors: tuple[int, ...]) -> None:
    sizes = {factor: level / 255 for factor, level in zip((1, 2, 4), levels, strict=True)}
    assert choose_factors(sizes) == factors
