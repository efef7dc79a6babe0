"""The plan: the image list cut into shards, written once under the run's folder and committed by `plan.json`.

A file of a plan holds some successive shards and is named after the first of them. In a bucket each file costs a
request, on a disk two fsyncs: with one for every shard that would be most of what planning costs.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pyarrow as pa

from mimo_core.errors import ErrorKind, ImageError, SystemFailure, UsageError
from mimo_core.runs.parquet import read_parquet
from mimo_core.storage import Store, redact

T = TypeVar("T")

FOLDER = "plan"
COMMIT = f"{FOLDER}/plan.json"
PLAN_VERSION = 2
_READERS = 16


@dataclass(frozen=True)
class PlanRow:
    """One image of a plan.

    `source` and `reference` are absolute paths or URLs exactly as they are to be read, presigned queries included;
    `output` is the key of the output below the run's folder; `size` (bytes) and `version` (modification time in ns, or
    etag) are what the listing knew of the source, None where it knew nothing; `restored` is what another tool made
    of it.
    """

    key: str
    source: str
    reference: str | None
    output: str
    size: int | None
    version: str | None
    restored: str | None = None

    @property
    def plain(self) -> "PlanRow":
        """The same with addresses as they may be shown."""
        source = redact(self.source)
        reference = None if self.reference is None else redact(self.reference)
        restored = None if self.restored is None else redact(self.restored)
        if (source, reference, restored) == (self.source, self.reference, self.restored):
            return self
        return replace(self, source=source, reference=reference, restored=restored)


SHARD_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field(name, pa.int64() if name == "size" else pa.string(), nullable=name not in ("key", "source", "output"))
        for name in ("key", "source", "reference", "output", "size", "version", "restored")
    ],
    metadata={b"mimo.plan_version": str(PLAN_VERSION).encode()},
)


@dataclass(frozen=True)
class PlanFile:
    """A file of a plan: which shard is its first, and how many successive ones it holds."""

    first: int
    shards: int

    @property
    def name(self) -> str:
        """Its key in the run's folder."""
        return shard_name(self.first)


