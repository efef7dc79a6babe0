"""Storage: stores (folders and buckets), single URLs, and the names of both."""

from mimo_core.storage.entry import Entry
from mimo_core.storage.file_errors import Retries
from mimo_core.storage.names import (
    check_key,
    check_keys,
    is_key,
    is_local,
    join,
    redact,
    redact_text,
    safe_key,
    scheme_of,
)
from mimo_core.storage.store import Store, info_url, open_url, read_url, write_url

__all__ = [
    "Entry",
    "Retries",
    "Store",
    "check_key",
    "check_keys",
    "info_url",
    "is_key",
    "is_local",
    "join",
    "open_url",
    "read_url",
    "redact",
    "redact_text",
    "safe_key",
    "scheme_of",
    "write_url",
]
