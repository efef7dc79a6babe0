"""TIFFs of several pages: each page is an image of its own, with its size, depth and metadata."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from inprocess import run
from pictures import alpha, opened, scene, with_tifffile
from PIL import Image as Pillow

import mimo_core
from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.codecs import decode, encode, losses

GRAY16 = scene(40, 30, 1)[..., 0].astype(np.uint16) * 257
FAX = scene(64, 48, 1)[..., 0] > 127


def pages(**options: Any) -> bytes:
    """A TIFF of three pages of other sizes, kinds and compressions, as tifffile writes it."""
    out = io.BytesIO()
    with tifffile.TiffWriter(out, **options) as file:
        file.write(scene(), photometric="rgb", compression="lzw", description="first", metadata=None)
        file.write(GRAY16, compression="deflate", description="second", extratags=[(285, 2, 0, "ii", True)])
        file.write(
            np.dstack([scene(33, 21), alpha(33, 21)]), photometric="rgb", extrasamples=["unassalpha"], tile=(16, 16)
        )
    return out.getvalue()


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"bigtiff": True, "byteorder": ">"}])
def test_every_page_is_kept(options: dict[str, Any]) -> None:
    image = decode(pages(**options))
    assert [(page.width, page.height, page.channels, page.bit_depth) for page in image.pages] == [
        (83, 61, 3, 8),
        (30, 40, 1, 16),
        (21, 33, 4, 8),
    ]
    written = encode(image, "tiff")
    with tifffile.TiffFile(io.BytesIO(written)) as file:
        read: Any = list(file.pages)
        assert np.array_equal(read[0].asarray(), scene())
        assert np.array_equal(read[1].asarray(), GRAY16)
        assert np.array_equal(read[2].asarray(), np.dstack([scene(33, 21), alpha(33, 21)]))
        assert [page.description for page in read] == ["first", "second", ""]
        assert read[1].tags[285].value == "ii"
    with opened(written) as seen:
        assert seen.n_frames == 3
    again = decode(written)
    for one, other in zip(image.pages, again.pages, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert one.metadata.exif == other.metadata.exif
    assert encode(again, "tiff") == written


def test_scanned_faxes_and_photographs_of_one_file() -> None:
    out = io.BytesIO()
    first = Pillow.fromarray(FAX)
    second = Pillow.fromarray(scene())
    first.save(
        out, "TIFF", save_all=True, append_images=[first.transpose(Pillow.Transpose.ROTATE_90)], compression="group4"
    )
    fax = decode(out.getvalue())
    assert np.array_equal(fax.pages[0].pixels[..., 0] > 127, FAX)
    assert np.array_equal(fax.pages[1].pixels[..., 0] > 127, np.rot90(FAX))
    out = io.BytesIO()
    second.save(out, "TIFF", save_all=True, append_images=[second], compression="jpeg")
    both = decode(out.getvalue())
    assert np.array_equal(both.pages[0].pixels, both.pages[1].pixels)


def test_the_first_alone_names_what_is_lost() -> None:
    image = decode(pages(), pages="first")
    assert image.pages == (image,)
    assert losses(image, "png") == ("all pages but the first",)


def test_a_container_of_one_page_takes_no_more() -> None:
    image = decode(pages())
    for container in ("png", "jpg", "webp", "bmp"):
        with pytest.raises(ImageError, match=r"holds one page of the 3: .*--pages first") as caught:
            encode(image, container)
        assert caught.value.kind is ErrorKind.UNSUPPORTED
    assert encode(replace(image, more=()), "png")


def test_a_page_that_is_refused_or_damaged_is_named() -> None:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(scene(), photometric="rgb")
        file.write(scene().astype(np.float32), photometric="rgb")
    with pytest.raises(ImageError, match="page 2 of 2: a TIFF of floating-point") as caught:
        decode(out.getvalue())
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    assert decode(out.getvalue(), pages="first").width == 83
    whole = bytearray(with_tifffile(np.stack([scene()] * 2), photometric="rgb", compression="deflate", metadata=None))
    with tifffile.TiffFile(io.BytesIO(whole)) as file:
        second: Any = file.pages[1]
        (place, *_), (size, *_) = second.dataoffsets, second.databytecounts
    whole[place + size // 2 : place + size // 2 + 64] = bytes(64)
    with pytest.raises(ImageError, match="page 2 of 2: truncated or damaged TIFF"):
        decode(bytes(whole))


def test_the_limit_holds_for_all_pages_together() -> None:
    data = with_tifffile(np.stack([scene()] * 3), photometric="rgb")
    one = 61 * 83
    assert len(decode(data, max_pixels=3 * one).pages) == 3
    with pytest.raises(ImageError, match=rf"page 3 of 3: 83x61 pixels, and {2 * one} before them") as caught:
        decode(data, max_pixels=3 * one - 1)
    assert caught.value.kind is ErrorKind.TOO_LARGE


def test_a_run_restores_every_page_and_says_how_many(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "scan.tif").write_bytes(pages())
    (source / "single.png").write_bytes(encode(replace(decode(pages()), more=()), "png"))
    done = run(source, tmp_path / "out", weights="mimo-unet-lite", engine="torch")
    assert {key: record.pages for key, record in done.records.items()} == {"scan.tif": 3, "single.png": 1}
    written = decode(done.output("scan.tif"))
    single = decode(done.output("single.png"))
    assert np.array_equal(written.pixels, single.pixels)
    alone = mimo_core.restore(GRAY16, weights="mimo-unet-lite", engine="torch", scales="1")
    assert np.abs(written.pages[1].pixels[..., 0].astype(int) - alone).max() <= 257
    assert np.array_equal(written.pages[2].pixels[..., 3], alpha(33, 21))

    first = run(source, tmp_path / "first", engine="identity", pages="first")
    assert first.records["scan.tif"].lost == "all pages but the first"
    assert first.records["scan.tif"].pages == 1
    assert len(decode(first.output("scan.tif")).pages) == 1


def test_a_file_is_restored_with_all_its_pages_from_python(tmp_path: Path) -> None:
    (tmp_path / "scan.tif").write_bytes(pages())
    mimo_core.restore_file(tmp_path / "scan.tif", tmp_path / "out.tif", weights="mimo-unet-lite")
    assert len(decode((tmp_path / "out.tif").read_bytes()).pages) == 3
    assert mimo_core.restore(tmp_path / "scan.tif", weights="mimo-unet-lite").shape == (61, 83, 3)
