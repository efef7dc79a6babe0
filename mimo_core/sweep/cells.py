"""The cells of a sweep: which they are, what they are called, and in which order they share the most."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mimo_core.errors import UsageError
from mimo_core.runs.config import EvaluateConfig
from mimo_core.storage import redact
from mimo_core.sweep.sweep_config import DATA, Choice, Choices, SweepConfig

FOLDER = "cells"
# In the order of names. What stands here is told by its value alone; other choices are named too, as `tile96x160`.
_PLAIN = (DATA, "weights", "engine", "precision", "size", "interpolation")
_SESSION = ("weights", "model", "interpolation", "engine", "device", "precision", "cpus_per_worker", "batch")
_AMBIGUOUS = frozenset({"auto", "none", "all"})
_LONGEST = 100


@dataclass(frozen=True)
class Cell:
    """One evaluation of a sweep.

    Attributes:
        name: of its folder, made from its choices alone, so that it stays when others are added.
        choices: what the sweep varies, `data` included.
        config: the evaluation.
    """

    name: str
    choices: Choices
    config: EvaluateConfig


def expand(sweep: SweepConfig, output: str) -> list[Cell]:
    """Return the cells of a sweep, each once, in an order in which neighbours share sessions, and then images.

    Raises:
        UsageError: nothing is left of them, an option has a value that it cannot have, or no cell is the baseline.
    """
    cells: dict[str, Cell] = {}
    for choices in _every(sweep):
        if not any(_matches(choices, pattern) for pattern in sweep.exclude):
            cell = _cell(sweep, choices, output)
            cells.setdefault(cell.name, cell)
    if not cells:
        raise UsageError("the sweep excludes all of its cells")
    found = _ordered(list(cells.values()))
    if sweep.baseline is not None and not any(baseline_of(cell, sweep, found) for cell in found):
        raise UsageError(f"no cell is the baseline ({describe(sweep.baseline)})")
    return found


def baseline_of(cell: Cell, sweep: SweepConfig, cells: list[Cell]) -> Cell | None:
    """Return the cell that differs from this in the baseline's values alone; itself where it has them, None without."""
    if sweep.baseline is None:
        return None
    wanted = _config(sweep, {**cell.choices, **sweep.baseline}, cell.config.output)
    mine = wanted.model_dump(exclude={"output"})
    return next((one for one in cells if one.config.model_dump(exclude={"output"}) == mine), None)


def describe(choices: Mapping[str, Choice]) -> str:
    """Return choices in words, for messages."""
    return ", ".join(f"{key} {redact(str(value))}" for key, value in choices.items())


def short_weights(source: str) -> str:
    """Return a short name for weights: `tuned` for `out/tuned/weights.safetensors`, `best` for `out/best.pkl`."""
    folder, _, file = redact(source).rstrip("/").rpartition("/")
    stem = re.sub(r"\.(safetensors|pkl|pth)$", "", file)
    return folder.rpartition("/")[2] if stem == "weights" and folder else stem


def _every(sweep: SweepConfig) -> Iterator[Choices]:
    for grid in sweep.grids:
        # Without a word on data, every set.
        axes = {DATA: tuple(sweep.data), **grid}
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True))
    for cell in sweep.cells:
        for name in [cell[DATA]] if DATA in cell else sweep.data:
            yield {DATA: name, **{key: value for key, value in cell.items() if key != DATA}}


def _matches(choices: Choices, pattern: Mapping[str, tuple[Choice, ...]]) -> bool:
    return all(_text(choices.get(key)) in map(_text, values) for key, values in pattern.items())


def _cell(sweep: SweepConfig, choices: Choices, output: str) -> Cell:
    # A value that is left empty is the option's default, as if it were not there.
    given: Choices = {key: value for key, value in choices.items() if value is not None}
    name = _name(given)
    return Cell(name, given, _config(sweep, given, f"{output.rstrip('/')}/{FOLDER}/{name}"))


def _config(sweep: SweepConfig, choices: Choices, output: str) -> EvaluateConfig:
    data = sweep.data[str(choices[DATA])]
    given = {**sweep.options, **choices}
    values: dict[str, Any] = {key: value for key, value in given.items() if key != DATA and value is not None}
    if ":" in str(values.get("device", "")):
        raise UsageError(
            f"cell ({describe(choices)}): device: in a sweep Ray gives the devices out; leave the number off"
        )
    if data.limit is not None:
        values["limit"] = data.limit
    if isinstance(include := values.get("include"), str):
        values["include"] = (include,)
    try:
        return EvaluateConfig(
            source=data.source,
            reference=data.reference or data.source,
            output=output,
            **values,
        )
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(map(str, first["loc"]))
        text = str(first.get("ctx", {}).get("error") or first["msg"])
        raise UsageError(f"cell ({describe(choices)}): {option + ': ' if option else ''}{text}") from error


def _name(choices: Choices) -> str:
    keys = [key for key in _PLAIN if key in choices] + sorted(set(choices) - set(_PLAIN))
    parts, whole = [], True
    for key in keys:
        part, told = _part(key, _text(choices[key]))
        parts.append(part)
        whole = whole and told
    name = "_".join(parts)
    if whole and len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(json.dumps({key: _text(choices[key]) for key in keys}).encode()).hexdigest()[:8]
    return f"{name[: _LONGEST - 9]}_{digest}"


def _part(key: str, text: str) -> tuple[str, bool]:
    """Return what a name says of a choice, and whether that tells it from every other."""
    short = short_weights(text) if key == "weights" else text
    slug = re.sub(r"[^A-Za-z0-9.-]+" if key != DATA else r"[^A-Za-z0-9._-]+", "-", short).strip("-.")
    if key not in _PLAIN or slug in _AMBIGUOUS:
        slug = key.replace("_", "-") + ("" if slug[:1].isdigit() else "-") + slug
    return slug, short == text and slug.endswith(text)


def _text(value: Choice) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ordered(cells: list[Cell]) -> list[Cell]:
    """Sort cells by session, and within one by data set; every other session goes back over the sets."""
    sessions: dict[str, list[Cell]] = {}
    for cell in cells:
        key = json.dumps([str(getattr(cell.config, name)) for name in _SESSION])
        sessions.setdefault(key, []).append(cell)
    found: list[Cell] = []
    for number, group in enumerate(sessions.values()):
        sets = list(dict.fromkeys(cell.choices[DATA] for cell in cells))
        if number % 2:
            sets.reverse()
        found += sorted(group, key=lambda cell: sets.index(cell.choices[DATA]))
    return found
