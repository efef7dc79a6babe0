"""Records: one row for every image of a plan, one Parquet part for every shard, statistics in the parts' footers."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mimo_core.errors import ErrorKind, ImageError, SystemFailure, UsageError
from mimo_core.runs.parquet import read_parquet
from mimo_core.runs.record import Record
from mimo_core.runs.statistics import Statistics
from mimo_core.storage import Store

SCHEMA_VERSION = 1
FOLDER = "records"

_STATISTICS = b"mimo.statistics"
_VERSION = b"mimo.schema_version"


_TEXT, _INT, _LONG, _REAL, _MS = pa.string(), pa.int32(), pa.int64(), pa.float64(), pa.float32()

# Column, type and meaning, in the order of the file.
_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("key", _TEXT, "relative path of the image, unique in the plan"),
    ("source", _TEXT, "path or URL read, without credentials or query string"),
    ("output", _TEXT, "key of the output below the run's folder; null where none was written"),
    ("reference", _TEXT, "path or URL of the ground truth, without credentials or query string"),
    ("status", _TEXT, "restored, failed, or skipped (left out on purpose)"),
    ("error_kind", _TEXT, "why there is no output, or no score: one of a closed list"),
    ("error", _TEXT, "the same in words"),
    ("width", _INT, "pixels of the input as stored, before any orientation"),
    ("height", _INT, "pixels of the input as stored, before any orientation"),
    ("channels", _INT, "1 gray, 3 RGB, 4 RGBA"),
    ("bit_depth", _INT, "bits of one channel: 8 or 16"),
    ("bytes_in", _LONG, "size of the source file"),
    ("bytes_out", _LONG, "size of the output file"),
    ("output_sha256", _TEXT, "SHA-256 of the output file, hexadecimal"),
    ("input_psnr", _REAL, "PSNR of input against reference in dB, over all values of the 8-bit arrays; +inf if equal"),
    ("input_ssim", _REAL, "SSIM of input against reference: Gaussian 11x11, sigma 1.5; null below 11 pixels"),
    ("psnr", _REAL, "PSNR of the encoded 8-bit array against reference in dB; +inf if equal"),
    ("ssim", _REAL, "SSIM of the encoded 8-bit array against reference; null below 11 pixels"),
    ("read_ms", _MS, "milliseconds to read source and reference"),
    ("decode_ms", _MS, "milliseconds to decode them"),
    ("infer_ms", _MS, "milliseconds of the session, an equal share of the batch's"),
    ("score_ms", _MS, "milliseconds to score"),
    ("encode_ms", _MS, "milliseconds to encode"),
    ("write_ms", _MS, "milliseconds to write"),
    ("tiles", _INT, "tiles the image was cut into; 1 where it went through whole"),
    ("fallback", _TEXT, "what was reduced because memory ran out, e.g. batch 4 to 2"),
    ("model", _TEXT, "variant of the network"),
    ("weights_sha256", _TEXT, "SHA-256 of the weights file"),
    ("engine", _TEXT, "engine of the session"),
    ("precision", _TEXT, "precision of the session"),
    ("device", _TEXT, "device of the session"),
    ("host", _TEXT, "host the image was restored on"),
    ("attempt", _INT, "number of the try that made this record, from 1"),
    ("finished_at", pa.timestamp("us", tz="UTC"), "when the record was made"),
    ("psnr_float", _REAL, "PSNR of the unrounded output, clipped to 0..1, against reference / maximum, in dB"),
    ("psnr_y", _REAL, "PSNR of the luma (BT.601, 16..235, unrounded) of the 8-bit arrays, peak 255, in dB"),
    ("input_psnr_y", _REAL, "the same of the input"),
    ("ssim_matlab3d", _REAL, "SSIM of height x width x 3 as a volume, as MATLAB's ssim; null below 11 pixels"),
    ("input_ssim_matlab3d", _REAL, "the same of the input"),
    ("scales", _TEXT, "passes that the image took, from coarse to fine, e.g. 1/4,1/2; 1 is full size alone"),
    ("psnr_zoo", _REAL, "PSNR as the model zoo has it: the unrounded output plus half a level, peak 255, in dB"),
    ("ssim_zoo", _REAL, "SSIM of the same values; null below 11 pixels"),
    ("psnr_realblur", _REAL, "PSNR as RealBlur has it: after matching intensity and position; null if it cannot be"),
    ("ssim_realblur", _REAL, "SSIM likewise; also null below 11 pixels"),
    ("batch", _INT, "images that were computed together with it, itself included"),
    (
        "output_format",
        _TEXT,
        "what was written: jpg, png, webp, tiff, bmp, pnm, jp2, avif, heif or jxl",
    ),
    ("lost", _TEXT, "what the source holds and the output does not, separated by commas; null where nothing is"),
    ("pages", _INT, "pages of the file that were restored; size, tiles, scales and scores are those of the first"),
    ("source_sha256", _TEXT, "SHA-256 of the source file, hexadecimal; null where no output is written"),
    ("suspect", _TEXT, "how the output changed as restorations do not, and where; null where it did not"),
    ("predicted_gain", _REAL, "gain in PSNR predicted before, in dB; null where nothing was to be left out"),
    ("input_sharpness", _REAL, "energy of fine gradients of the input by that of coarse ones, in dB (--indications)"),
    ("sharpness", _REAL, "the same of the output"),
    ("input_piqe", _REAL, "PIQE of the input, 0 (good) to 100 (--indications); null below 16 pixels"),
    ("piqe", _REAL, "the same of the output"),
)

SCHEMA: pa.Schema = pa.schema(
    [
        pa.field(name, kind, nullable=name not in ("key", "source", "status"), metadata={b"description": text.encode()})
        for name, kind, text in _COLUMNS
    ],
    metadata={_VERSION: str(SCHEMA_VERSION).encode()},
)


def part_name(number: int) -> str:
    """Return the key of a shard's part; the same number as the shard's."""
    return f"{FOLDER}/part-{number:08d}.parquet"


def part_number(key: str) -> int | None:
    """Return the number of the part with this key, None for any other file."""
    name = key.removeprefix(f"{FOLDER}/part-").removesuffix(".parquet")
    return int(name) if name.isdigit() and part_name(int(name)) == key else None


def to_table(records: Iterable[Record]) -> pa.Table:
    """Return the records as a table of SCHEMA."""
    rows = list(records)
    return pa.table({name: [getattr(row, name) for row in rows] for name in SCHEMA.names}, schema=SCHEMA)


def from_table(table: pa.Table) -> list[Record]:
    """Return the records of a table; columns of a newer schema are left out, missing ones are None."""
    known = {column.name for column in fields(Record)}
    return [Record(**{name: value for name, value in row.items() if name in known}) for row in table.to_pylist()]


def write_part(
    store: Store,
    number: int,
    records: Iterable[Record],
    extra_metadata: Mapping[str, str] | None = None,
    *,
    replace: bool = True,
) -> Statistics | None:
    """Commit a shard's records at once and return their statistics, or None where a part is there and stays.

    With `replace` the part takes the place of one that is there; without it exactly one of any contenders commits.

    `extra_metadata` (lease epoch, fingerprint, ...) and the statistics are stored in the file's footer.
    """
    rows = list(records)
    statistics = Statistics.of(rows)
    metadata = {
        **SCHEMA.metadata,
        **{name.encode(): value.encode() for name, value in (extra_metadata or {}).items()},
        _STATISTICS: json.dumps(statistics.to_json()).encode(),
    }
    buffer = io.BytesIO()
    pq.write_table(to_table(rows).replace_schema_metadata(metadata), buffer, compression="zstd")
    if replace:
        store.write(part_name(number), buffer.getvalue())
    elif not store.create(part_name(number), buffer.getvalue()):
        return None
    return statistics


def read_part(store: Store, number: int) -> list[Record]:
    """Return the records of a committed part, in the order of its shard.

    Raises:
        ImageError: NOT_FOUND where the shard is not committed.
        SystemFailure: where the file is no part.
    """
    return from_table(read_part_table(store, number))


def read_part_table(store: Store, number: int) -> pa.Table:
    """Return a committed part as a table.

    Raises:
        ImageError, SystemFailure: see `read_part`.
    """
    data = store.read(part_name(number))
    try:
        return read_parquet(data)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(store, number, error) from None


def read_all(store: Store, *, threads: int = 16) -> pa.Table:
    """Return the records of all committed parts as a table of SCHEMA, in the order of the plan.

    A part that vanishes meanwhile (a run that is started over) is left out; columns of a newer schema are kept, missing
    ones are null.

    Raises:
        UsageError: there are none.
        SystemFailure: the storage fails, or a part is damaged.
    """
    with ThreadPoolExecutor(threads) as pool:
        tables = list(pool.map(lambda number: _part_or_none(store, number), sorted(part_numbers(store))))
    parts = [table.replace_schema_metadata(SCHEMA.metadata) for table in tables if table is not None]
    if not parts:
        raise UsageError(f"{store} holds no records: name the OUTPUT of a run that has finished an image")
    return pa.concat_tables([SCHEMA.empty_table(), *parts], promote_options="default")


def _part_or_none(store: Store, number: int) -> pa.Table | None:
    try:
        return read_part_table(store, number)
    except ImageError as error:
        if error.kind is ErrorKind.NOT_FOUND:
            return None
        raise


def read_footer(store: Store, number: int) -> tuple[Statistics, dict[str, str]]:
    """Return the statistics and the other metadata of a part, from its footer alone.

    Raises:
        ImageError, SystemFailure: see `read_part`.
    """
    with store.open(part_name(number)) as file:
        try:
            metadata = pq.read_metadata(file).metadata or {}
        except (pa.ArrowException, OSError) as error:
            raise _damaged(store, number, error) from None
    if _STATISTICS not in metadata:
        raise _damaged(store, number, KeyError(_STATISTICS.decode()))
    statistics = Statistics.from_json(json.loads(metadata[_STATISTICS]))
    hidden = (_STATISTICS, b"ARROW:schema")
    return statistics, {name.decode(): value.decode() for name, value in metadata.items() if name not in hidden}


def outputs_of(store: Store, number: int) -> list[str]:
    """Return the keys of the outputs that a part names; none where the part is damaged or gone."""
    try:
        table = read_part_table(store, number)
    except (ImageError, SystemFailure):
        return []
    return [key for key in table["output"].to_pylist() if key is not None]


def _damaged(store: Store, number: int, error: Exception) -> SystemFailure:
    name = store.show(part_name(number))
    return SystemFailure(ErrorKind.STORAGE, f"{name} is not a part of records ({type(error).__name__}); remove it")


def part_numbers(store: Store) -> Iterator[int]:
    """Yield the numbers of all committed parts, rising."""
    for entry in store.list(FOLDER):
        number = part_number(entry.key)
        if number is not None:
            yield number


def describe_columns() -> list[dict[str, Any]]:
    """Name, type and meaning of every column, for the documentation."""
    return [{"name": name, "type": str(kind), "description": text} for name, kind, text in _COLUMNS]
