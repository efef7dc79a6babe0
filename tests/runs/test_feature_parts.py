"""The side part of features: what goes in comes out, damage shows, and the order is that of keys."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mimo_core.errors import SystemFailure, UsageError
from mimo_core.metrics.fid.vectors import LENGTH, Features
from mimo_core.runs.feature_parts import FOLDER, FeatureSet, read_features, write_features
from mimo_core.storage import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def features(seed: int) -> Features:
    return Features(*np.random.default_rng(seed).random((3, LENGTH), np.float32))


def test_what_goes_in_comes_out(store: Store, tmp_path: Path) -> None:
    rows = [("b.png", features(1)), ("a.png", features(2))]
    sha256 = write_features(store, 3, rows)
    found = read_features(store, 3, sha256)
    assert list(found) == ["b.png", "a.png"]
    for key, expected in rows:
        for kind in ("input", "output", "reference"):
            assert np.array_equal(getattr(found[key], kind), getattr(expected, kind))
    # An ordinary data set for everybody else.
    table = pq.read_table(tmp_path / FOLDER)
    assert table.column_names == ["key", "input", "output", "reference"]
    assert write_features(store, 3, rows) == sha256
    assert len(list((tmp_path / FOLDER).iterdir())) == 1


def test_another_file_than_the_committed_one_is_refused(store: Store, tmp_path: Path) -> None:
    sha256 = write_features(store, 0, [("a.png", features(1))])
    (path,) = (tmp_path / FOLDER).iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(SystemFailure, match="not the file that was committed"):
        read_features(store, 0, sha256)
    path.unlink()
    with pytest.raises(SystemFailure, match="features of shard 0 cannot be read"):
        read_features(store, 0, sha256)


@pytest.mark.parametrize("orders", [[["a", "b"], ["c"]], [["c", "a"], ["b"]]])
def test_a_set_is_in_the_order_of_keys_whatever_the_plan(store: Store, orders: list[list[str]]) -> None:
    parts = [
        (number, write_features(store, number, [(key, features(ord(key))) for key in keys]))
        for number, keys in enumerate(orders)
    ]
    every = FeatureSet(store, parts)
    assert len(every) == 3
    for kind in ("input", "output", "reference"):
        rows = np.concatenate(list(every.rows(kind)))
        assert np.array_equal(rows, np.stack([getattr(features(ord(key)), kind) for key in "abc"]))


def test_other_shapes_and_types_are_refused() -> None:
    with pytest.raises(UsageError, match="2048 float32"):
        Features(*np.zeros((3, 10), np.float32))
    with pytest.raises(UsageError, match="2048 float32"):
        Features(*np.zeros((3, LENGTH), np.float64))
