"""Totals of a run's parts: whatever is kept of them, they are what the parts themselves say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_core.runs import totals as module
from mimo_core.runs.record import Record
from mimo_core.runs.records import FOLDER, part_name, write_part
from mimo_core.runs.statistics import Statistics
from mimo_core.runs.totals import Totals, key_of, read_totals, remove_totals, write_totals
from mimo_core.storage import Store

RUN = "2026-01-01 abc"


def part(number: int, failed: bool = False) -> list[Record]:
    good = Record(key=f"{number}/a.png", source="a", status="restored", width=2, height=3, psnr=20.0 + number)
    bad = Record(key=f"{number}/b.png", source="b", status="failed", error_kind="truncated", error="cut")
    return [good, replace(good, key=f"{number}/c.png"), *([bad] if failed else [])]


def commit(store: Store, *numbers: int, failed: bool = False) -> Statistics:
    total = Statistics()
    for number in numbers:
        statistics = write_part(store, number, part(number, failed))
        assert statistics is not None
        total = total.merge(statistics)
    return total


@pytest.fixture
def footers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The parts whose footers are read."""
    read: list[int] = []

    def noted(store: Store, number: int) -> Statistics | None:
        read.append(number)
        return footer(store, number)

    footer = module._footer
    monkeypatch.setattr(module, "_footer", noted)
    return read


@pytest.mark.parametrize("place", ["local", pytest.param("s3", marks=pytest.mark.s3)])
def test_only_parts_that_are_not_in_what_is_kept_are_looked_into(
    place: str, request: pytest.FixtureRequest, tmp_path: Path, footers: list[int]
) -> None:
    bucket = f"s3://{request.getfixturevalue('s3_bucket')}/run" if place == "s3" else str(tmp_path / "run")
    store = Store(bucket)
    expected = commit(store, *range(20), failed=True)
    first = read_totals(store, RUN)
    assert first.sum() == expected
    assert sorted(footers) == list(range(20))
    write_totals(store, 3, first.to_json(RUN))
    expected = expected.merge(commit(store, 20, 25))
    footers.clear()
    assert read_totals(store, RUN).sum() == expected
    assert footers == [20, 25]
    write_totals(store, 4, read_totals(store, RUN).to_json(RUN))
    assert [entry.key for entry in store.list("totals")] == [key_of(4)], "those of earlier drivers are removed"
    remove_totals(store)
    assert list(store.list("totals")) == []


@given(st.permutations(range(12)), st.lists(st.booleans(), min_size=12, max_size=12))
def test_the_order_of_commits_changes_nothing_and_json_keeps_all(order: list[int], failed: list[bool]) -> None:
    statistics = [Statistics.of(part(number, failed[number])) for number in range(12)]
    expected = Statistics()
    for one in statistics:
        expected = expected.merge(one)
    totals = Totals()
    for number in order:
        totals.add(number, statistics[number])
        again = Totals.from_json(totals.to_json(RUN), RUN)
        assert again.numbers == totals.numbers
        assert again.sum() == totals.sum()
    assert replace(totals.sum(), scores={}) == replace(expected, scores={})
    assert totals.sum().mean("psnr") == pytest.approx(expected.mean("psnr"))


@pytest.mark.parametrize(
    "kept",
    [
        b"",
        b"nonsense",
        b"{}",
        b'{"format": 99}',
        json.dumps({"format": 1, "run": RUN, "parts": [[0]], "statistics": {}, "failures": []}).encode(),
        Totals({0, 1}, Statistics(images=77)).to_json("another run"),
        Totals({0, 1, 9}, Statistics(images=77)).to_json(RUN),
    ],
)
def test_what_is_damaged_of_another_run_or_of_parts_that_are_gone_is_not_believed(tmp_path: Path, kept: bytes) -> None:
    store = Store(str(tmp_path))
    expected = commit(store, 0, 1)
    write_totals(store, 1, kept)
    assert read_totals(store, RUN).sum() == expected


def test_a_driver_that_lost_its_lease_changes_nothing_any_more(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    commit(store, 0, failed=True)
    old = read_totals(store, RUN).to_json(RUN)
    write_totals(store, 2, Totals().to_json(RUN))
    store.write(part_name(0), b"")
    assert list(store.list(FOLDER))
    statistics = write_part(store, 0, part(0), replace=True)
    write_totals(store, 1, old)
    assert read_totals(store, RUN).sum() == statistics
