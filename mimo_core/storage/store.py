"""A folder on a disk, in a bucket or on the web, read, written and listed by keys."""

import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from mimo_core.errors import ErrorKind, ImageError, SystemFailure, UsageError
from mimo_core.storage.bucket import S3Prefix
from mimo_core.storage.entry import Entry
from mimo_core.storage.file_errors import Retries
from mimo_core.storage.local import LocalFolder
from mimo_core.storage.members import Member, member_of
from mimo_core.storage.names import TEMPORARY, check_key, join_raw, locate, redact, split_bucket
from mimo_core.storage.other import FsspecFolder, WebFolder

Data = bytes | bytearray | memoryview
_WEB = ("http", "https")


class _Backend(Protocol):
    def show(self, key: str) -> str: ...
    def fetch(self, key: str, max_bytes: int | None) -> tuple[bytes, Entry]: ...
    def fetch_range(self, key: str, start: int, length: int) -> bytes: ...
    def info(self, key: str) -> Entry | None: ...
    def entries(self, folder: str, recursive: bool, folders: bool, start_after: str, /) -> Iterator[Entry]: ...
    def write(self, key: str, data: Data, /) -> Entry: ...
    def create(self, key: str, data: Data, /) -> bool: ...
    def delete(self, key: str) -> None: ...
    def delete_many(self, keys: Iterable[str], /) -> None: ...
    def delete_tree(self, folder: str) -> None: ...
    def remove_leftovers(self, older_than_s: float) -> int: ...


def _backend(url: str, retries: Retries) -> _Backend:
    location = locate(url)
    if location.scheme == "file":
        return LocalFolder(location.path, retries)
    if location.scheme == "s3":
        return S3Prefix(location.path, retries)
    if location.scheme in _WEB:
        return WebFolder(location.path, retries)
    return FsspecFolder(location.scheme, location.path, retries)


