"""TIFF directories, which EXIF uses too: reading them from either byte order, writing them in little-endian."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mimo_core.images.containers.base import Value, truncated, unsupported

EXIF_POINTER, GPS_POINTER = 34665, 34853
DESCRIPTIVE = frozenset(
    (270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 316, 18246, 33432, 40091, 40092, 40093, 40094, 40095)
)
"""Tags of a TIFF page that describe the picture rather than its storage (EXIF keeps them in its first directory)."""

_NAME = "TIFF"
_ORIENTATION = 274
# Real files have a few dozen of each; more of them are made to exhaust time or memory.
_MAX_DIRECTORIES = 256
_MAX_FIELDS = 4096
_MAX_BYTES = 1 << 26
_MAX_EXIF_VALUE = 60_000
_MAKER_NOTE_PARENT_ONLY = {40965}
# Bytes of one value, and of the unit that byte order applies to, by the field's type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_UNITS = {5: 4, 10: 4}
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}


@dataclass(frozen=True)
class Directory:
    """One directory (IFD): its fields by tag, the EXIF and GPS directories below it, where it and its values lie."""

    values: dict[int, Value]
    places: dict[int, int]
    big_endian: bool
    nested: dict[int, Directory] = field(default_factory=dict)
    position: int = 0

    def integers(self, tag: int) -> tuple[int, ...]:
        """Return the field's integers; empty where it is absent or of another type."""
        value = self.values.get(tag)
        if value is None or value.kind not in _INTEGERS:
            return ()
        return tuple(np.frombuffer(value.raw, "<" + _INTEGERS[value.kind]).tolist())

    def integer(self, tag: int, default: int) -> int:
        """Return the field's first integer."""
        return next(iter(self.integers(tag)), default)

    def rational(self, tag: int) -> float:
        """Return the field's first fraction; 0 where there is none."""
        value = self.values.get(tag)
        if value is None or value.kind != 5 or value.count < 1:
            return 0.0
        above, below = struct.unpack_from("<II", value.raw)
        return above / below if below else 0.0

    def raw(self, tag: int) -> bytes:
        """Return the field's bytes; empty where it is absent."""
        value = self.values.get(tag)
        return b"" if value is None else value.raw

    def patch_short(self, tag: int, number: int) -> tuple[int, bytes] | None:
        """Return where and with what to overwrite a field's first 16-bit integer; None where it is not one."""
        value = self.values.get(tag)
        if value is None or value.kind != 3:
            return None
        return self.places[tag], struct.pack(">H" if self.big_endian else "<H", number)


def read_directories(data: bytes) -> list[Directory]:
    """Return the chain of directories of a TIFF, BigTIFF or EXIF structure.

    Raises:
        ImageError: TRUNCATED where it is damaged.
    """
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        raise truncated(_NAME, "no TIFF structure")
    reader = _Reader(data, data[:1] == b"M", data[2:3] == b"+" or data[3:4] == b"+")
    position = reader.number(8, 8) if reader.big else reader.number(4, 4)
    directories: list[Directory] = []
    seen: set[int] = set()
    while position and position not in seen:
        if len(directories) == _MAX_DIRECTORIES:
            raise unsupported(f"a TIFF of more than {_MAX_DIRECTORIES} pages", "split it into single pages first")
        seen.add(position)
        directory, position = reader.directory(position)
        directories.append(directory)
    if not directories:
        raise truncated(_NAME, "it has no directory")
    return directories


def beginning_with(data: bytes, page: Directory) -> bytes:
    """Return a TIFF of several pages as one that begins with this page: decoders read the first one."""
    big = data[2:3] == b"+" or data[3:4] == b"+"
    start, size = (8, 8) if big else (4, 4)
    pointer = page.position.to_bytes(size, "big" if page.big_endian else "little")
    if data[start : start + size] == pointer:
        return data
    return b"".join((data[:start], pointer, memoryview(data)[start + size :]))


@dataclass
class _Reader:
    data: bytes
    big_endian: bool
    big: bool
    left: int = _MAX_BYTES

    def number(self, offset: int, size: int) -> int:
        if offset + size > len(self.data):
            raise truncated(_NAME, f"ends at byte {len(self.data)} inside its structure")
        return int.from_bytes(self.data[offset : offset + size], "big" if self.big_endian else "little")

    def directory(self, position: int, nested: bool = True) -> tuple[Directory, int]:
        """Return the directory at this byte and the position of the next."""
        head, entry, word = (8, 20, 8) if self.big else (2, 12, 4)
        count = self.number(position, head)
        values: dict[int, Value] = {}
        places: dict[int, int] = {}
        start = position + head
        end = start + count * entry
        if count > _MAX_FIELDS or end + word > len(self.data):
            raise truncated(_NAME, f"a directory at byte {position} reaches beyond the end")
        for at in range(start, end, entry):
            tag, kind = self.number(at, 2), self.number(at + 2, 2)
            number = self.number(at + 4, word)
            size = _SIZES.get(kind, 0) * number
            if size == 0:
                continue
            place = at + 4 + word
            if size > word:
                place = self.number(place, word)
            if place + size > len(self.data):
                raise truncated(_NAME, f"tag {tag} reaches byte {place + size} of {len(self.data)}")
            self.left -= size
            if self.left < 0:
                raise truncated(_NAME, f"more than {_MAX_BYTES} bytes in its directories")
            values.setdefault(tag, Value(kind, number, self._little(place, size, kind)))
            places.setdefault(tag, place)
        directory = Directory(values, places, self.big_endian, position=position)
        if nested:
            for pointer in (EXIF_POINTER, GPS_POINTER):
                below = directory.integer(pointer, 0)
                if below and below + head <= len(self.data):
                    directory.nested[pointer] = self.directory(below, nested=False)[0]
        return directory, self.number(end, word)

    def _little(self, place: int, size: int, kind: int) -> bytes:
        raw = self.data[place : place + size]
        unit = _UNITS.get(kind, _SIZES[kind])
        if not self.big_endian or unit == 1:
            return raw
        return np.frombuffer(raw, f">u{unit}").astype(f"<u{unit}").tobytes()


