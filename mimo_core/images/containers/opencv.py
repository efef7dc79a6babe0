"""Pixels by OpenCV's decoders, in the program's order of channels."""

from typing import Any

import cv2
import numpy as np

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.containers.base import truncated

# The decoders of OpenCV report every damaged file on stderr; here each is an ImageError instead.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_with_opencv(data: bytes, name: str) -> Any:
    """Return the pixels, HWC gray, RGB or RGBA, uint8 or uint16.

    Raises:
        ImageError: truncated, unsupported, out_of_memory.
    """
    try:
        raw: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise cv_failure(error, ErrorKind.TRUNCATED, f"damaged {name}") from error
    if raw is None:
        raise truncated(name, "its image data cannot be decoded")
    if raw.dtype not in (np.uint8, np.uint16):
        raise ImageError(ErrorKind.UNSUPPORTED, f"{name} with samples of {raw.dtype} is not supported")
    if raw.ndim == 2:
        raw = raw[:, :, np.newaxis]
    if raw.shape[2] == 1:
        return np.ascontiguousarray(raw)
    if raw.shape[2] not in (3, 4):
        raise ImageError(ErrorKind.UNSUPPORTED, f"an image of {raw.shape[2]} channels is not supported")
    return cv2.cvtColor(raw, cv2.COLOR_BGR2RGB if raw.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def cv_failure(error: cv2.error, kind: ErrorKind, what: str) -> ImageError:
    """Return an error of OpenCV as one of an image; too little memory is always named so."""
    reason = str(getattr(error, "err", "") or error).strip()
    if getattr(error, "code", 0) == cv2.Error.StsNoMem:
        return ImageError(ErrorKind.OUT_OF_MEMORY, f"too little memory: {reason}")
    return ImageError(kind, f"{what}: {reason}")
