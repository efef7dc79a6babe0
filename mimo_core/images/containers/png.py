"""PNG: chunks with their checksums, the end chunk, EXIF, ICC, XMP, resolution, text and colour chunks."""

import struct
import zlib

from mimo_core.images.containers.base import MAX_METADATA, Header, Metadata, check_size, truncated, unpack, unsupported

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
    view = memoryview(data)
    position = len(_SIGNATURE)
    header: tuple[int, ...] | None = None
    body_seen = extra_seen = False
    metadata: list[tuple[bytes, bytes]] = []
    for _ in range(_MAX_CHUNKS):
        (length,) = unpack(">I4x", data, position, NAME)
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            raise truncated(NAME, f"chunk {_printable(kind)} at byte {position} reaches beyond the end")
        (stored,) = unpack(">I", data, end - 4, NAME)
        critical = kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND")
        whole = zlib.crc32(view[position + 4 : end - 4]) == stored
        if critical and not whole:
            raise truncated(NAME, f"chunk {_printable(kind)} at byte {position} does not match its checksum")
        if header is None:
            if kind != b"IHDR" or length != 13:
                raise truncated(NAME, "its first chunk is no header")
            header = unpack(">IIBBBBB", data, position + 8, NAME)
        elif kind == b"IDAT":
            body_seen = True
        elif kind == b"acTL" and length >= 4 and unpack(">I", data, position + 8, NAME)[0] > 1:
            raise unsupported("an animated PNG", "only still images are restored")
        elif kind == b"IEND":
            break
        elif kind not in _DECODED:
            extra_seen = True
        if whole and kind in (b"eXIf", b"iCCP", b"pHYs", *_KEPT):
            metadata.append((kind, data[position + 8 : end - 4]))
        position = end
    else:
        raise truncated(NAME, f"more than {_MAX_CHUNKS} chunks")
    width, height, depth, colour, *_ = header
    check_size(NAME, width, height)
    if colour not in _DEPTHS or depth not in _DEPTHS[colour]:
        raise truncated(NAME, f"its header states the colour type {colour} with {depth} bits")
    if not body_seen:
        raise truncated(NAME, "it holds no image data")
    # What the decoder does not need it would complain about on stderr, or inflate without a limit.
    decodable = _needed(data) if extra_seen else None
    return Header("png", width, height, colour in (0, 4), True, _metadata(metadata), decodable=decodable)


def _needed(data: bytes) -> bytes:
    """Return the file with no other chunks than those that make the pixels."""
    parts = [data[: len(_SIGNATURE)]]
    position = len(_SIGNATURE)
    while parts[-1][4:8] != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] in _DECODED:
            parts.append(data[position:end])
        position = end
    return b"".join(parts)


def _metadata(chunks: list[tuple[bytes, bytes]]) -> Metadata:
    exif = icc = xmp = b""
    dpi = None
    kept: list[tuple[bytes, bytes]] = []
    for kind, body in chunks:
        if kind == b"eXIf":
            exif = exif or body.removeprefix(b"Exif\0\0")
        elif kind == b"iCCP":
            _, _, rest = body.partition(b"\0")
            icc = icc or _inflate(rest[1:])
        elif kind == b"pHYs" and len(body) == 9:
            x, y, unit = struct.unpack(">IIB", body)
            if unit == 1 and x and y:
                dpi = (x * _INCH, y * _INCH)
        elif kind == b"iTXt" and body.startswith(_XMP_KEYWORD):
            xmp = xmp or _text(body[len(_XMP_KEYWORD) :])
        elif kind in _KEPT:
            kept.append((kind, body))
    return Metadata(exif, icc, xmp, dpi, tuple(kept))


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


def _printable(kind: bytes) -> str:
    return kind.decode("ascii", "replace") if kind.isalpha() else kind.hex()
