"""Damage that a decoder would pass over is a `truncated` record, and sound files raise no alarm."""

import io
import random
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from pictures import WHOLE, opened, scene, with_pillow, with_tifffile

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.codecs import decode

LARGE = scene(240, 320)


def whole_after(data: bytes, damage: Callable[[random.Random], bytes], times: int) -> int:
    """How many of the damaged files pass for whole images; each other one is told as damage."""
    return sum(kind_of(damage(random.Random(seed))) is None for seed in range(times))


def kind_of(data: bytes) -> ErrorKind | None:
    try:
        decode(data)
    except ImageError as error:
        return error.kind
    return None


def zeroed(data: bytes, size: int) -> Callable[[random.Random], bytes]:
    def damage(chance: random.Random) -> bytes:
        at = chance.randrange(len(data) // 4, len(data) * 3 // 4 - size)
        return data[:at] + bytes(size) + data[at + size :]

    return damage


@pytest.mark.parametrize("progressive", [False, True])
def test_zeros_within_a_jpeg(progressive: bool) -> None:
    data = with_pillow(LARGE, "JPEG", quality=95, progressive=progressive)
    # A scan may by chance go on as if nothing had been: 2 of 40 for a decoder that minds everything.
    assert whole_after(data, zeroed(data, 512), 40) <= 4


def test_a_jpeg_cut_in_half_and_ended_by_hand() -> None:
    for name in ("baseline jpeg", "progressive jpeg", "gray jpeg"):
        data = WHOLE[name]
        with pytest.raises(ImageError) as caught:
            decode(data[: len(data) // 2] + b"\xff\xd9")
        assert caught.value.kind is ErrorKind.TRUNCATED


def test_a_second_view_does_not_end_the_first() -> None:
    data = WHOLE["baseline jpeg"]
    with pytest.raises(ImageError, match="another image begins"):
        decode(data[: len(data) // 2] + data)
    assert decode(data + data).lost == ("a second view or gain map",)


def test_a_small_jpeg_that_says_it_is_huge() -> None:
    data = bytearray(with_pillow(scene(16, 16), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = (4000).to_bytes(2, "big") + (65500).to_bytes(2, "big")
    with pytest.raises(ImageError) as caught:
        decode(bytes(data))
    assert caught.value.kind is ErrorKind.TRUNCATED


@pytest.mark.parametrize("compression", ["lzw", "packbits", "deflate", "lzma"])
@pytest.mark.parametrize("rows", [16, 240])
def test_zeros_within_a_tiff(compression: str, rows: int) -> None:
    data = with_tifffile(LARGE, photometric="rgb", compression=compression, rowsperstrip=rows)
    assert whole_after(data, zeroed(data, 512), 20) == 0


def test_zeros_within_a_tiff_of_jpeg() -> None:
    data = with_tifffile(LARGE, photometric="rgb", compression="jpeg", rowsperstrip=240)
    assert np.abs(decode(data).pixels.astype(int) - LARGE).mean() < 8
    assert whole_after(data, zeroed(data, 512), 20) <= 3


def test_a_strip_that_inflates_beyond_its_end_is_whole_by_its_checksum() -> None:
    plain = with_tifffile(LARGE, photometric="rgb", compression="deflate", rowsperstrip=240)
    with tifffile.TiffFile(io.BytesIO(plain)) as file:
        page: Any = file.pages[0]
        offset, count = page.dataoffsets[0], page.databytecounts[0]
        counts_at = page.tags["StripByteCounts"]
    longer = zlib.compress(LARGE.tobytes() + b"more than the strip needs")
    data = bytearray(plain[:offset] + longer + plain[offset + count :])
    place = counts_at.valueoffset
    data[place : place + 4] = len(longer).to_bytes(4, "little")
    assert offset + count == len(plain), "the strip is the file's end, so that nothing moves"
    assert np.array_equal(decode(bytes(data)).pixels, LARGE)
    data[offset + len(longer) // 2] ^= 1
    with pytest.raises(ImageError):
        decode(bytes(data))


def test_junk_before_the_image_data_is_no_damage() -> None:
    data = WHOLE["baseline jpeg"]
    tables = data.index(b"\xff\xdb")
    image = decode(data[:tables] + b"junk" + data[tables:])
    assert np.array_equal(image.pixels, decode(data).pixels)


def test_run_lengths_that_end_early_or_leave_the_image() -> None:
    data = bmp_of_runs(bytes((4, 1, 0, 0, 4, 2, 0, 1)))
    assert decode(data).pixels[:, :, 0].tolist() == [[2] * 4, [1] * 4]
    for runs in (bytes((4, 1, 0, 1)), bytes((9, 1, 0, 0, 4, 2, 0, 1)), bytes((4, 1, 0, 0, 4, 2))):
        with pytest.raises(ImageError) as caught:
            decode(bmp_of_runs(runs))
        assert caught.value.kind is ErrorKind.TRUNCATED


def bmp_of_runs(runs: bytes, width: int = 4, height: int = 2) -> bytes:
    """A bitmap of run lengths whose palette is gray."""
    palette = b"".join(bytes((level, level, level, 0)) for level in range(256))
    offset = 54 + len(palette)
    header = b"BM" + (offset + len(runs)).to_bytes(4, "little") + bytes(4) + offset.to_bytes(4, "little")
    sizes = (40).to_bytes(4, "little") + width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return header + sizes + b"\1\0\x08\0\1\0\0\0" + len(runs).to_bytes(4, "little") + bytes(16) + palette + runs


def test_rows_of_runs_may_be_padded_to_four() -> None:
    runs = bytes((8, 7, 0, 0, 8, 9, 0, 1))
    assert decode(bmp_of_runs(runs, width=5)).pixels[:, :, 0].tolist() == [[9] * 5, [7] * 5]


def test_pictures_of_these_tests_are_what_pillow_sees() -> None:
    assert np.array_equal(np.asarray(opened(bmp_of_runs(bytes((4, 1, 0, 0, 4, 2, 0, 1))))), [[2] * 4, [1] * 4])
