"""JPEG: markers, pixels by a strict decoder, and what its application segments hold."""

import re
import struct
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import simplejpeg

from mimo_core.images.containers import colour
from mimo_core.images.containers.base import MAX_METADATA, Header, Metadata, check_size, truncated, unpack, unsupported

NAME = "JPEG"
_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_PHOTOSHOP, _JFIF, _ADOBE = b"Photoshop 3.0\0", b"JFIF\0", b"Adobe"
_MAX_SEGMENT = 65533
_MAX_ICC_PART = _MAX_SEGMENT - len(_ICC) - 2

# Within compressed data FF 00 is an escaped FF, FF D0..D7 are restarts and FF FF is fill.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_NOT_FRAMES = {0xC4, 0xC8, 0xCC}
_SOI, _EOI, _SOS, _DNL, _COMMENT = 0xD8, 0xD9, 0xDA, 0xDC, 0xFE
# Ordinary progressive files have ten; each costs a pass over the whole image.
_MAX_SCANS = 100
_PROCESSES = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive", 0xC9: "arithmetic", 0xCA: "arithmetic"}
_LOSSLESS = 0xC3


@dataclass
class _Scanned:
    """What the markers of one image say."""

    frame: tuple[int, ...] | None = None
    process: int = 0
    scans: int = 0
    applied: list[tuple[int, bytes]] = field(default_factory=list)
    needed: list[bytes] = field(default_factory=list)
    end: int = 0


def inspect(data: bytes) -> Header:
    """Header of a JPEG whose first image ends with its marker."""
    scanned = _scan(data)
    if scanned.frame is None or scanned.scans == 0:
        raise truncated(NAME, "it ends before its image data")
    precision, height, width, components = scanned.frame
    if height == 0 and width > 0:
        raise unsupported("a JPEG that states its height after the image (DNL)")
    check_size(NAME, width, height)
    if precision not in (8, 12, 16) and scanned.process != _LOSSLESS:
        raise unsupported(f"a {precision}-bit JPEG")
    if components not in (1, 3, 4):
        raise unsupported(f"a JPEG with {components} components")
    metadata, lost = _metadata(scanned.applied)
    lost += _behind(data, scanned.end)
    model = {1: "GRAY", 3: "RGB", 4: "CMYK"}[components]
    image = b"".join([data[:2], *scanned.needed, b"\xff\xd9"])
    lossless = scanned.process == _LOSSLESS
    if precision != 8 or lossless:
        read = partial(_read_deep, image, precision)
    else:
        read = partial(_read, image, model, metadata.icc)
    if components == 4:
        lost.append("CMYK colours")
        metadata = replace(metadata, icc=b"")
    return Header("jpg", width, height, components == 1, lossless, read, metadata, tuple(lost))


def _scan(data: bytes) -> _Scanned:
    found = _Scanned()
    position = 2
    while True:
        # What lies between segments is skipped, as decoders do; within a scan it is damage, which the decoder finds.
        begin = position
        match = _NEXT_MARKER.search(data, position)
        if match is None:
            raise truncated(NAME, "no end marker")
        position = match.end()
        marker = data[position - 1]
        if found.scans:
            found.needed.append(data[begin : match.start()])
        if marker == _EOI:
            found.end = position
            return found
        if marker == _SOI and found.scans:
            raise truncated(NAME, "another image begins where its data should end")
        if marker in (_SOI, 0x01):
            continue
        (length,) = unpack(">H", data, position, NAME)
        if length < 2 or position + length > len(data):
            raise truncated(NAME, f"a segment at byte {position} reaches beyond the end")
        body = data[position + 2 : position + length]
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES:
            if marker not in _PROCESSES and marker != _LOSSLESS:
                raise unsupported(f"a JPEG of coding process {marker - 0xC0} (hierarchical or arithmetic lossless)")
            if found.frame is None:
                found.frame, found.process = unpack(">BHHB", data, position + 2, NAME), marker
        applied = 0xE0 <= marker <= 0xEF or marker == _COMMENT
        if applied and found.scans == 0:
            found.applied.append((marker, body))
        # What is neither is left of a broken segment.
        if 0xC0 <= marker <= 0xDF or (applied and body.startswith((_JFIF, _ADOBE))):
            found.needed.append(data[position - 2 : position + length])
        position += length
        if marker == _SOS:
            found.scans += 1
            if found.scans > _MAX_SCANS:
                raise unsupported(f"a JPEG of more than {_MAX_SCANS} scans")


