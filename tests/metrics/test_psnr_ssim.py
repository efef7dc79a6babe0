"""Scores against scikit-image and against the definition written out."""

import math
import threading
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mimo_core.errors import UsageError
from mimo_core.images.pixels import as_8bit
from mimo_core.metrics.psnr_ssim import psnr, psnr_float, psnr_y, ssim, ssim_matlab3d


def reference_ssim(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> float:
    return float(
        structural_similarity(
            a,
            b,
            gaussian_weights=True,
            use_sample_covariance=False,
            data_range=float(np.iinfo(a.dtype).max),
            channel_axis=-1,
        )
    )


def reference_ssim_matlab3d(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> float:
    """MATLAB's ssim of a volume as its documentation writes it, with scipy's 3-D Gaussian in float64."""
    peak = float(np.iinfo(a.dtype).max)
    x, y = a.astype(np.float64), b.astype(np.float64)

    def mean(volume: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        blurred: npt.NDArray[np.float64] = gaussian_filter(volume, 1.5, mode="nearest", radius=5)
        return blurred

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    return float(np.mean((2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))))


def reference_psnr_y(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> float:
    return float(peak_signal_noise_ratio(rgb2ycbcr(a)[..., 0], rgb2ycbcr(b)[..., 0], data_range=255))


def gopro_pair(shared_data: Path, name: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    folder = shared_data / "gopro_pairs"
    blur, sharp = (cv2.imread(str(folder / side / f"{name}.png")) for side in ("blur", "sharp"))
    return blur, sharp


def test_published_figures_of_a_gopro_pair(shared_data: Path) -> None:
    blur, sharp = gopro_pair(shared_data, "GOPR0372_07_00-000047")
    assert psnr(blur, sharp) == pytest.approx(23.1469, abs=1e-4)
    assert ssim(blur, sharp) == pytest.approx(0.73197, abs=1e-5)


def test_equal_to_scikit_image_on_real_pairs(shared_data: Path) -> None:
    for path in sorted((shared_data / "reds_pairs" / "blur").glob("*.png"))[::20]:
        blur, sharp = cv2.imread(str(path)), cv2.imread(str(path.parent.with_name("sharp") / path.name))
        assert psnr(blur, sharp) == pytest.approx(peak_signal_noise_ratio(sharp, blur), abs=1e-9)
        assert ssim(blur, sharp) == pytest.approx(reference_ssim(blur, sharp), abs=1e-5)
        assert psnr_y(blur, sharp) == pytest.approx(reference_psnr_y(sharp, blur), abs=1e-6)
        assert ssim_matlab3d(blur, sharp) == pytest.approx(reference_ssim_matlab3d(blur, sharp), abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(11, 40),
    width=st.integers(11, 40),
    channels=st.sampled_from([1, 3, 4]),
    deep=st.booleans(),
    noise=st.integers(0, 255),
    offset=st.integers(0, 255),
    seed=st.integers(0, 2**32 - 1),
)
def test_ssim_equals_scikit_image_on_any_size(
    height: int, width: int, channels: int, deep: bool, noise: int, offset: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    base = generator.integers(0, 256, (height, width, channels)) // 2 + offset // 2
    other = np.clip(base + generator.integers(-noise, noise + 1, base.shape), 0, 255)
    kind, scale = (np.uint16, 257) if deep else (np.uint8, 1)
    a, b = (base * scale).astype(kind), (other * scale).astype(kind)
    assert ssim(a, b) == pytest.approx(reference_ssim(a, b), abs=1e-4)
    if channels == 3:
        assert ssim_matlab3d(a, b) == pytest.approx(reference_ssim_matlab3d(a, b), abs=1e-4)


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 50), width=st.integers(1, 50), deep=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_psnr_is_the_definition_in_float64(height: int, width: int, deep: bool, seed: int) -> None:
    kind = np.uint16 if deep else np.uint8
    generator = np.random.default_rng(seed)
    a, b = generator.integers(0, np.iinfo(kind).max + 1, (2, height, width, 3), dtype=kind)
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    expected = 10 * math.log10(float(np.iinfo(kind).max) ** 2 / error) if error else math.inf
    assert psnr(a, b) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 50), width=st.integers(1, 50), deep=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_psnr_float_is_that_of_the_clipped_output(height: int, width: int, deep: bool, seed: int) -> None:
    generator = np.random.default_rng(seed)
    kind = np.uint16 if deep else np.uint8
    reference = generator.integers(0, np.iinfo(kind).max + 1, (height, width, 3), dtype=kind)
    scaled = reference / np.float32(np.iinfo(kind).max)
    # A network's output leaves 0..1 a little, where clipping is what counts.
    values = (scaled + generator.normal(0, 0.1, reference.shape)).astype(np.float32)
    expected = peak_signal_noise_ratio(scaled.astype(np.float32), np.clip(values, 0, 1), data_range=1)
    assert psnr_float(values, reference) == pytest.approx(expected, abs=1e-6)
    assert psnr_float(scaled.astype(np.float32), reference) == math.inf


def test_psnr_float_sees_what_rounding_hides() -> None:
    reference = np.full((16, 16, 3), 100, np.uint8)
    values = np.full(reference.shape, 100.4 / 255, np.float32)
    assert psnr((values * 255 + 0.5).astype(np.uint8), reference) == math.inf
    assert psnr_float(values, reference) == pytest.approx(20 * math.log10(255 / 0.4), abs=1e-3)


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 50), width=st.integers(1, 50), seed=st.integers(0, 2**32 - 1))
def test_psnr_y_is_that_of_scikit_images_luma(height: int, width: int, seed: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    assert psnr_y(a, b) == pytest.approx(reference_psnr_y(a, b), abs=1e-5)
    deep = [image.astype(np.uint16) * np.uint16(257) for image in (a, b)]
    assert psnr_y(deep[0], deep[1]) == pytest.approx(psnr_y(a, b), abs=1e-5)


def test_luma_does_not_see_what_has_no_luma() -> None:
    a = np.full((4, 4, 3), 100, np.uint8)
    assert psnr_y(a, a) == math.inf
    one, two = a.copy(), a.copy()
    one[..., 1] += 10
    two[..., 2] += 10
    assert psnr_y(a, one) < psnr_y(a, two)


def test_flat_images_keep_their_precision_in_float32() -> None:
    # The hardest case for E[x^2] - E[x]^2: bright, and hardly any variance.
    for kind in (np.uint8, np.uint16):
        peak = np.iinfo(kind).max
        a = np.full((64, 64, 3), peak, kind)
        b = a.copy()
        b[::2, ::3] -= 1
        assert ssim(a, b) == pytest.approx(reference_ssim(a, b), abs=1e-4)
        assert ssim_matlab3d(a, b) == pytest.approx(reference_ssim_matlab3d(a, b), abs=1e-4)


def test_identical_images() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert psnr_y(image, image) == math.inf
    assert ssim_matlab3d(image, image) == pytest.approx(1.0, abs=1e-6)
    assert psnr(image, image) == math.inf
    assert ssim(image, image) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (10, 400), (400, 10)])
