"""The record: what became of one image."""

from dataclasses import dataclass, field
from datetime import datetime, timezone

from mimo_core.errors import ErrorKind, UsageError
from mimo_core.metrics.fid.vectors import Features
from mimo_core.storage import redact, redact_text

STATUSES = ("restored", "failed", "skipped")


@dataclass(frozen=True)
class Record:
    """What became of one image; None where a value does not apply or was never learnt.

    Addresses and messages are redacted when the record is made, so that no credential can get into a part.
    """

    key: str
    source: str
    status: str
    output: str | None = None
    reference: str | None = None
    error_kind: str | None = None
    error: str | None = None
    width: int | None = None
    height: int | None = None
    channels: int | None = None
    bit_depth: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    output_sha256: str | None = None
    input_psnr: float | None = None
    input_ssim: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    read_ms: float | None = None
    decode_ms: float | None = None
    infer_ms: float | None = None
    score_ms: float | None = None
    encode_ms: float | None = None
    write_ms: float | None = None
    tiles: int | None = None
    fallback: str | None = None
    model: str | None = None
    weights_sha256: str | None = None
    engine: str | None = None
    precision: str | None = None
    device: str | None = None
    host: str | None = None
    attempt: int | None = None
    finished_at: datetime | None = None
    psnr_float: float | None = None
    psnr_y: float | None = None
    input_psnr_y: float | None = None
    ssim_matlab3d: float | None = None
    input_ssim_matlab3d: float | None = None
    scales: str | None = None
    psnr_zoo: float | None = None
    ssim_zoo: float | None = None
    psnr_realblur: float | None = None
    ssim_realblur: float | None = None
    batch: int | None = None
    output_format: str | None = None
    lost: str | None = None
    pages: int | None = None
    source_sha256: str | None = None
    suspect: str | None = None
    predicted_gain: float | None = None
    input_sharpness: float | None = None
    sharpness: float | None = None
    input_piqe: float | None = None
    piqe: float | None = None
    # Not a column: kept beside the records, in the shard's part of features.
    features: Features | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what would not be a truthful record, and redact what must not be stored."""
        if self.status not in STATUSES:
            raise UsageError(f"a record's status is one of {', '.join(STATUSES)}, not {self.status!r}")
        if self.status == "failed" and self.error_kind is None:
            raise UsageError(f"the record of {self.key!r} has failed but no error_kind")
        if self.error_kind is not None:
            object.__setattr__(self, "error_kind", ErrorKind(self.error_kind).value)
        if self.finished_at is not None and self.finished_at.tzinfo is None:
            raise UsageError("finished_at needs a time zone; use datetime.now(timezone.utc)")
        for name, clean in (("source", redact), ("reference", redact), ("error", redact_text)):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _text(clean(value)))


def _text(value: str) -> str:
    """Return text that Parquet can hold: letters that are no Unicode are escaped."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def now() -> datetime:
    """Return the present as records store it (UTC, microseconds)."""
    return datetime.now(timezone.utc)
