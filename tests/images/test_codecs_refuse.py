"""Files that are cut short, damaged, hostile or of another kind become an ImageError that says so."""

import io
import struct
import time
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import (
    WHOLE,
    alpha,
    scene,
    with_tifffile,
)
from PIL import Image as Pillow

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.codecs import DEFAULT_MAX_PIXELS, decode, encode


def failure(data: bytes, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    return caught.value


@pytest.mark.parametrize("name", WHOLE)
def test_every_truncation_is_detected(name: str) -> None:
    data = WHOLE[name]
    decode(data)
    lengths = {1, 2, 3, 8, 12, 20, 33, *range(0, len(data), max(1, len(data) // 60)), *range(len(data) - 12, len(data))}
    # Behind the marker, chunk or directory that ends an image, files may carry anything.
    for length in sorted(lengths - {0}):
        error = failure(data[:length])
        assert error.kind in (ErrorKind.TRUNCATED, ErrorKind.NOT_AN_IMAGE), f"{length} of {len(data)} bytes: {error}"
        assert error.kind is ErrorKind.TRUNCATED or length < 16


@pytest.mark.parametrize("name", ["baseline jpeg", "progressive jpeg", "png", "gif", "deflate tiff"])
def test_a_download_that_left_zeros_is_detected(name: str) -> None:
    data = WHOLE[name]
    half = len(data) // 2
    assert failure(data[:half] + bytes(len(data) - half)).kind in (ErrorKind.TRUNCATED, ErrorKind.NOT_AN_IMAGE)


@pytest.mark.parametrize("name", WHOLE)
def test_bytes_behind_the_image_do_no_harm(name: str) -> None:
    assert np.array_equal(decode(WHOLE[name] + b"trailing bytes").pixels, decode(WHOLE[name]).pixels)


def test_what_is_no_image_says_what_it_begins_with() -> None:
    assert failure(b"").kind is ErrorKind.EMPTY
    error = failure(b"Hello, I am a text file named x.png\n" * 10)
    assert error.kind is ErrorKind.NOT_AN_IMAGE
    assert "48 65 6c 6c 6f" in str(error)
    assert failure(bytes(1000)).kind is ErrorKind.NOT_AN_IMAGE


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (with_tifffile(scene().astype(np.float32) / 255, photometric="rgb"), "floating-point 32-bit"),
        (with_tifffile(scene(channels=1)[..., 0].astype(np.int16)), "signed 16-bit"),
        (with_tifffile(scene(channels=1)[..., 0].astype(np.uint32)), "32-bit samples"),
        (
            with_tifffile(
                np.dstack([scene(), alpha(), alpha()]), photometric="rgb", extrasamples=["unassalpha", "unspecified"]
            ),
            "a colour TIFF with 5 channels",
        ),
        (b"8BPS\0\1" + bytes(100), "Photoshop"),
        (b"\x76\x2f\x31\x01" + bytes(100), "OpenEXR"),
        (b"P5 2 2 70000\n" + bytes(16), "maximum 70000"),
    ],
)
def test_what_is_not_supported_is_named(data: bytes, told: str) -> None:
    error = failure(data)
    assert error.kind is ErrorKind.UNSUPPORTED
    assert told in str(error)
    assert "not supported: " in str(error)


@pytest.mark.parametrize("format_name", ["GIF", "PNG", "WEBP"])
def test_animations_are_refused_and_not_cut_to_a_frame(format_name: str) -> None:
    frames = [Pillow.fromarray(np.roll(scene(), 7 * shift, axis=1)) for shift in range(3)]
    out = io.BytesIO()
    frames[0].save(out, format_name, save_all=True, append_images=frames[1:], duration=50)
    error = failure(out.getvalue())
    assert error.kind is ErrorKind.UNSUPPORTED
    assert "animated" in str(error)


def test_a_tiff_with_a_preview_is_its_full_image() -> None:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        writer.write(scene(), photometric="rgb")
        writer.write(scene()[::4, ::4], photometric="rgb", subfiletype=1)
    assert np.array_equal(decode(out.getvalue()).pixels, scene())


def test_opaque_premultiplied_alpha_is_no_reason_to_refuse() -> None:
    opaque = np.dstack([scene(), np.full(scene().shape[:2], 255, np.uint8)])
    image = decode(with_tifffile(opaque, photometric="rgb", extrasamples=["assocalpha"]))
    assert np.array_equal(image.pixels, opaque)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bombs() -> dict[str, bytes]:
    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    flat = zlib.compress(bytes(1_000_000), 9)
    jpeg = bytearray(WHOLE["baseline jpeg"])
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65535, 65535)
    gif = bytearray(WHOLE["gif"])
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    return {
        "png": b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", flat) + png_chunk(b"IEND", b""),
        "jpeg": bytes(jpeg),
        "gif": bytes(gif),
    }


@pytest.mark.parametrize("name", ["png", "jpeg", "gif"])
def test_bombs_are_refused_by_their_header(name: str) -> None:
    data = bombs()[name]
    tracemalloc.start()
    started = time.perf_counter()
    try:
        error = failure(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.kind is ErrorKind.TOO_LARGE
    assert str(DEFAULT_MAX_PIXELS) in str(error)
    assert peak < 4 << 20
    assert time.perf_counter() - started < 1


def test_the_limit_of_pixels_is_inclusive() -> None:
    pixels = scene().shape[0] * scene().shape[1]
    assert decode(WHOLE["png"], max_pixels=pixels).height == 61
    assert failure(WHOLE["png"], max_pixels=pixels - 1).kind is ErrorKind.TOO_LARGE


def test_a_profile_that_inflates_without_end_is_left_out() -> None:
    body = b"x\0\0" + zlib.compress(bytes(100 << 20), 9)
    png = WHOLE["png"]
    image = decode(png[:33] + png_chunk(b"iCCP", body) + png[33:])
    assert image.metadata.icc == b""
    assert np.array_equal(image.pixels, scene())


places = st.floats(0, 1, exclude_max=True)


def is_image_or_image_error(data: bytes) -> bool:
    try:
        image = decode(data, max_pixels=1 << 20)
    except ImageError as error:
        return isinstance(error.kind, ErrorKind) and str(error) != ""
    return decode(encode(image, "png")).pixels.shape == image.pixels.shape


@settings(deadline=None, max_examples=400)
@given(
    name=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.floats(0.3, 1.0),
)
def test_damaged_files_decode_or_say_why_and_nothing_else(
    name: str, changes: list[tuple[float, int]], cut: float
) -> None:
    data = bytearray(WHOLE[name])
    for place, value in changes:
        data[int(place * len(data))] = value
    if cut < 0.9:
        del data[int(cut * len(data)) :]
    assert is_image_or_image_error(bytes(data))


@settings(deadline=None, max_examples=200)
@given(name=st.sampled_from(sorted(WHOLE)), keep=st.integers(0, 64), noise=st.binary(max_size=300))
def test_noise_behind_a_good_beginning_is_an_image_error_or_an_image(name: str, keep: int, noise: bytes) -> None:
    assert is_image_or_image_error(WHOLE[name][:keep] + noise)


@pytest.mark.parametrize("name", ["png", "deflate tiff"])
@settings(deadline=None, max_examples=100)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_where_there_are_checksums(name: str, place: float, bit: int) -> None:
    data = bytearray(WHOLE[name])
    data[int(place * len(data))] ^= 1 << bit
    try:
        image = decode(bytes(data))
    except ImageError:
        return
    # A TIFF's descriptions are not covered; its pixels are.
    assert image.pixels.shape != scene().shape or np.array_equal(image.pixels, scene())


def test_broken_files_make_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    for data in WHOLE.values():
        for length in range(1, len(data), max(1, len(data) // 10)):
            failure(data[:length])
    encode(decode(WHOLE["png"]), "bmp")
    assert capfd.readouterr() == ("", "")
