"""Totals of a run's parts, kept in one small file, so that nobody needs to look into each of very many parts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from mimo_core.errors import ErrorKind, ImageError, SystemFailure
from mimo_core.runs.records import part_numbers, read_footer
from mimo_core.runs.statistics import FIRST_FAILURES, Failure, Statistics
from mimo_core.storage import Store

FOLDER = "totals"
_FORMAT = 1
_READERS = 16


@dataclass
class Totals:
    """The sum of the statistics of some parts, added in any order.

    Attributes:
        numbers: the parts that are in it.
        statistics: their sum, but for the first failures.
        failures: the first failures, each with the part that it is of.
    """

    numbers: set[int] = field(default_factory=set)
    statistics: Statistics = field(default_factory=Statistics)
    failures: list[tuple[int, Failure]] = field(default_factory=list)

    def add(self, number: int, statistics: Statistics) -> None:
        """Add a part that is not in it yet."""
        self.numbers.add(number)
        mine = [(number, failure) for failure in statistics.first_failures]
        self.failures = sorted([*self.failures, *mine], key=lambda one: one[0])[:FIRST_FAILURES]
        self.statistics = self.statistics.merge(replace(statistics, first_failures=()))

    def sum(self) -> Statistics:
        """Return the statistics of all its parts."""
        return replace(self.statistics, first_failures=tuple(failure for _, failure in self.failures))

    def to_json(self, run: str) -> bytes:
        """Return what is kept of it; `run` tells the run from any other that this folder ever holds."""
        document = {
            "format": _FORMAT,
            "run": run,
            "parts": list(_ranges(sorted(self.numbers))),
            "statistics": self.statistics.to_json(),
            "failures": [[number, *vars(failure).values()] for number, failure in self.failures],
        }
        return json.dumps(document).encode()

    @classmethod
    def from_json(cls, data: bytes, run: str) -> Totals:
        """Return the inverse of `to_json`; empty for another run, a newer format, or what is damaged."""
        try:
            document: dict[str, Any] = json.loads(data)
            if document["format"] != _FORMAT or document["run"] != run:
                return cls()
            return cls(
                {number for first, last in document["parts"] for number in range(first, last + 1)},
                Statistics.from_json(document["statistics"]),
                [(number, Failure(*texts)) for number, *texts in document["failures"]],
            )
        except (ValueError, KeyError, TypeError):
            return cls()


def key_of(epoch: int) -> str:
    """Return the key of the totals that the driver of this epoch keeps."""
    return f"{FOLDER}/epoch-{epoch:08d}.json"


def write_totals(store: Store, epoch: int, totals: bytes) -> None:
    """Keep the totals that the driver of an epoch knows, in the place of those of drivers before it.

    Only those of the newest epoch are ever read: a driver that lost its lease and does not know it yet changes nothing.
    A session that replaces parts (`retry-failed`) keeps empty ones before it replaces the first.

    Raises:
        SystemFailure: the storage fails.
    """
    try:
        store.write(key_of(epoch), totals)
    except ImageError as error:
        raise SystemFailure(error.kind, f"the totals of the run cannot be written: {error}") from error
    for entry in list(store.list(FOLDER)):
        if entry.key < key_of(epoch):
            store.delete(entry.key)


def read_totals(store: Store, run: str, numbers: Iterable[int] | None = None) -> Totals:
    """Return the totals of a run's committed parts: what is kept, and the footers of the parts that are not in it.

    Args:
        store: the run's folder.
        run: which run; see `Totals.to_json`.
        numbers: the parts that are committed, where that is known.

    Raises:
        SystemFailure: the storage fails, or a part is damaged.
    """
    committed = set(part_numbers(store) if numbers is None else numbers)
    totals = _kept(store, run)
    if not totals.numbers <= committed:
        # Parts were removed by hand, or are being removed.
        totals = Totals()
    left = iter(sorted(committed - totals.numbers))
    with ThreadPoolExecutor(_READERS) as pool:
        while batch := list(islice(left, _READERS * 16)):
            for number, statistics in zip(batch, pool.map(lambda one: _footer(store, one), batch), strict=True):
                if statistics is not None:
                    totals.add(number, statistics)
    return totals


def remove_totals(store: Store) -> None:
    """Remove what is kept, with the parts that it is of. Errors as `Store.delete_many`."""
    store.delete_many(entry.key for entry in list(store.list(FOLDER)))


def _kept(store: Store, run: str) -> Totals:
    newest = max((entry.key for entry in store.list(FOLDER)), default=None)
    if newest is None:
        return Totals()
    try:
        return Totals.from_json(store.read(newest), run)
    except ImageError:
        # Just replaced by those of a newer driver.
        return Totals()


def _footer(store: Store, number: int) -> Statistics | None:
    """Return a part's statistics; None where it vanishes meanwhile (a run that is started over)."""
    try:
        return read_footer(store, number)[0]
    except ImageError as error:
        if error.kind is ErrorKind.NOT_FOUND:
            return None
        raise


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of each stretch of successive numbers, which come rising."""
    first = last = None
    for number in numbers:
        if first is None or last is None:
            first = number
        elif number != last + 1:
            yield first, last
            first = number
        last = number
    if first is not None and last is not None:
        yield first, last
