"""From the places of runs to the text of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mimo_core.errors import UsageError
from mimo_core.report.comparison import comparison_page
from mimo_core.report.content import run_page
from mimo_core.report.gallery import images_section
from mimo_core.report.image_table import image_table
from mimo_core.report.page import Section, render
from mimo_core.report.run_data import RunData, labels_of, read_run
from mimo_core.report.sweep_page import is_sweep, sweep_page
from mimo_core.storage import Store


def build_report(stores: Sequence[Store], page: Store, pictures: int, tick: Callable[[int], None]) -> str:
    """Return the HTML of the report.

    Args:
        stores: the folders of the runs, or that of one sweep.
        page: the folder that it will be written to.
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
    images = [one for one in (images_section(runs, pictures, tick), all_images_section(runs, page)) if one is not None]
    return render(run_page(runs[0], images) if len(runs) == 1 else comparison_page(runs, images))


def all_images_section(runs: Sequence[RunData], page: Store) -> Section | None:
    """Return the section of the table of all images, None where there are none."""
    table = image_table(runs, page)
    if table is None:
        return None
    part = f"The worst {table.rows:,} of {table.total:,} images" if table.rows < table.total else ""
    less = f"{'w' if part else 'W'}ithout {', '.join(table.left_out)}" if table.left_out else ""
    told = ", ".join(one for one in (part, less) if one)
    notes = (f"{told}, for the page to stay small; the records have all.",) if told else ()
    text = "Filter by words, and by values such as psnr<25 or psnr_gain<0. A bar or a point of a chart leads here, too."
    return Section("all", "All images", text, notes=notes, images=table)
