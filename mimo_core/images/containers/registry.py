"""Which container a file is, by its first bytes."""

from collections.abc import Callable
from functools import partial

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.containers import bmp, gif, jpeg, jpeg2000, modern, png, pnm, raw, tiff, webp
from mimo_core.images.containers.base import Header, Metadata, truncated, unsupported

_EMBED: dict[str, Callable[[bytes, Metadata], bytes]] = {
    "jpg": jpeg.embed,
    "png": png.embed,
    "webp": webp.embed,
    "bmp": bmp.embed,
}

_MODERN = (
    (0, b"\0\0\0\x0cJXL \r\n", "jxl"),
    (0, b"\xff\x0a", "jxl"),
    (4, b"ftypavif", "avif"),
    (4, b"ftypavis", "avif"),
    (4, b"ftyphei", "heif"),
    (4, b"ftyphev", "heif"),
    (4, b"ftypmif1", "heif"),
)

_KNOWN_BUT_REFUSED = (
    (0, b"8BPS", "Photoshop"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"DDS ", "DirectDraw surface"),
    (0, b"P7\n", "PAM"),
    (0, b"\0\0\x01\0", "Windows icon"),
    (0, b"%PDF", "PDF"),
)


def inspect(data: bytes) -> Header:
    """Return what the file says of itself, after a check that it is whole.

    Raises:
        ImageError: empty, not_an_image, truncated, or unsupported (naming what).
    """
    if not data:
        raise ImageError(ErrorKind.EMPTY, "the file is empty")
    reader = _reader(data)
    if reader is not None:
        return reader(data)
    for offset, magic, name in _KNOWN_BUT_REFUSED:
        if data.startswith(magic, offset):
            raise unsupported(f"the format {name}", "convert it to PNG, TIFF, JPEG or WebP first")
    for magic in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF"):
        if magic.startswith(data):
            raise truncated("image", f"only {len(data)} bytes")
    raise ImageError(ErrorKind.NOT_AN_IMAGE, f"not an image: begins with {data[:16].hex(' ')}")


def _reader(data: bytes) -> Callable[[bytes], Header] | None:
    if data.startswith(b"\xff\xd8\xff"):
        return jpeg.inspect
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return png.inspect
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return webp.inspect
    if any(data.startswith(magic, offset) for offset, magic in raw.MAGICS) or data[8:10] == b"CR":
        return raw.inspect
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return _inspect_tiff
    if data.startswith(b"BM"):
        return bmp.inspect
    if data.startswith((b"GIF87a", b"GIF89a")):
        return gif.inspect
    if len(data) > 2 and data[:1] == b"P" and data[1:2] in b"123456" and data[2:3] in b" \t\r\n#":
        return pnm.inspect
    if data.startswith((jpeg2000.SIGNATURE[:8], jpeg2000.CODESTREAM)):
        return jpeg2000.inspect
    for offset, magic, container in _MODERN:
        if data.startswith(magic, offset):
            return partial(modern.inspect, container)
    return None


def _inspect_tiff(data: bytes) -> Header:
    """Header of a TIFF; what holds sensor data is developed."""
    return raw.inspect(data) if tiff.is_raw(data) else tiff.inspect(data)


def embed(container: str, data: bytes, metadata: Metadata, *, alpha: bool = True) -> bytes:
    """Return the encoded file with the metadata that its container has a place for.

    Args:
        container: what was encoded.
        data: the file.
        metadata: what goes with it.
        alpha: whether a fourth channel of a TIFF is transparency.
    """
    if container == "tiff":
        return tiff.embed(data, metadata, alpha=alpha)
    writer = _EMBED.get(container)
    return data if writer is None or metadata == Metadata() else writer(data, metadata)
