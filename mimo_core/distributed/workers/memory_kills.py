"""Whether the system of this host has killed processes for want of memory."""

from pathlib import Path

_COUNTERS = ((Path("/sys/fs/cgroup/memory.events"), "oom_kill"), (Path("/proc/vmstat"), "oom_kill"))


class MemoryKills:
    """Counts the kills of this host's system, or of this process's control group, since it was last asked."""

    def __init__(self) -> None:
        self._known = _kills()

    def happened(self) -> bool:
        """Return whether there was one since the last call."""
        before, self._known = self._known, _kills()
        return self._known > before


def _kills() -> int:
    total = 0
    for file, name in _COUNTERS:
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{name} "))
    return total
