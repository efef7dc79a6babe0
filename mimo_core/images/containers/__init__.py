"""The structure of image files: what they hold, whether they are whole, and the metadata beside their pixels.

OpenCV decodes and encodes the pixels. It does not say whether a file was cut short, how large it is before it
allocates, or what colour model the numbers are in, and it loses the metadata of some containers: that is read here,
from the bytes.
"""

from mimo_core.images.containers.base import Header, Metadata
from mimo_core.images.containers.registry import embed, inspect

__all__ = ["Header", "Metadata", "embed", "inspect"]
