"""PNG: chunks with their checksums, the end chunk, EXIF, ICC, XMP, resolution, text and colour chunks."""

import struct
import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

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

NAME = "PNG"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_KEPT = (b"tEXt", b"zTXt", b"iTXt", b"tIME", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_DECODED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_MAX_CHUNKS = 1 << 16
_INCH = 0.0254


def inspect(data: bytes) -> Header:
    """Header of a whole PNG."""
    chunks = _chunks(data)
    header: tuple[int, ...] | None = None
    transparent = b""
    body_seen = extra_seen = False
    found: list[tuple[bytes, bytes]] = []
    others = 0
    for kind, start, length in chunks:
        if header is None:
            if kind != b"IHDR" or length != 13:
                raise truncated(NAME, "its first chunk is no header")
            header = unpack(">IIBBBBB", data, start, NAME)
            continue
        if kind == b"acTL" and length >= 4 and unpack(">I", data, start, NAME)[0] > 1:
            raise unsupported("an animated PNG", "only still images are restored")
        if kind == b"tRNS":
            transparent = data[start : start + length]
        body_seen = body_seen or kind == b"IDAT"
        if kind in _DECODED:
            continue
        extra_seen = True
        others += 1
        if others > _MAX_CHUNKS:
            raise unsupported(f"a PNG of more than {_MAX_CHUNKS} chunks beside its image")
        body = memoryview(data)[start : start + length]
        if zlib.crc32(body, zlib.crc32(kind)) == unpack(">I", data, start + length, NAME)[0]:
            found.append((kind, bytes(body)))
    if header is None:
        raise truncated(NAME, "it has no header")
    width, height, depth, colour, *_ = header
    check_size(NAME, width, height)
    if colour not in _DEPTHS or depth not in _DEPTHS[colour]:
        raise truncated(NAME, f"its header states the colour type {colour} with {depth} bits")
    if not body_seen:
        raise truncated(NAME, "it holds no image data")
    # What the decoder does not need it would complain about on stderr, or inflate without a limit.
    decodable = _needed(data) if extra_seen else data
    metadata, lost = _metadata(found, (colour, depth))
    see_through = int.from_bytes(transparent[:2], "big") if colour == 0 and len(transparent) >= 2 else None
    read = partial(_read, decodable, depth, see_through)
    return Header("png", width, height, colour in (0, 4), True, read, metadata, lost)


def _read(decodable: bytes, depth: int, see_through: int | None) -> Any:
    pixels: Any = read_with_opencv(decodable, NAME)
    if see_through is None or pixels.shape[2] != 1:
        return pixels
    # OpenCV ignores the transparent level of a gray image.
    steps = (1 << depth) - 1
    level = (see_through & steps) if depth in (8, 16) else (see_through & steps) * 255 // steps
    most = np.iinfo(pixels.dtype).max
    alpha = np.where(pixels == level, 0, most).astype(pixels.dtype)
    return np.concatenate([pixels, pixels, pixels, alpha], axis=2)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, first byte of the body, length) of every chunk; those that make the image are whole.

    Raises:
        ImageError: truncated.
    """
    view = memoryview(data)
    position = len(_SIGNATURE)
    while True:
        (length,) = unpack(">I4x", data, position, NAME)
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            raise truncated(NAME, f"chunk {printable(kind)} at byte {position} reaches beyond the end")
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            (stored,) = unpack(">I", data, end - 4, NAME)
            if zlib.crc32(view[position + 4 : end - 4]) != stored:
                raise truncated(NAME, f"chunk {printable(kind)} at byte {position} does not match its checksum")
        if kind == b"IEND":
            return
        yield kind, position + 8, length
        position = end


def _needed(data: bytes) -> bytes:
    """Return the file with no other chunks than those that make the pixels."""
    parts = [data[: len(_SIGNATURE)]]
    for kind, start, length in _chunks(data):
        if kind in _DECODED:
            parts.append(data[start - 8 : start + length + 4])
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _metadata(chunks: list[tuple[bytes, bytes]], form: tuple[int, int]) -> tuple[Metadata, tuple[str, ...]]:
    exif = icc = xmp = b""
    dpi = None
    kept: list[tuple[bytes, bytes]] = []
    lost: list[str] = []
    for kind, body in chunks:
        if kind == b"eXIf":
            exif = exif or body.removeprefix(b"Exif\0\0")
        elif kind == b"iCCP":
            _, _, rest = body.partition(b"\0")
            icc = icc or _inflate(rest[1:])
            lost += [] if icc else ["a damaged colour profile"]
        elif kind == b"pHYs" and len(body) == 9:
            x, y, unit = struct.unpack(">IIB", body)
            if unit == 1 and x and y:
                dpi = (x * _INCH, y * _INCH)
            else:
                kept.append((kind, body))
        elif kind == b"iTXt" and body.startswith(_XMP_KEYWORD):
            xmp = xmp or _text(body[len(_XMP_KEYWORD) :])
        elif _is_kept(kind, form):
            kept.append((kind, body))
        else:
            lost.append(f"the chunk {printable(kind)}")
    if sum(len(body) for _, body in kept) > MAX_METADATA:
        kept, lost = [], [*lost, "text chunks"]
    return Metadata(exif, icc, xmp, dpi, tuple(kept)), tuple(dict.fromkeys(lost))


def _is_kept(kind: bytes, form: tuple[int, int]) -> bool:
    """Return whether a chunk stays true: those that the PNG specification calls safe to copy, and some known ones."""
    if kind == b"bKGD":
        return form in ((2, 8), (2, 16), (6, 8), (6, 16))
    return kind in _KEPT or (kind.isalpha() and kind[:1].islower() and kind[3:].islower())


def _text(rest: bytes) -> bytes:
    """Return the text of an iTXt chunk behind its keyword: flag, method, language NUL, translated keyword NUL, text."""
    fields = rest[2:].split(b"\0", 2)
    if len(rest) < 2 or len(fields) < 3:
        return b""
    return _inflate(fields[2]) if rest[0] == 1 else fields[2]


def _inflate(compressed: bytes) -> bytes:
    """Inflated bytes; empty where they are damaged or more than `MAX_METADATA`."""
    machine = zlib.decompressobj()
    try:
        inflated = machine.decompress(compressed, MAX_METADATA)
    except zlib.error:
        return b""
    return inflated if machine.eof else b""


def embed(data: bytes, metadata: Metadata) -> bytes:
    """Return the file with metadata chunks between its header and its image."""
    chunks: list[bytes] = []
    if metadata.icc:
        chunks.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi is not None:
        x, y = (min(2**31 - 1, max(1, round(value / _INCH))) for value in metadata.dpi)
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata.exif:
        chunks.append(_chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append(_chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0" + metadata.xmp))
    # A profile and an sRGB statement exclude each other.
    chunks += [_chunk(kind, body) for kind, body in metadata.png_chunks if not (metadata.icc and kind == b"sRGB")]
    end = len(_SIGNATURE) + 25
    return b"".join([data[:end], *chunks, data[end:]])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
