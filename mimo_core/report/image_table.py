"""The table of all images: what it shows of each record, packed so that a hundred thousand rows fit the page."""

from __future__ import annotations

import base64
import gzip
import json
import math
import os
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mimo_core.report.measures import PSNR, SCORES, SSIM, Score, gains_of
from mimo_core.report.run_data import RunData, Values
from mimo_core.storage import Store, is_local
from mimo_core.storage.members import member_of
from mimo_core.storage.names import locate

TABLE_BYTES = 3_000_000
"""Bytes of the packed table at most, enough for a hundred thousand images; of a larger run the worst are in it."""

# What browsers can lay out one below the other.
_MOST_ROWS = 400_000
_LONGEST_REASON = 300
# More digits than are shown, so that a filter on a bar of a chart finds the images that it counts.
_HIDDEN_DIGITS = 1


@dataclass(frozen=True, eq=False)
class Column:
    """A column of numbers.

    Attributes:
        name: by which a filter asks for it, such as `psnr`.
        title: of the column.
        digits: after the point.
        values: one for each row, NaN where there is none.
        less: the columns whose difference this is, which the page computes by itself.
        extra: whether the column gives way where the table would be too large.
    """

    name: str
    title: str
    digits: int
    values: Values
    less: tuple[str, str] | None = None
    extra: bool = False

    def packed(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return what the page needs to know; values as whole numbers, which JSON writes in fewer letters."""
        described = {"name": self.name, "title": self.title, "digits": self.digits}
        if self.less is not None:
            return {**described, "less": self.less}
        scale = self.digits + _HIDDEN_DIGITS if self.digits else 0
        values = [_whole(value, 10**scale) for value in self.values[list(rows)].tolist()]
        return {**described, "scale": scale, "values": values}


@dataclass(frozen=True)
class ImageTable:
    """The table as the page holds it: base64 of gzip of JSON, how many of all rows are in it, and what is left out."""

    packed: str
    rows: int
    total: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Links:
    """Where the files of the rows lie from the page: most of them at `prefix` and the key, the others elsewhere."""

    label: str
    prefix: str
    others: dict[int, str | None]


def image_table(runs: Sequence[RunData], page: Store, budget: int = TABLE_BYTES) -> ImageTable | None:
    """Return the table of all images of the runs, None where they have no records.

    Args:
        runs: one, or several, whose images meet by their keys.
        page: the folder that the page is written to, from which its links lead.
        budget: bytes that the table takes at most.
    """
    keys, places = _rows_of(runs)
    if not keys:
        return None
    columns = _columns(runs, places)
    states, reasons = _states(runs, places)
    rows, left_out = list(range(len(keys))), tuple[str, ...]()
    most = _MOST_ROWS
    while True:
        if len(rows) > most:
            rows = _worst(rows, states, reasons, columns, most)
        packed = _pack(_document(runs, places, keys, columns, states, reasons, rows, page))
        if len(packed) <= budget or len(rows) == 1:
            return ImageTable(packed, len(rows), len(keys), left_out)
        if not left_out and (extra := tuple(column.title for column in columns if column.extra)):
            # Better all images without some columns than some images with all.
            columns, left_out = [column for column in columns if not column.extra], extra
            continue
        most = max(1, int(0.95 * len(rows) * budget / len(packed)))


def _rows_of(runs: Sequence[RunData]) -> tuple[list[str], list[list[int | None]]]:
    """Return the keys of all runs, and for each run in which row of its table it has them."""
    tables = [{str(key): row for row, key in enumerate(run.texts("key"))} for run in runs]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    return keys, [[table.get(key) for key in keys] for table in tables]


def _columns(runs: Sequence[RunData], places: Sequence[Sequence[int | None]]) -> list[Column]:
    first, rows = runs[0], places[0]
    columns: list[Column] = []
    if len(runs) > 1:
        scores = [_aligned(run.values("psnr"), place) for run, place in zip(runs, places, strict=True)]
        for number, (run, values) in enumerate(zip(runs, scores, strict=True)):
            columns.append(Column(f"psnr{number + 1}", f"PSNR {run.label}", PSNR.digits, values))
        for number, (run, values) in enumerate(zip(runs[1:], scores[1:], strict=True), 2):
            change = _less(values, scores[0])
            columns.append(
                Column(
                    f"change{number}", f"{run.label} − {first.label}", PSNR.digits, change, (f"psnr{number}", "psnr1")
                )
            )
    else:
        for score in SCORES:
            columns += _score_columns(first, score, rows)
    for name, title, digits in (("width", "Width", 0), ("height", "Height", 0), ("infer_ms", "ms", 0)):
        columns.append(Column(name, title, digits, _aligned(first.values(name), rows), extra=name == "infer_ms"))
    return [column for column in columns if not np.isnan(column.values).all()]


def _score_columns(run: RunData, score: Score, rows: Sequence[int | None]) -> list[Column]:
    main = score in (PSNR, SSIM)
    after = _aligned(run.values(score.column), rows)
    columns = [Column(score.column, score.name, score.digits, after, extra=not main)]
    if main and score.before is not None:
        before = _aligned(run.values(score.before), rows)
        gain = _aligned(gains_of(run, score), rows)
        columns.insert(0, Column(score.before, f"{score.name}, input", score.digits, before))
        less = (score.column, score.before)
        columns.append(Column(f"{score.column}_gain", f"{score.name}, gain", score.digits, gain, less))
    return columns


def _aligned(values: Values, rows: Sequence[int | None]) -> Values:
    """Return the values in the order of the table's rows."""
    places = np.array([len(values) if row is None else row for row in rows], dtype=np.intp)
    return np.asarray(np.append(values, math.nan)[places], dtype=np.float64)


def _less(values: Values, others: Values) -> Values:
    known = np.isfinite(values) & np.isfinite(others)
    return np.where(known, np.where(known, values, 0.0) - np.where(known, others, 0.0), math.nan)


def _states(runs: Sequence[RunData], places: Sequence[Sequence[int | None]]) -> tuple[list[str], dict[int, str]]:
    """Return what became of each image, the worst of all runs, and the reasons of those that have one."""
    order = ("failed", "skipped", "restored")
    states, reasons = ["restored"] * len(places[0]), dict[int, str]()
    for run, rows in zip(runs, places, strict=True):
        prefix = f"{run.label}: " if len(runs) > 1 else ""
        status, kinds, errors, suspects = (run.texts(name) for name in ("status", "error_kind", "error", "suspect"))
        for place, row in enumerate(rows):
            if row is None:
                continue
            states[place] = min(states[place], str(status[row]), key=order.index)
            told = [f"suspect: {suspects[row]}"] if suspects[row] else []
            told += [f"{kinds[row]}: {errors[row] or ''}"] if kinds[row] else []
            for text in (f"{prefix}{one}"[:_LONGEST_REASON] for one in told):
                reasons[place] = f"{reasons[place]}; {text}" if place in reasons else text
    return states, reasons


def _worst(
    rows: Sequence[int], states: Sequence[str], reasons: Container[int], columns: Sequence[Column], most: int
) -> list[int]:
    """Return this many rows: what failed, what is suspect, then what gained least, in the order that they have."""
    ranking = _ranking(columns)
    value = ranking.values if ranking is not None else np.zeros(len(states))

    def badness(row: int) -> tuple[bool, bool, float]:
        return states[row] == "restored", row not in reasons, math.inf if math.isnan(value[row]) else float(value[row])

    return sorted(sorted(rows, key=badness)[:most])


def _ranking(columns: Sequence[Column]) -> Column | None:
    """Return the column by which the table is sorted when it opens: gain, or else the first score."""
    scored = [column for column in columns if column.name not in ("width", "height", "infer_ms")]
    return next((column for column in scored if column.less), scored[0] if scored else None)


def _document(
    runs: Sequence[RunData],
    places: Sequence[Sequence[int | None]],
    keys: Sequence[str],
    columns: Sequence[Column],
    states: Sequence[str],
    reasons: dict[int, str],
    rows: Sequence[int],
    page: Store,
) -> dict[str, Any]:
    ranking = _ranking(columns)
    names = list(dict.fromkeys(states[row] for row in rows))
    return {
        "keys": [keys[row] for row in rows],
        "states": {"names": names, "rows": [names.index(states[row]) for row in rows]},
        "columns": [column.packed(rows) for column in columns],
        "reasons": {number: reasons[row] for number, row in enumerate(rows) if row in reasons},
        "links": [
            {"label": links.label, "prefix": links.prefix, "others": links.others}
            for links in _links(runs[0], [places[0][row] for row in rows], [keys[row] for row in rows], page)
        ],
        "sort": ranking.name if ranking is not None else None,
    }


def _links(run: RunData, rows: Sequence[int | None], keys: Sequence[str], page: Store) -> list[_Links]:
    """Return the links to sources and outputs, where these lie beside the page, or on the same machine."""
    links = []
    base = _from_page(page, str(run.store)) if run.store != page else ""
    if base is not None:
        outputs = run.texts("output")
        there = [None if row is None or outputs[row] is None else _below(base, str(outputs[row])) for row in rows]
        links.append(_linked("output", there, keys))
    sources, ways = run.texts("source"), dict[str, str | None]()
    there = [None if row is None else _way(page, str(sources[row]), ways) for row in rows]
    links.append(_linked("source", there, keys))
    return [one for one in links if len(one.others) < len(keys) or any(one.others.values())]


def _from_page(page: Store, place: str) -> str | None:
    """Return the way from the page's folder to a place, None where there is none that a link could go."""
    if page.path is None or not is_local(place):
        return None
    return os.path.relpath(locate(place).path, page.path)


def _way(page: Store, source: str, ways: dict[str, str | None]) -> str | None:
    """Return the way to a file; `ways` remembers those to its neighbours' folders. Members of containers have none."""
    if member_of(source) is not None:
        return None
    folder, _, name = source.rpartition("/")
    if folder not in ways:
        ways[folder] = _from_page(page, folder or "/")
    base = ways[folder]
    return None if base is None else f"{base}/{name}"


def _below(base: str, name: str) -> str:
    return f"{base}/{name}" if base else name


def _linked(label: str, there: Sequence[str | None], keys: Sequence[str]) -> _Links:
    prefix = ""
    for place, key in zip(there, keys, strict=True):
        if place is not None and place.endswith(key):
            prefix = place.removesuffix(key)
            break
    others = {
        number: place
        for number, (place, key) in enumerate(zip(there, keys, strict=True))
        if place is None or place != prefix + key
    }
    return _Links(label, prefix, others)


def _whole(value: float, factor: int) -> int | str | None:
    if math.isnan(value):
        return None
    return round(value * factor) if math.isfinite(value) else "inf"


def _pack(document: dict[str, Any]) -> str:
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    # Without the time of day, so that the same records give the same page.
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
