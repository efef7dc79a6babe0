"""One file as storage lists it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A file of a store.

    `key` is relative to the store; `size` in bytes and `version` (modification time in ns, or etag) are None for what
    is no regular file. A folder, where folders are asked for, has a key that ends with a slash.
    """

    key: str
    size: int | None
    version: str | None
