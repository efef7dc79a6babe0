"""What archives hold beside ordinary files: each is read as another program reads it, and says what is lost."""

import io
import struct
import sys
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pictures import XMP, alpha, exif, opened, png_of, profile, scene, with_pillow, with_tifffile
from PIL import Image as Pillow
from PIL import ImageCms

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.codecs import Image, check_kept, decode, encode, losses
from mimo_core.images.containers import Metadata

GRAY = scene(channels=1)[..., 0]


def bmp(header: int, bits: int, body: bytes, *, masks: tuple[int, ...] = (), palette: bytes = b"", size: Any) -> bytes:
    """A bitmap as its specification has it: (width, height) in `size`, rows bottom-up in `body`."""
    width, height = size
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 3 if masks else 0, 0, 0, 0, 0, 0)
        info += b"".join(struct.pack("<I", mask) for mask in masks)
    offset = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + info + palette + body


def test_os2_bitmaps_have_their_colours() -> None:
    palette = b"".join(bytes((index, 255 - index, 3)) for index in range(256))
    image = decode(bmp(12, 8, bytes((10, 20, 0, 0, 30, 40, 0, 0)), palette=palette, size=(2, 2)))
    assert image.pixels.tolist() == [[[3, 225, 30], [3, 215, 40]], [[3, 245, 10], [3, 235, 20]]]
    two = decode(bmp(12, 1, bytes((0b10000000, 0, 0, 0)), palette=bytes((0, 0, 255, 255, 0, 0)), size=(2, 1)))
    assert two.pixels.tolist() == [[[0, 0, 255], [255, 0, 0]]]


def test_bitmaps_of_sixteen_bits_and_of_masks() -> None:
    words = struct.pack("<HH", 0x7FFF, 0b0_11111_00000_10000)
    assert decode(bmp(40, 16, words, size=(2, 1))).pixels.tolist() == [[[255, 255, 255], [255, 0, 132]]]
    words = struct.pack("<HH", 0xF800, 0x07E0)
    masks = (0xF800, 0x7E0, 0x1F)
    assert decode(bmp(40, 16, words, masks=masks, size=(2, 1))).pixels.tolist() == [[[255, 0, 0], [0, 255, 0]]]
    words = struct.pack("<I", 0x11223344)
    masks = (0xFF000000, 0xFF0000, 0xFF00)
    assert decode(bmp(40, 32, words, masks=masks, size=(1, 1))).pixels.tolist() == [[[0x11, 0x22, 0x33]]]


