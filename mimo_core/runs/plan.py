"""The plan: the image list cut into shards, written once under the run's folder and committed by `plan.json`."""

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
PLAN_VERSION = 1
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
        for number, rows in zip(chosen, read_ahead(self.store, chosen, _READERS), strict=True):
            yield number, len(rows)

    def shard(self, number: int) -> list[PlanRow]:
        """Return the rows of a shard, in order. Errors as `read_shard`; a number beyond the plan is a UsageError."""
        if not 0 <= number < self.num_shards:
            raise UsageError(f"the plan has shards 0 to {self.num_shards - 1}, not {number}")
        return read_shard(self.store, number)

    def rows(self, *, threads: int = 4) -> Iterator[PlanRow]:
        """Yield all rows in order; some shards are read ahead."""
        for rows in read_ahead(self.store, range(self.num_shards), threads):
            yield from rows

    def sources(self) -> Iterator[str]:
        """Yield all sources in order, redacted, for messages and comparisons."""
        return (redact(row.source) for row in self.rows())


def shard_name(number: int) -> str:
    """Return the key of a shard; part and shard have the same number."""
    return f"{FOLDER}/shard-{number:08d}.parquet"


def shard_number(key: str) -> int | None:
    """Return the number of the shard with this key, None for any other file."""
    name = key.removeprefix(f"{FOLDER}/shard-").removesuffix(".parquet")
    return int(name) if name.isdigit() and shard_name(int(name)) == key else None


def remove_shards(store: Store, first: int = 0) -> None:
    """Remove the shards from this number on, and nothing else that lies beside them. Errors as `Store.delete_many`."""
    store.delete_many(shard_keys(store, first))


def shard_keys(store: Store, first: int = 0) -> Iterator[str]:
    """Yield the keys of the shards from this number on, those that no plan counts included."""
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
        return Plan(
            store,
            **{name: document[name] for name in names},
            sizes=None if sizes is None else tuple((int(shards), int(rows)) for shards, rows in sizes),
            signed=document.get("signed", False),
            aside=document.get("aside", {}),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedPlanError(f"{store.show(COMMIT)} is not a plan ({type(error).__name__}: {error})") from None


def read_shard(store: Store, number: int) -> list[PlanRow]:
    """Return the rows of a shard, in order.

    Raises:
        DamagedPlanError: where the shard is missing or no shard: a plan is never incomplete once it is committed.
        SystemFailure: where it cannot be read.
    """
    try:
        data = store.read(shard_name(number))
        return [PlanRow(**row) for row in read_parquet(data).to_pylist()]
    except ImageError as error:
        if error.kind is not ErrorKind.NOT_FOUND:
            raise SystemFailure(error.kind, f"the plan cannot be read: {error}") from None
        raise DamagedPlanError(f"the plan is damaged: {error}") from None
    except (pa.ArrowException, OSError, TypeError) as error:
        name = store.show(shard_name(number))
        raise DamagedPlanError(f"the plan is damaged: {name} is no shard ({type(error).__name__})") from None


def read_ahead(store: Store, numbers: Iterable[int], threads: int) -> Iterator[list[PlanRow]]:
    """Yield the rows of these shards one shard after another, some of them read ahead. Errors as `read_shard`."""
    return ahead(lambda number: read_shard(store, number), numbers, threads)


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
