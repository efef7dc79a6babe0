"""Signed links in a plan: they expire, and a list that was signed anew has the same images under new ones."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import islice, takewhile

from mimo_core.datasets.imagelist import ImageEntry
from mimo_core.runs.plan import Plan, PlanRow, read_file
from mimo_core.runs.plan_writer import columns_of, write_file


def renew_links(plan: Plan, entries: Iterator[ImageEntry], left: AbstractSet[int]) -> tuple[int, str | None]:
    """Take the addresses of the images that are left from the list as it is now. Needs the lease.

    Image for image in the order of the plan; an address that differs in more than what is never shown (a query string,
    a password) is another image's, and from there on the plan stays as it is.

    Args:
        plan: of the run.
        entries: the list.
        left: numbers of the shards that are not done.

    Returns:
        How many images have other links now, and the key of the first image that the list no longer has in its place.

    Raises:
        UsageError, ImageError, SystemFailure: the list cannot be read, or a shard not written.
    """
    renewed = 0
    for file in plan.all_files():
        numbers = range(file.first, file.first + file.shards)
        if left.isdisjoint(numbers):
            size = sum(plan.size_of(number) for number in numbers)
            next(islice(entries, size, size), None)
            continue
        table = read_file(plan.store, file)
        fresh: list[PlanRow] = []
        changed, unmatched = 0, None
        for number in numbers:
            rows = plan.cut(number, file, table)
            found = list(islice(entries, len(rows)))
            if number in left and unmatched is None:
                matched = _matched(rows, found)
                changed += sum(one != other for one, other in zip(matched, rows, strict=False))
                unmatched = rows[len(matched)].key if len(matched) < len(rows) else None
                rows = matched + rows[len(matched) :]
            fresh += rows
        if changed:
            renewed += changed
            write_file(plan.store, file, columns_of(fresh))
        if unmatched is not None:
            return renewed, unmatched
    return renewed, None


def _matched(rows: list[PlanRow], entries: list[ImageEntry]) -> list[PlanRow]:
    """Return the rows with the entries' addresses, up to the first one whose entry is another image's."""
    renewed = (_renewed(row, entry) for row, entry in zip(rows, entries, strict=False))
    return [row for row in takewhile(lambda row: row is not None, renewed) if row is not None]


def _renewed(row: PlanRow, entry: ImageEntry) -> PlanRow | None:
    """Return the row with the entry's addresses, None where the entry is another image's."""
    if row.key != entry.key:
        return None
    fresh = replace(row, source=entry.source, reference=entry.reference, restored=entry.restored)
    return fresh if fresh.plain == row.plain else None
