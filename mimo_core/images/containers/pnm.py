"""PNM. By hand: OpenCV and imagecodecs do not read every maximum, and Pillow makes 8 bits of 16-bit colours."""

import re
from functools import partial
from typing import Any

import numpy as np

from mimo_core.images.containers.base import Header, check_size, truncated, unsupported
from mimo_core.images.containers.colour import widened

NAME = "PNM"
_FIELD = re.compile(rb"(?:[ \t\r\n\v\f]|#[^\n]*\n)*([0-9]{1,9})")


def inspect(data: bytes) -> Header:
    """Header of a whole portable bitmap, graymap or pixmap (P1 to P6)."""
    kind = data[1] - ord("0")
    fields: list[int] = []
    position = 2
    for _ in range(2 if kind in (1, 4) else 3):
        match = _FIELD.match(data, position)
        if match is None:
            raise truncated(NAME, "its header ends early")
        fields.append(int(match[1]))
        position = match.end()
    width, height = fields[:2]
    most = fields[2] if len(fields) > 2 else 1
    check_size(NAME, width, height)
    if not 1 <= most <= 65535:
        raise unsupported(f"a PNM with the maximum {most}")
    channels = 3 if kind in (3, 6) else 1
    if kind == 4:
        needed = position + 1 + (width + 7) // 8 * height
    elif kind in (5, 6):
        needed = position + 1 + width * height * channels * (1 if most < 256 else 2)
    else:
        # Text: every sample takes at least a digit (and, but for bitmaps, a separator).
        needed = position + width * height * channels * (1 if kind == 1 else 2) - (kind != 1)
    if needed > len(data):
        raise truncated(NAME, f"{len(data)} of {needed} bytes")
    read = partial(_read, data, position, kind, (height, width, channels), most)
    return Header("pnm", width, height, channels == 1, True, read)


def _read(data: bytes, position: int, kind: int, shape: tuple[int, int, int], most: int) -> Any:
    height, width, channels = shape
    if kind == 4:
        stride = (width + 7) // 8
        packed = np.frombuffer(data, np.uint8, stride * height, position + 1).reshape(height, stride)
        samples: Any = 1 - np.unpackbits(packed, axis=1)[:, :width]
    elif kind in (5, 6):
        dtype = np.dtype(np.uint8 if most < 256 else ">u2")
        samples = np.frombuffer(data, dtype, height * width * channels, position + 1)
    else:
        text = re.sub(rb"#[^\n]*", b"", data[position:])
        words = [bytes((digit,)) for digit in b"".join(text.split())] if kind == 1 else text.split()
        try:
            samples = np.array(words[: height * width * channels], dtype=object).astype(np.int64)
        except ValueError as error:
            raise truncated(NAME, f"its samples are no numbers: {error}") from error
        samples = 1 - samples if kind == 1 else samples
        if len(samples) < height * width * channels:
            raise truncated(NAME, f"{len(samples)} of {height * width * channels} samples")
    samples = samples.reshape(shape)
    if samples.min() < 0 or samples.max() > most:
        raise truncated(NAME, f"a sample is outside 0 to {most}")
    return _scaled(samples.astype(np.uint16), most)


def _scaled(samples: Any, most: int) -> Any:
    """Return samples whose white is `most` over the whole range of uint8 or uint16."""
    bits = most.bit_length()
    if most == (1 << bits) - 1:
        return widened(samples, bits)
    whole = 255 if most < 256 else 65535
    return ((samples.astype(np.uint32) * whole + most // 2) // most).astype(np.uint8 if most < 256 else np.uint16)
