"""When to say that a run has no worker because there is no room for one."""

_FIRST_NOTICE_SECONDS = 5.0
_NOTICE_SECONDS = 30.0
# Where there is room, the process of a worker runs after this time: Python, PyTorch.
_START_SECONDS = 60.0


class Shortage:
    """Tells the moments at which a shortage is to be told of."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._told: float | None = None
        self.short = False
        """Whether the cluster had no room when a worker was last asked for."""

    def begin(self, now: float) -> None:
        """Note that there is no worker from now on."""
        self._since = now

    def is_to_be_told(self, now: float) -> bool:
        """Return whether to tell of it now, while there is no worker; then not again for a while."""
        if now - self._since < (_FIRST_NOTICE_SECONDS if self.short else _START_SECONDS):
            return False
        if self._told is not None and now - self._told < _NOTICE_SECONDS:
            return False
        self._told = now
        return True
