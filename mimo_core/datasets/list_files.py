"""List files: rows of `key`, `source` and `reference` from .txt, .csv, .jsonl and .parquet, streaming."""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

from mimo_core.datasets.left_aside import is_image_name
from mimo_core.datasets.pairing import role_of
from mimo_core.errors import ImageError, UsageError
from mimo_core.storage import open_url, redact

LIST_EXTENSIONS = (".txt", ".csv", ".jsonl", ".parquet")
_COMPRESSED = ".gz"
_COLUMNS = ("key", "source", "reference")
# What may stand between the columns of a text file, where the name of an image ends before it.
_GAP = re.compile(r"[\s,;]+")


@dataclass(frozen=True)
class ListRow:
    """One row of a list file, as it stands there."""

    source: str
    key: str | None = None
    reference: str | None = None


def list_extension(path: str) -> str | None:
    """Return the extension by which a path is a list file, None where it is none; `.gz` behind it is seen through."""
    name = path.rpartition("/")[2].lower().removesuffix(_COMPRESSED)
    return next((extension for extension in LIST_EXTENSIONS if name.endswith(extension)), None)


def read_list(path: str) -> Iterator[tuple[str, ListRow]]:
    """Yield the rows of a list file with their places ("line 7").

    .txt: one source a line, or two images of which their folders tell which is the reference, as RealBlur's and
    RSBlur's lists have them; empty lines and lines that start with "# " are left out. .csv: a header with at least
    `source`. .jsonl: an object or a string a line. .parquet: at least a column `source`. Other columns are ignored.
    Bytes that are no UTF-8 stay what they are, as in the names of files.

    Raises:
        UsageError: a file that cannot be read or understood, naming the line.
    """
    extension = list_extension(path)
    try:
        file = cast(IO[bytes], open_url(path))
    except ImageError as error:
        raise UsageError(f"the list cannot be read: {error}") from None
    with file:
        if extension == ".parquet":
            yield from _parquet(path, file)
            return
        if path.lower().endswith(_COMPRESSED):
            file = cast(IO[bytes], gzip.GzipFile(fileobj=file))
        reader = {".txt": _text, ".csv": _csv, ".jsonl": _jsonl}[extension or ".txt"]
        try:
            yield from reader(path, io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline=""))
        except (gzip.BadGzipFile, EOFError):
            raise UsageError(f"{redact(path)} is no whole gzip file") from None


def _text(path: str, lines: io.TextIOWrapper) -> Iterator[tuple[str, ListRow]]:
    for number, line in enumerate(lines, 1):
        source = line.strip()
        if source and source != "#" and not source.startswith("# "):
            yield f"line {number}", _source_or_pair(path, f"line {number}", source)


def _source_or_pair(path: str, place: str, line: str) -> ListRow:
    """Return the row of a line of text: one path, which may hold spaces and commas, or a pair of them."""
    columns, start = [], 0
    for gap in _GAP.finditer(line):
        if is_image_name(line[start : gap.start()]):
            columns.append(line[start : gap.start()])
            start = gap.end()
    if not columns:
        return ListRow(line)
    columns.append(line[start:])
    roles = [role_of(column) for column in columns]
    if sorted(map(str, roles)) != ["input", "reference"]:
        if not all("/" in column and is_image_name(column) for column in columns) or "://" in line:
            # A name such as `holiday.jpg copy.jpg`.
            return ListRow(line)
        raise UsageError(
            f"{redact(path)}, {place}: {len(columns)} images, and the names of their folders do not tell which is "
            "blurred and which its reference; use .csv with the columns source and reference"
        )
    return ListRow(columns[roles.index("input")], reference=columns[roles.index("reference")])


def _csv(path: str, lines: io.TextIOWrapper) -> Iterator[tuple[str, ListRow]]:
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        places = _places(path, header)
        for row in reader:
            if not row:
                continue
            place = f"line {reader.line_num}"
            if len(row) != len(header):
                raise UsageError(f"{redact(path)}, {place}: {len(row)} values, but the header has {len(header)}")
            yield place, ListRow(**{name: row[at].strip() or None for name, at in places.items()})  # type: ignore[arg-type]
    except csv.Error as error:
        raise UsageError(f"{redact(path)}, line {reader.line_num}: no valid CSV ({error})") from None


def _places(path: str, header: list[str]) -> dict[str, int]:
    if "source" not in header:
        found = ", ".join(header) or "nothing"
        raise UsageError(
            f"{redact(path)} needs a header with the column `source` (key and reference may follow): {found}"
        )
    return {name: header.index(name) for name in _COLUMNS if name in header}


def _jsonl(path: str, lines: io.TextIOWrapper) -> Iterator[tuple[str, ListRow]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            raise UsageError(f"{redact(path)}, line {number}: no valid JSON") from None
        yield f"line {number}", _row(path, f"line {number}", {"source": value} if isinstance(value, str) else value)


def _row(path: str, place: str, value: Any) -> ListRow:
    if not isinstance(value, dict) or "source" not in value:
        raise UsageError(f"{redact(path)}, {place}: needs an object with `source`")
    chosen = {name: value[name] for name in _COLUMNS if value.get(name) is not None}
    if not all(isinstance(item, str) for item in chosen.values()) or "source" not in chosen:
        raise UsageError(f"{redact(path)}, {place}: key, source and reference are text")
    return ListRow(**{name: item for name, item in chosen.items() if item or name == "source"})


def _parquet(path: str, file: IO[bytes]) -> Iterator[tuple[str, ListRow]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
    except (pa.ArrowException, OSError):
        raise UsageError(f"{redact(path)} is no Parquet file") from None
    names = [name for name in _COLUMNS if name in table.schema_arrow.names]
    _places(path, table.schema_arrow.names)
    number = 0
    for batch in table.iter_batches(batch_size=16384, columns=names):
        for value in batch.to_pylist():
            number += 1
            yield f"row {number}", _row(path, f"row {number}", value)
