"""The outcome of a run, and the summary.json that is written of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mimo_core.engines import Telemetry
from mimo_core.runs.config import parse_max_failed
from mimo_core.runs.plan import Plan
from mimo_core.runs.recipe import Recipe
from mimo_core.runs.record import now
from mimo_core.runs.statistics import Statistics


@dataclass(frozen=True)
class SetDistance:
    """Inception distances of the whole set to its references, of the outputs and of the inputs.

    Frechet's (FID), and the kernel's (KID; None in summaries of versions before it).
    """

    images: int
    fid: float
    input_fid: float
    kid: float | None = None
    input_kid: float | None = None

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> "SetDistance | None":
        """Return those that a summary tells, None where it has none."""
        if "fid" not in summary:
            return None
        kernel = (summary.get(name) for name in ("kid", "input_kid"))
        return cls(summary["fid_images"], summary["fid"], summary["input_fid"], *kernel)


@dataclass(frozen=True)
class Outcome:
    """How a session of a run ended.

    Attributes:
        statistics: of all records of the run, those of earlier sessions included.
        recipe: what was done.
        plan: to what.
        session_images: images that got their records in this session.
        seconds: time that this session worked, from the first worker's readiness.
        busy_share: share of the workers' time in which their accelerators computed, 0..1.
        devices: names of the devices used.
        peak_memory: most main memory that a worker held, in bytes; 0 if none worked.
        telemetry: what devices told of themselves, by host and device; empty where they do not.
        failed_starts: why workers could not start that the run went on without.
        distance: of the whole set to its references, where the run asks for it.
    """

    statistics: Statistics
    recipe: Recipe
    plan: Plan
    session_images: int
    seconds: float
    busy_share: float
    devices: tuple[str, ...]
    peak_memory: int
    telemetry: Mapping[str, Telemetry] = field(default_factory=dict)
    failed_starts: tuple[str, ...] = ()
    distance: SetDistance | None = None

    def tolerated(self, limit: str | None) -> bool:
        """Return whether no more images have failed or were left out than `--tolerate` allows; none without one."""
        bad = self.statistics.amiss
        if limit is None:
            return bad == 0
        most, is_share = parse_max_failed(limit)
        return bad <= (most * self.plan.num_images if is_share else most)

    def summary(self) -> dict[str, Any]:
        """Return the document of summary.json."""
        return {
            "finished_at": now().isoformat(timespec="seconds"),
            "fingerprint": self.recipe.fingerprint(),
            "plan": {"images": self.plan.num_images, "shards": self.plan.num_shards, "digest": self.plan.digest},
            "left_aside": dict(self.plan.aside),
            "records": self.statistics.to_json(),
            **self._distances(),
            "last_session": {
                "images": self.session_images,
                "seconds": round(self.seconds, 3),
                "busy_share": round(self.busy_share, 4),
                "devices": self.devices,
                "peak_memory": self.peak_memory,
                "failed_starts": self.failed_starts,
                "telemetry": {name: asdict(told) for name, told in sorted(self.telemetry.items())},
            },
        }

    def _distances(self) -> dict[str, Any]:
        if self.distance is None:
            return {}
        told = {name: value for name, value in asdict(self.distance).items() if name != "images" and value is not None}
        return {**told, "fid_images": self.distance.images}
