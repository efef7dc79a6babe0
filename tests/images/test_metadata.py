"""What travels beside the pixels, and the names of what does not."""

import struct

import numpy as np
import pytest
from pictures import XMP, exif, opened, png_of, profile, scene, with_pillow, with_tifffile
from PIL import Image as Pillow

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.codecs import Image, decode, encode, losses

IPTC = b"8BIM\x04\x04\0\0" + struct.pack(">I", 14) + b"\x1c\x02\x78\0\x09a caption"[:14]


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    data = with_pillow(scene(), "JPEG")
    inserted = b"".join(struct.pack(">BBH", 255, marker, len(body) + 2) + body for marker, body in segments)
    return data[:2] + inserted + data[2:]


def test_captions_comments_and_other_segments_stay_in_a_jpeg() -> None:
    segments = (
        (0xED, b"Photoshop 3.0\0" + IPTC),
        (0xFE, b"a comment"),
        (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"x" * 100),
    )
    image = decode(jpeg_with(*segments))
    written = encode(image, "jpg")
    for _, body in segments:
        assert body in written
    assert losses(image, "jpg") == ()
    assert losses(image, "png") == ("IPTC", "comment", "application segments")
    tiff = encode(image, "tiff")
    assert opened(tiff).tag_v2[34377] == IPTC  # type: ignore[attr-defined]
    assert decode(tiff).metadata.photoshop == IPTC


def test_what_follows_the_image_is_named() -> None:
    data = with_pillow(scene(), "JPEG")
    assert decode(data).lost == ()
    assert decode(data + bytes(100)).lost == ()
    assert decode(data + b"\0\0\0\x18ftypmp42" + bytes(range(200))).lost == ("a motion photo",)
    assert decode(data + bytes(range(1, 200))).lost == ("199 bytes behind the image",)


def test_a_large_exif_loses_its_largest_fields_and_keeps_the_orientation() -> None:
    block = Pillow.Exif()
    block[0x112] = 6
    block[0x10F] = "Maker"
    block[0x8769] = {0x927C: b"n" * 50_000, 0x9286: b"c" * 40_000, 0x829A: (1, 50)}
    image = decode(with_tifffile(scene(), photometric="rgb"))
    large = Image(
        image.pixels, type(image.metadata)(exif=block.tobytes()[6:]), image.container, image.gray, image.lossless
    )
    read = opened(encode(large, "jpg")).getexif()
    assert read[0x112] == 6
    assert read[0x10F] == "Maker"
    assert read.get_ifd(0x8769)[0x829A] == (1, 50)
    assert losses(large, "jpg") == ("large EXIF fields",)
    assert losses(large, "png") == ()


def test_places_and_documents_stay_in_a_tiff() -> None:
    tags = [
        (33550, "d", 3, (1.0, 1.0, 0.0), True),
        (34735, "H", 4, (1, 1, 0, 0), True),
        (269, "s", 0, "a document", True),
        (42112, "s", 0, "<GDALMetadata/>", True),
        (33723, "B", 5, b"\x1c\x02\x78\0\0", True),
    ]
    image = decode(with_tifffile(scene(), photometric="rgb", extratags=tags, software=""))
    assert losses(image, "tiff") == ()
    read = opened(encode(image, "tiff")).tag_v2  # type: ignore[attr-defined]
    assert read[33550] == (1.0, 1.0, 0.0)
    assert read[34735] == (1, 1, 0, 0)
    assert read[269] == "a document"
    assert read[42112] == "<GDALMetadata/>"
    assert read[33723] == b"\x1c\x02\x78\0\0"
    assert set(losses(image, "png")) >= {"GeoTIFF", "document name", "IPTC"}


def test_chunks_of_a_png() -> None:
    rows = b"".join(b"\0" + bytes(range(12)) for _ in range(4))
    chunks = (
        (b"pHYs", struct.pack(">IIB", 4, 3, 0)),
        (b"bKGD", b"\0\1\0\2\0\3"),
        (b"tEXt", b"Title\0x"),
        (b"sBIT", b"\5\6\5"),
        (b"prVt", b"private"),
        (b"prVT", b"of this very image"),
    )
    image = decode(png_of((4, 4, 8, 2), rows, *chunks))
    written = encode(image, "png")
    assert [kind for kind, _ in chunks if kind in written] == [b"pHYs", b"bKGD", b"tEXt", b"prVt"]
    assert losses(image, "png") == ("the chunk sBIT", "the chunk prVT")
    assert "text" in losses(image, "jpg")


def test_a_bitmap_keeps_its_resolution() -> None:
    image = decode(with_pillow(scene(), "BMP", dpi=(150, 100)))
    assert opened(encode(image, "bmp")).info["dpi"] == pytest.approx((150, 100), rel=1e-3)
    assert opened(encode(image, "png")).info["dpi"] == pytest.approx((150, 100), rel=1e-3)


def test_profiles_and_packets_that_a_container_cannot_hold_are_named() -> None:
    data = with_pillow(scene(), "PNG", icc_profile=profile(), exif=exif(1), dpi=(72, 72))
    image = decode(data)
    assert losses(image, "png") == ()
    assert set(losses(image, "bmp")) == {"colour profile", "EXIF"}
    assert set(losses(image, "pnm")) == {"colour profile", "EXIF", "resolution"}
    packed = decode(with_pillow(scene(), "WEBP", xmp=XMP, lossless=True))
    assert losses(packed, "pnm") == ("XMP",)


def test_what_is_in_a_file_without_need_raises_nothing() -> None:
    with pytest.raises(ImageError) as caught:
        decode(with_tifffile(scene().astype(np.float32), photometric="rgb"))
    assert caught.value.kind is ErrorKind.UNSUPPORTED
