"""The structure of files: what it costs to read a hostile one, and the fields that are carried from file to file."""

import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import WHOLE, exif, scene, with_pillow, with_tifffile

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.codecs import decode, encode
from mimo_core.images.containers import Header, Metadata, embed, inspect
from mimo_core.images.containers.base import MAX_METADATA
from mimo_core.images.containers.directory import read_directories

PLAIN = {"jpg": "baseline jpeg", "png": "png", "webp": "lossless webp", "tiff": "tiff"}


def endless_directories() -> bytes:
    """A TIFF whose directories overlap: each begins two bytes after the one before."""
    return b"II*\0" + struct.pack("<I", 8) + b"".join(struct.pack("<HI", 0, 8 + 6 * (n + 1)) for n in range(100_000))


def fields_that_share_their_bytes() -> bytes:
    """A TIFF of 4000 fields that are each nearly the whole file."""
    size = 8_000_000
    fields = b"".join(struct.pack("<HHII", tag, 7, size, 60_000) for tag in range(1000, 5000))
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 4000) + fields + bytes(4)
    return head.ljust(60_000, b"\0") + bytes(size)


def a_directory_of_itself() -> bytes:
    data = bytearray(with_tifffile(scene(), photometric="rgb"))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    return bytes(data)


def many_chunks() -> bytes:
    empty = struct.pack(">I", 0) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
    return WHOLE["png"][:33] + empty * 300_000 + WHOLE["png"][33:]


def many_scans() -> bytes:
    data = WHOLE["progressive jpeg"]
    scan = data.index(b"\xff\xda")
    return data[:scan] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x55" * 100_000 + data[scan:]


@pytest.mark.parametrize(
    "make",
    [endless_directories, fields_that_share_their_bytes, many_chunks, many_scans],
    ids=lambda make: make.__name__,
)
def test_hostile_structures_cost_little_time_and_memory(make) -> None:  # type: ignore[no-untyped-def]
    data = make()
    started = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(ImageError) as caught:
            inspect(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.kind in (ErrorKind.TRUNCATED, ErrorKind.UNSUPPORTED)
    assert peak < 100 << 20
    assert time.perf_counter() - started < 20


def test_a_directory_that_follows_itself_is_read_once() -> None:
    assert np.array_equal(decode(a_directory_of_itself()).pixels, scene())


def test_headers_of_every_container() -> None:
    for name, data in WHOLE.items():
        header = inspect(data)
        assert (header.width, header.height) == (83, 61), name
        assert header.gray is ("gray" in name or name == "pgm"), name


def test_broken_metadata_is_no_reason_to_lose_the_image() -> None:
    header = inspect(with_pillow(scene(), "JPEG", exif=b"Exif\0\0garbage", quality=90))
    assert header.metadata.exif == b"garbage"
    image = decode(with_pillow(scene(), "JPEG", exif=b"Exif\0\0garbage", quality=90))
    for container in ("jpg", "png", "webp", "tiff"):
        assert np.array_equal(decode(encode(image, container)).pixels.shape, image.pixels.shape)


def test_metadata_that_no_segment_holds_is_left_out_of_a_jpeg_alone() -> None:
    large = Metadata(xmp=b"x" * 100_000)
    assert inspect(embed("jpg", WHOLE["baseline jpeg"], large)).metadata.xmp == b""
    for container, name in (("png", "png"), ("webp", "lossy webp"), ("tiff", "tiff")):
        assert inspect(embed(container, WHOLE[name], large)).metadata.xmp == large.xmp
    assert len(large.xmp) < MAX_METADATA


def test_nothing_to_embed_leaves_the_file_as_it_is() -> None:
    for container, name in PLAIN.items():
        assert embed(container, WHOLE[name], Metadata()) is WHOLE[name]
    assert embed("bmp", WHOLE["bmp"], Metadata()) is WHOLE["bmp"]
    assert embed("bmp", WHOLE["bmp"], Metadata(icc=b"x")) is WHOLE["bmp"]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.binary(max_size=200), st.sampled_from(["jpg", "png", "webp", "tiff"]))
def test_any_bytes_are_carried_as_metadata(icc: bytes, xmp: bytes, container: str) -> None:
    name = PLAIN[container]
    data = embed(container, WHOLE[name], Metadata(icc=icc, xmp=xmp))
    header = inspect(data)
    assert header.metadata.icc == icc
    assert header.metadata.xmp == xmp
    assert np.array_equal(decode(data).pixels, decode(WHOLE[name]).pixels)


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=400), big_endian=st.booleans(), big=st.booleans())
def test_directories_of_noise_are_image_errors(data: bytes, big_endian: bool, big: bool) -> None:
    head = (b"MM\0+" if big else b"MM\0*") if big_endian else (b"II+\0" if big else b"II*\0")
    try:
        directories = read_directories(head + data)
    except ImageError:
        return
    assert directories


def test_both_byte_orders_of_exif_read_alike() -> None:
    little = read_directories(exif(6).removeprefix(b"Exif\0\0"))[0]
    image = decode(with_pillow(scene(), "TIFF", exif=exif(6)))
    again = read_directories(image.metadata.exif)[0]
    assert little.integer(274, 0) == again.integer(274, 0) == 6
    for pointer in (0x8769, 0x8825):
        assert little.nested[pointer].values == again.nested[pointer].values


def test_a_header_needs_no_pixels() -> None:
    header = Header("png", 1, 1, gray=False, lossless=True, read=lambda: np.zeros((1, 1, 3), np.uint8))
    assert header.metadata == Metadata()
    for name in ("png", "bmp", "gif"):
        data = bytearray(WHOLE[name])
        place, layout = {"png": (16, ">I"), "bmp": (18, "<i"), "gif": (6, "<H")}[name]
        struct.pack_into(layout, data, place, 0)
        with pytest.raises(ImageError) as caught:
            decode(bytes(data))
        assert caught.value.kind in (ErrorKind.NOT_AN_IMAGE, ErrorKind.TRUNCATED)
