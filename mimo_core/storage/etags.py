"""Etags that are MD5 sums: what has arrived is checked against them, where a server's are known to be such sums."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Hashable, Mapping

from mimo_core.storage.persistence import BodyError

_MD5 = re.compile("[0-9a-f]{32}")
# Smaller bodies are hashed where they are: handing them to another thread takes longer.
_SMALL = 1 << 18

# Servers by what was seen of them: an etag that was the MD5 of its body, or several that were not.
_proven: set[Hashable] = set()
_refuted: set[Hashable] = set()


def is_md5(etag: str | None, headers: Mapping[str, str]) -> bool:
    """Return whether an etag looks like an MD5 sum: not that of several parts, nor of an object encrypted by a key.

    Args:
        etag: without quotes.
        headers: of the answer, names in lower case.
    """
    if etag is None or not _MD5.fullmatch(etag) or "content-encoding" in headers:
        return False
    by_key = headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
    return not by_key and "x-amz-server-side-encryption-customer-algorithm" not in headers


async def check(data: bytes, etag: str, server: Hashable, others_match: Callable[[], Awaitable[bool]]) -> None:
    """Compare a body with its etag, which looks like an MD5 sum.

    Args:
        data: what has arrived.
        etag: without quotes.
        server: whose etags are of one kind.
        others_match: looks at other objects of a server of which nothing is known yet.

    Raises:
        BodyError: the body is not the one that was stored.
    """
    if await md5(data) == etag:
        _proven.add(server)
    elif server not in _proven and server not in _refuted and not await others_match():
        _refuted.add(server)
    elif server not in _refuted or server in _proven:
        raise BodyError("what arrives does not have the MD5 of what was stored")


async def md5(data: bytes) -> str:
    """Return the MD5 sum of some bytes in hexadecimal digits."""
    if len(data) <= _SMALL:
        return _md5(data)
    return await asyncio.get_running_loop().run_in_executor(None, _md5, data)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
