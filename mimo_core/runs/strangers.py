"""Which files below OUTPUT are a run's, told by their names, and the refusal of a folder that holds others."""

import json
import re
from collections.abc import Iterator

from mimo_core.errors import ImageError, UsageError
from mimo_core.runs.lease import current_epoch, read_lease
from mimo_core.storage import Store

_LEASE = re.compile(r"lease/(epoch-\d{8,}\.json|probe-[0-9a-f]{32})|check-[0-9a-f]{32}")
# What a driver leaves that was stopped before its run existed.
_PLANNING = re.compile(r"(replacement/)?(plan/(plan\.json|shard-\d{8,}\.parquet)|run\.json)")
_LEASE_FIELDS = frozenset({"epoch", "state", "beat"})


def refuse_strangers(store: Store) -> None:
    """Refuse a folder without a run that holds anything but what an interrupted planning left there.

    Names alone prove little: a plan without the lease under which it was written is taken for somebody else's.

    Raises:
        UsageError: it does; the message names what is there.
    """
    planned = None
    for name in _names(store):
        if _LEASE.fullmatch(name):
            continue
        if not _PLANNING.fullmatch(name):
            raise _refusal(store, name)
        planned = planned or name
    if planned is not None and not _has_lease(store):
        raise _refusal(store, planned)


def _names(store: Store) -> Iterator[str]:
    """Yield the names of files; of folders whose name no run has, the name alone."""
    for entry in store.list(recursive=False, folders=True):
        if entry.key in ("lease/", "plan/", "records/", "features/", "totals/", "images/", "replacement/"):
            yield from (file.key for file in store.list(entry.key[:-1]))
        else:
            yield entry.key


def _has_lease(store: Store) -> bool:
    try:
        document = read_lease(store, current_epoch(store))
    except (ImageError, ValueError, TypeError):
        return False
    return document is not None and set(document) >= _LEASE_FIELDS


def _refusal(store: Store, name: str) -> UsageError:
    return UsageError(
        f"{store} is not empty and no run of this program: it holds {json.dumps(name, ensure_ascii=False)}; choose an "
        "OUTPUT that is empty or does not exist yet"
    )
