"""What a person sees of a run while it works: a live line on a terminal, plain lines at intervals elsewhere."""

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from threading import Timer
from types import TracebackType

from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from mimo_core.cli.streams import plain
from mimo_core.cli.terminal import Terminal
from mimo_core.inference.progress import RunProgress
from mimo_core.wording import Notice, count, duration, significant

_LINE_SECONDS = 10.0
_SHORTEST_BAR, _LONGEST_BAR = 8, 40


class Display:
    """Shows messages and progress on standard error; use it as a context manager.

    Args:
        log: the name of a run whose messages are written for machines: a JSON document a line. None writes for people.
    """

    def __init__(self, log: str | None = None) -> None:
        self.log = log
        self.console = Terminal(stderr=True)
        self._live: Live | None = None
        self._later = Timer(_LINE_SECONDS, self.say)
        self._last_line = time.monotonic()
        self._last_shown: RunProgress | None = None
        self.progressed = False
        self.lost: Callable[[str], None] = self.say
        """Tells that the cluster is gone, and ends the process."""

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def say(self, text: str) -> None:
        """Show one line that stays."""
        if self.log is not None:
            self._write(text)
            return
        for line in text.splitlines():
            # Only a terminal folds, and never a command, which is there to be pasted.
            whole = not self.console.is_terminal or line.startswith("  ")
            self.console.print(line, markup=False, soft_wrap=whole)

    def phase(self, text: str) -> None:
        """Show what goes on before the first image: at once on a terminal, elsewhere if it takes ten seconds."""
        self._show(Spinner("dots", Text(f"{text} ...")))
        self._later.cancel()
        if not self.console.is_terminal:
            self._later = Timer(_LINE_SECONDS, self.say, [f"{text} ..."])
            self._later.daemon = True
            self._later.start()

    def progress(self, progress: RunProgress) -> None:
        """Show how far the run is: at once on a terminal, every ten seconds elsewhere."""
        self._later.cancel()
        self._last_shown = progress
        self.progressed = True
        self._show(bar(progress, self.console.width))
        if not self._lively and time.monotonic() - self._last_line >= _LINE_SECONDS:
            self._last_line = time.monotonic()
            self._say_progress(progress)

    def finish(self) -> None:
        """Take the live line down, leaving the last progress as a line."""
        self._later.cancel()
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._last_shown is not None:
            self._say_progress(self._last_shown)
            self._last_shown = None
        sys.stderr.flush()

    @property
    def _lively(self) -> bool:
        """Whether a line at the bottom is kept up to date."""
        return self.console.is_terminal and self.log is None

    def _say_progress(self, progress: RunProgress) -> None:
        if self.log is None:
            self.say(progress_line(progress))
        else:
            self._write(progress_line(progress), progress=asdict(progress))

    def _write(self, text: str, **more: object) -> None:
        """Write one line for machines."""
        notice = text if isinstance(text, Notice) else Notice(text, level="info")
        document = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "level": notice.level,
            "run": self.log,
            "shard": notice.shard,
            "worker": notice.worker,
            "message": str(notice),
            **more,
        }
        print(json.dumps(document), file=sys.stderr, flush=True)

    def _show(self, live: RenderableType) -> None:
        """Show something at the bottom of a terminal, in the place of what is there."""
        if not self._lively:
            return
        if self._live is None:
            self._live = Live(console=self.console, refresh_per_second=8, transient=True)
            self._live.start()
        self._live.update(live)


def progress_line(progress: RunProgress) -> str:
    """Return the progress as one line of text."""
    counts = f"{progress.done}/{progress.total} images ({_percent(progress)}), {progress.failed} failed"
    if progress.done == progress.total:
        # What is over before it was looked at twice has no speed.
        return counts + f", {significant(progress.rate_run)} images/s over the run" * bool(progress.rate_run)
    left = "" if progress.seconds_left is None else f", {duration(math.ceil(progress.seconds_left))} left"
    return (
        f"{counts}, {significant(progress.rate_now)} images/s now, {significant(progress.rate_run)} over the run"
        f"{left}, {count(progress.workers, 'worker')}{', ' * bool(progress.within)}{progress.within}"
    )


def bar(progress: RunProgress, width: int) -> Table:
    """Return a bar and what there is room for beside it, the most important first, in one line of so many columns."""
    parts = [f"{progress.done}/{progress.total} ({_percent(progress)})"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.done < progress.total:
        if progress.seconds_left is not None:
            parts.append(f"{duration(math.ceil(progress.seconds_left))} left")
        if progress.within:
            parts.append(plain(progress.within))
        # Before the first image there is no speed.
        parts += [f"{significant(progress.rate_now)} images/s"] * bool(progress.rate_now)
        parts.append(count(progress.workers, "worker"))
    while len(parts) > 1 and _SHORTEST_BAR + 1 + len(", ".join(parts)) > width:
        parts.pop()
    text = ", ".join(parts)
    room = max(1, min(_LONGEST_BAR, width - 1 - len(text)))
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_row(
        ProgressBar(total=max(progress.total, 1), completed=progress.done, width=room),
        Text(text, no_wrap=True, overflow="crop"),
    )
    return table


def _percent(progress: RunProgress) -> str:
    # Never 100 % before the end.
    permille = 1000 * progress.done // progress.total if progress.total else 1000
    return f"{permille // 10}.{permille % 10}%"
