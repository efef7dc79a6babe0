"""Things that are fetched ahead: in order, no more than may be held, and nobody waits for them."""

import threading
from collections.abc import Iterator

import pytest

from mimo_core.distributed.execution.prefetch import Prefetch


def collected(ahead: Prefetch[int], until: int) -> list[int]:
    """What it gives, asked again and again, until there are so many or it ends."""
    found: list[int] = []
    while len(found) < until:
        try:
            item = next(ahead)
        except StopIteration:
            break
        if item is not None:
            found.append(item)
    return found


def test_everything_comes_in_order_and_then_it_ends() -> None:
    ahead = Prefetch(iter(range(1000)), 7)
    assert collected(ahead, 2000) == list(range(1000))
    with pytest.raises(StopIteration):
        next(ahead)


def test_nobody_waits_for_what_is_not_there_yet() -> None:
    there = threading.Event()

    def slow() -> Iterator[int]:
        there.wait(60)
        yield 1

    ahead = Prefetch(slow(), 7)
    assert next(ahead) is None
    there.set()
    assert collected(ahead, 1) == [1]


def test_no_more_is_held_than_may_be_and_the_source_is_closed_with_it() -> None:
    given: list[int] = []
    closed = threading.Event()
    full = threading.Event()

    def source() -> Iterator[int]:
        try:
            for number in range(1000):
                given.append(number)
                if number == 3:
                    full.set()
                yield number
        finally:
            closed.set()

    ahead = Prefetch(source(), 3)
    assert full.wait(60), "it fetches by itself"
    ahead.close()
    assert closed.wait(60)
    # Those that are held and the one that was on its way.
    assert given == [0, 1, 2, 3]


def test_what_the_source_raises_comes_after_what_it_gave() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("the plan is damaged")

    ahead = Prefetch(source(), 7)
    assert collected(ahead, 1) == [1]
    with pytest.raises(ValueError, match="the plan is damaged"):
        collected(ahead, 1)
