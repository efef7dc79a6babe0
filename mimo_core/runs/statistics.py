"""Counts and sums over records that add up: those of a run are the sum of those of its parts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import TYPE_CHECKING, Any

from mimo_core.errors import ErrorKind
from mimo_core.wording import count, duration, most_first

if TYPE_CHECKING:
    from mimo_core.runs.record import Record

STAGES = ("read", "decode", "infer", "score", "encode", "write")
SCORES = (
    *("input_psnr", "input_ssim", "psnr", "ssim", "psnr_float", "input_psnr_y", "psnr_y"),
    *("input_ssim_matlab3d", "ssim_matlab3d"),
    *("psnr_zoo", "ssim_zoo", "psnr_realblur", "ssim_realblur"),
)
INDICATIONS = ("input_sharpness", "sharpness", "input_piqe", "piqe")
FIRST_FAILURES = 5


@dataclass(frozen=True)
class Mean:
    """A mean that can be merged: the sum and count of finite values, and how many were infinite (equal images)."""

    total: float = 0.0
    count: int = 0
    infinite: int = 0

    @property
    def finite_mean(self) -> float | None:
        """The mean of the finite values, None where there are none."""
        return self.total / self.count if self.count else None

    def add(self, value: float | None) -> Mean:
        """With one more value; None and NaN count as absent."""
        if value is None or math.isnan(value):
            return self
        if math.isinf(value):
            return Mean(self.total, self.count, self.infinite + 1)
        return Mean(self.total + value, self.count + 1, self.infinite)

    def merge(self, other: Mean) -> Mean:
        """Both together."""
        return Mean(self.total + other.total, self.count + other.count, self.infinite + other.infinite)


@dataclass(frozen=True)
class Failure:
    """One of the first failures, as a summary shows it."""

    key: str
    error_kind: str
    error: str


@dataclass(frozen=True)
class Statistics:
    """What a summary needs to know of any number of records.

    Attributes:
        images, restored, failed, skipped: counts; `images` is the sum of the others.
        error_kinds: failed records by kind.
        notes: records that are not failed and yet carry an error_kind (a reference that is missing), by kind.
        fallbacks: restored records that needed a fallback.
        retried: records of a second or later try.
        suspects: restored records that the guard names.
        left_out: skipped records of images that would have gained little, which is no fault; left_out_pixels and
            left_out_gain are sums over them, the latter of the predicted gains in dB.
        bytes_in, pixels: sums over the restored.
        bytes_out: sum over all outputs.
        stage_ms: sums of milliseconds by stage (read, decode, infer, score, encode, write).
        scores: means of what images were scored by, as SCORES and INDICATIONS name it.
        first_failures: the first few that failed or could not be scored, in the order of the parts.
        lost: restored records by what their sources hold and their outputs do not.
        devices: restored records by engine, precision and device ("torch fp32 cpu").
        scales: restored records by the passes that they took ("1/4,1/2").
        first_finished, last_finished: seconds since the epoch, None without any record that has a time.
    """

    images: int = 0
    restored: int = 0
    failed: int = 0
    skipped: int = 0
    fallbacks: int = 0
    retried: int = 0
    suspects: int = 0
    left_out: int = 0
    left_out_pixels: int = 0
    left_out_gain: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    pixels: int = 0
    error_kinds: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    devices: dict[str, int] = field(default_factory=dict)
    scales: dict[str, int] = field(default_factory=dict)
    stage_ms: dict[str, float] = field(default_factory=dict)
    scores: dict[str, Mean] = field(default_factory=dict)
    first_failures: tuple[Failure, ...] = ()
    first_finished: float | None = None
    last_finished: float | None = None

    @classmethod
    def of(cls, records: Iterable[Record]) -> Statistics:
        """Return the statistics of some records."""
        rows = list(records)
        restored = [row for row in rows if row.status == "restored"]
        failed = [row for row in rows if row.status == "failed"]
        left_out = [row for row in rows if row.error_kind == ErrorKind.LITTLE_TO_GAIN.value]
        times = [row.finished_at.timestamp() for row in rows if row.finished_at is not None]
        return cls(
            images=len(rows),
            restored=len(restored),
            failed=len(failed),
            skipped=len(rows) - len(restored) - len(failed),
            fallbacks=sum(row.fallback is not None for row in restored),
            retried=sum((row.attempt or 1) > 1 for row in rows),
            suspects=sum(row.suspect is not None for row in restored),
            left_out=len(left_out),
            left_out_pixels=sum((row.width or 0) * (row.height or 0) for row in left_out),
            left_out_gain=sum(row.predicted_gain or 0.0 for row in left_out),
            bytes_in=sum(row.bytes_in or 0 for row in restored),
            bytes_out=sum(row.bytes_out or 0 for row in rows),
            pixels=sum((row.width or 0) * (row.height or 0) for row in restored),
            error_kinds=_count(row.error_kind for row in failed),
            notes=_count(row.error_kind for row in rows if row.status != "failed"),
            lost=_count(thing for row in restored if row.lost for thing in row.lost.split(", ")),
            devices=_count(
                " ".join(part for part in (row.engine, row.precision, row.device) if part) for row in restored
            ),
            scales=_count(row.scales for row in restored),
            stage_ms={
                stage: total for stage in STAGES if (total := sum(getattr(row, f"{stage}_ms") or 0.0 for row in rows))
            },
            scores={name: mean for name in (*SCORES, *INDICATIONS) if (mean := _mean(rows, name)) != Mean()},
            first_failures=tuple(
                Failure(row.key, row.error_kind or "", row.error or "")
                for row in islice((one for one in rows if _is_amiss(one)), FIRST_FAILURES)
            ),
            first_finished=min(times, default=None),
            last_finished=max(times, default=None),
        )

    def merge(self, other: Statistics) -> Statistics:
        """Both together; of the first failures, this one's come first."""
        merged: dict[str, Any] = {}
        for name in (item.name for item in fields(self)):
            mine, its = getattr(self, name), getattr(other, name)
            if name == "first_failures":
                merged[name] = (mine + its)[:FIRST_FAILURES]
            elif name in ("first_finished", "last_finished"):
                known = [value for value in (mine, its) if value is not None]
                merged[name] = (min if name == "first_finished" else max)(known, default=None)
            elif name == "scores":
                keys = [key for key in (*SCORES, *INDICATIONS) if key in mine or key in its]
                merged[name] = {key: mine.get(key, Mean()).merge(its.get(key, Mean())) for key in keys}
            elif isinstance(mine, dict):
                merged[name] = {key: mine.get(key, 0) + its.get(key, 0) for key in sorted({*mine, *its})}
            else:
                merged[name] = mine + its
        return Statistics(**merged)

    @property
    def amiss(self) -> int:
        """Images that failed, or were skipped for another reason than that they would gain little."""
        return self.failed + self.skipped - self.left_out

    def left_out_told(self) -> str:
        """Return in words what was left out, what time that saved and what gain it cost; empty where nothing was."""
        if not self.left_out:
            return ""
        told = f"{count(self.left_out, 'image')}, predicted to gain {self.left_out_gain / self.left_out:+.2f} dB each"
        if self.pixels and self.stage_ms.get("infer"):
            seconds = self.stage_ms["infer"] / 1e3 * self.left_out_pixels / self.pixels
            told += f"; saved about {duration(seconds)} of computing"
        return told

    def mean(self, score: str) -> float | None:
        """Return the mean of a score over its finite values, None without any; `scores[...]` has the infinite ones."""
        return self.scores.get(score, Mean()).finite_mean

    def scales_taken(self) -> str:
        """Return how many images took which passes, in words; the most frequent ones first."""
        return ", ".join(f"{count(number, 'image')} at {scales}" for scales, number in most_first(self.scales))

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; absent values are left out."""
        plain: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "scores":
                value = {key: [mean.total, mean.count, mean.infinite] for key, mean in value.items()}
            elif item.name == "first_failures":
                value = [[failure.key, failure.error_kind, failure.error[:500]] for failure in value]
            if value not in (None, 0, {}, []):
                plain[item.name] = value
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Statistics:
        """Return the inverse of `to_json`; names that a newer version added are left out."""
        known = {item.name for item in fields(cls)}
        values = {name: value for name, value in plain.items() if name in known}
        values["scores"] = {key: Mean(*parts) for key, parts in values.get("scores", {}).items()}
        values["first_failures"] = tuple(Failure(*parts) for parts in values.get("first_failures", ()))
        return cls(**values)


def _is_amiss(row: Record) -> bool:
    return row.status != "restored" and row.error_kind != ErrorKind.LITTLE_TO_GAIN.value


def _count(kinds: Iterable[str | None]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for kind in kinds:
        if kind:
            counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items()))


def _mean(rows: list[Record], name: str) -> Mean:
    mean = Mean()
    for row in rows:
        mean = mean.add(getattr(row, name))
    return mean
