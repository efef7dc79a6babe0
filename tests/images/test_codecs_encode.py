"""What is written holds the pixels, depth, alpha and metadata that went in."""

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pictures import (
    EXIF_DIRECTORY,
    EXIF_MAKE,
    EXIF_ORIENTATION,
    GPS_DIRECTORY,
    WHOLE,
    XMP,
    alpha,
    exif,
    opened,
    profile,
    scene,
    with_pillow,
)

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.codecs import Image, check_encodable, decode, encode
from mimo_core.images.containers import Metadata
from mimo_core.images.pixels import as_8bit
from mimo_core.metrics.psnr_ssim import psnr

CONTAINERS = ("png", "jpg", "webp", "tiff", "bmp", "pnm")
EXACT = ("png", "tiff", "bmp", "pnm")


def image_of(pixels: npt.NDArray[Any], container: str = "png", gray: bool | None = None) -> Image:
    return Image(pixels, Metadata(), container, pixels.shape[2] == 1 if gray is None else gray, True)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (1, 17), (17, 1), (16, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_smallest_images_in_every_container(container: str, height: int, width: int, channels: int) -> None:
    pixels = scene(height, width, channels)
    image = decode(encode(image_of(pixels), container))
    # WebP has no gray.
    assert image.channels == (3 if container == "webp" else channels)
    assert (image.height, image.width, image.container) == (height, width, container)
    if container in EXACT:
        assert np.array_equal(image.pixels, pixels)


@pytest.mark.parametrize("container", ["png", "tiff", "pnm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_kept(container: str, channels: int) -> None:
    pixels = scene(channels=channels).astype(np.uint16) * 251 + 3
    image = decode(encode(image_of(pixels), container))
    assert image.bit_depth == 16
    assert np.array_equal(image.pixels, pixels)


@pytest.mark.parametrize("container", ["jpg", "webp", "bmp"])
def test_sixteen_bits_become_eight_where_there_is_no_room(container: str) -> None:
    pixels = scene().astype(np.uint16) * 257
    image = decode(encode(image_of(pixels), container))
    assert image.bit_depth == 8
    assert psnr(image.pixels, as_8bit(pixels)) > 30


@pytest.mark.parametrize("container", ["png", "tiff", "webp", "bmp"])
def test_alpha_is_unchanged(container: str) -> None:
    pixels = np.dstack([scene(), alpha()])
    image = decode(encode(image_of(pixels), container))
    assert np.array_equal(image.pixels[..., 3], alpha())
    if container in EXACT:
        assert np.array_equal(image.pixels, pixels)
        assert opened(encode(image, container)).mode == "RGBA"


@pytest.mark.parametrize("container", ["png", "tiff"])
def test_deep_alpha_is_unchanged(container: str) -> None:
    pixels = np.dstack([scene(), alpha()]).astype(np.uint16) * 251
    assert np.array_equal(decode(encode(image_of(pixels), container)).pixels, pixels)


@pytest.mark.parametrize("container", ["jpg", "pnm"])
def test_alpha_is_dropped_only_where_it_says_nothing(container: str) -> None:
    opaque = np.dstack([scene(), np.full(scene().shape[:2], 255, np.uint8)])
    assert decode(encode(image_of(opaque), container)).channels == 3
    with pytest.raises(ImageError, match="no alpha channel: use png, tiff or webp") as caught:
        encode(image_of(np.dstack([scene(), alpha()])), container)
    assert caught.value.kind is ErrorKind.UNSUPPORTED


def test_lossless_webp_stays_lossless_and_lossy_stays_lossy() -> None:
    pixels = np.dstack([scene(), alpha()])
    image = decode(with_pillow(pixels, "WEBP", lossless=True, exact=True))
    assert np.array_equal(image.pixels, pixels)
    again = decode(encode(image, "webp"))
    assert again.lossless
    assert np.array_equal(again.pixels[..., 3], alpha())
    visible = alpha() > 0
    assert np.array_equal(again.pixels[visible], pixels[visible])
    assert not decode(encode(image, "webp", quality=90)).lossless
    assert not decode(encode(decode(WHOLE["lossy webp"]), "webp")).lossless


def test_the_quality_decides_between_size_and_fidelity() -> None:
    image = image_of(scene(240, 320))
    for container in ("jpg", "webp"):
        sizes, scores = [], []
        for quality in (30, 80, None, 99):
            data = encode(image, container, quality=quality)
            sizes.append(len(data))
            scores.append(psnr(decode(data).pixels, image.pixels))
        assert sizes == sorted(sizes)
        assert scores == sorted(scores)


def test_jpegs_keep_full_colour_resolution() -> None:
    picture = opened(encode(image_of(scene()), "jpg"))
    assert [layer[1:3] for layer in picture.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]


def test_the_default_jpeg_of_a_real_photograph_stays_close(shared_data: Path) -> None:
    pixels = cv2.imread(str(shared_data / "gopro_pairs" / "sharp" / "GOPR0372_07_00-000047.png"))[..., ::-1].copy()
    assert psnr(decode(encode(image_of(pixels), "jpg")).pixels, pixels) > 45


def test_the_same_image_gives_the_same_bytes() -> None:
    for container in CONTAINERS:
        assert encode(image_of(scene()), container) == encode(image_of(scene().copy()), container)


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("container", ["jpg", "png", "webp", "tiff"])
def test_metadata_goes_from_every_container_to_every_other(source: str, container: str) -> None:
    options: dict[str, Any] = {"exif": exif(6), "icc_profile": profile()}
    if source in ("JPEG", "WEBP"):
        options["xmp"] = XMP
    if source != "WEBP":
        options["dpi"] = (300, 150)
    image = decode(with_pillow(scene(), source, **options))
    data = encode(image, container)
    seen = opened(data)
    tags = seen.getexif()
    assert seen.size in ((83, 61), (61, 83))
    assert tags[EXIF_ORIENTATION] == 6
    assert tags[EXIF_MAKE] == "Maker"
    assert dict(tags.get_ifd(EXIF_DIRECTORY)) == {0x829A: (1, 50), 0x9003: "2020:01:02 03:04:05"}
    assert dict(tags.get_ifd(GPS_DIRECTORY)) == {1: "N", 2: (48.0, 8.0, 30.0)}
    assert seen.info["icc_profile"] == profile()
    again = decode(data)
    assert again.metadata.icc == profile()
    if source in ("JPEG", "WEBP"):
        assert again.metadata.xmp == XMP
    if source != "WEBP" and container != "webp":
        assert again.metadata.dpi == pytest.approx((300, 150), abs=0.02)
    # Once more through the same container changes nothing.
    assert decode(encode(again, container)).metadata == again.metadata


def test_a_long_profile_is_split_over_the_segments_of_a_jpeg() -> None:
    long = bytearray(profile())
    long += np.random.default_rng(0).bytes(200_000)
    long[0:4] = struct.pack(">I", len(long))
    image = Image(scene(), Metadata(icc=bytes(long)), "png", False, True)
    for container in ("jpg", "png", "webp", "tiff"):
        assert decode(encode(image, container)).metadata.icc == bytes(long)


def test_a_profile_of_another_colour_space_is_left_out() -> None:
    gray_profile = bytearray(profile())
    gray_profile[16:20] = b"GRAY"
    for pixels, kept in ((scene(), False), (scene(channels=1), True)):
        image = Image(pixels, Metadata(icc=bytes(gray_profile)), "png", pixels.shape[2] == 1, True)
        assert bool(decode(encode(image, "png")).metadata.icc) is kept


def test_text_and_colour_chunks_of_a_png_stay_in_a_png() -> None:
    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Someone")
    text.add_itxt("Title", "Ein Bild", lang="de")
    text.add(b"gAMA", struct.pack(">I", 45455))
    image = decode(with_pillow(scene(), "PNG", pnginfo=text))
    seen = opened(encode(image, "png"))
    assert seen.info["Author"] == "Someone"
    assert seen.info["Title"] == "Ein Bild"
    assert seen.info["gamma"] == pytest.approx(0.45455)
    assert decode(encode(image, "jpg")).metadata.png_chunks == ()


def test_a_gif_is_read_but_not_written() -> None:
    image = decode(WHOLE["gif"])
    with pytest.raises(ImageError, match="256 colours only: choose --format png") as caught:
        encode(image, "gif")
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    with pytest.raises(ImageError, match="256 colours only"):
        check_encodable(image, "gif")
    check_encodable(image, "png")
    assert np.array_equal(decode(encode(image, "png")).pixels, image.pixels)


def test_sides_that_a_container_cannot_hold() -> None:
    image = image_of(np.zeros((1, 70_000, 3), np.uint8))
    for container in ("jpg", "webp"):
        with pytest.raises(ImageError, match="at most") as caught:
            encode(image, container)
        assert caught.value.kind is ErrorKind.UNSUPPORTED
    assert decode(encode(image, "png")).width == 70_000