def test_images_smaller_than_the_window_have_no_ssim(height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    assert ssim(image, image) is None
    assert ssim_matlab3d(image, image) is None
    assert psnr(image, image + 1) == pytest.approx(48.1308, abs=1e-4)


def test_the_smallest_image_with_an_ssim() -> None:
    a, b = np.random.default_rng(1).integers(0, 256, (2, 11, 11, 3), dtype=np.uint8)
    assert ssim(a, b) == pytest.approx(reference_ssim(a, b), abs=1e-4)


def test_images_scored_in_many_strips() -> None:
    generator = np.random.default_rng(5)
    a = cv2.GaussianBlur(generator.integers(0, 256, (331, 900, 3), dtype=np.uint8), (5, 5), 1)
    b = cv2.GaussianBlur(a, (9, 9), 2)
    assert ssim(a, b) == pytest.approx(reference_ssim(a, b), abs=1e-6)
    assert ssim_matlab3d(a, b) == pytest.approx(reference_ssim_matlab3d(a, b), abs=1e-6)


def test_two_dimensional_gray_equals_one_channel() -> None:
    a, b = np.random.default_rng(2).integers(0, 256, (2, 40, 41), dtype=np.uint8)
    assert ssim(a, b) == ssim(a[..., np.newaxis], b[..., np.newaxis])
    assert psnr(a, b) == psnr(a[..., np.newaxis], b[..., np.newaxis])


def test_views_score_as_their_copies() -> None:
    a, b = np.random.default_rng(3).integers(0, 256, (2, 60, 80, 3), dtype=np.uint8)
    view_a, view_b = a[5:45, ::-1, ::-1], b[5:45, ::-1, ::-1]
    assert ssim(view_a, view_b) == ssim(view_a.copy(), view_b.copy())
    assert psnr(view_a, view_b) == psnr(view_a.copy(), view_b.copy())


def test_threads_score_alike() -> None:
    a, b = np.random.default_rng(4).integers(0, 256, (2, 200, 300, 3), dtype=np.uint8)
    values = (a / np.float32(255)).astype(np.float32)
    results: list[tuple[float | None, ...]] = []

    def scores() -> tuple[float | None, ...]:
        return psnr(a, b), psnr_float(values, b), psnr_y(a, b), ssim(a, b), ssim_matlab3d(a, b)

    expected = scores()

    def score() -> None:
        results.extend(scores() for _ in range(5))

    threads = [threading.Thread(target=score) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 40


def test_a_sixteen_bit_image_is_rounded_to_eight_bits() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    assert np.array_equal(as_8bit(every), np.floor(every / 257 + 0.5).astype(np.uint8))
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert np.array_equal(as_8bit(eight.astype(np.uint16) * np.uint16(257)), eight)
    assert as_8bit(eight) is eight or np.array_equal(as_8bit(eight), eight)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8), r"\(4, 4, 3\) with \(4, 5, 3\)"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint16), "uint8 with uint16"),
        (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        psnr(a, b)
    with pytest.raises(UsageError, match=told):
        ssim(a, b)


def test_metrics_of_colour_refuse_other_images() -> None:
    gray = np.zeros((20, 20, 1), np.uint8)
    for metric in (psnr_y, ssim_matlab3d):
        with pytest.raises(UsageError, match=rf"{metric.__name__} is defined for RGB images"):
            metric(gray, gray)


def test_psnr_float_refuses_what_is_no_output() -> None:
    reference = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(UsageError, match="psnr_float scores float32 values"):
        psnr_float(reference, reference)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"\(4, 5, 3\) with \(4, 4, 3\)"):
        psnr_float(np.zeros((4, 5, 3), np.float32), reference)
