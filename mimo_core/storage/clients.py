"""The network clients of this process: one for each kind of storage and its settings, never carried over a fork."""

import os
import threading
from collections.abc import Callable, Hashable
from typing import Any

_lock = threading.Lock()
_clients: dict[Hashable, Any] = {}
_inherited: list[dict[Hashable, Any]] = []


def client(settings: Hashable, make: Callable[[], Any]) -> Any:
    """Return this process's client for these settings, made at first use."""
    found = _clients.get(settings)
    if found is not None:
        return found
    with _lock:
        if settings not in _clients:
            _clients[settings] = make()
        return _clients[settings]


def _after_fork_in_child() -> None:
    global _lock, _clients
    _lock = threading.Lock()
    # The parent's clients must not be used here, nor may they be let go: closing their connections would take them
    # from the parent's event loop too, whose epoll set the child shares.
    _inherited.append(_clients)
    _clients = {}


os.register_at_fork(after_in_child=_after_fork_in_child)
