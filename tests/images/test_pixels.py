"""The zoo's pixels, to the bit, and padding and rounding on any size."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_core.errors import ErrorKind, ImageError, UsageError
from mimo_core.images.pixels import crop_to, multiple_above, pad_to, pad_to_multiple, quantise, quantise_into
from mimo_core.images.resizing import resize_bilinear


def transcribed_preprocess(path: Path, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """The listing of the zoo's page; `size` as it passes it to OpenCV: (width, height)."""
    image = cv2.imread(str(path))
    image_resize = cv2.resize(image, size)
    img = cv2.cvtColor(image_resize, cv2.COLOR_BGR2RGB)
    img = np.ascontiguousarray(np.transpose(img, (2, 0, 1))).astype("float32")
    img = img / 255.0
    return np.expand_dims(img, axis=0)


def transcribed_postprocess(heatmap: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """The listing of the zoo's page, and the cast that saving implies."""
    output = np.squeeze(heatmap.astype("float32"))
    output = np.clip(output, 0, 1)
    output += 0.5 / 255
    output = np.clip(output * 255, 0, 255)
    output = np.transpose(output[[2, 1, 0], :, :], (1, 2, 0))
    return output.astype(np.uint8)


def saved(output: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """A network's output (1, 3, H, W) rounded as ours is, as BGR (H, W, 3)."""
    return np.ascontiguousarray(quantise(output[0].transpose(1, 2, 0), np.uint8)[:, :, ::-1])


def test_resizing_equals_the_zoo_to_the_bit(shared_data: Path) -> None:
    for path in sorted((shared_data / "gopro_pairs" / "blur").glob("*.png"))[::15]:
        rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        ours = resize_bilinear(rgb, (360, 640)).transpose(2, 0, 1)[None].astype(np.float32) / 255
        assert np.array_equal(ours, transcribed_preprocess(path, (640, 360)))


@settings(deadline=None, max_examples=50)
@given(height=st.integers(2, 40), width=st.integers(2, 40), seed=st.integers(0, 2**32 - 1), half=st.booleans())
def test_rounding_equals_the_zoo_to_the_bit(height: int, width: int, seed: int, half: bool) -> None:
    generator = np.random.default_rng(seed)
    output = generator.normal(0.5, 0.5, (1, 3, height, width)).astype(np.float16 if half else np.float32)
    assert np.array_equal(saved(output), transcribed_postprocess(output))


def test_rounding_at_the_borders_of_every_level_equals_the_zoo() -> None:
    borders = ((np.arange(256) + 0.5) / 255).astype(np.float32)
    around = np.stack([np.nextafter(borders, np.float32(0)), borders, np.nextafter(borders, np.float32(2))])
    output = np.broadcast_to(around.reshape(1, 1, 3, 256), (1, 3, 3, 256))
    assert np.array_equal(saved(output), transcribed_postprocess(output))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_every_level_survives_the_float_round_trip(kind: type[np.uint8] | type[np.uint16]) -> None:
    peak = np.iinfo(kind).max
    levels = np.arange(peak + 1, dtype=kind).reshape(1, -1, 1)
    assert np.array_equal(quantise(levels.astype(np.float32) / np.float32(peak), kind), levels)
    assert np.array_equal(quantise(levels.astype(np.float32) * np.float32(1 / peak), kind), levels)


def test_values_outside_are_clipped_and_infinities_too() -> None:
    values = np.array([[[-np.inf], [-0.1], [1.1], [np.inf]]], np.float32)
    assert quantise(values, np.uint8).ravel().tolist() == [0, 0, 255, 255]
    assert quantise(values, np.uint16).ravel().tolist() == [0, 0, 65535, 65535]


def test_not_a_number_is_an_error_and_never_a_pixel() -> None:
    values = np.full((300, 1000, 3), 0.5, np.float32)
    values[299, 999, 2] = np.nan
    with pytest.raises(ImageError, match="NaN") as caught:
        quantise(values, np.uint8)
    assert caught.value.kind is ErrorKind.DEVICE


def test_rounding_in_blocks_equals_rounding_at_once() -> None:
    values = np.random.default_rng(1).random((700, 500, 3), np.float32)
    at_once = np.clip((np.clip(values, 0, 1) + np.float32(0.5 / 255)) * np.float32(255), 0, 255).astype(np.uint8)
    assert np.array_equal(quantise(values, np.uint8), at_once)
    wide = np.zeros((700, 600, 3), np.uint8)
    quantise_into(values, wide[:, 50:550])
    assert np.array_equal(wide[:, 50:550], at_once)
    assert not wide[:, :50].any()
    assert not wide[:, 550:].any()


def test_the_input_of_rounding_is_not_changed() -> None:
    values = np.random.default_rng(2).random((5, 6, 3), np.float32)
    before = values.copy()
    quantise(values, np.uint8)
    assert np.array_equal(values, before)


@settings(deadline=None, max_examples=200)
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    channels=st.sampled_from([1, 3, 4]),
    multiple=st.sampled_from([1, 2, 4, 8, 32]),
    deep=st.booleans(),
)
def test_padding_reflects_where_it_can_and_comes_off_again(
    height: int, width: int, channels: int, multiple: int, deep: bool
) -> None:
    kind = np.uint16 if deep else np.uint8
    image = np.random.default_rng(height * 31 + width).integers(0, 256, (height, width, channels)).astype(kind)
    padded = pad_to_multiple(image, multiple)
    assert padded.shape == (multiple_above(height, multiple), multiple_above(width, multiple), channels)
    assert padded.dtype == kind
    assert padded.shape[0] - height < multiple
    assert padded.shape[1] - width < multiple
    assert np.array_equal(crop_to(padded, height, width), image)
    expected = image
    for axis, size in enumerate((height, width)):
        extra = padded.shape[axis] - size
        width_of = [(0, 0)] * 3
        width_of[axis] = (0, extra)
        expected = np.pad(expected, width_of, mode="reflect" if extra < size else "edge")
    assert np.array_equal(padded, expected)


def test_what_fits_is_not_copied() -> None:
    image = np.zeros((8, 16, 3), np.uint8)
    assert pad_to_multiple(image, 8) is image
    assert pad_to(image, 8, 16) is image


def test_resizing_equals_opencv_and_keeps_the_axis_of_gray() -> None:
    generator = np.random.default_rng(3)
    for channels in (1, 3, 4):
        for kind in (np.uint8, np.uint16, np.float32):
            image = (generator.random((13, 17, channels)) * 255).astype(kind)
            resized = resize_bilinear(image, (20, 9))
            assert resized.shape == (20, 9, channels)
            assert np.array_equal(resized.squeeze(), cv2.resize(image, (9, 20), interpolation=cv2.INTER_LINEAR))


def test_wrong_use_is_refused_in_words() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(UsageError, match="cannot crop uint8 of shape 4x6x3 to 5x6"):
        crop_to(image, 5, 6)
    with pytest.raises(UsageError, match="cannot pad 4 pixels to 3"):
        pad_to(image, 3, 6)
    with pytest.raises(UsageError, match="positive height and width, not 0x3"):
        resize_bilinear(image, (0, 3))
    with pytest.raises(UsageError, match="uint8 or uint16, not int32"):
        quantise(np.zeros((1, 1, 1), np.float32), np.int32)
    with pytest.raises(UsageError, match="cannot store the shape"):
        quantise_into(np.zeros((2, 1, 1), np.float32), np.zeros((1, 1, 1), np.uint8))
