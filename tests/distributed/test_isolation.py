"""The search for images that kill or hang their worker: it ends, finds exactly them, and costs few workers."""

import math
from collections import deque
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mimo_core.distributed.workers.isolation import (
    MAX_NODE_LOSSES,
    after_death,
    after_hang,
    after_node_loss,
    most_deaths,
    quarantine_reason,
)
from mimo_core.errors import ErrorKind
from mimo_core.inference.task import Task


@dataclass
class Search:
    """What came of searching one shard: which rows were quarantined, which finished, how often, at what cost."""

    quarantined: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    deaths: int = 0
    alone: dict[int, int] = field(default_factory=dict)


def search(rows: int, killers: frozenset[int], suspicion, *, hang: bool = False, shared: int = 0) -> Search:
    """Work like a pool whose workers die on killers; `suspicion(task)` tells what was seen in flight.

    `shared`: so many deaths at first, for which another task on the same worker is to blame.
    """
    found = Search()
    tasks = deque([Task(0, tuple(range(rows)))])
    while tasks:
        assert found.deaths < 10_000, "the search does not end"
        task = tasks.popleft()
        bad = killers.intersection(task.rows)
        innocent_death = shared > 0 and not task.suspect
        if not bad and not innocent_death:
            found.done += task.rows
            continue
        found.deaths += 1
        if not bad:
            shared -= 1
        if len(task.rows) == 1 and task.suspect:
            found.alone[task.rows[0]] = found.alone.get(task.rows[0], 0) + 1
        after = after_hang(task, suspicion(task)) if hang and bad else after_death(task, suspicion(task))
        if after is None:
            found.quarantined += task.rows
            continue
        # A split loses no row and repeats none.
        assert sorted(row for one in after for row in one.rows) == list(task.rows)
        tasks.extend(after)
    return found


@st.composite
def shards(draw: st.DrawFn) -> tuple[int, frozenset[int]]:
    rows = draw(st.integers(1, 100))
    return rows, draw(st.frozensets(st.integers(0, rows - 1), max_size=6))


@settings(deadline=None, max_examples=300)
@given(shard=shards(), data=st.data(), shared=st.integers(0, 3))
def test_whatever_was_seen_exactly_the_killers_are_found(
    shard: tuple[int, frozenset[int]], data: st.DataObject, shared: int
) -> None:
    """Suspects may be anything: none, all, the wrong ones, rows of other tasks."""
    rows, killers = shard
    found = search(
        rows, killers, lambda task: data.draw(st.frozensets(st.integers(0, rows + 3), max_size=12)), shared=shared
    )
    assert sorted(found.quarantined) == sorted(killers)
    assert sorted(found.done) == sorted(set(range(rows)) - killers)
    assert found.deaths <= most_deaths(rows, len(killers)) + shared


@settings(deadline=None, max_examples=100)
@given(rows=st.integers(1, 200), data=st.data())
@example(rows=64, data=None)
def test_the_worst_suspicion_costs_no_more_than_is_stated(rows: int, data: st.DataObject | None) -> None:
    """Always the wrong row, one at a time: the most that a wrong suspicion can slow the search down."""
    killer = data.draw(st.integers(0, rows - 1)) if data is not None else rows - 1
    found = search(
        rows,
        frozenset({killer}),
        lambda task: (
            frozenset({row for row in task.rows if row != killer})
            and (frozenset({next(row for row in task.rows if row != killer)}))
        ),
    )
    assert found.quarantined == [killer]
    assert found.deaths <= most_deaths(rows, 1)


@settings(deadline=None, max_examples=100)
@given(shard=shards(), data=st.data())
def test_a_killer_seen_among_few_costs_four_workers(shard: tuple[int, frozenset[int]], data: st.DataObject) -> None:
    rows, killers = shard
    if len(killers) > 1:
        killers = frozenset({min(killers)})

    def seen(task: Task) -> frozenset[int]:
        others = data.draw(st.frozensets(st.sampled_from(task.rows), max_size=3))
        return killers.intersection(task.rows) | others

    found = search(rows, killers, seen)
    assert sorted(found.quarantined) == sorted(killers)
    assert found.deaths <= 4 * len(killers)


def test_without_any_suspicion_the_shard_is_halved() -> None:
    for rows in (2, 3, 64, 1000):
        found = search(rows, frozenset({rows // 3}), lambda task: frozenset())
        assert found.quarantined == [rows // 3]
        assert found.deaths <= math.ceil(math.log2(rows)) + 3


@settings(deadline=None, max_examples=100)
@given(shard=shards())
def test_no_image_is_quarantined_for_less_than_two_deaths_alone(shard: tuple[int, frozenset[int]]) -> None:
    rows, killers = shard
    found = search(rows, killers, lambda task: frozenset(task.rows[: len(task.rows) // 2]))
    assert all(found.alone[row] >= 2 for row in found.quarantined)


def test_a_death_that_another_task_caused_quarantines_nothing() -> None:
    for rows in (1, 2, 64):
        found = search(rows, frozenset(), lambda task: frozenset(task.rows[:2]), shared=3)
        assert found.quarantined == []
        assert sorted(found.done) == list(range(rows))


@settings(deadline=None, max_examples=200)
@given(shard=shards(), data=st.data())
def test_images_that_hang_are_found_and_nobody_else(shard: tuple[int, frozenset[int]], data: st.DataObject) -> None:
    """A hang names its rows truly; those of its batch hang with it, and sometimes the worker tells nothing at all."""
    rows, hanging = shard

    def stuck(task: Task) -> frozenset[int]:
        if data.draw(st.integers(0, 5)) == 0:
            return frozenset()
        batch = data.draw(st.frozensets(st.sampled_from(task.rows), max_size=4))
        return frozenset({min(hanging.intersection(task.rows))}) | batch

    found = search(rows, hanging, stuck, hang=True)
    assert sorted(found.quarantined) == sorted(hanging)
    assert sorted(found.done) == sorted(set(range(rows)) - hanging)


def test_a_hang_that_is_seen_costs_two_workers_and_the_others_go_on_together() -> None:
    for rows in (1, 2, 64):
        found = search(rows, frozenset({0}), lambda task: frozenset({0}).intersection(task.rows), hang=True)
        assert found.deaths == 2
    alone, rest = after_hang(Task(3, (4, 5, 6)), frozenset({5})) or []
    assert (alone.rows, alone.suspect) == ((5,), True)
    assert (rest.rows, rest.suspect) == ((4, 6), False)


def test_a_lost_node_blames_nobody_but_not_for_ever() -> None:
    task: Task | None = Task(1, (0, 1))
    for losses in range(1, MAX_NODE_LOSSES + 1):
        assert task is not None
        task = after_node_loss(task)
        assert task is not None
        assert (task.losses, task.crashes, task.suspect) == (losses, 0, False)
    assert task is not None
    assert after_node_loss(task) is None


def test_the_quarantine_reason_says_what_happened() -> None:
    assert "no progress" in quarantine_reason(ErrorKind.TIMEOUT)
    assert "died" in quarantine_reason(ErrorKind.CRASHED_WORKER)
    assert "the storage served others" in quarantine_reason(ErrorKind.STORAGE)
