"""The circuit breaker: tells a storage or a device that fails as a whole from images that fail one by one."""

from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.runs.record import Record

_SYSTEMIC = frozenset(
    kind.value for kind in (ErrorKind.STORAGE, ErrorKind.NO_PERMISSION, ErrorKind.WRITE, ErrorKind.DEVICE)
)
# Images that fail in a row for a reason outside of them before the run stops: soon if none ever succeeded.
_MOST_AT_FIRST = 100
_MOST_LATER = 1000


class Breaker:
    """Holds back shards in which every image failed for a reason outside of it, until an image succeeds again.

    A run that stops has not committed what is held back, so its next session tries those images again.
    """

    def __init__(self) -> None:
        self._held: list[tuple[int, list[Record]]] = []
        self._streak = 0
        self._succeeded = False

    def admit(self, shard: int, rows: list[Record]) -> list[tuple[int, list[Record]]]:
        """Take a complete shard; return those that may be committed now.

        Raises:
            SystemFailure: so many images failed in a row that the cause is not in them.
        """
        self._held.append((shard, rows))
        if not all(row.status == "failed" and row.error_kind in _SYSTEMIC for row in rows):
            self._succeeded = self._succeeded or any(_is_well(row) for row in rows)
            self._streak = 0
            return self.release()
        self._streak += len(rows)
        if self._streak >= (_MOST_LATER if self._succeeded else _MOST_AT_FIRST):
            last = rows[-1]
            raise SystemFailure(
                ErrorKind(last.error_kind),
                f"the last {self._streak} images all failed for a reason outside of them "
                f"({last.error_kind}: {last.error}); they are not recorded: mend it and run the same command again",
            )
        return []

    def release(self) -> list[tuple[int, list[Record]]]:
        """Give out what is held back; at the end of a run nothing more can show that the cause lies outside."""
        held, self._held = self._held, []
        return held


def _is_well(row: Record) -> bool:
    """Return whether an image was read and, unless it would gain little, restored and written."""
    return row.status == "restored" or row.error_kind == ErrorKind.LITTLE_TO_GAIN.value