class Store:
    """A folder: a local path, `file://`, `s3://bucket/prefix`, `http(s)://` (read only), or any other fsspec URL.

    Cheap to pickle (only the URL travels; settings come from the AWS variables where it arrives), safe to use from
    many threads at once and after a fork. Nothing is opened or created before the first call.

    Every call tries transient failures again (`retries`) and then raises ImageError (one file), SystemFailure
    (credentials, bucket, network, disk full: the store as a whole) or UsageError (a key that leaves the folder).
    """

    def __init__(self, url: str, *, retries: Retries | None = None) -> None:
        """Refuse URLs that name nothing or carry credentials (UsageError); nothing is asked of the storage yet."""
        self._retries = retries or Retries()
        location = locate(url)
        self.url: str = location.path if location.scheme == "file" else url.rstrip("/")
        self.is_local: bool = location.scheme == "file"
        self._prefix = f"{self.url.rstrip('/')}/" if location.scheme not in _WEB and self.url.isascii() else None
        self._backend = _backend(self.url, self._retries)

    def __reduce__(self) -> tuple[object, ...]:
        """Reduce it to its URL and how often it tries again."""
        return _open, (self.url, self._retries)

    @property
    def name(self) -> str:
        """The last part of its path or URL."""
        return self.url.rpartition("/")[2]

    def __str__(self) -> str:
        """Return the URL as messages may show it."""
        return redact(self.url)

    def __repr__(self) -> str:
        """Return what `str` does, named."""
        return f"Store({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        """Equal where both name the same place."""
        return isinstance(other, Store) and locate(self.url) == locate(other.url)

    def __hash__(self) -> int:
        """In step with equality."""
        return hash(locate(self.url))

    @property
    def path(self) -> Path | None:
        """The local folder, or None for a store elsewhere."""
        return Path(self.url) if self.is_local else None

    def show(self, key: str = "") -> str:
        """Return the path or URL of a key as messages may show it."""
        return self._backend.show(key)

    def url_of(self, name: str) -> str:
        """Return the absolute path or URL of a key or of a name that `list` gave, fit for `read_url` on any machine."""
        # As `join_raw` would, for the millions of names that a listing gives.
        return self._prefix + name if self._prefix is not None and name.isascii() else join_raw(self.url, name)

    def read(self, key: str, *, max_bytes: int | None = None) -> bytes:
        """Return the bytes of a file.

        Args:
            key: of the file.
            max_bytes: most bytes that it may have.

        Raises:
            ImageError: NOT_FOUND, NO_PERMISSION, or TOO_LARGE, which is found before anything is read.
        """
        return self.fetch(key, max_bytes=max_bytes)[0]

    def fetch(self, key: str, *, max_bytes: int | None = None) -> tuple[bytes, Entry]:
        """Return the bytes of a file together with the size and version that they had."""
        return self._backend.fetch(check_key(key), max_bytes)

    def open(self, key: str) -> io.BufferedReader:
        """Open a file to read in pieces and to seek in, buffered; for what is too large for `read`."""
        return open_backend(self._backend, check_key(key))

    def info(self, key: str) -> Entry | None:
        """Size and version of a file, None where there is none."""
        return self._backend.info(check_key(key))

    def exists(self, key: str) -> bool:
        """Return whether there is such a file (folders do not count)."""
        return self.info(key) is not None

    def size(self, key: str) -> int:
        """Return the size of a file in bytes.

        Raises:
            ImageError: NOT_FOUND where there is none.
        """
        entry = self.info(key)
        if entry is None or entry.size is None:
            raise ImageError(ErrorKind.NOT_FOUND, f"{self.show(key)}: no such file")
        return entry.size

    def list(
        self, folder: str = "", *, recursive: bool = True, folders: bool = False, start_after: str = ""
    ) -> Iterator[Entry]:
        """Yield the files below `folder`, nothing where it is missing.

        Sorted by the UTF-8 bytes of their keys on a local disk; a bucket's come in its server's order, which on
        Amazon's general-purpose buckets is the same, and on every other one at least is the same each time.
        Keys are relative to the store, and given as they are in storage: `check_key` may refuse one that was not
        written through a Store. Folders on the way come along only with `folders` and without `recursive`, their keys
        ending in a slash. `start_after` leaves out keys up to and including that one.
        """
        return self._backend.entries(check_key(folder) if folder else "", recursive, folders, start_after)

    def write(self, key: str, data: Data, *, private: bool = False, modified_ns: int | None = None) -> Entry:
        """Write a file at once and return its size and version: readers see the old or the new bytes, never a part.

        A `private` one is for its owner alone on a local disk (mode 0600); elsewhere that is for whoever gives rights.
        `modified_ns` is its time of modification, in nanoseconds since the epoch; buckets have only their own.
        """
        if isinstance(self._backend, LocalFolder):
            return self._backend.write(check_key(key), data, 0o600 if private else 0o666, modified_ns)
        return self._backend.write(check_key(key), data)

    def create(self, key: str, data: Data) -> bool:
        """Write a file at once unless it exists; among any number of contenders exactly one gets True."""
        return self._backend.create(check_key(key), data)

    def check_exclusive(self) -> None:
        """Make sure that the storage keeps the promise of `create`; some S3 imitations ignore the condition.

        Raises:
            SystemFailure: where a second creation of the same key succeeds.
        """
        key = f"check-{uuid4().hex}"
        try:
            if not self.create(key, b"1") or self.create(key, b"2"):
                raise SystemFailure(
                    ErrorKind.STORAGE, f"{self}: the storage does not honour exclusive writes (If-None-Match)"
                )
        finally:
            self.delete(key)

    def delete(self, key: str) -> None:
        """Remove a file; nothing happens where there is none."""
        self._backend.delete(check_key(key))

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove files, as many in a request as the storage takes; local folders that this leaves empty go with them.

        Raises:
            SystemFailure: some cannot be removed; others may be.
        """
        self._backend.delete_many(check_key(key) for key in keys)

    def delete_tree(self, folder: str) -> None:
        """Remove a folder below the store and all that is in it; the store itself cannot be removed by it."""
        self._backend.delete_tree(check_key(folder))

    def remove_leftovers(self, older_than_s: float = 0.0) -> int:
        """Remove what interrupted writes left behind, not what writers at work have, and return how many files."""
        return self._backend.remove_leftovers(older_than_s)

    def overlaps(self, other: "Store") -> bool:
        """Return whether one of both folders is, or lies in, the other; links are resolved."""
        mine, its = locate(self.url), locate(other.url)
        if mine.scheme != its.scheme:
            return False
        first, second = mine.path, its.path
        if mine.scheme == "file":
            first, second = str(Path(first).resolve()), str(Path(second).resolve())
        first, second = first.rstrip("/") + "/", second.rstrip("/") + "/"
        return first.startswith(second) or second.startswith(first)


