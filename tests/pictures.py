"""Image files made and read for the tests by other programs than the one under test: Pillow, tifffile, OpenCV."""

import functools
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms

EXIF_ORIENTATION, EXIF_MAKE, EXIF_DIRECTORY, GPS_DIRECTORY = 0x112, 0x10F, 0x8769, 0x8825
XMP = '<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><t>ä</t></x:xmpmeta><?xpacket end="w"?>'.encode()


def rgb(path: Path) -> npt.NDArray[np.uint8]:
    """A file's pixels by OpenCV, shape (H, W, 3)."""
    return np.ascontiguousarray(cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])


def scene(height: int = 61, width: int = 83, channels: int = 3) -> npt.NDArray[np.uint8]:
    """A picture with gradients, edges and noise: nothing in it is symmetric or flat."""
    generator = np.random.default_rng(2108)
    y, x = np.mgrid[0:height, 0:width]
    planes = [
        127 + 90 * np.sin(x / (5 + 3 * plane) + y / 11) + 30 * ((x + 2 * y + 7 * plane) % 23 > 11)
        for plane in range(channels)
    ]
    noisy = np.stack(planes, axis=2) + generator.normal(0, 3, (height, width, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def alpha(height: int = 61, width: int = 83) -> npt.NDArray[np.uint8]:
    """An alpha channel with every kind of value, fully transparent ones among them."""
    y, x = np.mgrid[0:height, 0:width]
    return ((x * 7 + y * 3) % 256).astype(np.uint8)


def with_pillow(pixels: npt.NDArray[np.uint8], format_name: str, mode: str | None = None, **options: Any) -> bytes:
    """The file that Pillow writes."""
    picture = Pillow.fromarray(pixels.squeeze())
    if mode is not None:
        picture = picture.convert(mode)
    out = io.BytesIO()
    picture.save(out, format_name, **options)
    return out.getvalue()


def with_tifffile(pixels: npt.NDArray[Any], **options: Any) -> bytes:
    """The TIFF that tifffile writes."""
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **options)
    return out.getvalue()


def opened(data: bytes) -> Pillow.Image:
    """The file as Pillow sees it, before it decodes: then it turns TIFFs upright and forgets their orientation."""
    return Pillow.open(io.BytesIO(data))


def png_of(header: tuple[int, int, int, int], rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of (width, height, bits, colour type) with these filtered rows and further chunks before them."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    width, height, bits, colour = header
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))]
    parts += [chunk(kind, body) for kind, body in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


@functools.cache
def profile(space: str = "sRGB") -> bytes:
    """A colour profile; the same at every call, though it holds the time at which it was made."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


_PRIMARIES = {
    "Display P3": ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
    "Adobe RGB (1998)": ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
}


def wide_profile(name: str) -> bytes:
    """A profile (ICC.1:2022) of a colour space that is wider than sRGB: its primaries by D50, and a gamma of 2.2."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    def text(words: str) -> bytes:
        body = words.encode("utf-16-be")
        return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(body), 28) + body

    curve = b"para" + struct.pack(">IHH", 0, 0, 0) + fixed(2.2)
    tags = {b"desc": text(name), b"cprt": text("CC0"), b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)}
    for letter, primary in zip("rgb", _PRIMARIES[name], strict=True):
        tags |= {f"{letter}XYZ".encode(): b"XYZ \0\0\0\0" + fixed(*primary), f"{letter}TRC".encode(): curve}
    offset = 132 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for tag, body in tags.items():
        table += struct.pack(">4sII", tag, offset + len(bodies), len(body))
        bodies += body + b"\0" * (-len(body) % 4)
    header = struct.pack(">I4xI4s4s4s", offset + len(bodies), 0x04400000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s28x", 2020, 1, 2, 3, 4, 5, b"acsp") + fixed(0.9642, 1, 0.8249)
    return header.ljust(128, b"\0") + table + bodies


def exif(orientation: int) -> bytes:
    """An EXIF block with an orientation, a maker, an exposure time and a place."""
    block = Pillow.Exif()
    block[EXIF_ORIENTATION] = orientation
    block[EXIF_MAKE] = "Maker"
    block[EXIF_DIRECTORY] = {0x829A: (1, 50), 0x9003: "2020:01:02 03:04:05"}
    block[GPS_DIRECTORY] = {1: "N", 2: (48.0, 8.0, 30.0)}
    return block.tobytes()


WHOLE = {
    "baseline jpeg": with_pillow(scene(), "JPEG", quality=90),
    "progressive jpeg": with_pillow(scene(), "JPEG", quality=90, progressive=True),
    "gray jpeg": with_pillow(scene(channels=1), "JPEG", quality=90),
    "jpeg with thumbnail": with_pillow(scene(), "JPEG", quality=90, exif=exif(1), comment=b"\xff\xd9"),
    "png": with_pillow(scene(), "PNG"),
    "palette png": with_pillow(scene(), "PNG", "P"),
    "lossy webp": with_pillow(scene(), "WEBP", quality=90),
    "lossless webp": with_pillow(scene(), "WEBP", lossless=True),
    "webp with alpha": with_pillow(np.dstack([scene(), alpha()]), "WEBP", quality=90),
    "tiff": with_pillow(scene(), "TIFF"),
    "lzw tiff": with_pillow(scene(), "TIFF", compression="tiff_lzw"),
    "deflate tiff": with_pillow(scene(), "TIFF", compression="tiff_adobe_deflate"),
    "jpeg tiff": with_pillow(scene(), "TIFF", compression="jpeg"),
    "tiled tiff": with_tifffile(scene(), photometric="rgb", tile=(32, 32)),
    "bmp": with_pillow(scene(), "BMP"),
    "palette bmp": with_pillow(scene(), "BMP", "P"),
    "gif": with_pillow(scene(), "GIF"),
    "ppm": with_pillow(scene(), "PPM"),
    "pgm": with_pillow(scene(channels=1), "PPM"),
}
"""Whole files of every container and compression that is read."""
