"""BMP, GIF and PNM: size, colour model and completeness of containers that carry no metadata worth keeping."""

import re

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.containers.base import Header, check_size, truncated, unpack, unsupported

_PNM_FIELD = re.compile(rb"(?:[ \t\r\n\v\f]|#[^\n]*\n)*([0-9]{1,9})")


def inspect_bmp(data: bytes) -> Header:
    """Header of a whole Windows bitmap."""
    offset, header_size = unpack("<II", data, 10, "BMP")
    compression = colours = image_size = 0
    if header_size == 12:
        width, height, _, bits = unpack("<HHHH", data, 18, "BMP")
    elif header_size in (40, 52, 56, 64, 108, 124):
        width, height, _, bits, compression, image_size = unpack("<iiHHII", data, 18, "BMP")
        (colours,) = unpack("<I", data, 46, "BMP")
    else:
        raise ImageError(ErrorKind.NOT_AN_IMAGE, f"begins as a BMP does, but its header has {header_size} bytes")
    height = abs(height)
    check_size("BMP", width, height)
    if bits not in (1, 4, 8, 24, 32) or compression not in (0, 1, 2, 3, 6):
        raise unsupported(f"a BMP of {bits} bits with compression {compression}")
    alpha = 0
    if compression in (3, 6):
        *masks, alpha = unpack("<IIII", data, 54, "BMP")
        if header_size == 40 and compression == 3:
            alpha = 0
        if masks != [0xFF0000, 0xFF00, 0xFF] or alpha not in (0, 0xFF000000):
            raise unsupported("a BMP with unusual colour masks")
    if compression in (1, 2):
        needed = image_size
    else:
        needed = (width * bits + 31) // 32 * 4 * height
    if offset + needed > len(data):
        raise truncated("BMP", f"{len(data)} of {offset + needed} bytes")
    gray = False
    if bits <= 8:
        entry, count = (3, 1 << bits) if header_size == 12 else (4, colours or 1 << bits)
        palette = data[14 + header_size : 14 + header_size + entry * min(count, 256)]
        if offset < 14 + header_size + len(palette):
            raise truncated("BMP", "its pixels overlap its palette")
        gray = palette[0::entry] == palette[1::entry] == palette[2::entry]
    # Without a mask for it the fourth byte of a pixel is padding, and mostly 0.
    return Header("bmp", width, height, gray, True, opaque=alpha == 0)


def inspect_gif(data: bytes) -> Header:
    """Header of a whole GIF with one frame."""
    width, height, flags = unpack("<HHB", data, 6, "GIF")
    position = 13 + _table(flags)
    frames = 0
    while True:
        (kind,) = unpack("<B", data, position, "GIF")
        if kind == 0x3B:
            break
        if kind == 0x21:
            position = _skip_blocks(data, position + 2)
        elif kind == 0x2C:
            (local,) = unpack("<B", data, position + 9, "GIF")
            position = _skip_blocks(data, position + 11 + _table(local))
            frames += 1
            if frames > 1:
                raise unsupported("an animated GIF", "only still images are restored")
        else:
            raise truncated("GIF", f"an unknown block at byte {position}")
    if frames == 0:
        raise truncated("GIF", "it holds no image data")
    check_size("GIF", width, height)
    return Header("gif", width, height, False, True)


def _table(flags: int) -> int:
    """Return bytes of a colour table with these flags."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(data: bytes, position: int) -> int:
    while True:
        (length,) = unpack("<B", data, position, "GIF")
        position += 1 + length
        if length == 0:
            return position


def inspect_pnm(data: bytes) -> Header:
    """Header of a whole portable bitmap, graymap or pixmap (P1 to P6)."""
    kind = data[1] - ord("0")
    fields: list[int] = []
    position = 2
    for _ in range(2 if kind in (1, 4) else 3):
        match = _PNM_FIELD.match(data, position)
        if match is None:
            raise truncated("PNM", "its header ends early")
        fields.append(int(match[1]))
        position = match.end()
    width, height = fields[:2]
    check_size("PNM", width, height)
    if kind not in (1, 4) and fields[2] not in (255, 65535):
        raise unsupported(f"a PNM with the maximum {fields[2]}")
    channels = 3 if kind in (3, 6) else 1
    if kind == 4:
        needed = position + 1 + (width + 7) // 8 * height
    elif kind in (5, 6):
        needed = position + 1 + width * height * channels * (1 if fields[2] == 255 else 2)
    else:
        # Text: every sample takes at least a digit (and, but for bitmaps, a separator).
        needed = position + width * height * channels * (1 if kind == 1 else 2)
    if needed > len(data):
        raise truncated("PNM", f"{len(data)} of {needed} bytes")
    return Header("pnm", width, height, channels == 1, True)
