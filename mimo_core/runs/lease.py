"""The lease: at most one driver commits to a run, fenced by an epoch that only ever grows.

Each holder owns one object, `lease/epoch-<n>.json`, which it alone rewrites as its heartbeat. Taking over means
creating the object of the next epoch exclusively, which exactly one contender can do on a local disk and in a bucket
alike. The newest epoch is the holder; an older one that notices this may not commit any more. Whether a holder lives
is judged by watching its heartbeat change on the observer's own monotonic clock, so clocks need not agree.
"""

import json
import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimo_core.errors import ErrorKind, ImageError, MimoError, SystemFailure
from mimo_core.storage import Retries, Store

FOLDER = "lease"
HEARTBEAT_SECONDS = 5.0
EXPIRY_SECONDS = 30.0
# The storage may go away again while an overdue renewal is made up for.
_MOST_RENEWALS = 3
_TAKEN = "another driver has taken this run over"
# Ctrl-C has two seconds for everything.
_RELEASE_SECONDS = 1.0


@dataclass(frozen=True)
class Timing:
    """How often a holder renews, when it counts as gone without a renewal, and how often others look (seconds)."""

    heartbeat: float = HEARTBEAT_SECONDS
    expiry: float = EXPIRY_SECONDS
    poll: float = 0.5


class LeaseLostError(MimoError):
    """Another driver has taken the run over, or this one could not renew in time: it must not commit."""


class Lease:
    """The right to commit to one run, held from construction by `acquire` until `release`."""

    def __init__(self, store: Store, epoch: int, timing: Timing) -> None:
        self._store = store
        self.epoch = epoch
        self._timing = timing
        self._beats = 0
        self._progress: dict[str, Any] = {}
        self._stop = threading.Event()
        self._renewed = time.monotonic()
        self._lost: str | None = None
        self._renewing = threading.Lock()
        self._thread = threading.Thread(target=self._renew_for_ever, name="lease", daemon=True)

    @classmethod
    def acquire(cls, store: Store, say: Callable[[str], None], timing: Timing | None = None) -> "Lease":
        """Take the run's lease, waiting visibly while another driver holds it.

        A holder that died on this host is replaced at once; one elsewhere after `timing.expiry` without a heartbeat.

        Args:
            store: the run's folder.
            say: told in words what is waited for.
            timing: the same for all drivers of a run, so not for users to choose.

        Raises:
            LeaseLostError: another living driver holds the run.
        """
        timing = timing or Timing()
        while True:
            current = current_epoch(store)
            if current:
                _wait_until_free(store, current, say, timing)
            lease = cls(store, current + 1, timing)
            begun = time.monotonic()
            if not store.create(_key(lease.epoch), lease._document("held")):
                continue
            if current_epoch(store) != lease.epoch:
                # While we were between looking and creating, others took the run over and deleted our epoch.
                store.delete(_key(lease.epoch))
                continue
            lease._renewed = begun
            lease._thread.start()
            if current:
                store.delete(_key(current))
            return lease

    def report(self, progress: dict[str, Any]) -> None:
        """Set the progress that the next heartbeats carry, for `mimo status` elsewhere."""
        self._progress = dict(progress)

    @property
    def age(self) -> float:
        """Seconds since it was last renewed."""
        return time.monotonic() - self._renewed

    def check(self) -> None:
        """Refuse to go on when this driver may no longer commit.

        A renewal that is overdue, because the storage was away or this driver was held up, is made up for: nobody else
        drives as long as the epoch is this one's.

        Raises:
            LeaseLostError: a newer epoch exists, or renewals take too long to be sure that none does.
            SystemFailure: the storage fails.
        """
        for _ in range(_MOST_RENEWALS):
            if self._lost is None and self._overdue():
                self._renew()
        if self._lost is None and self._overdue():
            self._lost = f"the lease could not be renewed within {self._timing.expiry:g} s"
        if self._lost is None and current_epoch(self._store) != self.epoch:
            self._lost = _TAKEN
        if self._lost is not None:
            raise LeaseLostError(f"{self._lost}; this one stops and commits nothing more")

    def release(self) -> None:
        """Give the lease back, so that the next driver need not wait."""
        self._stop.set()
        self._thread.join(_RELEASE_SECONDS)
        # A renewal that storage holds up is not waited for: this process ends, and the lease runs out.
        if self._lost is not None or self._thread.is_alive():
            return
        # Nor is a storage that fails now: it must not hide why the run ends, nor be waited for.
        store = Store(self._store.url, retries=Retries(attempts=2, patience_s=0))
        with suppress(SystemFailure, ImageError):
            if current_epoch(store) == self.epoch:
                store.write(_key(self.epoch), self._document("released"))

    def _renew_for_ever(self) -> None:
        while not self._stop.wait(self._timing.heartbeat):
            try:
                self._renew()
            except (SystemFailure, ImageError, OSError) as error:
                # Not final: `check` makes up for it.
                self._progress["lease_error"] = str(error)
            if self._lost is not None:
                return

    def _overdue(self) -> bool:
        return self.age > self._timing.expiry

    def _renew(self) -> None:
        with self._renewing:
            overdue = self._overdue()
            if current_epoch(self._store) != self.epoch:
                self._lost = _TAKEN
                return
            begun = time.monotonic()
            self._store.write(_key(self.epoch), self._document("held"))
            # Whoever waited for a sign of life until now may have taken over before it came.
            if overdue and current_epoch(self._store) != self.epoch:
                self._lost = _TAKEN
                return
            self._renewed = begun

    def _document(self, state: str) -> bytes:
        self._beats += 1
        document = {
            "epoch": self.epoch,
            "state": state,
            "beat": self._beats,
            "renewed_at": time.time(),
            "progress": self._progress,
            **_identity(),
        }
        return json.dumps(document, indent=1).encode()


