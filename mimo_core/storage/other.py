"""Web addresses, and every other fsspec file system (gs, abfs, memory, ...), as stores."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from mimo_core.errors import ErrorKind, ImageError, MimoError, SystemFailure, UsageError
from mimo_core.storage import etags
from mimo_core.storage.clients import client
from mimo_core.storage.entry import Entry
from mimo_core.storage.file_errors import Retries, is_transient_os_error, read_fault, write_fault
from mimo_core.storage.names import NO_PLACE_FOR_RUNS, TEMPORARY, creates_exclusively, redact
from mimo_core.storage.persistence import AloneError, BodyError, persist

T = TypeVar("T")
Data = bytes | bytearray | memoryview

_memory_lock = threading.Lock()


class WebFolder:
    """The read-only backend for http(s); presigned addresses are used as they are and shown without their query."""

    def __init__(self, url: str, retries: Retries) -> None:
        """Take a URL, which may be one file's address, read under the empty key."""
        self._url = url
        self._retries = retries

    def show(self, key: str) -> str:
        """Return the address of `key` as messages show it."""
        return redact(self._address(key))

    def _address(self, key: str) -> str:
        if not key:
            return self._url
        parts = urlsplit(self._url)
        return parts._replace(path=parts.path.rstrip("/") + "/" + quote(key)).geturl()

    def fetch(self, key: str, max_bytes: int | None) -> tuple[bytes, Entry]:
        """Return the body and the entry (etag) of a GET."""
        name = self.show(key)

        async def act(fs: Any) -> tuple[bytes, Entry]:
            session = await fs.set_session()
            async with session.get(_encoded(self._address(key))) as answer:
                if answer.status >= 400:
                    raise _Status(answer.status)
                size = answer.content_length
                if max_bytes is not None and size is not None and size > max_bytes:
                    raise ImageError(ErrorKind.TOO_LARGE, f"{name} has {size} bytes; at most {max_bytes} are read")
                data = await _body(answer, max_bytes, name)
                etag = answer.headers.get("ETag")
                headers = {name.lower(): value for name, value in answer.headers.items()}
            entry = Entry(key, len(data), etag.strip('"') if etag else None)
            # A server of S3; the tags of others are whatever they like.
            if entry.version is not None and "x-amz-request-id" in headers and etags.is_md5(entry.version, headers):
                await etags.check(data, entry.version, urlsplit(self._url).netloc, _nothing_else_is_known)
            return data, entry

        return self._run(act, name)

    def fetch_range(self, key: str, start: int, length: int) -> bytes:
        """At most `length` bytes from offset `start`, whether or not the server knows ranges."""

        async def act(fs: Any) -> bytes:
            session = await fs.set_session()
            headers = {"Range": f"bytes={start}-{start + length - 1}"}
            async with session.get(_encoded(self._address(key)), headers=headers) as answer:
                if answer.status >= 400:
                    raise _Status(answer.status)
                data: bytes = await answer.read()
                return data if answer.status == 206 else data[start : start + length]

        return self._run(act, self.show(key))

    def info(self, key: str) -> Entry | None:
        """Return the entry of an existing address, else None, by a GET that is not read: some allow no HEAD."""

        async def act(fs: Any) -> Entry | None:
            session = await fs.set_session()
            async with session.get(_encoded(self._address(key))) as answer:
                if answer.status in (404, 410):
                    return None
                if answer.status >= 400:
                    raise _Status(answer.status)
                etag = answer.headers.get("ETag")
                return Entry(key, answer.content_length, etag.strip('"') if etag else None)

        return self._run(act, self.show(key))

    def entries(self, folder: str, *_: object) -> Iterator[Entry]:
        """Refused: the web has no folders."""
        raise UsageError(f"{self.show(folder)}: a web address cannot be listed; give a list of its images instead")

    def write(self, key: str, _: Data, /) -> Entry:
        """Refused: nothing is written to the web."""
        raise UsageError(f"{self.show(key)}: a web address cannot be written to")

    def create(self, key: str, _: Data, /) -> bool:
        """Refused, as `write`."""
        raise UsageError(f"{self.show(key)}: a web address cannot be written to")

    def delete(self, key: str) -> None:
        """Refused, as `write`."""
        raise UsageError(f"{self.show(key)}: a web address cannot be written to")

    def delete_many(self, keys: Iterable[str], /) -> None:
        """Refused, as `write`."""
        for key in keys:
            self.delete(key)

    def delete_tree(self, folder: str) -> None:
        """Refused, as `write`."""
        self.delete(folder)

    def remove_leftovers(self, older_than_s: float) -> int:  # noqa: ARG002
        """Nothing: nothing is written."""
        return 0

    def _run(self, act: Callable[[Any], Awaitable[T]], name: str) -> T:
        from fsspec.asyn import get_loop, sync

        fs = _web_filesystem()

        async def answers() -> bool:
            # Hosts differ, so that each address fails alone.
            return True

        async def attempts() -> T:
            return await persist(lambda: act(fs), self._retries, _is_transient, name, answers)

        try:
            result: T = sync(get_loop(), attempts)
        except Exception as error:
            if isinstance(error, MimoError):
                raise
            # The chain is cut: the client's messages hold the whole address with its signature.
            raise _web_fault(error.cause if isinstance(error, AloneError) else error, name) from None
        return result