def short(number: int) -> Value:
    """Return a 16-bit integer."""
    return Value(3, 1, struct.pack("<H", number))


def rational(number: float) -> Value:
    """Return a positive fraction, to 1/1000."""
    return Value(5, 1, struct.pack("<II", min(2**32 - 1, max(0, round(number * 1000))), 1000))


def build_exif(page: Directory, *, orientation: int | None = None) -> bytes:
    """Return an EXIF structure (little-endian) of a TIFF page's descriptive tags and its EXIF and GPS directories."""
    kept = {tag: value for tag, value in page.values.items() if tag in DESCRIPTIVE and _fits(value)}
    if orientation is not None:
        kept[_ORIENTATION] = short(orientation)
    if not kept and not page.nested:
        return b""
    return append_directory(b"II*\0\0\0\0\0", Directory({}, {}, False), kept, page.nested)


def append_directory(data: bytes, page: Directory, new: Mapping[int, Value], nested: Mapping[int, Directory]) -> bytes:
    """Return a little-endian classic TIFF with the page's fields and new ones in a first directory at its end."""
    out = bytearray(data)
    out[4:8] = struct.pack("<I", _append_page(out, {**page.values, **new}, nested))
    return bytes(out)


def chain(files: Sequence[bytes], parts: Mapping[int, int]) -> bytes:
    """Return one little-endian classic TIFF of the first pages of several such files, in their order.

    Args:
        files: as `append_directory` returns them.
        parts: the tags that hold offsets of image data, each with the tag of the sizes.

    Raises:
        ImageError: UNSUPPORTED where it would be larger than 4 GiB.
    """
    out = bytearray(b"II*\0\0\0\0\0")
    link = 4
    for data in files:
        page = read_directories(data)[0]
        fields = dict(page.values)
        for tag, sizes in parts.items():
            places = []
            for offset, size in zip(page.integers(tag), page.integers(sizes), strict=True):
                out += b"\0" * (len(out) % 2)
                places.append(len(out))
                out += memoryview(data)[offset : offset + size]
            if places:
                fields[tag] = Value(4, len(places), np.array(places, "<u8").astype("<u4").tobytes())
        position = _append_page(out, fields, page.nested)
        if len(out) >= 1 << 32:
            raise unsupported("a TIFF of more than 4 GiB", "split it into single pages first")
        out[link : link + 4] = struct.pack("<I", position)
        link = position + 2 + 12 * len(fields | page.nested)
    return bytes(out)


def _append_page(out: bytearray, fields: Mapping[int, Value], nested: Mapping[int, Directory]) -> int:
    """Write a directory and those below it behind `out`; gives its position."""
    pointers = {}
    for pointer, below in nested.items():
        kept = {
            tag: value for tag, value in below.values.items() if tag not in _MAKER_NOTE_PARENT_ONLY and _fits(value)
        }
        pointers[pointer] = Value(4, 1, struct.pack("<I", _append(out, kept)))
    return _append(out, {**fields, **pointers})


def _append(out: bytearray, fields: Mapping[int, Value]) -> int:
    """Write a directory and its values behind `out`; gives its position."""
    out += b"\0" * (len(out) % 2)
    position = len(out)
    values_at = position + 2 + 12 * len(fields) + 4
    entries, values = bytearray(struct.pack("<H", len(fields))), bytearray()
    for tag in sorted(fields):
        value = fields[tag]
        entries += struct.pack("<HHI", tag, value.kind, value.count)
        if len(value.raw) <= 4:
            entries += value.raw.ljust(4, b"\0")
        else:
            entries += struct.pack("<I", values_at + len(values))
            values += value.raw + b"\0" * (len(value.raw) % 2)
    out += entries + b"\0\0\0\0" + values
    return position


def _fits(value: Value) -> bool:
    """Return whether a classic directory can hold the value and an EXIF segment might."""
    return value.kind < 16 and len(value.raw) <= _MAX_EXIF_VALUE
