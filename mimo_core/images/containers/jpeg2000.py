"""JPEG 2000: size and depth from its codestream, pixels by imagecodecs, profile, EXIF and XMP from its boxes.

Layout: ISO/IEC 15444-1, annexes A (codestream) and I (JP2); the UUIDs of EXIF and XMP are those that ExifTool lists.
"""

import struct
from functools import partial
from typing import Any

import numpy as np

from mimo_core.images.containers import colour
from mimo_core.images.containers.base import (
    MAX_METADATA,
    Header,
    Metadata,
    boxes,
    check_size,
    printable,
    truncated,
    unpack,
    unsupported,
)

NAME = "JPEG 2000"
SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
CODESTREAM = b"\xff\x4f\xff\x51"
_EXIF = bytes.fromhex("4a706754696666457869662d3e4a5032")
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def inspect(data: bytes) -> Header:
    """Header of a JPEG 2000 file or codestream."""
    metadata, lost = Metadata(), list[str]()
    start = 0
    if data.startswith(SIGNATURE[:8]):
        found = list(boxes(data, 0, len(data), NAME))
        streams = [begin for kind, begin, _ in found if kind == b"jp2c"]
        if not streams:
            raise truncated(NAME, "it holds no image data")
        start = streams[0]
        metadata, lost = _metadata(data, found)
    if data[start : start + 4] != CODESTREAM:
        raise truncated(NAME, "its codestream does not begin as one")
    right, bottom, left, top = unpack(">IIII", data, start + 8, NAME)
    (components,) = unpack(">H", data, start + 40, NAME)
    depths = {unpack(">B", data, start + 42 + 3 * number, NAME)[0] for number in range(min(components, 5))}
    width, height = right - left, bottom - top
    check_size(NAME, width, height)
    if components > 4:
        raise unsupported(f"a JPEG 2000 with {components} components")
    if len(depths) > 1 or max(depths) & 0x80:
        raise unsupported("a JPEG 2000 of signed samples or of components that differ in depth")
    bits = depths.pop() + 1
    if bits > 16:
        raise unsupported(f"a JPEG 2000 of {bits}-bit samples")
    # Whether it is reversible is told per tile and component; what is written is always lossless.
    return Header(
        "jp2", width, height, components < 3, True, partial(_read, data, bits, components), metadata, tuple(lost)
    )


def _read(data: bytes, bits: int, components: int) -> Any:
    import imagecodecs

    try:
        pixels: Any = imagecodecs.jpeg2k_decode(data)
    except (RuntimeError, ValueError) as error:
        raise truncated(NAME, str(error)) from error
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if pixels.shape[2] != components:
        raise truncated(NAME, f"decodes to {pixels.shape[2]} of {components} components")
    pixels = colour.widened(pixels, bits)
    if components == 2:
        pixels = pixels[:, :, [0, 0, 0, 1]]
    return np.ascontiguousarray(pixels)


def _metadata(data: bytes, found: list[tuple[bytes, int, int]]) -> tuple[Metadata, list[str]]:
    exif = icc = xmp = b""
    lost = []
    for kind, begin, end in found:
        if kind == b"jp2h":
            for inner, start, stop in boxes(data, begin, end, NAME):
                if inner == b"colr" and data[start] == 2:
                    icc = icc or data[start + 3 : stop]
                elif inner == b"pclr":
                    raise unsupported("a JPEG 2000 with a palette")
                elif inner == b"res ":
                    lost.append("resolution")
        elif kind == b"uuid" and data[begin : begin + 16] == _EXIF:
            exif = exif or data[begin + 16 : end].removeprefix(b"Exif\0\0")
        elif kind == b"uuid" and data[begin : begin + 16] == _XMP:
            xmp = xmp or data[begin + 16 : end]
        elif kind not in (b"jP  ", b"ftyp", b"jp2c", b"free"):
            lost.append(f"the box {printable(kind)}")
    if max(len(exif), len(icc), len(xmp)) > MAX_METADATA:
        return Metadata(), [*lost, "a large profile or packet"]
    return Metadata(exif, icc, xmp), lost


def encode(pixels: Any, metadata: Metadata) -> bytes:
    """Return a lossless JPEG 2000 file.

    Args:
        pixels: HWC, uint8 or uint16, gray, RGB or RGBA.
        metadata: what goes with it.
    """
    import imagecodecs

    plain = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    data = bytes(imagecodecs.jpeg2k_encode(plain, level=0, codecformat="jp2", reversible=True))
    parts = []
    for kind, begin, end in boxes(data, 0, len(data), NAME):
        body = data[begin:end]
        if kind == b"jp2h" and metadata.icc:
            inner = [
                b"\2\0\0" + metadata.icc if name == b"colr" else data[start:stop]
                for name, start, stop in boxes(data, begin, end, NAME)
            ]
            names = [name for name, _, _ in boxes(data, begin, end, NAME)]
            body = b"".join(_box(name, content) for name, content in zip(names, inner, strict=True))
        if kind == b"jp2c":
            parts += [_box(b"uuid", _EXIF + metadata.exif)] if metadata.exif else []
            parts += [_box(b"uuid", _XMP + metadata.xmp)] if metadata.xmp else []
        parts.append(_box(kind, body))
    return b"".join(parts)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body
