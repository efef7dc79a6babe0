"""Signed links in a plan: they expire, and a list that was signed anew has the same images under new ones."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice, takewhile

from mimo_core.datasets.imagelist import ImageEntry
from mimo_core.runs.plan import Plan, PlanRow
from mimo_core.runs.plan_writer import write_shard


def renew_links(plan: Plan, entries: Iterator[ImageEntry], left: Collection[int]) -> tuple[int, str | None]:
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
    for number in range(plan.num_shards):
        if number not in left:
            size = plan.size_of(number)
            next(islice(entries, size, size), None)
            continue
        rows = plan.shard(number)
        found = list(islice(entries, len(rows)))
        fresh = [_renewed(row, entry) for row, entry in zip(rows, found, strict=False)]
        matched = [row for row in takewhile(lambda row: row is not None, fresh) if row is not None]
        same = matched + rows[len(matched) :]
        if same != rows:
            renewed += sum(one != other for one, other in zip(same, rows, strict=True))
            write_shard(plan.store, number, same)
        if len(matched) < len(rows):
            return renewed, rows[len(matched)].key
    return renewed, None


def _renewed(row: PlanRow, entry: ImageEntry) -> PlanRow | None:
    """Return the row with the entry's addresses, None where the entry is another image's."""
    if row.key != entry.key:
        return None
    fresh = replace(row, source=entry.source, reference=entry.reference, restored=entry.restored)
    return fresh if fresh.plain == row.plain else None
