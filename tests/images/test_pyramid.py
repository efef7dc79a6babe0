"""Images made smaller and corrected from there."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_core.errors import ImageError
from mimo_core.images import pyramid
from mimo_core.images.pixels import quantise
from mimo_core.images.pyramid import add_enlarged, residual_of, shrink


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 16), st.sampled_from([np.uint8, np.uint16]))
def test_an_image_of_any_size_is_shrunk_by_the_mean_of_areas(h: int, w: int, factor: int, kind: type) -> None:
    image = np.random.default_rng(h * w).integers(0, np.iinfo(kind).max + 1, (h, w, 3)).astype(kind)
    small = shrink(image, factor)
    assert small.shape == (-(-h // factor), -(-w // factor), 3)
    assert small.dtype == image.dtype
    rows, columns = h // factor, w // factor
    blocks = image[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, 3)
    assert np.abs(small[:rows, :columns] - blocks.mean(axis=(1, 3))).max(initial=0.0) <= 1.0


@given(st.integers(1, 90), st.integers(1, 60), st.sampled_from([2, 3, 4, 8]), st.sampled_from([np.uint8, np.uint16]))
def test_bands_give_the_sum_of_the_whole_image(h: int, w: int, factor: int, kind: type) -> None:
    rng = np.random.default_rng(h + w)
    image = rng.integers(0, np.iinfo(kind).max + 1, (h, w, 3)).astype(kind)
    small = shrink(image, factor)
    residual = rng.normal(0, 0.2, small.shape).astype(np.float32)
    size = small.shape[1] * factor, small.shape[0] * factor
    enlarged = cv2.resize(residual, size, interpolation=cv2.INTER_CUBIC).reshape(size[1], size[0], 3)[:h, :w]
    whole = np.clip(image / np.float32(np.iinfo(kind).max) + enlarged, 0, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyramid, "_BAND_VALUES", 512)
        values, pixels = np.empty(image.shape, np.float32), np.empty_like(image)
        add_enlarged(image, residual, factor, values)
        add_enlarged(image, residual, factor, pixels)
    np.testing.assert_allclose(values, whole, atol=2e-6)
    np.testing.assert_array_equal(pixels, quantise(values, kind))


def test_what_changes_nothing_changes_nothing() -> None:
    image = np.random.default_rng(1).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    small = shrink(image, 4)
    out = np.empty_like(image)
    add_enlarged(image, residual_of(small / np.float32(255), small), 4, out)
    np.testing.assert_array_equal(out, image)


def test_a_residual_that_is_no_number_is_refused() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ImageError, match="NaN"):
        add_enlarged(image, np.full((4, 4, 3), np.nan, np.float32), 2, np.empty_like(image))
