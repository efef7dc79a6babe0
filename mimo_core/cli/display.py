"""What a person sees of a run: a live bar on a terminal, plain lines at intervals elsewhere, and a table at the end."""

import math
import sys
import time
from types import TracebackType

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from mimo_core.cli.terminal import Terminal
from mimo_core.inference.progress import RunProgress
from mimo_core.wording import count, duration, significant

_LINE_SECONDS = 10.0


class Display:
    """Shows messages and progress on standard error; use it as a context manager."""

    def __init__(self) -> None:
        self.console = Terminal(stderr=True, soft_wrap=True)
        self._live: Live | None = None
        self._last_line = time.monotonic()
        self._last_shown: RunProgress | None = None
        self.progressed = False

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def say(self, text: str) -> None:
        """Show one line that stays."""
        self.console.print(text, markup=False)

    def progress(self, progress: RunProgress) -> None:
        """Show how far the run is: at once on a terminal, every ten seconds elsewhere."""
        self._last_shown = progress
        self.progressed = True
        if self.console.is_terminal:
            if self._live is None:
                self._live = Live(console=self.console, refresh_per_second=4, transient=True)
                self._live.start()
            self._live.update(_bar(progress))
        elif time.monotonic() - self._last_line >= _LINE_SECONDS:
            self._last_line = time.monotonic()
            self.say(progress_line(progress))

    def finish(self) -> None:
        """Take the bar down, leaving its last state as a line."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._last_shown is not None:
            self.say(progress_line(self._last_shown))
            self._last_shown = None
        sys.stderr.flush()


def progress_line(progress: RunProgress) -> str:
    """Return the progress as one line of text."""
    counts = f"{progress.done}/{progress.total} images ({_percent(progress)}), {progress.failed} failed"
    if progress.done == progress.total:
        return f"{counts}, {significant(progress.rate_run)} images/s over the run"
    left = "" if progress.seconds_left is None else f", {duration(math.ceil(progress.seconds_left))} left"
    return (
        f"{counts}, {significant(progress.rate_now)} images/s now, {significant(progress.rate_run)} over the run"
        f"{left}, {count(progress.workers, 'worker')}"
    )


def _percent(progress: RunProgress) -> str:
    # Never 100 % before the end.
    permille = 1000 * progress.done // progress.total if progress.total else 1000
    return f"{permille // 10}.{permille % 10}%"


def _bar(progress: RunProgress) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_row(ProgressBar(total=max(progress.total, 1), completed=progress.done, width=24), progress_line(progress))
    return table
