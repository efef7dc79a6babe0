"""The section of the pictures: chosen images as cards with a slider and their scores."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence

from mimo_core.report.measures import PSNR, SSIM
from mimo_core.report.page import Card, Gallery, Picture, Section, Table
from mimo_core.report.pictures import DIFFERENCE_LEVELS, Encoded, Shot, encode_shots, load_shots
from mimo_core.report.run_data import RunData
from mimo_core.report.selection import choose_images

PICTURE_BYTES = 4_800_000
"""Bytes that the pictures of a page take at most, so that the page stays below 10 MB."""

_LONGEST_LABEL = 14


def images_section(
    runs: Sequence[RunData], number: int, tick: Callable[[int], None], budget: int = PICTURE_BYTES
) -> Section | None:
    """Return the section of the pictures, None where no image is chosen.

    Args:
        runs: one, or several over the same images.
        number: images in a group.
        tick: told how many images are still to be read.
        budget: bytes that all pictures may take.
    """
    groups = choose_images(runs, number)
    choices = [choice for group in groups for choice in group.choices]
    if not choices:
        return None
    left = len(choices)

    def one_done() -> None:
        nonlocal left
        left -= 1
        tick(left)

    shots = load_shots(runs, short_labels(runs), choices, one_done)
    cards = iter([_card(runs, shot, encoded) for shot, encoded in zip(shots, encode_shots(shots, budget), strict=True)])
    return Section(
        "images",
        "Images",
        "Drag a picture, or use the arrow keys on it. Error and change are black where the images are equal and "
        f"brightest where they are {DIFFERENCE_LEVELS} or more of 255 levels apart.",
        notes=(*_legend(runs), *_unsaved(runs)),
        galleries=tuple(Gallery(group.title, tuple(next(cards) for _ in group.choices)) for group in groups),
    )


def short_labels(runs: Sequence[RunData]) -> list[str]:
    """Return what the pictures call the runs: their labels, or letters where these are long."""
    labels = [run.label for run in runs]
    if len(runs) == 1 or max(map(len, labels)) <= _LONGEST_LABEL:
        return labels
    return [string.ascii_uppercase[place % 26] * (1 + place // 26) for place in range(len(runs))]


def _legend(runs: Sequence[RunData]) -> tuple[str, ...]:
    pairs = [(short, run.label) for short, run in zip(short_labels(runs), runs, strict=True) if short != run.label]
    return ("; ".join(f"{short} is {label}" for short, label in pairs) + ".",) if pairs else ()


def _unsaved(runs: Sequence[RunData]) -> tuple[str, ...]:
    names = [run.label for run in runs if not run.recipe.saves_images and not run.recipe.given]
    if not names:
        return ()
    who = f"{', '.join(names)} kept" if len(runs) > 1 else "The run kept"
    return (f"{who} no images: what is shown was restored again by the same recipe, weights and engine.",)


def _card(runs: Sequence[RunData], shot: Shot, encoded: Encoded) -> Card:
    names = [layer.name for layer in shot.layers]
    outputs = [name for name in names if name.startswith("output")]
    differences = [name for name in names if name.startswith("difference")]
    others = [name for name in ("input", "reference") if name in names]
    # Of several runs the first is compared to the second.
    swapped = outputs[1:] + outputs[:1]
    left = (*outputs[:1], *others, *outputs[1:]) if len(outputs) > 1 else tuple(others)
    return Card(
        shot.key,
        encoded.width,
        encoded.height,
        tuple(Picture(layer.name, layer.label, encoded.uris[layer.name]) for layer in shot.layers),
        left,
        (*swapped, *differences),
        _scores(runs, shot),
        shot.problems,
    )


def _scores(runs: Sequence[RunData], shot: Shot) -> Table:
    shown = [score for score in (PSNR, SSIM) if not math.isnan(_value(runs[0], score.column, shot.choice.rows[0]))]
    if not shown:
        return Table((), ())
    rows = [
        ("Input", [_value(runs[0], score.before, shot.choice.rows[0]) for score in shown]),
        *(
            (label if len(runs) > 1 else "Restored", [_value(run, score.column, row) for score in shown])
            for run, label, row in zip(runs, short_labels(runs), shot.choice.rows, strict=True)
        ),
    ]
    lines = [
        (label, *(score.show(value) for score, value in zip(shown, values, strict=True)))
        for label, values in rows
        if not all(map(math.isnan, values))
    ]
    if len(runs) == 1 and len(lines) == 2:
        gains = (after - before for before, after in zip(rows[0][1], rows[1][1], strict=True))
        lines.append(("Gain", *(score.show(gain, sign=True) for score, gain in zip(shown, gains, strict=True))))
    return Table(("", *(score.name for score in shown)), tuple(lines), frozenset(range(1, len(shown) + 1)))


def _value(run: RunData, column: str | None, row: int) -> float:
    if column is None or column not in run.table.column_names:
        return math.nan
    value = run.table[column][row].as_py()
    return math.nan if value is None else float(value)
