"""A prefix of an S3-compatible bucket as a store, through the client that s3fs sets up."""

import asyncio
import mimetypes
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from mimo_core.errors import ErrorKind, ImageError, MimoError, SystemFailure
from mimo_core.storage import etags
from mimo_core.storage.entry import Entry
from mimo_core.storage.file_errors import Retries
from mimo_core.storage.names import split_bucket
from mimo_core.storage.persistence import AloneError, BodyError, persist
from mimo_core.storage.s3_client import call, filesystem, require_conditional_put
from mimo_core.storage.s3_errors import alone_fault, code_of, is_transient, s3_fault

T = TypeVar("T")
Data = bytes | bytearray | memoryview

_CREATOR = "mimo-creator"
_NEIGHBOURS = 3
_SMALL_NEIGHBOUR = 4 << 20


class S3Prefix:
    """The backend for `s3://bucket/prefix`. Keys are taken raw; `Store` has checked those it lets through."""

    def __init__(self, path: str, retries: Retries) -> None:
        """Take `bucket/prefix` as `path`; nothing is asked of the server yet."""
        self.bucket, self.prefix = split_bucket(path)
        self._retries = retries

    def show(self, key: str) -> str:
        """Return the URL of `key` as messages show it."""
        return f"s3://{self.bucket}/{self._full(key)}"

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix and key else self.prefix or key

    # -- reading ----------------------------------------------------------------------------------------------------

    def fetch(self, key: str, max_bytes: int | None) -> tuple[bytes, Entry]:
        """Return the bytes and the entry of an object, in one request."""

        async def act(fs: Any) -> tuple[bytes, Entry]:
            answer = await call(fs, "get_object", Bucket=self.bucket, Key=self._full(key))
            body, size = answer["Body"], answer["ContentLength"]
            if max_bytes is not None and size > max_bytes:
                body.close()
                raise ImageError(
                    ErrorKind.TOO_LARGE, f"{self.show(key)} has {size} bytes; at most {max_bytes} are read"
                )
            data = await _body(body, size)
            await self._check(fs, key, data, answer)
            return data, Entry(key, size, _etag(answer))

        return self._run(act, key)

    async def _check(self, fs: Any, key: str, data: bytes, answer: Any) -> None:
        """Compare a body with its etag, where that is its MD5; with a stored checksum the client has compared it."""
        etag, headers = _etag(answer), _headers(answer)
        # The etags of directory buckets are no sums.
        if etag is None or self.bucket.endswith("--x-s3") or not etags.is_md5(etag, headers):
            return
        await etags.check(data, etag, id(fs), lambda: self._others_match(fs, key))

    async def _others_match(self, fs: Any, key: str) -> bool:
        """Return whether etags are MD5 sums here, judged by neighbours of an object; True where none can be seen."""
        folder = self._full(key).rpartition("/")[0]
        try:
            page = await call(fs, "list_objects_v2", Bucket=self.bucket, Prefix=folder and f"{folder}/", MaxKeys=50)
        except PermissionError:
            return True
        neighbours = [
            item["Key"]
            for item in page.get("Contents", ())
            if item["Key"] != self._full(key) and 0 < item["Size"] < _SMALL_NEIGHBOUR and etags.is_md5(_etag(item), {})
        ][:_NEIGHBOURS]
        found = [await _is_its_md5(fs, self.bucket, name) for name in neighbours]
        return True in found or False not in found

    def fetch_range(self, key: str, start: int, length: int) -> bytes:
        """At most `length` bytes from offset `start`."""

        async def act(fs: Any) -> bytes:
            answer = await call(
                fs, "get_object", Bucket=self.bucket, Key=self._full(key), Range=f"bytes={start}-{start + length - 1}"
            )
            return await _body(answer["Body"], answer["ContentLength"])

        return self._run(act, key)

    def info(self, key: str) -> Entry | None:
        """Return the entry of an existing object, else None."""

        async def act(fs: Any) -> Entry | None:
            try:
                answer = await call(fs, "head_object", Bucket=self.bucket, Key=self._full(key))
            except FileNotFoundError:
                return None
            except PermissionError:
                # The answer to a HEAD has no body to tell bad credentials from a refused key; that to a GET has.
                await call(fs, "get_object", Bucket=self.bucket, Key=self._full(key), Range="bytes=0-0")
                raise
            return Entry(key, answer["ContentLength"], _etag(answer))

        return self._run(act, key)

    # -- listing ----------------------------------------------------------------------------------------------------

    def entries(self, folder: str, recursive: bool, folders: bool, start_after: str) -> Iterator[Entry]:
        """Yield entries below `folder` in the server's order; the next page is asked for while one is used."""
        from fsspec.asyn import get_loop

        fs = filesystem()
        base = f"{self.prefix}/" if self.prefix else ""
        options: dict[str, Any] = {"Bucket": self.bucket, "Prefix": base + (f"{folder}/" if folder else "")}
        if not recursive:
            options["Delimiter"] = "/"
        if start_after:
            options["StartAfter"] = base + start_after

        async def page(token: str | None) -> Any:
            async def act(fs: Any) -> Any:
                more = {"ContinuationToken": token} if token else {}
                return await call(fs, "list_objects_v2", **options, **more)

            return await self._attempts(fs, act, folder, "list")

        def ask(token: str | None) -> Any:
            return asyncio.run_coroutine_threadsafe(page(token), get_loop())

        coming = ask(None)
        try:
            while coming is not None:
                answer = coming.result()
                token = answer.get("NextContinuationToken") if answer.get("IsTruncated") else None
                coming = ask(token) if token else None
                found = [
                    Entry(item["Key"][len(base) :], item["Size"], _etag(item))
                    for item in answer.get("Contents", ())
                    if not item["Key"].endswith("/")
                ]
                if folders:
                    found += [
                        Entry(item["Prefix"][len(base) :], None, None) for item in answer.get("CommonPrefixes", ())
                    ]
                    found.sort(key=lambda entry: entry.key)
                yield from found
        finally:
            if coming is not None:
                coming.cancel()

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, key: str, data: Data) -> Entry:
        """Replace the object of `key` by one PUT."""
        body = bytes(data)

        async def act(fs: Any) -> Entry:
            answer = await call(
                fs, "put_object", Bucket=self.bucket, Key=self._full(key), Body=body, **_content_type(key)
            )
            return Entry(key, len(body), _etag(answer))

        return self._run(act, key, "write")

    def create(self, key: str, data: Data) -> bool:
        """Write the object of `key` unless it exists, decided by the server (`If-None-Match: *`)."""
        body, token = bytes(data), uuid.uuid4().hex

        async def act(fs: Any) -> bool:
            await require_conditional_put(fs)
            try:
                await call(
                    fs,
                    "put_object",
                    Bucket=self.bucket,
                    Key=self._full(key),
                    Body=body,
                    IfNoneMatch="*",
                    Metadata={_CREATOR: token},
                    **_content_type(key),
                )
            except (OSError, _botocore_error()) as error:
                code, status = code_of(error)
                if code != "PreconditionFailed" and status != 412:
                    raise
                # An earlier try, ours or one that the HTTP client made unasked, may have been stored though its answer
                # was lost.
                return await self._creator(fs, key) == token
            return True

        return self._run(act, key, "write")

    async def _creator(self, fs: Any, key: str) -> str | None:
        try:
            answer = await call(fs, "head_object", Bucket=self.bucket, Key=self._full(key))
        except FileNotFoundError:
            return None
        creator: str | None = answer.get("Metadata", {}).get(_CREATOR)
        return creator

    def delete(self, key: str) -> None:
        """Remove the object of `key`; nothing happens where there is none."""

        async def act(fs: Any) -> None:
            await call(fs, "delete_object", Bucket=self.bucket, Key=self._full(key))

        self._run(act, key, "write")

    def delete_tree(self, folder: str) -> None:
        """Remove every object below `folder`, a thousand in each request."""
        self.delete_many(entry.key for entry in self.entries(folder, True, False, ""))

    def delete_many(self, keys: Iterable[str], /) -> None:
        """Remove the objects of these keys, a thousand in each request."""
        left = iter(keys)
        while batch := list(islice(left, 1000)):
            self._delete_batch(batch)

    def _delete_batch(self, keys: list[str]) -> None:
        async def act(fs: Any) -> Any:
            objects = [{"Key": self._full(key)} for key in keys]
            return await call(fs, "delete_objects", Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})

        errors = self._run(act, keys[0], "write").get("Errors")
        if errors:
            code = errors[0].get("Code", "unknown")
            raise SystemFailure(ErrorKind.WRITE, f"{self.show(keys[0])} and others cannot be deleted ({code})")

    def remove_leftovers(self, older_than_s: float) -> int:  # noqa: ARG002
        """Nothing: a PUT that is not finished leaves nothing to see."""
        return 0

    # -- running ----------------------------------------------------------------------------------------------------

    def _run(self, act: Callable[[Any], Awaitable[T]], key: str, doing: str = "read") -> T:
        from fsspec.asyn import get_loop, sync

        fs = filesystem()

        async def attempts() -> T:
            return await self._attempts(fs, act, key, doing)

        result: T = sync(get_loop(), attempts)
        return result

    async def _attempts(self, fs: Any, act: Callable[[Any], Awaitable[T]], key: str, doing: str) -> T:
        async def answers() -> bool:
            try:
                await call(fs, "head_bucket", Bucket=self.bucket)
            except Exception as error:  # noqa: BLE001 - whatever a server answers, it is there
                return not is_transient(error)
            return True

        try:
            return await persist(
                lambda: act(fs),
                self._retries,
                is_transient,
                f"s3://{self.bucket}",
                # What cannot be listed or written is not one object's failure.
                answers if doing == "read" else None,
            )
        except Exception as error:
            if isinstance(error, MimoError):
                raise
            # The chain is cut: the messages below hold URLs, and they may hold signatures.
            if isinstance(error, AloneError):
                raise alone_fault(error, self.show(key)) from None
            raise s3_fault(error, self.show(key), self.bucket, doing) from None


