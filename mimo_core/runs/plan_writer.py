"""Writing a plan: entries stream into shards, outputs get names that nobody else has, and `plan.json` commits."""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from itertools import islice
from tempfile import TemporaryDirectory

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
    PlanRow,
    read_ahead,
    read_plan,
    read_shard,
    remove_shards,
    shard_name,
)
from mimo_core.storage import Store, check_key, redact

MAX_SHARD_SIZE = 1_000_000

_THREADS = 16


def write_plan(
    store: Store,
    entries: Iterable[ImageEntry],
    *,
    shard_size: int = 64,
    output_format: str = "same",
    aside: LeftAside | None = None,
    progress: Callable[[int], None] | None = None,
) -> Plan:
    """Write the plan of a new run, streaming: memory holds some shards and 8 to 16 bytes for every image.

    `plan.json` is written last and is the commit; what an interrupted planning left behind is removed first.
    `progress` is told the number of images planned so far, now and then; `aside` is what the listing counts meanwhile.

    Raises:
        UsageError: no entries; duplicate keys; two keys that would write the same output under any name; or a plan is
            there already.
    """
    if read_plan(store) is not None:
        raise UsageError(f"{store.show(COMMIT)} exists: a plan is written once")
    remove_shards(store)
    start = Plan(store, 0, 0, 0, _checked(shard_size), output_format, "", False, "")
    writer = _Writer(start, OutputNames(output_format), progress)
    writer.write(entries)
    if writer.images == 0:
        raise UsageError("the image list is empty")
    return writer.commit(aside)


def extend(
    plan: Plan,
    entries: Iterable[ImageEntry],
    *,
    aside: LeftAside | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Plan, int]:
    """Append the entries whose keys the plan does not have, as new shards; returns the new plan and their number.

    The old shards stay as they are. Keys are told apart by 128-bit hashes (16 bytes of memory an image of the plan).

    Raises:
        UsageError: as `write_plan`, among the new entries, and where one would write an output that the plan has.
    """
    store = plan.store
    remove_shards(store, plan.num_shards)
    keys, outputs = _taken(plan)
    writer = _Writer(plan, OutputNames(plan.format), progress, outputs)
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
        for number, rows in enumerate(read_ahead(plan.store, range(plan.num_shards), _THREADS)):
            write_shard(store, number, rows)
        extend(replace(plan, store=store), entries)


def _taken(plan: Plan) -> tuple[KeySet, KeyHashes]:
    """Return the keys and the outputs of a plan."""
    keys, outputs = KeySet(), KeyHashes()
    for rows in read_ahead(plan.store, range(plan.num_shards), _THREADS):
        for row in rows:
            keys.add(row.key)
            outputs.add(row.output)
    keys.freeze()
    return keys, outputs


