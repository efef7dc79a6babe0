"""JPEG: markers, completeness up to the end marker, EXIF, ICC and XMP in application segments."""

import re
import struct

from mimo_core.images.containers.base import MAX_METADATA, Header, Metadata, check_size, truncated, unpack, unsupported

NAME = "JPEG"
_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_MAX_SEGMENT = 65533
_MAX_ICC_PART = _MAX_SEGMENT - len(_ICC) - 2

# Within compressed data FF 00 is an escaped FF, FF D0..D7 are restarts and FF FF is fill.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_NOT_FRAMES = {0xC4, 0xC8, 0xCC}
_STANDALONE = {0x01, 0xD8}
# Ordinary progressive files have ten; each costs a pass over the whole image.
_MAX_SCANS = 100
_PROCESSES = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive", 0xC9: "arithmetic", 0xCA: "arithmetic"}


def inspect(data: bytes) -> Header:
    """Header of a whole JPEG."""
    frame: tuple[int, ...] | None = None
    scans = 0
    segments: list[tuple[int, bytes]] = []
    position = 2
    while True:
        # What lies between segments is skipped, as decoders do.
        found = _NEXT_MARKER.search(data, position)
        if found is None:
            raise truncated(NAME, "no end marker")
        position = found.end()
        marker = data[position - 1]
        if marker == 0xD9:
            break
        if marker in _STANDALONE:
            continue
        (length,) = unpack(">H", data, position, NAME)
        if length < 2 or position + length > len(data):
            raise truncated(NAME, f"a segment at byte {position} reaches beyond the end")
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES:
            if marker not in _PROCESSES:
                raise unsupported(f"a JPEG of coding process {marker - 0xC0} (lossless or hierarchical)")
            frame = frame or unpack(">BHHB", data, position + 2, NAME)
        elif marker in (0xE0, 0xE1, 0xE2):
            segments.append((marker, data[position + 2 : position + length]))
        position += length
        if marker == 0xDA:
            scans += 1
            if scans > _MAX_SCANS:
                raise unsupported(f"a JPEG of more than {_MAX_SCANS} scans")
    if frame is None or scans == 0:
        raise truncated(NAME, "it ends before its image data")
    precision, height, width, components = frame
    if height == 0 and width > 0:
        raise unsupported("a JPEG that states its height after the image (DNL)")
    check_size(NAME, width, height)
    if precision != 8:
        raise unsupported(f"a {precision}-bit JPEG")
    if components not in (1, 3):
        raise unsupported("a CMYK JPEG" if components == 4 else f"a JPEG with {components} components")
    return Header("jpg", width, height, components == 1, False, _metadata(segments))


def _metadata(segments: list[tuple[int, bytes]]) -> Metadata:
    exif = xmp = b""
    parts: dict[int, bytes] = {}
    dpi = None
    for marker, body in segments:
        if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 12:
            unit, x, y = struct.unpack_from(">BHH", body, 7)
            if unit in (1, 2) and x and y:
                scale = 1.0 if unit == 1 else 2.54
                dpi = (x * scale, y * scale)
        elif marker == 0xE1 and body.startswith(_EXIF):
            exif = exif or body[len(_EXIF) :]
        elif marker == 0xE1 and body.startswith(_XMP):
            xmp = xmp or body[len(_XMP) :]
        elif marker == 0xE2 and body.startswith(_ICC) and len(body) > len(_ICC) + 2:
            parts.setdefault(body[len(_ICC)], body[len(_ICC) + 2 :])
    icc = b"".join(parts[number] for number in sorted(parts))
    return Metadata(exif, icc if len(icc) <= MAX_METADATA else b"", xmp, dpi)


def embed(data: bytes, metadata: Metadata) -> bytes:
    """Return the file with metadata segments behind its JFIF header; what exceeds a segment (64 KiB) is left out."""
    end = 2
    jfif = b""
    if data[2:4] == b"\xff\xe0":
        end = 4 + struct.unpack_from(">H", data, 4)[0]
        jfif = data[2:end]
        if metadata.dpi is not None:
            x, y = (min(65535, max(1, round(value))) for value in metadata.dpi)
            jfif = jfif[:11] + struct.pack(">BHH", 1, x, y) + jfif[16:]
    segments = [jfif]
    for prefix, body in ((_EXIF, metadata.exif), (_XMP, metadata.xmp)):
        if body and len(prefix) + len(body) <= _MAX_SEGMENT:
            segments.append(_segment(0xE1, prefix + body))
    count = -(-len(metadata.icc) // _MAX_ICC_PART)
    if count <= 255:
        for number in range(count):
            part = metadata.icc[number * _MAX_ICC_PART : (number + 1) * _MAX_ICC_PART]
            segments.append(_segment(0xE2, _ICC + bytes((number + 1, count)) + part))
    return b"".join([data[:2], *segments, data[end:]])


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
