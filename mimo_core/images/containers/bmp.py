"""BMP. By hand: OpenCV reads 57 of the 87 bitmaps of the public suites, imagecodecs 62 and Pillow 70, each others."""

import struct
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.containers.base import Header, Metadata, check_size, truncated, unpack, unsupported
from mimo_core.images.containers.colour import widened

NAME = "BMP"
_INCH = 0.0254
_RLE8, _RLE4, _MASKS, _ALPHA_MASKS = 1, 2, 3, 6
_MASKS_OF = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}


def inspect(data: bytes) -> Header:
    """Header of a whole bitmap of Windows or OS/2."""
    offset, header_size = unpack("<II", data, 10, NAME)
    compression = colours = x_dots = y_dots = 0
    if header_size == 12:
        width, height, _, bits = unpack("<HHHH", data, 18, NAME)
    elif header_size == 16:
        width, height, _, bits = unpack("<iiHH", data, 18, NAME)
    elif header_size in (40, 52, 56, 64, 108, 124):
        width, height, _, bits, compression = unpack("<iiHHI", data, 18, NAME)
        x_dots, y_dots, colours = unpack("<iiI", data, 38, NAME)
    else:
        raise ImageError(ErrorKind.NOT_AN_IMAGE, f"begins as a BMP does, but its header has {header_size} bytes")
    top_down, height = height < 0, abs(height)
    check_size(NAME, width, height)
    runs = compression in (_RLE8, _RLE4)
    known = (0, _MASKS, _ALPHA_MASKS) if bits in (16, 32) else {4: (0, _RLE4), 8: (0, _RLE8)}.get(bits, (0,))
    if bits not in (1, 2, 4, 8, 16, 24, 32) or compression not in known:
        raise unsupported(f"a BMP of {bits} bits with compression {compression}")
    needed = 0 if runs else (width * bits + 31) // 32 * 4 * height
    if offset + needed > len(data):
        raise truncated(NAME, f"{len(data)} of {offset + needed} bytes")
    dpi = (x_dots * _INCH, y_dots * _INCH) if x_dots > 0 and y_dots > 0 else None
    gray, alpha = False, False
    if bits <= 8:
        palette = _palette(data, offset, header_size, bits, colours)
        gray = bool((palette == palette[:, :1]).all())
        read = partial(_read_indexed, data, offset, (height, width), bits, palette, top_down, runs)
    else:
        masks = _masks_of(data, header_size, bits, compression)
        alpha = masks[3] != 0
        read = partial(_read_direct, data, offset, (height, width), bits, masks, top_down)
    return Header("bmp", width, height, gray, True, read, Metadata(dpi=dpi), alpha=alpha)