class _Writer:
    """Streams entries into numbered shards behind those of a plan, settles the names of outputs, and commits."""

    def __init__(
        self,
        plan: Plan,
        names: OutputNames,
        progress: Callable[[int], None] | None,
        taken: KeyHashes | None = None,
    ) -> None:
        self._plan = plan
        self._names = names
        self._progress = progress
        self._keys = KeyHashes()
        # Only outputs with changed extensions may meet; others are as distinct as their keys.
        self._outputs = KeyHashes()
        self._taken = taken
        self._digests: list[bytes] = []
        self._bytes = 0
        self._references = plan.references
        self._signed = plan.signed
        self.images = 0

    def write(self, entries: Iterable[ImageEntry]) -> None:
        """Write all shards; several at a time, and no more of them in memory than that."""
        rows = self._rows(entries)
        number = self._plan.num_shards
        with ThreadPoolExecutor(_THREADS) as pool:
            pending: list[Future[bytes]] = []
            while shard := list(islice(rows, self._plan.shard_size)):
                if len(pending) == 2 * _THREADS:
                    self._digests.append(pending.pop(0).result())
                pending.append(pool.submit(write_shard, self._plan.store, number, shard))
                number += 1
                if self._progress is not None:
                    self._progress(self.images)
            self._digests += [future.result() for future in pending]
        self._refuse_duplicate_keys()
        self._settle_outputs()

    def _rows(self, entries: Iterable[ImageEntry]) -> Iterator[PlanRow]:
        for entry in entries:
            check_key(entry.key)
            output = self._names.preferred(entry.key)
            self._keys.add(entry.key)
            if self._names.may_meet(output):
                self._outputs.add(output)
            self.images += 1
            self._bytes += entry.size or 0
            self._references = self._references or entry.reference is not None
            row = PlanRow(entry.key, entry.source, entry.reference, output, entry.size, entry.version, entry.restored)
            self._signed = self._signed or row.plain is not row
            yield row

    def commit(self, aside: LeftAside | None) -> Plan:
        """Write `plan.json`, which makes the new shards part of the plan."""
        digest = self._plan.digest
        for shard in self._digests:
            digest = hashlib.sha256(digest.encode() + shard).hexdigest()
        plan = replace(
            self._plan,
            num_shards=self._plan.num_shards + len(self._digests),
            num_images=self._plan.num_images + self.images,
            bytes=self._plan.bytes + self._bytes,
            digest=digest,
            references=self._references,
            signed=self._signed,
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            sizes=self._sizes(),
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

    def _new_shards(self) -> Iterator[tuple[int, list[PlanRow]]]:
        numbers = range(self._plan.num_shards, self._plan.num_shards + len(self._digests))
        return zip(numbers, read_ahead(self._plan.store, numbers, _THREADS), strict=True)

    def _refuse_duplicate_keys(self) -> None:
        suspects = self._keys.repeated()
        if not suspects:
            return
        seen: dict[str, str] = {}
        for _, rows in self._new_shards():
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
        wanted: dict[str, list[tuple[int, PlanRow]]] = {}
        for number, rows in self._new_shards():
            for row in rows:
                if KeyHashes.hash(row.output) in suspects:
                    wanted.setdefault(row.output, []).append((number, row))
        renamed: dict[int, dict[str, str]] = {}
        for output, claims in wanted.items():
            if len(claims) == 1 and output not in old:
                continue
            if not self._names.settles:
                raise _same_output(claims[0][1].key, old.get(output) or claims[1][1].key, output)
            for number, row in claims:
                if output in old or self._names.changes(row.key):
                    renamed.setdefault(number, {})[row.key] = self._names.distinct(row.key)
        self._refuse_meeting(renamed)
        for number, outputs in renamed.items():
            rows = [
                replace(row, output=outputs.get(row.key, row.output)) for row in read_shard(self._plan.store, number)
            ]
            self._digests[number - self._plan.num_shards] = write_shard(self._plan.store, number, rows)

    def _earlier_outputs(self, suspects: frozenset[int]) -> dict[str, str]:
        if self._taken is None:
            return {}
        old = read_ahead(self._plan.store, range(self._plan.num_shards), _THREADS)
        return {row.output: row.key for rows in old for row in rows if KeyHashes.hash(row.output) in suspects}

    def _refuse_meeting(self, renamed: dict[int, dict[str, str]]) -> None:
        new_names = {output: key for outputs in renamed.values() for key, output in outputs.items()}
        moved = {key for outputs in renamed.values() for key in outputs}
        hashes = frozenset(KeyHashes.hash(output) for output in new_names)
        everywhere = range(self._plan.num_shards + len(self._digests))
        numbers = everywhere if self._outputs.intersects(hashes, self._taken) else range(0)
        for rows in read_ahead(self._plan.store, numbers, _THREADS):
            for row in rows:
                if row.output in new_names and row.key not in moved:
                    raise _same_output(new_names[row.output], row.key, row.output)
        if len(new_names) != len(moved):
            taken: dict[str, str] = {}
            for key, output in (pair for outputs in renamed.values() for pair in outputs.items()):
                if output in taken:
                    raise _same_output(taken[output], key, output)
                taken[output] = key


def _same_output(first: str, second: str, output: str) -> UsageError:
    return UsageError(
        f"the keys {first!r} and {second!r} would both write {output!r}; rename one of them, or choose another --format"
    )


def _checked(shard_size: int) -> int:
    if not 1 <= shard_size <= MAX_SHARD_SIZE:
        raise UsageError(f"the shard size must lie between 1 and {MAX_SHARD_SIZE}, not {shard_size}")
    return shard_size


def write_shard(store: Store, number: int, rows: list[PlanRow]) -> bytes:
    """Write a shard, for its owner alone where it holds secrets; return the SHA-256 of its rows without these."""
    columns = {name: [getattr(row, name) for row in rows] for name in SHARD_SCHEMA.names}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=SHARD_SCHEMA), buffer, compression="zstd")
    shown = [row.plain for row in rows]
    private = any(one is not row for one, row in zip(shown, rows, strict=True))
    store.write(shard_name(number), buffer.getvalue(), private=private)
    lines = (
        json.dumps([row.key, row.source, row.reference, row.output, row.size, row.version, *_given(row)])
        for row in shown
    )
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).digest()


def _given(row: PlanRow) -> tuple[str, ...]:
    return () if row.restored is None else (row.restored,)