async def _body(answer: Any, max_bytes: int | None, name: str) -> bytes:
    """Return the body; one whose length is not told is read to the limit and no further."""
    if max_bytes is None or answer.content_length is not None:
        whole: bytes = await answer.read()
        return whole
    pieces, size = [], 0
    async for piece in answer.content.iter_chunked(1 << 16):
        size += len(piece)
        if size > max_bytes:
            raise ImageError(ErrorKind.TOO_LARGE, f"{name} has more than {max_bytes} bytes, which are the most read")
        pieces.append(piece)
    return b"".join(pieces)


async def _nothing_else_is_known() -> bool:
    return True


class _Status(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, BodyError):
        return True
    if isinstance(error, _Status):
        return error.status in (408, 425, 429) or (error.status >= 500 and error.status != 501)
    if type(error).__name__ == "InvalidURL":
        return False
    return isinstance(error, (OSError, asyncio.TimeoutError)) or _is_client_error(error)


def _is_client_error(error: BaseException) -> bool:
    return any(kind.__module__.partition(".")[0] == "aiohttp" for kind in type(error).__mro__)


def _web_fault(error: Exception, name: str) -> MimoError:
    # Addresses of a list may lie on many hosts, so that none of their failures says anything about the others.
    if isinstance(error, _Status):
        if error.status in (404, 410):
            return ImageError(ErrorKind.NOT_FOUND, f"{name}: no such address (HTTP {error.status})")
        if error.status in (401, 403):
            text = f"{name}: no permission to read (HTTP {error.status}; a presigned address may have expired)"
            return ImageError(ErrorKind.NO_PERMISSION, text)
        return ImageError(ErrorKind.STORAGE, f"{name}: the server answers HTTP {error.status}")
    if isinstance(error, BodyError):
        return ImageError(ErrorKind.STORAGE, f"{name}: damaged: {error}")
    if type(error).__name__ == "InvalidURL":
        return ImageError(ErrorKind.STORAGE, f"{name}: not a valid web address")
    return ImageError(ErrorKind.STORAGE, f"{name}: the server cannot be reached ({type(error).__name__})")


def _encoded(address: str) -> Any:
    import yarl

    # An address that is escaped already must stay as it was signed, letter by letter.
    return yarl.URL(address, encoded=address.isascii() and not any(letter <= " " for letter in address))


def _web_filesystem() -> Any:
    return client("http", _web_client)


def _web_client() -> Any:
    import aiohttp
    import fsspec

    timeout = aiohttp.ClientTimeout(total=None, connect=15, sock_connect=10, sock_read=60)
    return fsspec.filesystem("http", skip_instance_cache=True, client_kwargs={"timeout": timeout})


