"""Who the driver tells what goes on: messages and progress."""

from typing import Protocol

from mimo_core.inference.progress import RunProgress


class Observer(Protocol):
    """Is told by the driver what goes on, on the driver's thread but where it says otherwise."""

    def say(self, text: str) -> None:
        """Show one line that stays."""

    def phase(self, text: str) -> None:
        """Show what the run is busy with, until the next phase or progress."""

    def lost(self, text: str) -> None:
        """Tell that the cluster is gone, and end the process, for no call to Ray may return; on another thread."""

    def progress(self, progress: RunProgress) -> None:
        """Show how far the run is."""
