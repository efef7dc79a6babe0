"""Writing a plan: entries stream into shards, outputs get names that nobody else has, and `plan.json` commits."""

import hashlib
import io
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import groupby, islice
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mimo_core.datasets.imagelist import ImageEntry
from mimo_core.datasets.key_hashes import KeyHashes, KeySet
from mimo_core.datasets.left_aside import LeftAside
from mimo_core.errors import UsageError
from mimo_core.runs.outputs import OutputNames
from mimo_core.runs.plan import (
    COMMIT,
    PLAN_VERSION,
    SHARD_SCHEMA,
    Plan,
    PlanFile,
    PlanRow,
    ahead,
    read_file,
    read_plan,
    remove_shards,
    rows_of,
)
from mimo_core.storage import Store, check_key, check_keys, redact

MAX_SHARD_SIZE = 1_000_000

# As many shards go into one file as have so many rows, and at least one.
_FILE_ROWS = 4096
_THREADS = 16

# The columns that may hold a secret.
_ADDRESSES = ("source", "reference", "restored")

Columns = dict[str, list[Any]]


def write_plan(
    store: Store,
    entries: Iterable[ImageEntry],
    *,
    shard_size: int = 64,
    output_format: str = "same",
    aside: LeftAside | None = None,
) -> Plan:
    """Write the plan of a new run, streaming: memory holds some files of it and 8 to 16 bytes for every image.

    `plan.json` is written last and is the commit; what an interrupted planning left behind is removed first. `aside` is
    what the listing counts meanwhile.

    Raises:
        UsageError: no entries; duplicate keys; two keys that would write the same output under any name; or a plan is
            there already.
    """
    if read_plan(store) is not None:
        raise UsageError(f"{store.show(COMMIT)} exists: a plan is written once")
    remove_shards(store)
    start = Plan(store, 0, 0, 0, _checked(shard_size), output_format, "", False, "")
    writer = _Writer(start, OutputNames(output_format))
    writer.write(entries)
    if writer.images == 0:
        raise UsageError("the image list is empty")
    return writer.commit(aside)


def extend(
    plan: Plan,
    entries: Iterable[ImageEntry],
    *,
    aside: LeftAside | None = None,
) -> tuple[Plan, int]:
    """Append the entries whose keys the plan does not have, as new shards; returns the new plan and their number.

    The old shards stay as they are. Keys are told apart by 128-bit hashes (16 bytes of memory an image of the plan).

    Raises:
        UsageError: as `write_plan`, among the new entries, and where one would write an output that the plan has.
    """
    store = plan.store
    remove_shards(store, plan.num_shards)
    keys, outputs = _taken(plan)
    writer = _Writer(plan, OutputNames(plan.format), outputs)
    writer.write(entry for entry in entries if entry.key not in keys)
    return (writer.commit(aside), writer.images) if writer.images else (plan, 0)


def new_entries(plan: Plan, entries: Iterable[ImageEntry]) -> Iterator[ImageEntry]:
    """Yield the entries that `extend` would append to the plan; memory and errors as there."""
    keys, _ = _taken(plan)
    return (entry for entry in entries if entry.key not in keys)


class Clashes:
    """Tells, in 16 bytes of memory for each entry, whether a plan of these entries may be refused."""

    def __init__(self, output_format: str, plan: Plan | None = None) -> None:
        """`plan`: the one that the entries would extend."""
        self._names = OutputNames(output_format)
        self._keys, self._outputs = KeyHashes(), KeyHashes()
        self._taken = _taken(plan)[1] if plan is not None else None

    def add(self, entry: ImageEntry) -> None:
        """Note one more entry.

        Raises:
            UsageError: its key cannot be one.
        """
        check_key(entry.key)
        self._keys.add(entry.key)
        output = self._names.preferred(entry.key)
        if self._names.may_meet(output):
            self._outputs.add(output)

    def __bool__(self) -> bool:
        """Return whether two keys, or two outputs, may be the same; only writing the plan tells for certain."""
        return bool(self._keys.repeated() or self._outputs.repeated(self._taken))


def try_plan(entries: Iterable[ImageEntry], *, output_format: str, plan: Plan | None = None) -> None:
    """Write a plan, or extend one, in a folder for the time being: raises what `write_plan` and `extend` do."""
    with TemporaryDirectory(prefix="mimo-plan-") as folder:
        store = Store(folder)
        if plan is None:
            write_plan(store, entries, output_format=output_format)
            return
        for file, rows in _with_rows(plan.store, plan.all_files()):
            write_file(store, file, columns_of(rows))
        extend(replace(plan, store=store), entries)