@pytest.mark.parametrize("most", [1, 3, 100, 255, 1023, 4095, 65535])
def test_pnm_of_any_maximum(most: int) -> None:
    samples = np.arange(6).reshape(2, 3) * most // 5
    body = samples.astype(np.uint8 if most < 256 else ">u2").tobytes()
    whole = 255 if most < 256 else 65535
    for data in (
        b"P5 3 2 %d\n" % most + body,
        b"P2 3 2 %d\n" % most + b" ".join(b"%d" % sample for sample in samples.ravel()),
    ):
        pixels = decode(data).pixels[:, :, 0]
        assert pixels.dtype == (np.uint8 if most < 256 else np.uint16)
        assert np.abs(pixels - samples * (whole / most)).max() <= 0.5


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_gray_png_keeps_its_transparent_level(bits: int) -> None:
    most = (1 << bits) - 1
    levels = np.arange(4) * most // 3 if bits > 1 else np.array([0, 1, 0, 1])
    packed = "".join(f"{level:0{bits}b}" for level in levels)
    row = int(packed.ljust(-(-len(packed) // 8) * 8, "0"), 2).to_bytes(-(-len(packed) // 8), "big")
    data = png_of((4, 1, bits, 0), b"\0" + row, (b"tRNS", struct.pack(">H", int(levels[1]))))
    image = decode(data)
    assert image.gray
    assert (image.pixels[0, :, 3] == 0).tolist() == (levels == levels[1]).tolist()
    again = decode(encode(image, "png"))
    assert np.array_equal(again.pixels, image.pixels)


def test_a_png_of_very_many_small_chunks_is_whole() -> None:
    data = with_pillow(scene(), "PNG", compress_level=0)
    start = data.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", data, start)
    body = data[start + 8 : start + 8 + length]
    import zlib

    pieces = [bytes((byte,)) for byte in body] + [b""] * 70_000
    small = b"".join(
        struct.pack(">I", len(piece)) + b"IDAT" + piece + struct.pack(">I", zlib.crc32(b"IDAT" + piece))
        for piece in pieces
    )
    assert np.array_equal(decode(data[:start] + small + data[start + 12 + length :]).pixels, scene())


def test_a_gray_png_with_alpha_keeps_its_gray_profile() -> None:
    pair = np.dstack([GRAY, alpha()])
    image = decode(with_pillow(pair, "PNG", "LA", icc_profile=gray_profile()))
    written = encode(image, "png")
    assert losses(image, "png") == ()
    assert opened(written).mode == "LA"
    assert opened(written).info["icc_profile"] == gray_profile()
    assert np.array_equal(np.asarray(opened(written)), pair)
    tiff = encode(image, "tiff")
    assert np.array_equal(decode(tiff).pixels, image.pixels)
    assert opened(tiff).mode == "LA"


def gray_profile() -> bytes:
    data = bytearray(profile())
    data[16:20] = b"GRAY"
    return bytes(data)


def test_a_fourth_band_is_no_transparency() -> None:
    four = np.dstack([scene(), alpha()])
    data = with_tifffile(four, photometric="rgb", extrasamples=["unspecified"])
    image = decode(data)
    assert not image.alpha
    again = decode(encode(image, "tiff"))
    assert np.array_equal(again.pixels, four)
    assert not again.alpha
    assert decode(encode(image, "png")).channels == 3
    assert losses(image, "png") == ("the fourth band",)
    assert losses(image, "tiff") == ()


def test_associated_alpha_becomes_straight() -> None:
    four = np.dstack([np.full((2, 2, 3), 50, np.uint8), np.full((2, 2), 100, np.uint8)])
    image = decode(with_tifffile(four, photometric="rgb", extrasamples=["assocalpha"]))
    assert image.pixels[0, 0].tolist() == [128, 128, 128, 100]
    assert decode(encode(image, "tiff")).pixels[0, 0].tolist() == [128, 128, 128, 100]


@pytest.mark.parametrize(
    ("options", "pixels"),
    [
        ({"compression": "zstd"}, scene()),
        ({"compression": "lzma"}, scene()),
        ({"tile": (16, 16)}, scene()),
        ({"planarconfig": "separate"}, np.moveaxis(scene().astype(np.uint16) * 257, 2, 0)),
        ({"planarconfig": "separate", "tile": (16, 16)}, np.moveaxis(scene(), 2, 0)),
        ({"compression": "deflate", "predictor": True, "byteorder": ">"}, scene().astype(np.uint16) * 250),
        ({"bigtiff": True}, scene()),
    ],
)
def test_tiffs_of_many_kinds(options: dict[str, Any], pixels: Any) -> None:
    image = decode(with_tifffile(pixels, photometric="rgb", **options))
    expected = np.moveaxis(pixels, 0, 2) if options.get("planarconfig") == "separate" else pixels
    assert np.array_equal(image.pixels, expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 12])
def test_depths_that_arrays_do_not_have_take_the_whole_range(bits: int) -> None:
    most = (1 << bits) - 1
    levels = (np.arange(16 * 16).reshape(16, 16) % (most + 1)).astype(np.uint8 if bits < 9 else np.uint16)
    try:
        data = with_tifffile(levels if bits > 1 else levels.astype(bool), photometric="minisblack", **bits_of(bits))
    except NotImplementedError:
        pytest.skip("this version of imagecodecs (Python 3.10) writes no such depth")
    pixels = decode(data).pixels[:, :, 0]
    whole = 255 if bits < 9 else 65535
    assert np.abs(pixels - levels * (whole / most)).max() <= 0.5


def bits_of(bits: int) -> dict[str, Any]:
    return {} if bits == 1 else {"bitspersample": bits}


def test_inks_become_what_a_viewer_shows() -> None:
    inks = np.dstack([scene(), GRAY // 2])
    for data in (with_pillow(inks, "TIFF", "CMYK"), cmyk_jpeg(inks)):
        image = decode(data)
        seen = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert np.abs(image.pixels - seen).mean() < 2
        assert "CMYK colours" in image.lost
        assert image.metadata.icc == b""
        assert decode(encode(image, image.container)).channels == 3


def cmyk_jpeg(inks: Any) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(inks, "CMYK").save(out, "JPEG", quality=95)
    return out.getvalue()


def test_lab_becomes_rgb() -> None:
    lab = Pillow.fromarray(scene()).convert("RGB")
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    out = io.BytesIO()
    ImageCms.applyTransform(lab, to_lab).save(out, "TIFF")
    image = decode(out.getvalue())
    assert np.abs(image.pixels.astype(int) - scene()).mean() < 2
    assert "Lab colours" in image.lost


def test_a_jpeg_of_twelve_bits_is_read_and_not_cut_to_eight() -> None:
    deep = scene().astype(np.uint16) * 16
    image = decode(bytes(imagecodecs.jpeg8_encode(deep, level=100, bitspersample=12, subsampling="444")))
    assert image.bit_depth == 16
    assert np.abs(image.pixels / 16.0 - deep).mean() < 40
    with pytest.raises(ImageError, match=r"a deep \(10- to 16-bit\) JPEG is not written as one"):
        check_kept(image)
    assert "16-bit depth" in losses(image, "jpg")
    assert losses(image, "png") == ()


# -- formats that come with the extra ---------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["jp2", "jxl", "avif", "heif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_modern_formats_are_read_and_written_with_what_they_carry(container: str, channels: int) -> None:
    pixels = scene(64, 80, channels)
    # HEIF is turned upright as it is written.
    metadata = Metadata(exif(1 if container == "heif" else 6)[6:], profile() if channels > 1 else b"", XMP)
    image = Image(pixels, metadata, container, channels == 1, False)
    data = encode(image, container)
    again = decode(data)
    assert again.container == container
    assert again.pixels.shape[:2] == pixels.shape[:2]
    assert psnr(again.pixels[:, :, :1], pixels[:, :, :1]) > 32
    assert again.metadata.xmp.strip(b"\0") == XMP
    assert again.metadata.icc[36:40] == (b"acsp" if channels > 1 or container == "jxl" else b"")
    assert b"Maker" in again.metadata.exif
    assert losses(image, container) == ()
    for length in (len(data) // 4, len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(ImageError) as caught:
            decode(data[:length])
        assert caught.value.kind is ErrorKind.TRUNCATED


def psnr(one: Any, other: Any) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((one.astype(float) - other) ** 2))))


def test_jpeg_2000_is_lossless_and_deep() -> None:
    for pixels in (scene(), scene().astype(np.uint16) * 251, scene(channels=1).astype(np.uint16) * 251):
        image = decode(encode(Image(pixels, Metadata(), "jp2", pixels.shape[2] == 1, True), "jp2"))
        assert np.array_equal(image.pixels, pixels)
    deep = (scene(channels=1)[:, :, 0].astype(np.uint16) * 4)[:, :]
    data = bytes(imagecodecs.jpeg2k_encode(deep, level=0, codecformat="j2k", bitspersample=10, reversible=True))
    assert np.abs(decode(data).pixels[:, :, 0] - deep * (65535 / 1023)).max() <= 0.5


def test_unknown_boxes_of_a_jpeg_2000_are_named_in_letters() -> None:
    data = encode(Image(scene(), Metadata(), "jp2", False, True), "jp2")
    at = data.index(b"jp2c") - 4
    boxes = b"".join(struct.pack(">I4s", 12, kind) + b"body" for kind in (b"xml ", b"\x1b[2J"))
    assert decode(data[:at] + boxes + data[at:]).lost == ("the box xml", "the box 1b5b324a")


def test_deep_modern_files_are_read_whole_and_not_written_as_they_were() -> None:
    deep = (scene(64, 80).astype(np.uint16) * 4).astype(np.uint16)
    data = bytes(imagecodecs.avif_encode(deep, level=95, bitspersample=10))
    image = decode(data)
    assert image.bit_depth == 16
    assert np.abs(image.pixels / 64.06 - deep).mean() < 12
    with pytest.raises(ImageError, match="AVIF is not written as one: choose --format png or tiff"):
        check_kept(image)


def test_a_format_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(Image(scene(64, 80), Metadata(), "heif", False, False), "heif")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "rawpy", None)
    raw = b"FUJIFILMCCD-RAW 0201" + bytes(200)
    for file, name, package in ((data, "HEIF", "pillow-heif"), (raw, "camera raw", "rawpy")):
        with pytest.raises(ImageError, match=f"{name} without its library .*pip install {package}"):
            decode(file)


def dng(mosaic: Any) -> bytes:
    """A camera's file, as small as the specification of DNG lets it be."""
    tags = [
        (50706, "B", 4, (1, 4, 0, 0), True),
        (50708, "s", 0, "A camera", True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, (0, 1, 1, 2), True),
        (50721, "2i", 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True),
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
        (271, "s", 0, "Maker", True),
        (274, "H", 1, 6, True),
    ]
    return with_tifffile(mosaic, photometric="cfa", extratags=tags, software="", metadata=None)


def test_camera_raw_is_developed_and_a_cut_one_is_told() -> None:
    pytest.importorskip("rawpy")
    mosaic = np.kron(scene(64, 80, 1)[:, :, 0], np.ones((2, 2), np.uint8)).astype(np.uint16) * 200 + 400
    image = decode(dng(mosaic))
    assert image.container == "raw"
    assert image.bit_depth == 16
    assert (image.height, image.width) == mosaic.shape
    assert image.lost == ("raw data",)
    assert opened(encode(image, "png")).getexif()[0x112] == 6
    mosaic[-20:] = 0
    with pytest.raises(ImageError) as caught:
        decode(dng(mosaic))
    assert caught.value.kind is ErrorKind.TRUNCATED
