"""Features of the images of a shard, for the distance between whole sets: a side part, committed with its records."""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mimo_core.errors import ErrorKind, ImageError, SystemFailure
from mimo_core.metrics.fid.vectors import KINDS, LENGTH, Array, Features
from mimo_core.runs.parquet import read_parquet
from mimo_core.storage import Store

FOLDER = "features"
_NAME = re.compile(rf"{FOLDER}/part-\d{{8,}}-[0-9a-f]{{16}}\.parquet")

_VECTOR = pa.list_(pa.float32(), LENGTH)
_SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), *(pa.field(kind, _VECTOR) for kind in KINDS)])


def part_name(number: int, sha256: str) -> str:
    """Return the key of a shard's side part; by its content, so that one can be written while another is committed."""
    return f"{FOLDER}/part-{number:08d}-{sha256[:16]}.parquet"


def part_names(store: Store) -> Iterator[str]:
    """Yield the keys of all side parts, committed or not."""
    return (entry.key for entry in store.list(FOLDER) if _NAME.fullmatch(entry.key))


def write_features(store: Store, number: int, rows: Iterable[tuple[str, Features]]) -> str:
    """Write the side part of a shard and return the SHA-256 (hexadecimal) of its file.

    Args:
        store: the run's folder.
        number: the shard's number.
        rows: key and features of the images that have some, in the order of the shard.
    """
    chosen = list(rows)
    columns: dict[str, pa.Array] = {"key": pa.array([key for key, _ in chosen], pa.string())}
    for kind in KINDS:
        values = np.concatenate([np.zeros(0, np.float32), *(getattr(features, kind) for _, features in chosen)])
        columns[kind] = pa.FixedSizeListArray.from_arrays(pa.array(values), LENGTH)
    buffer = io.BytesIO()
    # They look like noise: compression would cost time for nothing.
    pq.write_table(pa.table(columns, schema=_SCHEMA), buffer, compression="none", use_dictionary=False)
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    store.write(part_name(number, sha256), buffer.getvalue())
    return sha256


def read_features(store: Store, number: int, sha256: str) -> dict[str, Features]:
    """Return the features of a shard by key.

    Args:
        store: the run's folder.
        number: the shard's number.
        sha256: what the footer of the shard's records says of the side part.

    Raises:
        SystemFailure: the side part is missing, or another than the one that was committed.
    """
    name = part_name(number, sha256)
    try:
        data = store.read(name)
    except ImageError as error:
        remedy = "; evaluate again with --mode overwrite" if error.kind is ErrorKind.NOT_FOUND else ""
        raise SystemFailure(error.kind, f"the features of shard {number} cannot be read: {error}{remedy}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SystemFailure(
            ErrorKind.STORAGE,
            f"{store.show(name)} is not the file that was committed (SHA-256 differs); evaluate again with --mode "
            "overwrite",
        )
    table = read_parquet(data)
    arrays = {kind: _matrix(table[kind]) for kind in KINDS}
    return {
        key: Features(*(arrays[kind][index] for kind in KINDS)) for index, key in enumerate(table["key"].to_pylist())
    }


def remove_features(store: Store, number: int, sha256: str) -> None:
    """Remove a side part that another has taken the place of."""
    store.delete(part_name(number, sha256))


def _matrix(column: pa.ChunkedArray) -> Array:
    flat = np.concatenate([np.zeros(0, np.float32), *(chunk.flatten().to_numpy() for chunk in column.chunks)])
    matrix: Array = flat.astype(np.float32, copy=False).reshape(-1, LENGTH)
    return matrix


class FeatureSet:
    """The features of a whole run, in the order of keys whatever the order of the plan."""

    def __init__(self, store: Store, parts: Iterable[tuple[int, str]]) -> None:
        """Take `parts`: the number of each shard with the SHA-256 of its side part."""
        self._store = store
        self._hashes = dict(parts)
        places = [
            (key, number) for number, sha in sorted(self._hashes.items()) for key in read_features(store, number, sha)
        ]
        self._sorted = all(one <= other for (one, _), (other, _) in pairwise(places))
        self._keys = sorted(key for key, _ in places)

    def __len__(self) -> int:
        return len(self._keys)

    def rows(self, kind: str) -> Iterator[Array]:
        """Yield features of one of KINDS in blocks of (N, 2048), in the order of keys; one shard is in memory where the
        plan has that order, else all of them.
        """
        if self._sorted:
            for number in sorted(self._hashes):
                shard = read_features(self._store, number, self._hashes[number])
                yield np.stack([getattr(features, kind) for features in shard.values()])
            return
        every = {
            key: getattr(features, kind)
            for number, sha in self._hashes.items()
            for key, features in read_features(self._store, number, sha).items()
        }
        yield np.stack([every[key] for key in self._keys])