@dataclass(frozen=True)
class Plan:
    """A committed plan.

    Attributes:
        store: the run's folder.
        num_shards, num_images: what it holds; all shards but the last of each writing have `shard_size` rows.
        bytes: sum of the known source sizes.
        shard_size: images in a shard, for later extensions too.
        format: the output format the names were made for.
        digest: SHA-256 over all rows, with redacted addresses, so that a link signed anew is the same plan.
        references: whether any image has a reference.
        created_at: ISO 8601 time of the last commit.
        sizes: how many rows shards have, as (number of successive shards, rows of each); None in a plan that a version
            before this field wrote.
        files: how many shards its files hold, as (number of successive files, shards of each).
        aside: how many files the listing left aside that are no images by name, by extension; of the latest listing.
        signed: whether any address holds what must not be shown, such as a signature or a password.
    """

    store: Store
    num_shards: int
    num_images: int
    bytes: int
    shard_size: int
    format: str
    digest: str
    references: bool
    created_at: str
    sizes: tuple[tuple[int, int], ...] | None = ()
    files: tuple[tuple[int, int], ...] = ()
    signed: bool = False
    aside: Mapping[str, int] = field(default_factory=dict)

    def size_of(self, number: int) -> int:
        """Return the number of rows of a shard, which is read where the plan does not tell. Errors as `shard`."""
        if self.sizes is None or not 0 <= number < self.num_shards:
            return len(self.shard(number))
        for shards, rows in self.sizes:
            if number < shards:
                return rows
            number -= shards
        raise SystemFailure(ErrorKind.STORAGE, f"{self.store.show(COMMIT)} tells the sizes of too few shards")

    def row_counts(self, numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Yield the number of each of these shards with the number of its rows.

        Shards are read, and some of them ahead, only where the plan does not tell. Errors as `shard`.
        """
        if self.sizes is not None:
            yield from ((number, self.size_of(number)) for number in numbers)
            return
        chosen = list(numbers)
        for number, rows in zip(chosen, ahead(self.shard, chosen, _READERS), strict=True):
            yield number, len(rows)

    def all_files(self) -> Iterator[PlanFile]:
        """Yield the plan's files in order."""
        first = 0
        for files, shards in self.files:
            for _ in range(files):
                yield PlanFile(first, shards)
                first += shards

    def file_of(self, number: int) -> PlanFile:
        """Return the file that holds a shard.

        Raises:
            UsageError: the number is beyond the plan.
            DamagedPlanError: the plan tells of too few files.
        """
        if not 0 <= number < self.num_shards:
            raise UsageError(f"the plan has shards 0 to {self.num_shards - 1}, not {number}")
        first = 0
        for files, shards in self.files:
            if number < first + files * shards:
                return PlanFile(number - (number - first) % shards, shards)
            first += files * shards
        raise DamagedPlanError(f"{self.store.show(COMMIT)} tells of too few files")

    def shard(self, number: int) -> list[PlanRow]:
        """Return the rows of a shard, in order. Errors as `file_of` and `read_file`."""
        file = self.file_of(number)
        return self.cut(number, file, read_file(self.store, file))

    def cut(self, number: int, file: PlanFile, rows: pa.Table) -> list[PlanRow]:
        """Return the rows of a shard out of those of its file.

        Raises:
            DamagedPlanError: there are not as many as the plan tells.
        """
        own = rows if file.shards == 1 else rows.slice((number - file.first) * self.shard_size, self.shard_size)
        if self.sizes is not None and len(own) != self.size_of(number):
            name = self.store.show(file.name)
            raise DamagedPlanError(f"the plan is damaged: {name} has {len(own)} rows of shard {number}")
        return rows_of(own, self.store.show(file.name))

    def shards(self, *, threads: int = 4) -> Iterator[list[PlanRow]]:
        """Yield the rows of every shard in order; some are read ahead. Errors as `shard`."""
        files = list(self.all_files())
        tables = ahead(lambda number: read_file(self.store, files[number]), range(len(files)), threads)
        for file, table in zip(files, tables, strict=True):
            for number in range(file.first, file.first + file.shards):
                yield self.cut(number, file, table)

    def rows(self, *, threads: int = 4) -> Iterator[PlanRow]:
        """Yield all rows in order; some shards are read ahead."""
        for rows in self.shards(threads=threads):
            yield from rows

    def sources(self) -> Iterator[str]:
        """Yield all sources in order, redacted, for messages and comparisons."""
        return (redact(row.source) for row in self.rows())


class ShardReader:
    """Reads shards of a plan; the file of the last one stays at hand, for the next is mostly in the same."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._last: tuple[PlanFile, pa.Table] | None = None

    def shard(self, number: int) -> list[PlanRow]:
        """Return the rows of a shard, in order. Errors as `Plan.shard`."""
        file = self._plan.file_of(number)
        if self._last is None or self._last[0] != file:
            self._last = (file, read_file(self._plan.store, file))
        return self._plan.cut(number, file, self._last[1])


def shard_name(number: int) -> str:
    """Return the key of the file whose first shard has this number."""
    return f"{FOLDER}/shard-{number:08d}.parquet"


def shard_number(key: str) -> int | None:
    """Return the number of the first shard of the file with this key, None where it is no file of a plan."""
    name = key.removeprefix(f"{FOLDER}/shard-").removesuffix(".parquet")
    return int(name) if name.isdigit() and shard_name(int(name)) == key else None


def remove_shards(store: Store, first: int = 0) -> None:
    """Remove the files whose first shards have this number or a higher one, and nothing else that lies beside them.

    Errors as `Store.delete_many`.
    """
    store.delete_many(shard_keys(store, first))


def shard_keys(store: Store, first: int = 0) -> Iterator[str]:
    """Yield the keys of the files from this first shard on, those that no plan counts included."""
    for entry in store.list(FOLDER, start_after=shard_name(first - 1) if first else ""):
        if (number := shard_number(entry.key)) is not None and number >= first:
            yield entry.key


class DamagedPlanError(SystemFailure):
    """A committed plan, or a shard of it, is there but is no such thing any more, or is missing."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorKind.STORAGE, message)

    def __reduce__(self) -> tuple[type["DamagedPlanError"], tuple[str]]:  # type: ignore[override]
        return type(self), (str(self),)


def read_plan(store: Store) -> Plan | None:
    """Return the committed plan of a run's folder; None where there is none (or only an incomplete one).

    Raises:
        DamagedPlanError: where `plan.json` cannot be understood.
        UsageError: where a newer version of the program wrote it.
    """
    try:
        data = store.read(COMMIT)
    except ImageError as error:
        if error.kind is ErrorKind.NOT_FOUND:
            return None
        raise
    try:
        document = json.loads(data)
        if document["version"] > PLAN_VERSION:
            raise UsageError(f"{store.show(COMMIT)} was written by a newer version of this program")
        names = ("num_shards", "num_images", "bytes", "shard_size", "format", "digest", "references", "created_at")
        sizes = document.get("sizes")
        # Up to version 1 each shard has a file of its own.
        files = document.get("files", [[document["num_shards"], 1]])
        return Plan(
            store,
            **{name: document[name] for name in names},
            sizes=None if sizes is None else tuple((int(shards), int(rows)) for shards, rows in sizes),
            files=tuple((int(number), int(shards)) for number, shards in files),
            signed=document.get("signed", False),
            aside=document.get("aside", {}),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedPlanError(f"{store.show(COMMIT)} is not a plan ({type(error).__name__}: {error})") from None


def read_file(store: Store, file: PlanFile) -> pa.Table:
    """Return the rows of a plan's file, of `SHARD_SCHEMA` or of an earlier version's.

    Raises:
        DamagedPlanError: where the file is missing or none of a plan: a plan is never incomplete once it is committed.
        SystemFailure: where it cannot be read.
    """
    try:
        return read_parquet(store.read(file.name))
    except ImageError as error:
        if error.kind is not ErrorKind.NOT_FOUND:
            raise SystemFailure(error.kind, f"the plan cannot be read: {error}") from None
        raise DamagedPlanError(f"the plan is damaged: {error}") from None
    except (pa.ArrowException, OSError) as error:
        raise _no_file_of_a_plan(store.show(file.name), error) from None


def rows_of(table: pa.Table, name: str) -> list[PlanRow]:
    """Return rows as objects; `name` is the file's, for the DamagedPlanError where they are of no plan."""
    try:
        return [PlanRow(**row) for row in table.to_pylist()]
    except (pa.ArrowException, TypeError) as error:
        raise _no_file_of_a_plan(name, error) from None


def _no_file_of_a_plan(name: str, error: Exception) -> DamagedPlanError:
    return DamagedPlanError(f"the plan is damaged: {name} is no file of a plan ({type(error).__name__})")


def ahead(read: Callable[[int], T], numbers: Iterable[int], threads: int) -> Iterator[T]:
    """Yield what is read for each number, in order; some of it is read ahead by as many threads."""
    with ThreadPoolExecutor(threads) as pool:
        pending: list[Future[T]] = []
        try:
            for number in numbers:
                if len(pending) == 2 * threads:
                    yield pending.pop(0).result()
                pending.append(pool.submit(read, number))
            while pending:
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()
