"""Workers that do not get their sessions open in time."""

from mimo_core.distributed.workers.handle import WorkerHandle
from mimo_core.errors import ErrorKind, SystemFailure

# A session is opened within this time or `--timeout`, whichever is longer.
OPENING_SECONDS = 120.0
# So many workers in a row that did not, while no other works: none will.
MAX_STUCK_OPENINGS = 3


class Openings:
    """Tells which openings have taken too long, and when that many have that none will succeed.

    Args:
        timeout: seconds that an image may take.
    """

    def __init__(self, timeout: float) -> None:
        self._most = max(OPENING_SECONDS, timeout)
        self._stuck = 0

    @property
    def reason(self) -> str:
        """What is wrong with one that has taken too long."""
        return f"its session did not open within {self._most:g} s"

    def succeeded(self) -> None:
        """Note that a session was opened."""
        self._stuck = 0

    def has_failed(self, handle: WorkerHandle, now: float) -> bool:
        """Return whether a worker that opens its session has taken too long, and count it; to be asked no more then."""
        if handle.host is None or now - handle.opening_since <= self._most:
            return False
        self._stuck += 1
        return True

    def require_hope(self, handle: WorkerHandle) -> None:
        """Refuse to go on after too many in a row.

        Raises:
            SystemFailure: there were; `handle` was the last one.
        """
        if self._stuck >= MAX_STUCK_OPENINGS:
            raise SystemFailure(
                ErrorKind.DEVICE,
                f"{self._stuck} workers in a row did not start, the last one on {handle.host}: {self.reason}; "
                "look at the device and its driver, or allow more with --timeout",
            )
