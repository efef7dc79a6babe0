"""The one table that a sweep ends in, in the shape of the model zoo's: as Markdown and as CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mimo_core.storage import redact
from mimo_core.sweep.cells import short_weights
from mimo_core.sweep.comparison import Difference
from mimo_core.sweep.figures import Figures
from mimo_core.sweep.results import Result
from mimo_core.sweep.sweep_config import DATA

_ELSEWHERE = frozenset({DATA, "engine", "precision", "device", "size", "ensemble"})
_SCORES = (("psnr", "PSNR dB", ".3f"), ("ssim", "SSIM", ".4f"))


@dataclass(frozen=True)
class _Column:
    title: str
    of: Callable[[Figures], Any]
    form: str = ""


@dataclass(frozen=True)
class Grid:
    """The table as text: titles, which columns hold words and not numbers, and a row for each cell that was run."""

    titles: tuple[str, ...]
    words: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


def grid_of(results: Sequence[Result]) -> Grid:
    """Return the table of the cells that were run."""
    extra, columns, short = _extra(results), _columns(results), _short_names(results)
    compared = any(result.differences for result in results)
    titles = ["data", *extra, *(column.title for column in columns)]
    titles += [f"{title}, difference [95 %]" for _, title, _ in _SCORES] if compared else []
    words = {DATA, "model", "engine and precision", "shape", *extra}
    rows = []
    for result in results:
        if result.figures is None:
            continue
        cells = [str(result.choices[DATA]), *(short[_choice(result, key)] for key in extra)]
        cells += [_shown(column.of(result.figures), column.form) for column in columns]
        if compared:
            cells += [_difference(result, score, form) for score, _, form in _SCORES]
        rows.append(tuple(cells))
    return Grid(tuple(titles), tuple(title in words for title in titles), tuple(rows))


def markdown(results: Sequence[Result]) -> str:
    """Return the table as Markdown; cells that were not run follow with their reasons."""
    grid = grid_of(results)
    lines = [_line(grid.titles), _line(["---" if words else "---:" for words in grid.words]), *map(_line, grid.rows)]
    left_out = [result for result in results if result.figures is None]
    if left_out:
        lines += ["", "Not run:", "", *(f"- `{result.name}`: {_one_line(result.reason)}" for result in left_out)]
    return "\n".join(lines) + "\n"


def comma_separated(results: Sequence[Result]) -> str:
    """Return the table as CSV, every cell a line, with more figures than the Markdown has and none of them rounded."""
    keys = list(dict.fromkeys(key for result in results for key in result.choices))
    figures = [name for name in Figures.__dataclass_fields__ if name != "scores"]
    scores = list(dict.fromkeys(name for result in results if result.figures for name in result.figures.scores))
    compared = list(dict.fromkeys(score for result in results for score in result.differences))
    ends = ("mean", "low", "high", "images")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["cell", *(f"choice_{key}" for key in keys), "status", "reason", *figures, *scores, "baseline"]
        + [f"{score}_difference_{end}" for score in compared for end in ends]
    )
    for result in results:
        known = result.figures
        row: list[Any] = [result.name, *(_choice(result, key) for key in keys), result.status, result.reason]
        row += [getattr(known, name, None) for name in figures]
        row += [known.scores.get(name) if known is not None else None for name in scores]
        row.append(result.baseline)
        row += [getattr(result.differences.get(score), end, None) for score in compared for end in ends]
        writer.writerow(row)
    return text.getvalue()


def _columns(results: Sequence[Result]) -> list[_Column]:
    columns = [
        _Column("model", lambda figures: figures.model),
        _Column("engine and precision", lambda figures: figures.how),
        _Column("GFLOP", lambda figures: figures.gflops, ".1f"),
        _Column("M params", lambda figures: figures.parameters, ".3f"),
        _Column("PSNR dB", lambda figures: figures.scores.get("psnr"), ".3f"),
        _Column("SSIM", lambda figures: figures.scores.get("ssim"), ".4f"),
        _Column("FID", lambda figures: figures.fid, ".2f"),
        _Column("shape", lambda figures: figures.shape),
        _Column("images/s", lambda figures: figures.rate, ".3g"),
        _Column("images", lambda figures: figures.restored, "d"),
    ]
    asked = [result.figures for result in results if result.figures is not None]
    return [one for one in columns if one.title != "FID" or any(figures.fid is not None for figures in asked)]


def _extra(results: Sequence[Result]) -> list[str]:
    """Return the choices that differ between cells and that no other column tells."""
    keys = dict.fromkeys(key for result in results for key in result.choices if key not in _ELSEWHERE)
    found = [key for key in keys if len({_choice(result, key) for result in results}) > 1]
    if all(_choice(result, "weights") in ("", result.figures.model) for result in results if result.figures):
        found = [key for key in found if key != "weights"]
    return found


def _short_names(results: Sequence[Result]) -> dict[str, str]:
    """Return what each choice is called in the table: weights by their names where these tell them apart."""
    choices = {_choice(result, key): key for result in results for key in result.choices} | {"": ""}
    short = {value: short_weights(value) if key == "weights" else value for value, key in choices.items()}
    return {value: name if list(short.values()).count(name) == 1 else value for value, name in short.items()}


def _choice(result: Result, key: str) -> str:
    value = result.choices.get(key)
    return "" if value is None else redact(str(value))


def _shown(value: Any, form: str) -> str:
    if value is None:
        return "-"
    # Three digits, or all of the whole ones.
    return format(value, ".0f" if form == ".3g" and value >= 999.5 else form)


def _difference(result: Result, score: str, form: str) -> str:
    known: Difference | None = result.differences.get(score)
    if result.baseline == result.name:
        return "baseline"
    if known is None:
        return "-"
    mean, low, high = (_signed(value, form) for value in (known.mean, known.low, known.high))
    tie = known.low <= 0 <= known.high or float(mean) == 0
    return f"{mean} [{low}, {high}]{' tie' if tie else ''}"


def _signed(value: float, form: str) -> str:
    """Return a signed number; what rounds to nothing has no sign that would mean something."""
    text = format(value, f"+{form}")
    return "0" + text[2:] if float(text) == 0 else text


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_one_line(cell) for cell in cells) + " |"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