def _open(url: str, retries: Retries) -> Store:
    return Store(url, retries=retries)


def read_url(url: str, *, max_bytes: int | None = None, retries: Retries | None = None) -> tuple[bytes, Entry]:
    """Return the bytes, size and version of one file by its absolute path or URL (presigned ones included).

    The entry's key is the URL, redacted. A member of a container (`Member.address`) is read alone, by its range; its
    version is the container's.
    """
    if (member := member_of(url)) is not None:
        return _read_member(member, max_bytes, retries)
    backend, key = _single(url, retries)
    data, entry = backend.fetch(key, max_bytes)
    return data, Entry(redact(url), entry.size, entry.version)


def info_url(url: str, *, retries: Retries | None = None) -> Entry | None:
    """Size and version of one file by its absolute path or URL; None where there is none."""
    if (member := member_of(url)) is not None:
        container = info_url(member.container, retries=retries)
        return container and Entry(redact(url), member.size, container.version)
    backend, key = _single(url, retries)
    entry = backend.info(key)
    return entry and Entry(redact(url), entry.size, entry.version)


def _read_member(member: Member, max_bytes: int | None, retries: Retries | None) -> tuple[bytes, Entry]:
    backend, key = _single(member.container, retries)
    entry = backend.info(key)
    if entry is None:
        raise ImageError(ErrorKind.NOT_FOUND, f"{backend.show(key)}: no such file")
    if max_bytes is not None and member.size > max_bytes:
        raise ImageError(ErrorKind.TOO_LARGE, f"{member.size} bytes are more than the limit of {max_bytes}")
    data = member.read(lambda start, length: backend.fetch_range(key, start, length))
    return data, Entry(redact(member.address), member.size, entry.version)


def write_url(url: str, data: Data, *, retries: Retries | None = None) -> Entry:
    """Write one file by its path or URL at once: readers see the old or the new bytes, never a part.

    Returns:
        Its size and version; the entry's key is the URL, redacted.
    """
    backend, key = _single(url, retries)
    entry = backend.write(key, data)
    if isinstance(backend, LocalFolder):
        # The folder is somebody's own, and what others write there just now keeps it.
        with suppress(OSError):
            Path(backend.root, TEMPORARY).rmdir()
    return Entry(redact(url), entry.size, entry.version)


def open_url(url: str, *, retries: Retries | None = None) -> io.BufferedReader:
    """Open one file by its path or URL, to read in pieces and to seek in."""
    backend, key = _single(url, retries)
    return open_backend(backend, key)


def _single(url: str, retries: Retries | None) -> tuple[_Backend, str]:
    location = locate(url)
    retries = retries or Retries()
    if location.scheme == "file":
        folder, _, name = location.path.rpartition("/")
        return LocalFolder(folder or "/", retries), name
    if location.scheme == "s3":
        bucket, key = split_bucket(url.split("://", 1)[1])
        if not key:
            raise UsageError(f"{redact(url)} names a bucket, not a file")
        return S3Prefix(bucket, retries), key
    if location.scheme in _WEB:
        return WebFolder(url, retries), ""
    folder, _, name = location.path.rpartition("/")
    return FsspecFolder(location.scheme, folder, retries), name


class _Pieces(io.RawIOBase):
    """A file read by ranges."""

    def __init__(self, backend: _Backend, key: str, size: int) -> None:
        super().__init__()
        self._backend = backend
        self._key = key
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        length = min(len(view), self._size - self._at)
        if length <= 0:
            return 0
        data = self._backend.fetch_range(self._key, self._at, length)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        # The inherited one asks for 8 KiB at a time.
        length = self._size - self._at
        data = self._backend.fetch_range(self._key, self._at, length) if length > 0 else b""
        self._at += len(data)
        return data


def open_backend(backend: _Backend, key: str) -> io.BufferedReader:
    """Return a buffered reader over ranges of one file."""
    entry = backend.info(key)
    if entry is None or entry.size is None:
        backend.fetch_range(key, 0, 1)
        raise ImageError(ErrorKind.NOT_FOUND, f"{backend.show(key)}: no such file, or of unknown size")
    return io.BufferedReader(_Pieces(backend, key, entry.size), buffer_size=1 << 20)
