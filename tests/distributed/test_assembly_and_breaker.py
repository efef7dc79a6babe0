"""Putting a shard's records together, and telling failing images from a failing storage or device."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_core.distributed.execution.assembly import Assembly
from mimo_core.distributed.execution.breaker import Breaker
from mimo_core.errors import ErrorKind, SystemFailure, UsageError
from mimo_core.inference.task import Task
from mimo_core.runs.record import Record


def record(number: int, kind: ErrorKind | None = None) -> Record:
    if kind is None:
        return Record(key=str(number), source=f"/{number}", status="restored", output=f"images/{number}")
    return Record(key=str(number), source=f"/{number}", status="failed", error_kind=kind.value, error="why")


# Assembly


@settings(deadline=None)
@given(rows=st.integers(1, 40), pieces=st.integers(1, 8), kept=st.integers(0, 10), seed=st.integers())
def test_a_shard_is_given_out_once_complete_and_in_order(rows: int, pieces: int, kept: int, seed: int) -> None:
    order = list(range(rows))
    random.Random(seed).shuffle(order)
    kept = min(kept, rows - 1)
    before, after = order[:kept], order[kept:]
    assembly = Assembly()
    assembly.begin(Task(5, tuple(sorted(after))), rows, {row: record(row) for row in before})
    parts = [part for part in (after[start::pieces] for start in range(pieces)) if part]
    for number, part in enumerate(parts):
        complete = assembly.add(5, {row: record(row) for row in part})
        if number < len(parts) - 1:
            assert complete is None
        else:
            assert complete is not None
            assert [one.key for one in complete] == [str(row) for row in range(rows)]


def test_shards_do_not_mix_and_a_row_cannot_have_two_records() -> None:
    assembly = Assembly()
    for shard in (0, 1):
        assembly.begin(Task(shard, (0, 1)), 2, {})
    assert assembly.add(0, {0: record(0)}) is None
    assert assembly.add(1, {1: record(1)}) is None
    with pytest.raises(AssertionError, match="shard 0: a row has two records"):
        assembly.add(0, {0: record(0)})
    assert assembly.add(1, {0: record(0)}) is not None


def test_a_task_has_distinct_rows_in_order() -> None:
    for rows in ((), (1, 0), (2, 2)):
        with pytest.raises(UsageError, match="distinct rows in increasing order"):
            Task(0, rows)


# Breaker


def test_a_shard_of_restored_and_of_broken_images_passes() -> None:
    breaker = Breaker()
    mixed = [record(0), record(1, ErrorKind.STORAGE)]
    broken = [record(0, ErrorKind.TRUNCATED), record(1, ErrorKind.NOT_FOUND)]
    for shard in range(500):
        assert breaker.admit(shard, mixed) == [(shard, mixed)]
        assert breaker.admit(shard, broken) == [(shard, broken)]


def test_failures_from_outside_are_held_back_until_an_image_succeeds() -> None:
    breaker = Breaker()
    outside, good = [record(0, ErrorKind.STORAGE)], [record(0)]
    assert breaker.admit(0, good) == [(0, good)]
    for shard in range(1, 50):
        assert breaker.admit(shard, outside) == []
    assert [shard for shard, _ in breaker.admit(50, good)] == list(range(1, 51))
    assert breaker.admit(51, outside) == []
    assert breaker.release() == [(51, outside)]
    assert breaker.release() == []


@pytest.mark.parametrize("kind", [ErrorKind.STORAGE, ErrorKind.NO_PERMISSION, ErrorKind.WRITE, ErrorKind.DEVICE])
@pytest.mark.parametrize(("before", "most"), [("failed", 100), ("restored", 1000), ("left out", 1000)])
def test_a_long_row_of_them_stops_the_run(kind: ErrorKind, before: str, most: int) -> None:
    breaker = Breaker()
    first = {
        "failed": record(0, ErrorKind.TRUNCATED),
        "restored": record(0),
        "left out": replace(record(0, ErrorKind.LITTLE_TO_GAIN), status="skipped"),
    }
    breaker.admit(0, [first[before]])
    shard = [record(number, kind) for number in range(10)]
    for number in range(most // 10 - 1):
        assert breaker.admit(number, shard) == []
    with pytest.raises(SystemFailure, match=f"the last {most} images all failed.*{kind.value}: why") as caught:
        breaker.admit(99, shard)
    assert caught.value.kind is kind


def test_a_broken_archive_is_no_reason_to_stop() -> None:
    breaker = Breaker()
    shard = [record(number, ErrorKind.NOT_AN_IMAGE) for number in range(10)]
    for number in range(1000):
        assert breaker.admit(number, shard) == [(number, shard)]
