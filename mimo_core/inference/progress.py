"""What a pipeline is doing right now: the images in flight, in which stage and since when, and the totals so far."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

_MANY_TILES = 16
"""Images of fewer tiles are soon done."""


@dataclass(frozen=True)
class InFlight:
    """An image that a worker has begun: its shard and row, the stage it is in and for how long (seconds).

    Of an image that is restored in tiles it also says how many of them are done in this pass, and how many there are.
    """

    shard: int
    row: int
    key: str
    stage: str
    seconds: float
    done: int = 0
    tiles: int = 0


@dataclass(frozen=True)
class Snapshot:
    """The state of a pipeline at one moment, small enough to be asked for every half second.

    `waiting` is the storage that its process waits for because it does not answer, if there is one.
    """

    in_flight: tuple[InFlight, ...] = ()
    finished: int = 0
    failed: int = 0
    waiting: str | None = None


def within(under_way: Iterable[InFlight]) -> str:
    """Return how far the image of the most tiles is, such as `wall.tif: tile 57 of 130`; empty where none has many."""
    largest = max(under_way, key=lambda one: one.tiles, default=None)
    if largest is None or largest.tiles < _MANY_TILES:
        return ""
    return f"{largest.key}: tile {largest.done} of {largest.tiles}"


class ProgressBoard:
    """Thread-safe register of the images in flight; the pipeline writes it, a control thread reads it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: dict[tuple[int, int], InFlight] = {}
        self._finished = 0
        self._failed = 0

    @contextmanager
    def stage(self, name: str, shard: int, keys: Mapping[int, str]) -> Iterator["Stopwatch"]:
        """Mark images (keys by row) as being in the stage for the duration of the block, and time it.

        Where it interrupts another stage, that one begins anew afterwards.
        """
        begun = time.monotonic()
        # On the board `seconds` is the moment at which a stage began.
        with self._lock:
            interrupted = {row: self._active[shard, row] for row in keys if (shard, row) in self._active}
            for row, key in keys.items():
                self._active[shard, row] = InFlight(shard, row, key, name, begun)
        watch = Stopwatch()
        try:
            yield watch
        finally:
            watch.milliseconds = (time.monotonic() - begun) * 1e3
            with self._lock:
                for row in keys:
                    self._active.pop((shard, row), None)
                for row, earlier in interrupted.items():
                    self._active[shard, row] = replace(earlier, seconds=time.monotonic())

    def tick(self, shard: int, keys: Mapping[int, str], done: int, tiles: int) -> None:
        """Note progress inside a long stage, so many tiles of all, so that it does not pass for a hang."""
        now = time.monotonic()
        with self._lock:
            for row in keys:
                if (one := self._active.get((shard, row))) is not None:
                    self._active[shard, row] = replace(one, seconds=now, done=done, tiles=tiles)

    def finish(self, *, failed: bool) -> None:
        """Count an image that has its record."""
        with self._lock:
            self._finished += 1
            self._failed += failed

    def snapshot(self) -> Snapshot:
        """Return the state now."""
        now = time.monotonic()
        with self._lock:
            in_flight = tuple(replace(one, seconds=now - one.seconds) for one in self._active.values())
            return Snapshot(in_flight, self._finished, self._failed)


class Stopwatch:
    """The duration of a stage, set when it ends."""

    milliseconds: float = 0.0


class BusyClock:
    """The time in which something is under way, however much at once; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active = 0
        self._since = 0.0

    @contextmanager
    def work(self, note: Callable[[float], None]) -> Iterator[None]:
        """Count the block as work; `note` gets the seconds that nothing which ended before has got already."""
        with self._lock:
            if not self._active:
                self._since = time.monotonic()
            self._active += 1
        try:
            yield
        finally:
            with self._lock:
                now = time.monotonic()
                seconds, self._since = now - self._since, now
                self._active -= 1
            note(seconds)


@dataclass(frozen=True)
class RunProgress:
    """How far a run is: images in the plan, finished, failed among these, rates (images/s), seconds left, workers.

    `within` says how far the largest image under way is, where one takes many tiles.
    """

    total: int
    done: int
    failed: int
    rate_now: float
    rate_run: float
    seconds_left: float | None
    workers: int
    within: str = ""

    @property
    def share(self) -> float:
        """Finished images as a share of the plan, 0..1."""
        return self.done / self.total if self.total else 1.0


class RateMeter:
    """Images per second over the run and over the last seconds, from counts noted now and then."""

    def __init__(self, window: float = 20.0) -> None:
        self._window = window
        self._marks: deque[tuple[float, int]] = deque()
        self._first: tuple[float, int] | None = None

    def note(self, done: int, now: float | None = None) -> None:
        """Note how many images are finished by now."""
        moment = (time.monotonic() if now is None else now, done)
        self._first = self._first or moment
        self._marks.append(moment)
        while len(self._marks) > 2 and moment[0] - self._marks[1][0] >= self._window:
            self._marks.popleft()

    @property
    def now(self) -> float:
        """Images per second over the last seconds."""
        return _rate(self._marks[0], self._marks[-1]) if self._marks else 0.0

    @property
    def run(self) -> float:
        """Images per second since the first note."""
        return _rate(self._first, self._marks[-1]) if self._first is not None else 0.0


def _rate(before: tuple[float, int], after: tuple[float, int]) -> float:
    seconds = after[0] - before[0]
    # A worker's death takes its unfinished images back.
    return max(0.0, (after[1] - before[1]) / seconds) if seconds > 0 else 0.0
