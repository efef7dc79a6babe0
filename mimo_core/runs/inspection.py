"""Looking at a run from outside: how far it is, and whether its outputs are what its records say."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal

from mimo_core.errors import ErrorKind, ImageError, SystemFailure, UsageError
from mimo_core.runs.feature_parts import read_features
from mimo_core.runs.folder import RunFolder, RunManifest
from mimo_core.runs.lease import EXPIRY_SECONDS, holder_is_dead_here, read_lease
from mimo_core.runs.plan import Plan, PlanRow, ShardReader, read_plan
from mimo_core.runs.record import Record
from mimo_core.runs.records import part_numbers, read_part
from mimo_core.runs.statistics import Statistics
from mimo_core.storage import Store

State = Literal["planning", "working", "interrupted", "finished"]

_THREADS = 8


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
        state: `working` if a driver holds the lease and was seen alive; `interrupted` if none does and work is left.
        manifest: what the run is; None while it is planned for the first time.
        plan: its plan, likewise.
        statistics: of the committed records.
        shards_done: committed shards.
        driver: the newest lease's document (host, pid, progress of the living driver), if there was one.
        driver_age: seconds since the driver's last heartbeat, by this machine's clock.
    """

    state: State
    manifest: RunManifest | None
    plan: Plan | None
    statistics: Statistics
    shards_done: int
    driver: dict[str, Any] | None
    driver_age: float | None


def run_status(folder: RunFolder, clock: float) -> RunStatus:
    """Look at a run; reads only, so it may be called from any machine at any time.

    Args:
        folder: the run's folder.
        clock: the time now, in seconds since the epoch.

    Raises:
        UsageError: there is no run.
    """
    manifest = folder.manifest()
    driver = read_lease(folder.store)
    if manifest is None and driver is None:
        raise folder.no_run()
    plan = read_plan(folder.store) if manifest is not None else None
    numbers = list(part_numbers(folder.store))
    age = max(0.0, clock - float(driver["renewed_at"])) if driver is not None else None
    alive = driver is not None and seen_alive(driver, clock)
    if plan is not None and len(numbers) >= plan.num_shards and not alive:
        state: State = "finished"
    elif alive:
        state = "working" if plan is not None else "planning"
    else:
        state = "interrupted"
    statistics = folder.totals(manifest, numbers).sum()
    return RunStatus(state, manifest, plan, statistics, len(numbers), driver, age)


def seen_alive(driver: dict[str, Any], clock: float) -> bool:
    """Return whether the holder of a lease, by its document, was heard of not long before a time (seconds)."""
    age = max(0.0, clock - float(driver["renewed_at"]))
    return driver["state"] == "held" and age < 2 * EXPIRY_SECONDS and not holder_is_dead_here(driver)


@dataclass(frozen=True)
class Defect:
    """Something that is not as the records say."""

    key: str
    problem: str


@dataclass
class Verification:
    """Counts of what was verified so far; `unrecorded` images are those of shards that are not done."""

    images: int = 0
    unrecorded: int = 0
    outputs: int = 0
    bytes: int = 0
    defects: int = 0


def verify_run(folder: RunFolder, tally: Verification) -> Iterator[Defect | None]:
    """Check that every image of the plan has exactly one record and every output is the file that was written.

    Yields each defect as it is found, and None after every shard so that progress can be shown from `tally`. Of shards
    that are not done, which are no defects, it only counts the images.

    Raises:
        UsageError: there is no run.
    """
    manifest = folder.manifest()
    if manifest is None:
        raise folder.no_run()
    plan = read_plan(folder.store)
    if plan is None:
        raise UsageError(f"{folder.store} holds no complete plan")
    done = folder.committed()
    beyond = sorted(number for number in done if number >= plan.num_shards)
    with ThreadPoolExecutor(_THREADS) as pool:
        saves = manifest.recipe.saves_images
        shards = ShardReader(plan)
        for number in range(plan.num_shards):
            if number not in done:
                size = plan.size_of(number)
                tally.images += size
                tally.unrecorded += size
                continue
            rows = shards.shard(number)
            tally.images += len(rows)
            for defect in chain(
                _shard_defects(folder.store, number, rows, pool, tally, saves), _features_defects(folder, number)
            ):
                tally.defects += 1
                yield defect
            yield None
    for number in beyond:
        tally.defects += 1
        yield Defect(f"part {number}", "is the record of no shard of the plan")


def _shard_defects(
    store: Store, number: int, rows: list[PlanRow], pool: ThreadPoolExecutor, tally: Verification, saves: bool
) -> Iterator[Defect]:
    records = read_part(store, number)
    for row, record in zip(rows, records, strict=False):
        if row.key != record.key:
            yield Defect(row.key, f"its place in part {number} is taken by the record of {record.key}")
    for row in rows[len(records) :]:
        yield Defect(row.key, f"has no record in part {number}")
    for record in records[len(rows) :]:
        yield Defect(record.key, f"has a record in part {number} but is not in the plan")
    if not saves:
        return
    # What was left out may have been copied.
    written = iter([record for record in records if record.status == "restored" or record.output is not None])
    # Few at a time: outputs can be large.
    while batch := list(islice(written, 2 * _THREADS)):
        for record, problem in zip(batch, pool.map(lambda one: _output_problem(store, one), batch), strict=True):
            tally.outputs += 1
            tally.bytes += record.bytes_out or 0
            if problem is not None:
                yield Defect(record.key, problem)


def _features_defects(folder: RunFolder, number: int) -> Iterator[Defect]:
    """Yield the side part of a shard where it is not the one that was committed."""
    sha256 = folder.features_sha256(number)
    if sha256 is not None:
        try:
            read_features(folder.store, number, sha256)
        except SystemFailure as failure:
            yield Defect(f"part {number}", str(failure))


def _output_problem(store: Store, record: Record) -> str | None:
    if record.output is None:
        return "is restored, but its record names no output"
    try:
        data = store.read(record.output)
    except ImageError as error:
        if error.kind in (ErrorKind.NOT_FOUND, ErrorKind.EMPTY):
            return f"its output {record.output} is missing"
        return f"its output {record.output} cannot be read: {error}"
    if hashlib.sha256(data).hexdigest() != record.output_sha256:
        return f"its output {record.output} is not the file that was written (SHA-256 differs)"
    return None