def _taken(plan: Plan) -> tuple[KeySet, KeyHashes]:
    """Return the keys and the outputs of a plan."""
    keys, outputs = KeySet(), KeyHashes()
    for _, rows in _with_rows(plan.store, plan.all_files()):
        for row in rows:
            keys.add(row.key)
            outputs.add(row.output)
    keys.freeze()
    return keys, outputs


def _with_rows(store: Store, files: Iterable[PlanFile]) -> Iterator[tuple[PlanFile, list[PlanRow]]]:
    """Yield files of a plan with their rows, some read ahead. Errors as `read_file`."""
    chosen = list(files)
    tables = ahead(lambda number: read_file(store, chosen[number]), range(len(chosen)), _THREADS)
    for file, table in zip(chosen, tables, strict=True):
        yield file, rows_of(table, store.show(file.name))


class _Writer:
    """Streams entries into files behind those of a plan, settles the names of outputs, and commits."""

    def __init__(self, plan: Plan, names: OutputNames, taken: KeyHashes | None = None) -> None:
        self._plan = plan
        self._names = names
        self._keys = KeyHashes()
        # Only outputs with changed extensions may meet; others are as distinct as their keys.
        self._outputs = KeyHashes()
        self._taken = taken
        self._shards_of_a_file = max(1, _FILE_ROWS // plan.shard_size)
        self._files: list[PlanFile] = []
        self._digests: list[bytes] = []
        self._bytes = 0
        self._references = plan.references
        self._signed = plan.signed
        self.images = 0

    def write(self, entries: Iterable[ImageEntry]) -> None:
        """Write all files; several at a time, and no more of them in memory than that."""
        left = iter(entries)
        size = self._plan.shard_size
        first = self._plan.num_shards
        with ThreadPoolExecutor(_THREADS) as pool:
            pending: deque[Future[object]] = deque()
            while some := list(islice(left, self._shards_of_a_file * size)):
                if len(pending) == 2 * _THREADS:
                    pending.popleft().result()
                file = PlanFile(first, -(-len(some) // size))
                # Here, and only waiting for storage elsewhere: threads that compute would hinder the listing.
                data = encode(self._columns(some))
                self._signed = self._signed or data.private
                self._files.append(file)
                self._digests.append(data.digest)
                pending.append(pool.submit(self._plan.store.write, file.name, data.content, private=data.private))
                first += file.shards
            for future in pending:
                future.result()
        self._refuse_duplicate_keys()
        self._settle_outputs()

    def _columns(self, entries: list[ImageEntry]) -> Columns:
        """Return the rows of these entries by columns, and note what all of them together must not have."""
        keys = [entry.key for entry in entries]
        check_keys(keys)
        outputs = [self._names.preferred(key) for key in keys]
        references = [entry.reference for entry in entries]
        sizes = [entry.size for entry in entries]
        self._keys.add_all(keys)
        self._outputs.add_all([output for output in outputs if self._names.may_meet(output)])
        self.images += len(entries)
        self._bytes += sum(size or 0 for size in sizes)
        self._references = self._references or any(reference is not None for reference in references)
        return {
            "key": keys,
            "source": [entry.source for entry in entries],
            "reference": references,
            "output": outputs,
            "size": sizes,
            "version": [entry.version for entry in entries],
            "restored": [entry.restored for entry in entries],
        }

    def commit(self, aside: LeftAside | None) -> Plan:
        """Write `plan.json`, which makes the new shards part of the plan."""
        digest, size = self._plan.digest, self._plan.shard_size
        for one in self._digests:
            # Batches end with their shard.
            digest = hashlib.sha256(f"{digest} {size} ".encode() + one).hexdigest()
        plan = replace(
            self._plan,
            num_shards=self._plan.num_shards + sum(file.shards for file in self._files),
            num_images=self._plan.num_images + self.images,
            bytes=self._plan.bytes + self._bytes,
            digest=digest,
            references=self._references,
            signed=self._signed,
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            sizes=self._sizes(),
            files=(*self._plan.files, *_runs([file.shards for file in self._files])),
            aside=dict(aside.counted) if aside is not None else self._plan.aside,
        )
        document = {name: value for name, value in vars(plan).items() if name != "store"}
        plan.store.write(COMMIT, json.dumps({"version": PLAN_VERSION, **document}, indent=1).encode())
        return plan

    def _sizes(self) -> tuple[tuple[int, int], ...] | None:
        if self._plan.sizes is None:
            return None
        full, rest = divmod(self.images, self._plan.shard_size)
        added = ((full, self._plan.shard_size), (1, rest))
        return (*self._plan.sizes, *((shards, rows) for shards, rows in added if shards and rows))

    def _refuse_duplicate_keys(self) -> None:
        suspects = self._keys.repeated()
        if not suspects:
            return
        seen: dict[str, str] = {}
        for _, rows in _with_rows(self._plan.store, self._files):
            for row in rows:
                if KeyHashes.hash(row.key) not in suspects:
                    continue
                if row.key in seen:
                    raise UsageError(
                        f"the key {row.key!r} occurs twice in the image list: for {redact(seen[row.key])} and for "
                        f"{redact(row.source)}; give distinct keys in its column `key`"
                    )
                seen[row.key] = row.source

    def _settle_outputs(self) -> None:
        """Give other names to those that would write the same output, or refuse."""
        suspects = self._outputs.repeated(self._taken)
        if not suspects:
            return
        old = self._earlier_outputs(suspects)
        wanted: dict[str, list[tuple[PlanFile, PlanRow]]] = {}
        for file, rows in _with_rows(self._plan.store, self._files):
            for row in rows:
                if KeyHashes.hash(row.output) in suspects:
                    wanted.setdefault(row.output, []).append((file, row))
        renamed: dict[PlanFile, dict[str, str]] = {}
        for output, claims in wanted.items():
            if len(claims) == 1 and output not in old:
                continue
            if not self._names.settles:
                raise _same_output(claims[0][1].key, old.get(output) or claims[1][1].key, output)
            for file, row in claims:
                if output in old or self._names.changes(row.key):
                    renamed.setdefault(file, {})[row.key] = self._names.distinct(row.key)
        self._refuse_meeting(renamed)
        for file, rows in _with_rows(self._plan.store, renamed):
            outputs = renamed[file]
            moved = [replace(row, output=outputs.get(row.key, row.output)) for row in rows]
            self._digests[self._files.index(file)] = write_file(self._plan.store, file, columns_of(moved))

    def _earlier_outputs(self, suspects: frozenset[int]) -> dict[str, str]:
        if self._taken is None:
            return {}
        return {row.output: row.key for row in self._plan.rows() if KeyHashes.hash(row.output) in suspects}

    def _refuse_meeting(self, renamed: dict[PlanFile, dict[str, str]]) -> None:
        new_names = {output: key for outputs in renamed.values() for key, output in outputs.items()}
        moved = {key for outputs in renamed.values() for key in outputs}
        hashes = frozenset(KeyHashes.hash(output) for output in new_names)
        everywhere = (*self._plan.all_files(), *self._files)
        files = everywhere if self._outputs.intersects(hashes, self._taken) else ()
        for _, rows in _with_rows(self._plan.store, files):
            for row in rows:
                if row.output in new_names and row.key not in moved:
                    raise _same_output(new_names[row.output], row.key, row.output)
        if len(new_names) != len(moved):
            taken: dict[str, str] = {}
            for key, output in (pair for outputs in renamed.values() for pair in outputs.items()):
                if output in taken:
                    raise _same_output(taken[output], key, output)
                taken[output] = key


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield how often each number follows itself, with the number."""
    return ((len(list(same)), number) for number, same in groupby(numbers))


def _same_output(first: str, second: str, output: str) -> UsageError:
    return UsageError(
        f"the keys {first!r} and {second!r} would both write {output!r}; rename one of them, or choose another --format"
    )


def _checked(shard_size: int) -> int:
    if not 1 <= shard_size <= MAX_SHARD_SIZE:
        raise UsageError(f"the shard size must lie between 1 and {MAX_SHARD_SIZE}, not {shard_size}")
    return shard_size


@dataclass(frozen=True)
class Encoded:
    """A file of a plan: its bytes, whether they hold secrets, and the SHA-256 of its rows without these."""

    content: bytes
    private: bool
    digest: bytes


def columns_of(rows: list[PlanRow]) -> Columns:
    """Return rows by columns."""
    return {name: [getattr(row, name) for row in rows] for name in SHARD_SCHEMA.names}


def encode(columns: Columns) -> Encoded:
    """Return rows as a file of a plan."""
    buffer = io.BytesIO()
    # No column repeats itself, so that dictionaries and statistics would only cost.
    pq.write_table(
        pa.table(columns, schema=SHARD_SCHEMA), buffer, compression="zstd", use_dictionary=False, write_statistics=False
    )
    shown = {name: [value and redact(value) for value in columns[name]] for name in _ADDRESSES}
    private = any(shown[name] != columns[name] for name in _ADDRESSES)
    digest = hashlib.sha256(json.dumps({**columns, **shown}).encode()).digest()
    return Encoded(buffer.getvalue(), private, digest)


def write_file(store: Store, file: PlanFile, columns: Columns) -> bytes:
    """Write a file of a plan, for its owner alone where it holds secrets; return its rows' SHA-256 without these."""
    encoded = encode(columns)
    store.write(file.name, encoded.content, private=encoded.private)
    return encoded.digest
