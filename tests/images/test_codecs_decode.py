"""Real files of every container decode to exactly what was stored, or are refused by name."""

from itertools import product
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pictures import (
    EXIF_ORIENTATION,
    WHOLE,
    alpha,
    exif,
    opened,
    scene,
    with_pillow,
    with_tifffile,
)

from mimo_core.errors import ImageError
from mimo_core.images.codecs import container_of, decode, encode
from mimo_core.metrics.psnr_ssim import psnr

GRAY = scene(channels=1)[..., 0]
RGBA = np.dstack([scene(), alpha()])
RGB = {"photometric": "rgb"}


def deep(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """The picture with sixteen bits, whose low ones are not a copy of the high ones."""
    return pixels.astype(np.uint16) * np.uint16(251)


def failure(data: bytes, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    return caught.value


# BMP has no mode LA, and Pillow does not declare the alpha of its RGBA.
@pytest.mark.parametrize(
    ("format_name", "mode"),
    [
        *product(("PNG", "TIFF", "GIF"), ("RGB", "L", "RGBA", "LA", "P", "1")),
        *product(("BMP",), ("RGB", "L", "P", "1")),
    ],
)
def test_lossless_files_decode_to_the_pixels_that_pillow_sees(mode: str, format_name: str) -> None:
    pixels = np.dstack([scene(), alpha()]) if mode in ("RGBA", "LA") else scene()
    data = with_pillow(pixels, format_name, mode)
    image = decode(data)
    expected = np.asarray(opened(data).convert({1: "L", 3: "RGB", 4: "RGBA"}[image.channels]))
    if format_name == "GIF" and image.channels == 4:
        # Colours that nobody sees differ.
        image.pixels[expected[..., 3] == 0] = expected[expected[..., 3] == 0]
    assert np.array_equal(image.pixels.squeeze(), expected)
    assert image.container == format_name.lower()
    assert image.bit_depth == 8
    assert image.gray is (mode in ("L", "LA", "1") and format_name != "GIF")
    assert image.pixels.flags.c_contiguous


@pytest.mark.parametrize(
    ("name", "pixels", "options"),
    [
        ("gray", GRAY, {}),
        ("gray 16", deep(GRAY), {}),
        ("rgb 16", deep(scene()), RGB),
        ("rgb 16 big-endian", deep(scene()).astype(">u2"), RGB | {"byteorder": ">"}),
        ("rgb big-endian", scene(), RGB | {"byteorder": ">"}),
        ("rgb tiled", scene(), RGB | {"tile": (48, 64)}),
        ("rgb 16 tiled", deep(scene()), RGB | {"tile": (16, 32)}),
        ("rgb 16 predictor", deep(scene()), RGB | {"compression": "zlib", "predictor": True}),
        ("rgb strips", scene(), RGB | {"rowsperstrip": 7, "compression": "zlib"}),
        ("rgb deflate tiles", scene(), RGB | {"tile": (48, 64), "compression": "zlib"}),
        ("rgb bigtiff", scene(), RGB | {"bigtiff": True}),
        ("rgba", RGBA, RGB | {"extrasamples": ["unassalpha"]}),
        ("rgba 16", deep(RGBA), RGB | {"extrasamples": ["unassalpha"]}),
        ("rgba big-endian", RGBA, RGB | {"extrasamples": ["unassalpha"], "byteorder": ">"}),
    ],
)
def test_tiffs_decode_to_what_was_stored(name: str, pixels: npt.NDArray[Any], options: dict[str, Any]) -> None:
    image = decode(with_tifffile(pixels, **options))
    assert np.array_equal(image.pixels.squeeze(), pixels)
    assert image.bit_depth == 8 * pixels.dtype.itemsize
    assert image.gray is (pixels.ndim == 2)


def test_planes_of_a_tiff_are_put_together() -> None:
    planes = np.ascontiguousarray(np.moveaxis(scene(), 2, 0))
    image = decode(with_tifffile(planes, photometric="rgb", planarconfig="separate"))
    assert np.array_equal(image.pixels, scene())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_white_is_zero_becomes_black_is_zero(kind: type[np.uint8] | type[np.uint16]) -> None:
    pixels = scene(channels=1)[..., 0].astype(kind) * kind(np.iinfo(kind).max // 255)
    image = decode(with_tifffile(pixels, photometric="miniswhite"))
    assert np.array_equal(image.pixels[..., 0], np.iinfo(kind).max - pixels)


def test_a_sixteen_bit_png_keeps_its_depth() -> None:
    pixels = scene().astype(np.uint16) * 251
    for stored in (pixels, pixels[..., :1]):
        data = cv2.imencode(".png", stored[..., ::-1])[1].tobytes()
        image = decode(data)
        assert image.bit_depth == 16
        assert np.array_equal(image.pixels, stored)
        assert np.array_equal(decode(encode(image, "png")).pixels, stored)


def test_jpeg_and_webp_decode_as_pillow_does() -> None:
    for name in ("baseline jpeg", "progressive jpeg", "lossy webp", "gray jpeg"):
        image = decode(WHOLE[name])
        expected = np.asarray(opened(WHOLE[name])).reshape(image.pixels.shape)
        # Two versions of libjpeg may round the colour conversion differently.
        assert psnr(image.pixels, expected) > 50


def test_what_kept_its_pixels_exactly_says_so() -> None:
    lossy = {name for name, data in WHOLE.items() if not decode(data).lossless}
    assert lossy == {name for name in WHOLE if "jpeg" in name} | {"lossy webp", "webp with alpha"}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_orientation_is_kept_and_not_applied(format_name: str, orientation: int) -> None:
    options = {"lossless": True} if format_name == "WEBP" else {}
    data = with_pillow(scene(), format_name, exif=exif(orientation), **options)
    image = decode(data)
    assert (image.height, image.width) == scene().shape[:2]
    if format_name != "JPEG":
        assert np.array_equal(image.pixels, scene())
    again = encode(image, container_of(f"x.{format_name.lower()}"))
    assert opened(again).getexif()[EXIF_ORIENTATION] == orientation
