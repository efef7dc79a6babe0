"""The fault hook: makes a worker die, hang or raise on a chosen image, for tests and trials; off by default.

Set `MIMO_FAULTS` to `action:glob` items separated by `;`, where the glob matches keys, or `pause-commit:seconds`
to hold the driver between the writing of a shard's outputs and the commit of its part, or `pause-image:seconds` to
hold a worker before each image:

    MIMO_FAULTS='die:*/0007.png;hang:b.jpg;raise:c.jpg;pause-commit:0.5'
"""

import fnmatch
import os
import signal
import threading
from dataclasses import dataclass

from mimo_core.errors import UsageError

VARIABLE = "MIMO_FAULTS"
_ACTIONS = ("die", "hang", "raise")


@dataclass(frozen=True)
class Faults:
    """The faults that the environment asks for; none in production."""

    rules: tuple[tuple[str, str], ...] = ()
    commit_pause: float = 0.0
    image_pause: float = 0.0

    @classmethod
    def from_environment(cls) -> "Faults":
        """Read `MIMO_FAULTS`.

        Raises:
            UsageError: the variable is malformed.
        """
        rules: list[tuple[str, str]] = []
        pauses = {"pause-commit": 0.0, "pause-image": 0.0}
        for item in filter(None, os.environ.get(VARIABLE, "").split(";")):
            action, separator, value = item.partition(":")
            if separator and action in _ACTIONS:
                rules.append((action, value))
            elif action in pauses and value.replace(".", "", 1).isdigit():
                pauses[action] = float(value)
            else:
                raise UsageError(
                    f"{VARIABLE}: expected die:GLOB, hang:GLOB, raise:GLOB, pause-commit:S or pause-image:S, found "
                    f"{item!r}"
                )
        return cls(tuple(rules), pauses["pause-commit"], pauses["pause-image"])

    def strike(self, key: str) -> None:
        """Pause, then die, hang or raise if a rule matches the key of the image that is about to be inferred."""
        if self.image_pause:
            threading.Event().wait(self.image_pause)
        for action, glob in self.rules:
            if not fnmatch.fnmatchcase(key, glob):
                continue
            if action == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if action == "hang":
                threading.Event().wait()
            raise RuntimeError(f"fault hook: {VARIABLE} asked for a failure on {key}")

    def pause_before_commit(self) -> None:
        """Hold the commit for the time that the hook asks for."""
        if self.commit_pause:
            threading.Event().wait(self.commit_pause)
