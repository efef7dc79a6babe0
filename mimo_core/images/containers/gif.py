"""GIF: one frame, whole; its pixels by OpenCV."""

from functools import partial

from mimo_core.images.containers.base import Header, check_size, truncated, unpack, unsupported
from mimo_core.images.containers.opencv import read_with_opencv

NAME = "GIF"


def inspect(data: bytes) -> Header:
    """Header of a whole GIF with one frame."""
    width, height, flags = unpack("<HHB", data, 6, NAME)
    position = 13 + _table(flags)
    frames = 0
    lost: tuple[str, ...] = ()
    while True:
        (kind,) = unpack("<B", data, position, NAME)
        if kind == 0x3B:
            break
        if kind == 0x21:
            (label,) = unpack("<B", data, position + 1, NAME)
            if label == 0xFE:
                lost = ("a comment",)
            position = _skip_blocks(data, position + 2)
        elif kind == 0x2C:
            (local,) = unpack("<B", data, position + 9, NAME)
            position = _skip_blocks(data, position + 11 + _table(local))
            frames += 1
            if frames > 1:
                raise unsupported("an animated GIF", "only still images are restored")
        else:
            raise truncated(NAME, f"an unknown block at byte {position}")
    if frames == 0:
        raise truncated(NAME, "it holds no image data")
    check_size(NAME, width, height)
    return Header("gif", width, height, False, True, partial(read_with_opencv, data, NAME), lost=lost)


def _table(flags: int) -> int:
    """Return bytes of a colour table with these flags."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(data: bytes, position: int) -> int:
    while True:
        (length,) = unpack("<B", data, position, NAME)
        position += 1 + length
        if length == 0:
            return position