def _palette(data: bytes, offset: int, header_size: int, bits: int, colours: int) -> npt.NDArray[np.uint8]:
    """Return the palette as (2 ** bits, 3) RGB, black where the file gives no colour."""
    entry, count = (3 if header_size in (12, 16) else 4), colours or 1 << bits
    begin = 14 + header_size
    # The pixels end a palette that states more colours than there is room for.
    stored = data[begin : min(begin + entry * min(count, 1 << bits), max(offset, begin))]
    found = np.frombuffer(stored[: len(stored) // entry * entry], np.uint8).reshape(-1, entry)
    palette = np.zeros((1 << bits, 3), np.uint8)
    palette[: len(found)] = found[:, 2::-1]
    if len(found) == 0:
        raise truncated(NAME, "its palette is missing")
    return palette


def _masks_of(data: bytes, header_size: int, bits: int, compression: int) -> tuple[int, ...]:
    if compression == 0 or bits == 24:
        return _MASKS_OF.get(bits, (0, 0, 0, 0))
    masks = unpack("<IIII", data, 54, NAME)
    if header_size in (40, 52) and compression == _MASKS:
        masks = (*masks[:3], 0)
    if 0 in masks[:3] or any(mask >> bits for mask in masks):
        raise unsupported(f"a BMP with the colour masks {', '.join(hex(mask) for mask in masks)}")
    return masks


def _rows(samples: npt.NDArray[Any], top_down: bool) -> npt.NDArray[Any]:
    return np.ascontiguousarray(samples if top_down else samples[::-1])


def _read_indexed(
    data: bytes,
    offset: int,
    shape: tuple[int, int],
    bits: int,
    palette: npt.NDArray[np.uint8],
    top_down: bool,
    runs: bool,
) -> Any:
    height, width = shape
    if runs:
        indices = _expand(data, offset, shape, bits)
    else:
        stride = (width * bits + 31) // 32 * 4
        packed = np.frombuffer(data, np.uint8, stride * height, offset).reshape(height, stride)
        per_byte = 8 // bits
        shifts = np.arange(per_byte - 1, -1, -1, dtype=np.uint8) * bits
        spread: npt.NDArray[np.uint8] = (packed[:, :, np.newaxis] >> shifts) & np.uint8((1 << bits) - 1)
        indices = spread.reshape(height, -1)[:, :width]
    pixels = palette[_rows(indices, top_down)]
    gray = bool((palette == palette[:, :1]).all())
    return np.ascontiguousarray(pixels[:, :, :1]) if gray else pixels


def _expand(data: bytes, offset: int, shape: tuple[int, int], bits: int) -> npt.NDArray[np.uint8]:
    """Expand run lengths (RLE8, RLE4) to indices; rows may be padded, as some writers do, to a multiple of four."""
    height, width = shape
    padded = -(-width // 4) * 4
    indices = np.zeros((height, padded), np.uint8)
    x = y = 0
    position = offset
    while True:
        count, value = unpack("<BB", data, position, NAME)
        position += 2
        if count == 0 and value == 1:
            break
        if count == 0 and value == 0:
            x, y = 0, y + 1
            continue
        if count == 0 and value == 2:
            right, down = unpack("<BB", data, position, NAME)
            position += 2
            x, y = x + right, y + down
            continue
        literal = count == 0
        number = value if literal else count
        size = (number * bits + 7) // 8 if literal else 1
        if position + (size if literal else 0) > len(data):
            raise truncated(NAME, f"ends at byte {len(data)} inside its runs")
        stored = np.frombuffer(data, np.uint8, size, position if literal else position - 1)
        if bits == 4:
            stored = np.stack([stored >> 4, stored & 15], axis=1).reshape(-1)
        run = stored[:number] if literal else np.resize(stored, number)
        if literal:
            position += size + size % 2
        if y >= height or x + number > padded:
            raise truncated(NAME, f"a run at byte {position} leaves the image")
        indices[y, x : x + number] = run
        x += number
    if y < height - 1:
        raise truncated(NAME, f"its runs end in row {y + 1} of {height}")
    return indices[:, :width]


def _read_direct(
    data: bytes, offset: int, shape: tuple[int, int], bits: int, masks: tuple[int, ...], top_down: bool
) -> Any:
    height, width = shape
    stride = (width * bits + 31) // 32 * 4
    packed = np.frombuffer(data, np.uint8, stride * height, offset).reshape(height, stride)
    if bits == 24:
        return cv2.cvtColor(_rows(packed[:, : width * 3].reshape(height, width, 3), top_down), cv2.COLOR_BGR2RGB)
    words = packed.view("<u2" if bits == 16 else "<u4")[:, :width].astype(np.uint32)
    planes = []
    for mask in masks if masks[3] else masks[:3]:
        shift = (mask & -mask).bit_length() - 1
        width_of_mask = (mask >> shift).bit_length()
        plane = (words & np.uint32(mask)) >> np.uint32(shift)
        if width_of_mask > 8:
            plane, width_of_mask = plane >> np.uint32(width_of_mask - 8), 8
        planes.append(widened(plane, width_of_mask))
    return _rows(np.stack(planes, axis=2), top_down)


def embed(data: bytes, metadata: Metadata) -> bytes:
    """Return the file with its resolution."""
    if metadata.dpi is None or unpack("<I", data, 14, NAME)[0] < 40:
        return data
    dots = (min(2**31 - 1, max(1, round(value / _INCH))) for value in metadata.dpi)
    return data[:38] + struct.pack("<ii", *dots) + data[46:]
