"""What every container module shares: the header of a file, its metadata, and the refusals."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mimo_core.errors import ErrorKind, ImageError

MAX_METADATA = 1 << 24
"""Most bytes of one inflated profile or packet: a larger one is dropped, as it may be made to exhaust memory."""


@dataclass(frozen=True)
class Value:
    """One field of a TIFF directory: its type, the number of values, and their bytes in little-endian order."""

    kind: int
    count: int
    raw: bytes


@dataclass(frozen=True)
class Metadata:
    """What travels beside the pixels; empty values are absent.

    Attributes:
        exif: a TIFF structure as EXIF defines it, without the `Exif\\0\\0` of JPEG; holds the orientation.
        icc: the colour profile.
        xmp: the XMP packet (UTF-8 XML).
        dpi: dots per inch, (horizontal, vertical).
        png_chunks: text, time and colour chunks that only PNG has a place for: (type, body).
        jpeg_segments: comments and application segments that only JPEG has a place for: (marker, body).
        photoshop: image resources as Photoshop writes them (`8BIM`), which hold IPTC captions and credits; JPEG, TIFF.
        tiff_fields: fields of a TIFF page that say nothing of its storage (GeoTIFF, IPTC ...) and only TIFF holds.
    """

    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    jpeg_segments: tuple[tuple[int, bytes], ...] = ()
    photoshop: bytes = b""
    tiff_fields: tuple[tuple[int, Value], ...] = ()


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        container: `jpg`, `png`, `webp`, `tiff`, `bmp`, `gif` or `pnm`.
        width, height: pixels as stored, before any orientation.
        gray: one luminance, whatever the number of channels that a decoder makes of it.
        lossless: whether the stored pixels were not degraded by the container.
        metadata: what is kept beside the pixels.
        lost: what else the file holds that is not kept, in words: `a second view`.
        read: decodes the pixels: HWC, uint8 or uint16, gray, RGB or RGB with straight alpha, of the size stated here.
            Raises ImageError (truncated, unsupported, out_of_memory).
        alpha: a fourth channel is transparency; else a band that the file does not explain.
        more: further pages of the file, each to be inspected by its call; raises as `inspect` does.
    """

    container: str
    width: int
    height: int
    gray: bool
    lossless: bool
    read: Callable[[], Any]
    metadata: Metadata = field(default_factory=Metadata)
    lost: tuple[str, ...] = ()
    alpha: bool = True
    more: tuple[Callable[[], "Header"], ...] = ()


def truncated(container: str, detail: str) -> ImageError:
    """Return the error for a file that is recognised but not whole."""
    return ImageError(ErrorKind.TRUNCATED, f"truncated or damaged {container}: {detail}")


def unsupported(what: str, remedy: str = "convert it to 8- or 16-bit RGB or gray first") -> ImageError:
    """Return the error for a file that is refused on purpose, by name."""
    return ImageError(ErrorKind.UNSUPPORTED, f"{what} is not supported: {remedy}")


def unpack(layout: str, data: bytes, offset: int, container: str) -> tuple[int, ...]:
    """Unpack integers with `struct.unpack_from`; running out of bytes means that the file was cut short."""
    if offset < 0 or offset + struct.calcsize(layout) > len(data):
        raise truncated(container, f"ends at byte {len(data)} inside its structure")
    return struct.unpack_from(layout, data, offset)


def boxes(data: bytes, position: int, end: int, container: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, first byte of the content, its end) of each box, as ISO base media files and JPEG 2000 have them.

    Raises:
        ImageError: truncated.
    """
    while position + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, position)
        begin = position + 8
        if size == 1:
            (size,) = unpack(">Q", data, begin, container)
            begin += 8
        stop = end if size == 0 else position + size
        if stop > end or stop < begin:
            raise truncated(container, f"the box at byte {position} reaches beyond the end")
        yield kind, begin, stop
        position = stop


def printable(kind: bytes) -> str:
    """Return the type of a chunk or box as messages show it: in hexadecimal where it is not all letters and digits."""
    text = kind.rstrip(b" ")
    return text.decode("ascii") if text.isalnum() else kind.hex()


def check_size(container: str, width: int, height: int) -> None:
    """Refuse images without pixels."""
    if width < 1 or height < 1:
        raise ImageError(ErrorKind.NOT_AN_IMAGE, f"a {container} of {width}x{height} pixels holds no image")


def icc_space(profile: bytes) -> str:
    """Return the colour space of a profile's data (`RGB`, `GRAY`, `CMYK` ...), empty for what is no profile."""
    if len(profile) < 132 or profile[36:40] != b"acsp":
        return ""
    return profile[16:20].decode("latin-1").strip()


def profile_name(profile: bytes) -> str:
    """Return how a profile calls itself; `sRGB` for none and for each that begins so, empty for what is no profile."""
    if not profile:
        return "sRGB"
    if not icc_space(profile):
        return ""
    (count,) = struct.unpack_from(">I", profile, 128)
    for entry in range(min(count, 100)):
        if 132 + 12 * entry + 12 > len(profile):
            break
        tag, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * entry)
        if tag == b"desc":
            text = _described(profile[offset : offset + size])
            return "sRGB" if text.lower().startswith("srgb") else text
    return ""


def _described(body: bytes) -> str:
    """Return the text of a tag of type `desc` (ICC.1:2001, 6.5.17) or `mluc` (ICC.1:2022, 10.15)."""
    if body.startswith(b"desc") and len(body) > 12:
        return body[12 : 12 + int.from_bytes(body[8:12], "big")].rstrip(b"\0").decode("latin-1")
    if body.startswith(b"mluc") and len(body) >= 28:
        size, offset = struct.unpack_from(">II", body, 20)
        return body[offset : offset + size].decode("utf-16-be", "replace")
    return ""
