"""What the page about several runs says: one table, the scores over each other, and differences image by image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mimo_core.report.charts import difference_chart, distribution_chart, scatter_chart
from mimo_core.report.content import (
    engine_of,
    equal_notes,
    few_notes,
    fid_of,
    footer,
    notes_of,
    setup_section,
    speed_section,
    with_failures,
)
from mimo_core.report.measures import PSNR, SSIM, mean_infer_rate, means_of, pace_of, paired
from mimo_core.report.page import Page, Section, Table, Tile
from mimo_core.report.run_data import RunData
from mimo_core.sweep.comparison import interval
from mimo_core.wording import count, significant

# Before it the table of the runs has words.
_FIRST_NUMBER = 3


def comparison_page(runs: Sequence[RunData], images: Sequence[Section]) -> Page:
    """Return the page that compares runs; `images` are the sections of pictures and of the table of all images."""
    first = Section("comparison", "Comparison", table=_table(runs), notes=(*_other_images(runs), *few_notes(runs)))
    sections = with_failures(runs, [first, _scores_section(runs), speed_section(runs, None), *images])
    return Page(
        title=f"{len(runs)} runs compared",
        subtitle=" · ".join(run.label for run in runs),
        made=footer(),
        tiles=tuple(_tile(run) for run in runs),
        notes=tuple(notes_of(runs)),
        sections=(*sections, setup_section(runs)),
    )


def _tile(run: RunData) -> Tile:
    found = {mean.score: mean for mean in means_of(run)}
    if PSNR in found:
        mean = found[PSNR]
        gain = None if mean.gain is None else mean.gain.mean
        return Tile(run.label, PSNR.show(mean.after), f"{PSNR.show(gain, sign=True)} to the input")
    return Tile(run.label, f"{run.status.statistics.restored:,}", "images restored")


def _table(runs: Sequence[RunData]) -> Table:
    """Return a row for each run; a column that no run has anything for is left out."""
    head = (
        *("Run", "Model", "Engine", "Images", "Failed", "PSNR", "Gain [95 %]", "SSIM", "FID"),
        *(f"PSNR to {runs[0].label} [95 %]", "ms/image", "images/s"),
    )
    rows = [_row(run, runs[0]) for run in runs]
    kept = [place for place in range(len(head)) if any(row[place] != "–" for row in rows)]
    numbers = frozenset(place for place, column in enumerate(kept) if column >= _FIRST_NUMBER)
    return Table(
        tuple(head[place] for place in kept), tuple(tuple(row[place] for place in kept) for row in rows), numbers
    )


def _row(run: RunData, first: RunData) -> tuple[str, ...]:
    means = {mean.score: mean for mean in means_of(run)}
    psnr, ssim, fid = means.get(PSNR), means.get(SSIM), fid_of(run)
    differences = paired(first, run, "psnr") if run is not first else np.empty(0)
    rate, pace = mean_infer_rate(run), pace_of(run)
    return (
        run.label,
        run.recipe.method,
        engine_of(run),
        f"{run.status.statistics.images:,}",
        f"{run.status.statistics.failed:,}",
        PSNR.show(psnr.after if psnr else None),
        "–" if psnr is None or psnr.gain is None else PSNR.show_difference(psnr.gain),
        SSIM.show(ssim.after if ssim else None),
        "–" if fid is None else f"{fid:.2f}",
        f"{PSNR.show_difference(interval(differences))} on {len(differences):,}" if len(differences) else "–",
        "–" if rate is None else significant(1000 / rate),
        "–" if pace is None or pace.rate is None else significant(pace.rate),
    )


def _other_images(runs: Sequence[RunData]) -> tuple[str, ...]:
    sources = [dict(zip(run.texts("key"), run.texts("source"), strict=True)) for run in runs]
    common = set.intersection(*map(set, sources))
    notes = []
    if any(len(one) != len(common) for one in sources):
        notes.append(
            f"The runs are not over the same images: they share {len(common):,}. Means are over each run's own images; "
            "differences and pictures are over those they share."
        )
    moved = sum(len({one[key] for one in sources}) > 1 for key in common)
    if moved:
        notes.append(
            f"{count(moved, 'image')} of one name came from several places: differences tell something only where "
            "these hold the same image."
        )
    return tuple(notes)


def _scores_section(runs: Sequence[RunData]) -> Section | None:
    charts = [
        distribution_chart(PSNR, runs),
        distribution_chart(SSIM, runs),
        scatter_chart(PSNR, SSIM, runs),
        *(
            difference_chart(number, paired(runs[0], run, "psnr"), PSNR, run.label, runs[0].label)
            for number, run in enumerate(runs[1:], 1)
        ),
    ]
    drawn = tuple(chart for chart in charts if chart is not None)
    notes = tuple(f"{run.label}: {note}" for run in runs for note in equal_notes(means_of(run)))
    return Section("scores", "Scores", notes=notes, charts=drawn) if drawn else None