def _behind(data: bytes, end: int) -> list[str]:
    """Name what follows the image in the same file."""
    tail = data[end:]
    if len(tail.strip(b"\0\xff\r\n ")) < 16:
        return []
    if b"\xff\xd8\xff" in tail[:4096] or b"MPF\0" in data[: min(end, 1 << 18)]:
        return ["a second view or gain map"]
    if b"ftyp" in tail[:64]:
        return ["a motion photo"]
    return [f"{len(tail)} bytes behind the image"]


def _read(image: bytes, model: str, profile: bytes) -> Any:
    try:
        pixels: Any = simplejpeg.decode_jpeg(image, colorspace=model, strict=True)
    except ValueError as error:
        raise truncated(NAME, str(error)) from error
    # Whoever writes CMYK as a JPEG stores its inks inverted, as Photoshop did first.
    return colour.inks_to_rgb(np.subtract(255, pixels), profile) if model == "CMYK" else pixels


def _read_deep(image: bytes, precision: int) -> Any:
    """Pixels of a lossless JPEG, or one of more than 8 bits."""
    import imagecodecs

    try:
        pixels: Any = imagecodecs.jpeg8_decode(image)
    except (RuntimeError, ValueError) as error:
        raise truncated(NAME, str(error)) from error
    return colour.widened(pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis], precision)


def _metadata(segments: list[tuple[int, bytes]]) -> tuple[Metadata, list[str]]:
    exif = xmp = photoshop = b""
    parts: dict[int, bytes] = {}
    dpi = None
    others: list[tuple[int, bytes]] = []
    lost: list[str] = []
    for marker, body in segments:
        if marker == 0xE0 and body.startswith(_JFIF) and len(body) >= 12:
            unit, x, y = struct.unpack_from(">BHH", body, 7)
            if unit in (1, 2) and x and y:
                scale = 1.0 if unit == 1 else 2.54
                dpi = (x * scale, y * scale)
        elif marker == 0xE1 and body.startswith(_EXIF):
            exif = exif or body[len(_EXIF) :]
        elif marker == 0xE1 and body.startswith(_XMP):
            xmp = xmp or body[len(_XMP) :]
        elif marker == 0xE2 and body.startswith(_ICC):
            if len(body) > len(_ICC) + 2:
                parts.setdefault(body[len(_ICC)], body[len(_ICC) + 2 :])
        elif marker == 0xED and body.startswith(_PHOTOSHOP):
            photoshop += body[len(_PHOTOSHOP) :]
        elif marker not in (0xE0, 0xE2, 0xEE):
            others.append((marker, body))
    icc = b"".join(parts[number] for number in sorted(parts))
    if sum(len(body) for _, body in others) > MAX_METADATA:
        others, lost = [], ["application segments"]
    if len(icc) > MAX_METADATA:
        icc, lost = b"", [*lost, "a colour profile"]
    return Metadata(exif, icc, xmp, dpi, jpeg_segments=tuple(others), photoshop=photoshop), lost


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
    step = _MAX_SEGMENT - len(_PHOTOSHOP)
    resources = metadata.photoshop
    segments += [_segment(0xED, _PHOTOSHOP + resources[at : at + step]) for at in range(0, len(resources), step)]
    count = -(-len(metadata.icc) // _MAX_ICC_PART)
    if count <= 255:
        for number in range(count):
            part = metadata.icc[number * _MAX_ICC_PART : (number + 1) * _MAX_ICC_PART]
            segments.append(_segment(0xE2, _ICC + bytes((number + 1, count)) + part))
    segments += [_segment(marker, body) for marker, body in metadata.jpeg_segments]
    return b"".join([data[:2], *segments, data[end:]])


def fits(exif_or_xmp: bytes) -> bool:
    """Return whether an EXIF structure or an XMP packet fits into its segment."""
    return len(exif_or_xmp) + len(_XMP) <= _MAX_SEGMENT


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