class FsspecFolder:
    """The backend for every other fsspec URL; needs the package of its scheme (gcsfs, adlfs, ...)."""

    def __init__(self, scheme: str, url: str, retries: Retries) -> None:
        """Refuse schemes whose package is not installed."""
        self._scheme = scheme
        self._url = url
        self._retries = retries
        self._fs()

    def _fs(self) -> Any:
        import fsspec

        def make() -> Any:
            return fsspec.filesystem(self._scheme, skip_instance_cache=True, use_listings_cache=False, **options)

        try:
            options = fsspec.get_filesystem_class(self._scheme)._get_kwargs_from_urls(self._url)
            return client((self._scheme, *sorted(options.items())), make)
        except (ImportError, ValueError) as error:
            raise UsageError(f"{redact(self._url)}: {error}") from None

    def _path(self, key: str) -> str:
        root = self._fs()._strip_protocol(self._url).rstrip("/")
        return f"{root}/{key}" if key else root

    def show(self, key: str) -> str:
        """Return the URL of `key` as messages show it."""
        return redact(f"{self._url}/{key}" if key else self._url)

    def fetch(self, key: str, max_bytes: int | None) -> tuple[bytes, Entry]:
        """Return the bytes and the entry of a file."""
        entry = self.info(key)
        if entry is None:
            raise ImageError(ErrorKind.NOT_FOUND, f"{self.show(key)}: no such file")
        if max_bytes is not None and entry.size is not None and entry.size > max_bytes:
            raise ImageError(
                ErrorKind.TOO_LARGE, f"{self.show(key)} has {entry.size} bytes; at most {max_bytes} are read"
            )
        data: bytes = self._reading(lambda: self._fs().cat_file(self._path(key)), key)
        return data, Entry(key, len(data), entry.version)

    def fetch_range(self, key: str, start: int, length: int) -> bytes:
        """At most `length` bytes from offset `start`."""
        data: bytes = self._reading(lambda: self._fs().cat_file(self._path(key), start=start, end=start + length), key)
        return data

    def info(self, key: str) -> Entry | None:
        """Return the entry of an existing file, else None."""

        def act() -> Entry | None:
            try:
                found = self._fs().info(self._path(key))
            except FileNotFoundError:
                return None
            return _entry(key, found) if found["type"] == "file" else None

        return self._reading(act, key)

    def entries(self, folder: str, recursive: bool, folders: bool, start_after: str) -> Iterator[Entry]:
        """Yield entries below `folder`, sorted within each folder as their keys' bytes are."""
        prefix = f"{folder}/" if folder else ""
        path = self._path(folder)

        def act() -> Any:
            try:
                return self._fs().ls(path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []

        found = []
        for item in self._reading(act, folder):
            name = item["name"].rstrip("/").rpartition("/")[2]
            if item["name"].strip("/") != path.strip("/") and name != TEMPORARY:
                found.append((name + "/" if item["type"] == "directory" else name, item))
        for name, item in sorted(found, key=lambda pair: pair[0]):
            key = prefix + name
            if not name.endswith("/"):
                if key > start_after:
                    yield _entry(key, item)
            elif recursive:
                yield from self.entries(key[:-1], True, folders, start_after)
            elif folders and key > start_after:
                yield Entry(key, None, None)

    def write(self, key: str, data: Data) -> Entry:
        """Replace the file of `key`; as atomic as one `pipe_file` of the file system is (object stores: wholly)."""
        body = bytes(data)

        def act() -> None:
            fs = self._fs()
            with suppress(NotImplementedError):
                fs.makedirs(self._path(key).rpartition("/")[0], exist_ok=True)
            fs.pipe_file(self._path(key), body)

        self._writing(act, key)
        return Entry(key, len(body), None)

    def create(self, key: str, data: Data) -> bool:
        """Write the file of `key` unless it exists, where the file system can decide that."""
        if not creates_exclusively(f"{self._scheme}://"):
            raise UsageError(f"{self.show(key)}: {NO_PLACE_FOR_RUNS}")
        body = bytes(data)

        def act() -> bool:
            try:
                with _memory_lock if self._scheme == "memory" else nullcontext():
                    self._fs().pipe_file(self._path(key), body, mode="create")
            except FileExistsError:
                return False
            return True

        # A second try would take what the first one has created for somebody else's.
        return self._writing(act, key, transient=lambda _: False)

    def delete(self, key: str) -> None:
        """Remove the file of `key`; nothing happens where there is none."""

        def act() -> None:
            with suppress(FileNotFoundError):
                self._fs().rm_file(self._path(key))

        self._writing(act, key)

    def delete_many(self, keys: Iterable[str], /) -> None:
        """Remove the files of these keys one by one."""
        for key in keys:
            self.delete(key)

    def delete_tree(self, folder: str) -> None:
        """Remove everything below `folder`."""

        def act() -> None:
            with suppress(FileNotFoundError):
                self._fs().rm(self._path(folder), recursive=True)

        self._writing(act, folder)

    def remove_leftovers(self, older_than_s: float) -> int:  # noqa: ARG002
        """Nothing: unfinished writes leave nothing here."""
        return 0

    def _reading(self, act: Callable[[], T], key: str) -> T:
        try:
            return self._retries.call(act, is_transient_os_error)
        except OSError as error:
            raise read_fault(error, self.show(key)) from None
        except Exception as error:
            if isinstance(error, MimoError):
                raise
            text = f"{self.show(key)}: cannot be read ({type(error).__name__})"
            raise SystemFailure(ErrorKind.STORAGE, text) from None

    def _writing(
        self, act: Callable[[], T], key: str, transient: Callable[[BaseException], bool] = is_transient_os_error
    ) -> T:
        try:
            return self._retries.call(act, transient)
        except OSError as error:
            raise write_fault(error, self.show(key)) from None
        except Exception as error:
            if isinstance(error, MimoError):
                raise
            text = f"{self.show(key)}: cannot be written ({type(error).__name__})"
            raise SystemFailure(ErrorKind.WRITE, text) from None


def _entry(key: str, found: Any) -> Entry:
    version = found.get("ETag") or found.get("etag") or found.get("md5Hash") or found.get("mtime")
    version = version or found.get("LastModified") or found.get("last_modified") or found.get("created")
    return Entry(key, found.get("size"), str(version).strip('"') if version is not None else None)
