"""Members of tar and zip files as files of their own: addresses that tell where in its container a member lies."""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from mimo_core.errors import ErrorKind, ImageError

_ADDRESS = re.compile(r"(.+)#mimo-member=(\d+)\+(\d+)\+(\d+)(?:\+(stored|deflated)\+([0-9a-f]{8}))?", re.DOTALL)
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_MAGIC = b"PK\x03\x04"
# Names and extra fields of a zip's local header are mostly this short: one range holds header and content.
_SLACK = 512


@dataclass(frozen=True)
class Member:
    """Where a member lies.

    Attributes:
        container: path or URL of the tar or zip.
        offset: of the content in a tar, of the local header in a zip.
        packed: bytes of the content in the container.
        size: bytes of the file.
        method: None in a tar, `stored` or `deflated` in a zip.
        crc: CRC-32 of the file, in a zip.
    """

    container: str
    offset: int
    packed: int
    size: int
    method: str | None = None
    crc: int = 0

    @property
    def address(self) -> str:
        """The member as a path or URL that `read_url` reads."""
        more = "" if self.method is None else f"+{self.method}+{self.crc:08x}"
        return f"{self.container}#mimo-member={self.offset}+{self.packed}+{self.size}{more}"

    def read(self, fetch: Callable[[int, int], bytes]) -> bytes:
        """Return the file; `fetch` reads the container from an offset on, so many bytes at most.

        Raises:
            ImageError: TRUNCATED, the container is not what it was when it was listed, or is damaged.
        """
        if self.method is None:
            return self._whole(fetch(self.offset, self.packed) if self.packed else b"")
        data = fetch(self.offset, _LOCAL_HEADER.size + _SLACK + self.packed)
        if len(data) < _LOCAL_HEADER.size or data[:4] != _MAGIC:
            raise self._damaged("there is no member where it was")
        _, name, extra = _LOCAL_HEADER.unpack_from(data)
        start = _LOCAL_HEADER.size + name + extra
        content = data[start : start + self.packed]
        if len(content) < self.packed:
            content = fetch(self.offset + start, self.packed)
        if self.method == "deflated":
            try:
                # No more than the directory told: what unpacks to gigabytes is not to fill the memory.
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, self.size + 1)
            except zlib.error as error:
                raise self._damaged(str(error)) from None
        if zlib.crc32(self._whole(content)) != self.crc:
            raise self._damaged("its checksum differs")
        return content

    def _whole(self, data: bytes) -> bytes:
        if len(data) != self.size:
            raise self._damaged(f"{len(data)} of {self.size} bytes")
        return data

    def _damaged(self, detail: str) -> ImageError:
        return ImageError(ErrorKind.TRUNCATED, f"the member of the container is truncated or damaged: {detail}")


def member_of(url: str) -> Member | None:
    """Return the member that an address names, None where it names a file."""
    if "#mimo-member=" not in url or (found := _ADDRESS.fullmatch(url)) is None:
        return None
    container, offset, packed, size, method, crc = found.groups()
    return Member(container, int(offset), int(packed), int(size), method, int(crc or "0", 16))
