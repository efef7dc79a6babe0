"""Weights from a URL, kept on the local disk so that many workers download them once."""

import hashlib
import os
import tempfile
from pathlib import Path

from mimo_core.errors import ImageError, WeightsError
from mimo_core.storage import info_url, read_url, redact
from mimo_core.storage.disk_cache import cache_folder, locked


def fetch_cached(url: str) -> tuple[bytes, str]:
    """Return the bytes of a remote weights file and its URL without credentials.

    The cache knows a file by its URL and by the version that the storage states (etag or time), so that a replaced
    file is noticed. Workers of a node wait for the one that downloads.

    Raises:
        WeightsError: there is nothing at the URL, or it may not be read.
        SystemFailure: the storage as a whole does not answer.
    """
    shown = redact(url)
    try:
        entry = info_url(url)
        if entry is None:
            raise WeightsError(f"there is no file at {shown}")
        if entry.version is None:
            # Without a version nothing tells whether the cached bytes are still those.
            return read_url(url)[0], shown
        identity = hashlib.sha256(f"{url}\n{entry.version}\n{entry.size}".encode()).hexdigest()
        folder = cache_folder() / "weights"
        cached = folder / f"{identity}.bin"
        with locked(folder / f"{identity}.lock"):
            if cached.exists():
                return cached.read_bytes(), shown
            data = read_url(url)[0]
            _place(cached, data)
            return data, shown
    except ImageError as error:
        raise WeightsError(f"weights cannot be read: {error}") from error


def _place(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".download-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