async def _is_its_md5(fs: Any, bucket: str, name: str) -> bool | None:
    """Return whether the etag of an object is its MD5; None where it is none or the object cannot be read."""
    try:
        answer = await call(fs, "get_object", Bucket=bucket, Key=name)
        data = await _body(answer["Body"], answer["ContentLength"])
    except Exception:  # noqa: BLE001 - says nothing of the object that is to be judged
        return None
    etag = _etag(answer)
    if not etags.is_md5(etag, _headers(answer)):
        return None
    return await etags.md5(data) == etag


async def _body(body: Any, size: int) -> bytes:
    from botocore.exceptions import FlexibleChecksumError

    try:
        data: bytes = await body.read()
    except FlexibleChecksumError:
        raise BodyError("what arrives does not have the checksum of what was stored") from None
    finally:
        body.close()
    if len(data) != size:
        raise ConnectionResetError(f"{len(data)} of {size} bytes arrived")
    return data


def _etag(answer: Any) -> str | None:
    etag: str | None = answer.get("ETag")
    return etag.strip('"') if etag else None


def _headers(answer: Any) -> dict[str, str]:
    headers: dict[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


def _content_type(key: str) -> dict[str, str]:
    kind = mimetypes.guess_type(key.rpartition("/")[2])[0]
    return {"ContentType": kind} if kind else {}


def _botocore_error() -> type[Exception]:
    from botocore.exceptions import ClientError

    error: type[Exception] = ClientError
    return error
