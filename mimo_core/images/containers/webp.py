"""WebP: RIFF chunks, completeness, animation, EXIF, ICC and XMP chunks."""

import struct
from functools import partial

from mimo_core.images.containers.base import (
    MAX_METADATA,
    Header,
    Metadata,
    check_size,
    printable,
    truncated,
    unpack,
    unsupported,
)
from mimo_core.images.containers.opencv import read_with_opencv

NAME = "WebP"
_ICC_FLAG, _ALPHA_FLAG, _EXIF_FLAG, _XMP_FLAG = 0x20, 0x10, 0x08, 0x04


def inspect(data: bytes) -> Header:
    """Header of a whole WebP."""
    chunks = _chunks(data)
    size: tuple[int, int] | None = None
    lossless = False
    found: dict[bytes, bytes] = {}
    lost: list[str] = []
    for kind, start, length in chunks:
        if kind in (b"ANIM", b"ANMF"):
            raise unsupported("an animated WebP", "only still images are restored")
        if kind == b"VP8 ":
            width, height = unpack("<HH", data, start + 6, NAME)
            size = (width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L":
            (bits,) = unpack("<I", data, start + 1, NAME)
            size = ((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
            lossless = True
        elif kind in (b"EXIF", b"ICCP", b"XMP ") and length <= MAX_METADATA:
            found.setdefault(kind, data[start : start + length])
        elif kind not in (b"VP8X", b"ALPH"):
            lost.append(f"the chunk {printable(kind)}")
    if size is None:
        raise truncated(NAME, "it holds no image data")
    check_size(NAME, *size)
    exif = found.get(b"EXIF", b"").removeprefix(b"Exif\0\0")
    metadata = Metadata(exif, found.get(b"ICCP", b""), found.get(b"XMP ", b""))
    read = partial(read_with_opencv, data, NAME)
    return Header("webp", *size, False, lossless, read, metadata, tuple(dict.fromkeys(lost)))


def _chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """Yield (type, first byte, length) of every chunk."""
    (stated,) = unpack("<I", data, 4, NAME)
    end = stated + 8
    if end > len(data):
        raise truncated(NAME, f"{len(data)} of {end} bytes")
    chunks = []
    position = 12
    while position + 8 <= end:
        (length,) = unpack("<I", data, position + 4, NAME)
        if position + 8 + length > end:
            raise truncated(NAME, f"a chunk at byte {position} reaches beyond the end")
        chunks.append((data[position : position + 4], position + 8, length))
        position += 8 + length + length % 2
    return chunks


def embed(data: bytes, metadata: Metadata) -> bytes:
    """Return the file in the extended layout with metadata chunks around its image."""
    if not (metadata.exif or metadata.icc or metadata.xmp):
        return data
    header = inspect(data)
    flags = 0
    image: list[bytes] = []
    for kind, start, length in _chunks(data):
        body = data[start : start + length]
        if kind == b"VP8X":
            flags |= body[0] & _ALPHA_FLAG
        elif kind in (b"ALPH", b"VP8 ", b"VP8L"):
            if kind == b"ALPH" or (kind == b"VP8L" and body[4] & _ALPHA_FLAG):
                flags |= _ALPHA_FLAG
            image.append(_chunk(kind, body))
    parts = [_chunk(b"ICCP", metadata.icc) if metadata.icc else b"", *image]
    for kind, flag, body in ((b"EXIF", _EXIF_FLAG, metadata.exif), (b"XMP ", _XMP_FLAG, metadata.xmp)):
        if body:
            flags |= flag
            parts.append(_chunk(kind, body))
    if metadata.icc:
        flags |= _ICC_FLAG
    canvas = struct.pack("<I", header.width - 1)[:3] + struct.pack("<I", header.height - 1)[:3]
    content = b"".join([b"WEBP", _chunk(b"VP8X", struct.pack("<I", flags) + canvas), *parts])
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
