"""Which images a report shows: the ones that gained most and least and those between, or where several runs differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mimo_core.report.measures import PSNR, gains_of
from mimo_core.report.run_data import RunData, Values


@dataclass(frozen=True)
class Choice:
    """One image that is shown: its rows in the tables of all runs."""

    rows: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Images that are shown together, and why."""

    title: str
    choices: tuple[Choice, ...]


def choose_images(runs: Sequence[RunData], number: int) -> list[Group]:
    """Choose images that every run has restored.

    Args:
        runs: one, or several over the same images.
        number: how many in a group; 0 chooses none.

    Returns:
        By gain in PSNR: the best, the middle and the worst, by PSNR where the input has none, and images spread evenly
        over the records where nothing is scored; of several runs those in which they differ most, and the typical ones.
        Where there are no more images than the groups take, all of them in one. Before them, what the guard names.
    """
    choices = _common(runs)
    if not number or not choices:
        return []
    suspects = [run.texts("suspect") for run in runs]
    named = [one for one in choices if any(texts[row] for texts, row in zip(suspects, one.rows, strict=True))]
    others = [one for one in choices if one not in set(named[:number])]
    first = [Group("Suspects", tuple(named[:number]))] if named else []
    return first + (_by_scores(runs, others, number) if others else [])


def _by_scores(runs: Sequence[RunData], choices: Sequence[Choice], number: int) -> list[Group]:
    scores, titles = _ranked(runs, choices)
    known = np.flatnonzero(np.isfinite(scores))
    if not len(known):
        places = np.linspace(0, len(choices) - 1, min(2 * number, len(choices))).round().astype(int)
        return [Group("Images, spread evenly", tuple(choices[place] for place in dict.fromkeys(places.tolist())))]
    # Stable, so that the same records give the same page.
    order = known[np.argsort(-scores[known], kind="stable")]
    if len(order) <= number * len(titles):
        return [Group(f"All {len(order)} images, {titles[0].lower()} first", _take(choices, order))]
    middle = (len(order) - number) // 2
    pieces = [order[:number], order[middle : middle + number], order[-number:][::-1]]
    return [Group(title, _take(choices, piece)) for title, piece in zip(titles, pieces, strict=False)]


def _take(choices: Sequence[Choice], places: np.ndarray[tuple[int], np.dtype[np.intp]]) -> tuple[Choice, ...]:
    return tuple(choices[place] for place in places.tolist())


def _common(runs: Sequence[RunData]) -> list[Choice]:
    """Return the images that all runs have restored, in the order of the first."""
    rows = [
        {key: row for row, (key, status) in enumerate(zip(run.texts("key"), run.texts("status"), strict=True))
         if status == "restored"}
        for run in runs
    ]  # fmt: skip
    return [Choice(tuple(one[key] for one in rows)) for key in rows[0] if all(key in one for one in rows)]


def _ranked(runs: Sequence[RunData], choices: Sequence[Choice]) -> tuple[Values, tuple[str, ...]]:
    """Return a number for each choice, by which they are shown, and the titles of the groups from high to low."""
    if len(runs) > 1:
        scores = np.stack([run.values("psnr")[[one.rows[place] for one in choices]] for place, run in enumerate(runs)])
        usable = np.isfinite(scores).all(axis=0)
        spread = np.full(len(choices), math.nan)
        spread[usable] = np.ptp(scores[:, usable], axis=0)
        return spread, ("Where the runs differ most", "In the middle")
    rows = [one.rows[0] for one in choices]
    gains = gains_of(runs[0], PSNR)[rows]
    if np.isfinite(gains).any():
        return gains, ("Gained most", "In the middle", "Gained least")
    return runs[0].values("psnr")[rows], ("Highest PSNR", "In the middle", "Lowest PSNR")
