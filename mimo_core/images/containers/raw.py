"""Camera raw, read by LibRaw (rawpy): developed with the camera's white balance to 16-bit sRGB, and never written."""

import io
from functools import partial
from typing import Any

import numpy as np

from mimo_core.errors import ImageError
from mimo_core.images.containers.base import Header, Metadata, check_size, truncated, unsupported
from mimo_core.images.containers.directory import build_exif, read_directories

NAME = "camera raw"
MAGICS = (
    (0, b"FUJIFILMCCD-RAW"),
    (0, b"IIRO"),
    (0, b"IIRS"),
    (0, b"MMOR"),
    (0, b"IIU\0"),
    (4, b"ftypcrx "),
    (8, b"HEAPCCDR"),
)
_TURNS = {0: 1, 3: 3, 5: 8, 6: 6}


def inspect(data: bytes) -> Header:
    """Header of a file that LibRaw reads."""
    rawpy = _library()
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            sizes = raw.sizes
    except (rawpy.LibRawError, RuntimeError, OSError) as error:
        raise unsupported(f"this camera raw file ({_words(error)})", "develop it to TIFF first") from error
    width, height = int(sizes.width), int(sizes.height)
    check_size(NAME, width, height)
    lost = ("raw data",)
    return Header("raw", width, height, False, True, partial(_read, data), Metadata(_exif(data, sizes.flip)), lost)


def _library() -> Any:
    try:
        import rawpy
    except ImportError:
        raise unsupported("camera raw without its library", "pip install rawpy") from None
    return rawpy


def _read(data: bytes) -> Any:
    rawpy = _library()
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            mosaic = raw.raw_image_visible
            # LibRaw leaves black what a file that was cut short does not hold; no sensor gives a row of zeros.
            if mosaic is not None and not mosaic.reshape(len(mosaic), -1).any(axis=1).all():
                raise truncated(NAME, "a part of its sensor's data is missing")
            pixels = raw.postprocess(use_camera_wb=True, output_bps=16, no_auto_bright=True, user_flip=0)
    except (rawpy.LibRawError, RuntimeError, OSError) as error:
        raise truncated(NAME, _words(error)) from error
    return np.ascontiguousarray(pixels)


def _words(error: Exception) -> str:
    text = error.args[0] if error.args else error
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def _exif(data: bytes, flip: int) -> bytes:
    """Return the descriptions of files that are built like a TIFF, with the orientation that LibRaw found."""
    try:
        page = read_directories(b"II*\0" + data[4:] if data[:2] == b"II" else data)[0]
    except ImageError:
        return b""
    return build_exif(page, orientation=_TURNS.get(flip, 1))
