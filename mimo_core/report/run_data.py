"""What a report knows of a run: its status, the totals of all records, and columns of the records for the charts."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mimo_core.errors import ErrorKind, ImageError, UsageError
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.inspection import RunStatus, run_status
from mimo_core.runs.recipe import Recipe
from mimo_core.runs.records import part_numbers, read_part_table
from mimo_core.storage import Store

MOST_ROWS = 1_000_000
"""Records that charts are drawn from; of a larger run every n-th part is read. Totals always count all."""

_THREADS = 16
_COLUMNS = (
    *("key", "source", "output", "reference", "status", "error_kind", "error", "width", "height", "output_sha256"),
    *("input_psnr", "input_ssim", "psnr", "ssim", "psnr_float", "psnr_y", "input_psnr_y"),
    *("ssim_matlab3d", "input_ssim_matlab3d", "psnr_zoo", "ssim_zoo", "psnr_realblur", "ssim_realblur"),
    *("input_sharpness", "sharpness", "input_piqe", "piqe"),
    *("infer_ms", "finished_at", "suspect"),
)

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RunData:
    """A run as the report sees it.

    Attributes:
        label: how the page calls it, unlike all others on the page.
        store: the run's folder.
        status: manifest, plan and the statistics of all records.
        summary: summary.json, empty where the run is not finished.
        table: columns of the records that charts are drawn from.
    """

    label: str
    store: Store
    status: RunStatus
    summary: dict[str, Any]
    table: pa.Table

    @property
    def recipe(self) -> Recipe:
        """The choices of the run."""
        assert self.status.manifest is not None
        return self.status.manifest.recipe

    @property
    def sampled(self) -> bool:
        """Whether `table` holds only some of the records."""
        return bool(self.table.num_rows < self.status.statistics.images)

    def texts(self, name: str) -> list[str | None]:
        """Return a column of text, all None where the records do not have it."""
        if name not in self.table.column_names:
            return [None] * self.table.num_rows
        return list(self.table[name].to_pylist())

    def values(self, name: str) -> Values:
        """Return a column of numbers as float64; NaN where a record has none."""
        if name not in self.table.column_names:
            return np.full(self.table.num_rows, math.nan)
        column = self.table[name].cast(pa.float64())
        return np.asarray(column.to_numpy(), dtype=np.float64)

    def finished_seconds(self) -> Values:
        """Return when each record was made, in seconds since the epoch; NaN where unknown."""
        if "finished_at" not in self.table.column_names:
            return np.full(self.table.num_rows, math.nan)
        ticks = self.table["finished_at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).cast(pa.float64())
        return np.asarray(ticks.to_numpy(), dtype=np.float64) / 1e6

    def has(self, name: str) -> bool:
        """Return whether any record has a finite value in this column."""
        return bool(np.isfinite(self.values(name)).any())


def read_run(store: Store, label: str, most_rows: int = MOST_ROWS) -> RunData:
    """Read a run's folder.

    Args:
        store: the run's folder.
        label: how the page calls the run.
        most_rows: about how many records are read besides the totals.

    Raises:
        UsageError: there is no run, or it has no record yet.
        SystemFailure: the storage fails, or a part is damaged.
    """
    folder = RunFolder(store)
    status = run_status(folder, time.time())
    if status.manifest is None or not status.statistics.images:
        raise UsageError(f"{store} holds no records yet: there is nothing to report")
    numbers = list(part_numbers(store))
    stride = max(1, math.ceil(status.statistics.images / most_rows))
    with ThreadPoolExecutor(_THREADS) as pool:
        tables = [table for table in pool.map(lambda number: _columns(store, number), numbers[::stride]) if table]
    if not tables:
        raise UsageError(f"{store} holds no records any more: it is being started over")
    return RunData(label, store, status, folder.summary() or {}, pa.concat_tables(tables, promote_options="default"))


def labels_of(stores: Sequence[Store]) -> list[str]:
    """Return short names for runs: the last segments of their places, as many as tell them apart."""
    segments = [str(store).rstrip("/").split("/") for store in stores]
    depth = 1
    while depth < max(map(len, segments)):
        names = ["/".join(parts[-depth:]) for parts in segments]
        if len(set(names)) == len(names):
            return names
        depth += 1
    return [str(store) for store in stores]


def _columns(store: Store, number: int) -> pa.Table | None:
    try:
        table = read_part_table(store, number)
    except ImageError as error:
        if error.kind is ErrorKind.NOT_FOUND:
            return None
        raise
    return table.select([name for name in _COLUMNS if name in table.column_names]).replace_schema_metadata(None)
