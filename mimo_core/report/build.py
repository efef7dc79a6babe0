"""From the places of runs to the text of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mimo_core.errors import UsageError
from mimo_core.report.comparison import comparison_page
from mimo_core.report.content import run_page
from mimo_core.report.gallery import images_section
from mimo_core.report.page import render
from mimo_core.report.run_data import labels_of, read_run
from mimo_core.report.sweep_page import is_sweep, sweep_page
from mimo_core.storage import Store


def build_report(stores: Sequence[Store], pictures: int, tick: Callable[[int], None]) -> str:
    """Return the HTML of the report.

    Args:
        stores: the folders of the runs, or that of one sweep.
        pictures: images shown of each group.
        tick: told how many pictures are still to be read.

    Raises:
        UsageError: a folder holds no run, or no records; or a sweep is named with others.
        SystemFailure: the storage of a run fails.
    """
    labels = labels_of(stores)
    if is_sweep(stores[0]):
        if len(stores) > 1:
            raise UsageError(f"{stores[0]} holds a sweep, which has a page of its own: name it alone")
        return render(sweep_page(stores[0], labels[0], pictures, tick))
    runs = [read_run(store, label) for store, label in zip(stores, labels, strict=True)]
    images = images_section(runs, pictures, tick)
    return render(run_page(runs[0], images) if len(runs) == 1 else comparison_page(runs, images))
