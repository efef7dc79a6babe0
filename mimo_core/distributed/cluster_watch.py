"""Noticing that a cluster is lost before Ray ends this process for it, with a last word that helps nobody."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from mimo_core.wording import duration

# After so long without its control service Ray ends the process of a driver.
_RAY_VARIABLE, _RAY_SECONDS = "RAY_gcs_rpc_server_reconnect_timeout_s", 60.0
_MARGIN_SECONDS = 10.0
_ASK_SECONDS = 2.0


@contextmanager
def watched(address: str, lost: Callable[[str], None]) -> Iterator[None]:
    """Ask the connected cluster's control service for signs of life for the duration of the block.

    Args:
        address: what messages call the cluster.
        lost: is told, on another thread, that the service has not answered for nearly as long as Ray waits for it: from
            then on calls to Ray may never return.
    """
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    known = float(os.environ.get(_RAY_VARIABLE) or _RAY_SECONDS)
    patience = max(known / 2, known - _MARGIN_SECONDS)
    over = threading.Event()
    watcher = threading.Thread(
        target=watch, args=(host.strip("[]"), int(port), address, patience, over, lost), name="cluster", daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        over.set()


def watch(
    host: str, port: int, address: str, patience: float, over: threading.Event, lost: Callable[[str], None]
) -> None:
    """Ask until it is over, or nothing has answered for `patience` seconds."""
    answered = time.monotonic()
    while not over.wait(min(_ASK_SECONDS, patience / 4)):
        try:
            socket.create_connection((host, port), timeout=_ASK_SECONDS).close()
        except OSError:
            if time.monotonic() - answered > patience:
                lost(f"the Ray cluster ({address}) has not answered for {duration(round(patience))}")
                return
        else:
            answered = time.monotonic()