def current_epoch(store: Store) -> int:
    """Return the newest epoch of the run's lease, 0 where there was none."""
    newest = 0
    for entry in store.list(FOLDER):
        name = entry.key.rsplit("/", 1)[-1]
        number = name.removeprefix("epoch-").removesuffix(".json")
        if number.isdigit() and name == f"epoch-{number}.json":
            newest = max(newest, int(number))
    return newest


def read_lease(store: Store, epoch: int | None = None) -> dict[str, Any] | None:
    """Return the newest lease document (holder, heartbeat, progress), or None where there is none."""
    epoch = epoch or current_epoch(store)
    if not epoch:
        return None
    try:
        document = json.loads(store.read(_key(epoch)))
    except ImageError as error:
        if error.kind is ErrorKind.NOT_FOUND:
            return None
        raise
    return dict(document)


def holder_is_dead_here(document: dict[str, Any]) -> bool:
    """Return whether the lease's holder was a process of this very host that no longer lives."""
    mine = _identity()
    if any(document.get(name) != mine[name] for name in ("host", "boot", "pid_namespace")):
        return False
    return _start_time(int(document["pid"])) != document.get("started")


def _wait_until_free(store: Store, epoch: int, say: Callable[[str], None], timing: Timing) -> None:
    watched_since = time.monotonic()
    last_beat = None
    announced = False
    while current_epoch(store) == epoch:
        document = read_lease(store, epoch)
        if document is None or document["state"] == "released" or holder_is_dead_here(document):
            return
        if last_beat is not None and document["beat"] != last_beat:
            raise LeaseLostError(
                f"a driver on {document['host']} (process {document['pid']}) is working on this run; "
                "follow it with `mimo status`, or stop it first"
            )
        last_beat = document["beat"]
        waited = time.monotonic() - watched_since
        if waited >= timing.expiry:
            say(f"the driver on {document['host']} gives no sign of life; taking the run over")
            return
        if not announced:
            say(
                f"a driver on {document['host']} (process {document['pid']}) holds this run; "
                f"waiting up to {timing.expiry:g} s for a sign of life"
            )
            announced = True
        time.sleep(timing.poll)


def _key(epoch: int) -> str:
    return f"{FOLDER}/epoch-{epoch:08d}.json"


def _identity() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "boot": _text("/proc/sys/kernel/random/boot_id"),
        "pid_namespace": _link("/proc/self/ns/pid"),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
    }


def _start_time(pid: int) -> str | None:
    """Return the kernel's start time of a process, which tells it from a later one with the same number."""
    status = _text(f"/proc/{pid}/stat")
    if status is None:
        return None
    fields = status.rsplit(")", 1)[-1].split()
    return None if fields[0] == "Z" else fields[19]


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _link(path: str) -> str | None:
    try:
        return str(Path(path).readlink())
    except OSError:
        return None
