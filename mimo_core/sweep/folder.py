"""The folder of a sweep: what it is (sweep.json), a run for each cell, the results and the table of them all."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from mimo_core.errors import ErrorKind, ImageError, SystemFailure, UsageError
from mimo_core.runs import records
from mimo_core.runs.folder import NAME as RUN
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.strangers import refuse_strangers
from mimo_core.storage import Store, redact
from mimo_core.sweep.cells import FOLDER, Cell, baseline_of
from mimo_core.sweep.comparison import Difference, paired_difference
from mimo_core.sweep.figures import read_figures, read_scores
from mimo_core.sweep.results import Result
from mimo_core.sweep.sweep_config import SweepConfig
from mimo_core.sweep.table import comma_separated, markdown

FORMAT = 1
NAME = "sweep.json"
RESULTS = "results.json"
TABLE, TABLE_CSV = "table.md", "table.csv"
# These change no figure, so that they may differ when a sweep is resumed.
_OPERATION = frozenset(
    {"workers", "worker_label", "timeout", "patience", "max_failed", "tolerate", "allow_mixed", "log_format"}
)
_KEPT_SCORES = 4


class SweepFolder:
    """A sweep's folder, local or in a bucket."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._scores: dict[str, pa.Table] = {}
        self._differences: dict[tuple[str, str], dict[str, Difference]] = {}

    def begin(self, sweep: SweepConfig) -> None:
        """Write sweep.json, or go on with the sweep that is there; cells may be added to it.

        Raises:
            UsageError: the folder holds a run, something of somebody else's, or a sweep whose data sets or options
                were others.
        """
        self.check(sweep)
        document = {"format": FORMAT, **_redacted(sweep.model_dump(mode="json"))}
        self.store.write(NAME, json.dumps(document, indent=1).encode())

    def check(self, sweep: SweepConfig) -> None:
        """Refuse a folder that `begin` refuses, and write nothing."""
        known = self._read(NAME)
        if known is None:
            if self.store.exists(RUN):
                raise UsageError(f"{self.store} holds a run; choose another OUTPUT for the sweep")
            refuse_strangers(self.store)
            return
        asked = _redacted(sweep.model_dump(mode="json"))
        differences = [
            f"data {name}: was {known['data'][name]}, now {asked['data'][name]}"
            for name in known["data"]
            if name in asked["data"] and known["data"][name] != asked["data"][name]
        ]
        options = sorted({*known["options"], *asked["options"]} - _OPERATION)
        differences += [
            f"option {name}: was {known['options'].get(name)}, now {asked['options'].get(name)}"
            for name in options
            if known["options"].get(name) != asked["options"].get(name)
        ]
        if differences:
            raise UsageError(
                f"{self.store} holds a sweep that was begun with other choices ({'; '.join(differences)}): choose "
                "another OUTPUT, or vary it in a grid"
            )

    def results(self) -> dict[str, Result]:
        """Return the results so far, by name of the cell."""
        document = self._read(RESULTS)
        return {} if document is None else {one["name"]: Result.from_json(one) for one in document["cells"]}

    def run_of(self, cell: Cell) -> Store:
        """Return the folder of a cell's run."""
        return Store(f"{self.store.url.rstrip('/')}/{FOLDER}/{cell.name}")

    def finish(self, cell: Cell) -> Result:
        """Return the result of a cell whose run is finished; its records become part of the data set of all cells."""
        run = self.run_of(cell)
        figures = read_figures(run)
        if not figures.restored:
            statistics = RunFolder(run).totals(None).sum()
            kinds = {**statistics.error_kinds, **statistics.notes}
            reason = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
            first = statistics.first_failures[0].error if statistics.first_failures else "there are none"
            return Result(cell.name, cell.choices, "not_run", f"no image was restored ({reason}): {first}")
        for number in records.part_numbers(run):
            name = records.part_name(number)
            self.store.write(f"{records.FOLDER}/cell={cell.name}/{name.rpartition('/')[2]}", run.read(name))
        return Result(cell.name, cell.choices, "done", figures=figures)

    def write(self, sweep: SweepConfig, cells: Sequence[Cell], results: Iterable[Result]) -> list[Result]:
        """Compare every cell with its baseline and write results.json and the table; return what was written."""
        by_name = {result.name: result for result in results}
        compared = [self._compared(sweep, cell, cells, by_name) for cell in cells if cell.name in by_name]
        document = {
            "format": FORMAT,
            "baseline": sweep.baseline,
            "cells": [{**result.to_json(), "choices": _redacted(result.choices)} for result in compared],
        }
        self.store.write(TABLE, markdown(compared).encode())
        self.store.write(TABLE_CSV, comma_separated(compared).encode())
        self.store.write(RESULTS, json.dumps(document, indent=1).encode())
        return compared

    def _compared(self, sweep: SweepConfig, cell: Cell, cells: Sequence[Cell], results: dict[str, Result]) -> Result:
        result = results[cell.name]
        baseline = baseline_of(cell, sweep, list(cells))
        base = None if baseline is None else results.get(baseline.name)
        plain = Result(cell.name, cell.choices, result.status, result.reason, result.figures)
        if base is None or baseline is None or base.figures is None or result.figures is None:
            return plain
        if baseline.name == cell.name:
            return replace(plain, baseline=cell.name)
        pair = cell.name, baseline.name
        if pair not in self._differences:
            mine, its = self._scores_of(cell), self._scores_of(baseline)
            names = [name for name in mine.column_names if name != "key" and not name.startswith("input_")]
            found = {name: paired_difference(mine, its, name) for name in names if name in its.column_names}
            self._differences[pair] = {name: one for name, one in found.items() if one is not None}
        return Result(cell.name, cell.choices, "done", "", result.figures, baseline.name, dict(self._differences[pair]))

    def _scores_of(self, cell: Cell) -> pa.Table:
        if cell.name not in self._scores:
            # The baseline is asked for again and again, the others once.
            while len(self._scores) >= _KEPT_SCORES:
                del self._scores[next(iter(self._scores))]
            self._scores[cell.name] = read_scores(self.run_of(cell))
        return self._scores[cell.name]

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            document: dict[str, Any] = json.loads(self.store.read(name))
        except ImageError as error:
            if error.kind is ErrorKind.NOT_FOUND:
                return None
            raise SystemFailure(error.kind, str(error)) from error
        except ValueError as error:
            raise UsageError(f"{self.store.show(name)} is no JSON; choose another OUTPUT") from error
        if document.get("format", 0) > FORMAT:
            raise UsageError(f"{self.store.show(name)} was written by a newer version of this program")
        return document


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _redacted(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(one) for one in value]
    return redact(value) if isinstance(value, str) else value
