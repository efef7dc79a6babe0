"""What a run tells Ray's metrics, which Prometheus reads from the nodes of a cluster.

Only the driver tells, a few times a second and once for each task that comes back, so no image waits for it. Ray puts
`ray_` before each name and `_total` behind those that only grow.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ray.util.metrics import Counter, Gauge

from mimo_core.inference.progress import RunProgress
from mimo_core.inference.task import TaskResult
from mimo_core.runs.record import Record
from mimo_core.runs.statistics import Statistics

_RUN = "run"
COUNTERS = {
    "images": ("images by what became of them", ("outcome", "error_kind")),
    "bytes": ("bytes of restored images, read and written", ("direction",)),
    "stage_seconds": ("seconds that images spent in each stage", ("stage",)),
    "busy_seconds": ("seconds in which accelerators computed", ()),
    "worker_seconds": ("seconds that workers were ready, added up", ()),
    "tasks_again": ("tasks that were given again after a death, a loss, or to be handed on", ()),
}
"""What only grows, by its name without `mimo_`: what it is, and its labels besides `run`."""

GAUGES = {
    "images_planned": ("images in the plan", ()),
    "images_done": ("images that have their record, those of earlier sessions included", ()),
    "workers": ("workers that are asked for, ready, and waiting for a storage", ("state",)),
    "driver_waits": ("1 while the driver waits for a storage that does not answer", ()),
    "tasks_waiting": ("tasks that are known to wait for a worker", ()),
    "commits_pending": ("shards that wait to be committed", ()),
    "lease_age_seconds": ("seconds since this driver last renewed its lease", ()),
    "running": ("1 while a driver works on the run, 0 once it has ended in order", ()),
}
"""What is so at the moment, likewise."""


@dataclass(frozen=True)
class Standing:
    """How a run stands, besides its progress: see `GAUGES`; `again` and `worker_seconds` are since it began."""

    asked: int
    ready: int
    shut_out: int
    driver_waits: bool
    waiting: int
    again: int
    commits: int
    lease_age: float
    worker_seconds: float


class RunMetrics:
    """Tells of one run, by the name of its OUTPUT; needs a connected Ray."""

    def __init__(self, run: str) -> None:
        self._counters = {
            name: Counter(f"mimo_{name}", description=text, tag_keys=(_RUN, *labels))
            for name, (text, labels) in COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(f"mimo_{name}", description=text, tag_keys=(_RUN, *labels))
            for name, (text, labels) in GAUGES.items()
        }
        self._tags = {_RUN: run}
        self._told: dict[str, float] = {}

    def take(self, result: TaskResult) -> None:
        """Tell of a task that has come back."""
        self.record(result.records.values())
        self._add("busy_seconds", result.busy_seconds)

    def record(self, records: Iterable[Record]) -> None:
        """Tell of images that have their records."""
        statistics = Statistics.of(records)
        self._add("images", statistics.restored, outcome="restored", error_kind="")
        self._add("images", statistics.skipped, outcome="skipped", error_kind="")
        for kind, number in statistics.error_kinds.items():
            self._add("images", number, outcome="failed", error_kind=kind)
        self._add("bytes", statistics.bytes_in, direction="read")
        self._add("bytes", statistics.bytes_out, direction="written")
        for stage, milliseconds in statistics.stage_ms.items():
            self._add("stage_seconds", milliseconds / 1e3, stage=stage)

    def show(self, progress: RunProgress, standing: Standing) -> None:
        """Tell how the run stands."""
        self._set("running", 1)
        self._set("images_planned", progress.total)
        self._set("images_done", progress.done)
        self._set("workers", standing.asked, state="asked")
        self._set("workers", standing.ready, state="ready")
        self._set("workers", standing.shut_out, state="waiting_for_storage")
        self._set("driver_waits", standing.driver_waits)
        self._set("tasks_waiting", standing.waiting)
        self._set("commits_pending", standing.commits)
        self._set("lease_age_seconds", standing.lease_age)
        for name, now in (("tasks_again", standing.again), ("worker_seconds", standing.worker_seconds)):
            self._add(name, now - self._told.get(name, 0))
            self._told[name] = now

    def close(self) -> None:
        """Tell that the driver works on the run no more."""
        self._set("running", 0)
        for state in ("asked", "ready", "waiting_for_storage"):
            self._set("workers", 0, state=state)

    def _add(self, name: str, value: float, **labels: str) -> None:
        if value > 0:
            self._counters[name].inc(value, tags={**self._tags, **labels})

    def _set(self, name: str, value: float, **labels: str) -> None:
        self._gauges[name].set(value, tags={**self._tags, **labels})
