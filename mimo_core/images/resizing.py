"""Images at another size."""

from typing import cast

import cv2

from mimo_core.errors import UsageError
from mimo_core.images.pixels import Array


def resize_bilinear(image: Array, size: tuple[int, int]) -> Array:
    """Resize HWC to `size` = (height, width) with bilinear `cv2.resize`, as the zoo does; the type is kept."""
    height, width = size
    if image.ndim != 3:
        raise UsageError(f"HWC expected, not {image.dtype} of shape {'x'.join(map(str, image.shape))}")
    if height < 1 or width < 1:
        raise UsageError(f"a size is a positive height and width, not {height}x{width}")
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    # OpenCV drops the axis of a single channel.
    return cast(Array, resized.reshape(height, width, image.shape[2]))
