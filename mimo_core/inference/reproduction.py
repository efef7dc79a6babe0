"""Restoring again what a run has restored, to see whether the same bytes come out."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from tempfile import TemporaryDirectory

import numpy as np

from mimo_core.datasets.imagelist import ImageEntry
from mimo_core.engines import SessionHost
from mimo_core.errors import MimoError, SystemFailure, UsageError
from mimo_core.images import codecs
from mimo_core.images.pixels import as_8bit
from mimo_core.inference.open_restorer import session_spec, weights_of
from mimo_core.inference.pipeline import Pipeline, PipelineOptions
from mimo_core.inference.task import Task
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.inspection import Defect
from mimo_core.runs.plan import Plan, PlanRow, ShardReader, read_plan
from mimo_core.runs.plan_writer import write_plan
from mimo_core.runs.recipe import Recipe
from mimo_core.runs.record import Record
from mimo_core.runs.records import read_part
from mimo_core.storage import Store

_TOGETHER = 16
"""Images of a task; no more outputs than these lie in the temporary folder."""


@dataclass
class Reproduction:
    """Counts so far: images restored again, and how many of them came out with the same bytes."""

    images: int = 0
    equal: int = 0


def reproduce(folder: RunFolder, number: int, seed: int, tally: Reproduction) -> Iterator[Defect | None]:
    """Restore a random sample of a run again by its recipe, and compare each output with the one that was recorded.

    Left out is what needs no restoring, and what memory ran out for: which tiles were taken then depends on the day.

    Args:
        folder: the run's folder, which is only read.
        number: images in the sample; all where the run has restored no more.
        seed: of chance; the same one takes the same images.
        tally: is kept up to date.

    Yields:
        What differs or cannot be restored again, and None for every other image.

    Raises:
        UsageError: there is no run, it keeps no outputs, or what it was made with is not here (weights, device).
        SystemFailure: the storage or the device fails.
    """
    manifest, plan = folder.manifest(), read_plan(folder.store)
    if manifest is None or plan is None:
        raise folder.no_run()
    recipe = manifest.recipe
    if not recipe.saves_images:
        raise UsageError(f"{folder.store} keeps no outputs: there is nothing to compare with")
    sample = islice(_shuffled(folder, plan, seed), number)
    host = SessionHost(session_spec(recipe, weights_of(recipe)))
    try:
        while chosen := list(islice(sample, _TOGETHER)):
            yield from _again(folder.store, recipe, host, chosen, tally)
    finally:
        host.close()


def _shuffled(folder: RunFolder, plan: Plan, seed: int) -> Iterator[tuple[PlanRow, Record]]:
    """Yield the images that can be compared, with their records, in a random order."""
    shards = sorted(number for number in folder.committed() if number < plan.num_shards)
    ends = np.cumsum([rows for _, rows in plan.row_counts(shards)]).tolist()
    if not ends:
        return
    reader = ShardReader(plan)
    chance, seen = random.Random(seed), set[int]()
    # Without a list of all, of which there may be ten million: only what was drawn is held.
    while len(seen) < ends[-1]:
        place = chance.randrange(ends[-1])
        if place in seen:
            continue
        seen.add(place)
        at = bisect(ends, place)
        row = place - (ends[at - 1] if at else 0)
        record = read_part(folder.store, shards[at])[row]
        if record.status == "restored" and record.output_sha256 is not None and record.fallback is None:
            yield reader.shard(shards[at])[row], record


def _again(
    store: Store, recipe: Recipe, host: SessionHost, chosen: list[tuple[PlanRow, Record]], tally: Reproduction
) -> Iterator[Defect | None]:
    with TemporaryDirectory(prefix="mimo-again-") as place:
        again = Store(place)
        entries = (ImageEntry(row.key, row.source, size=row.size, version=row.version) for row, _ in chosen)
        write_plan(again, entries, shard_size=_TOGETHER, output_format=recipe.format)
        pipeline = Pipeline(again, recipe, host, PipelineOptions())
        try:
            result = pipeline.submit(Task(0, tuple(range(len(chosen))))).result()
        finally:
            pipeline.close()
        if result.failure is not None:
            raise SystemFailure(*result.failure)
        for index, (_, before) in enumerate(chosen):
            after = result.records[index]
            tally.images += 1
            if after.output_sha256 == before.output_sha256:
                tally.equal += 1
                yield None
            elif after.error is not None and after.status == "failed":
                yield Defect(before.key, f"cannot be restored again: {after.error_kind}: {after.error}")
            else:
                yield Defect(
                    before.key, f"comes out otherwise when it is restored again: {_change(store, before, again, after)}"
                )


def _change(store: Store, before: Record, again: Store, after: Record) -> str:
    """Return in words how far two outputs are apart."""
    if before.source_sha256 != after.source_sha256:
        return "its source is another file now"
    try:
        first, second = (
            as_8bit(codecs.model_input(codecs.decode(where.read(str(one.output)), pages="first"))).astype(np.int16)
            for where, one in ((store, before), (again, after))
        )
    except MimoError as error:
        return f"the recorded output cannot be compared ({error})"
    if first.shape != second.shape:
        return f"{second.shape[1]}x{second.shape[0]} pixels instead of {first.shape[1]}x{first.shape[0]}"
    most = int(np.abs(first - second).max())
    return f"by up to {most} of 255 levels" if most else "the same pixels in other bytes"
