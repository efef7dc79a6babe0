"""The charts of a report as Vega-Lite specifications; colours are names such as `$restored` that the page resolves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mimo_core.report.measures import PSNR, Histogram, Score, gains_of, histogram
from mimo_core.report.run_data import RunData, Values
from mimo_core.wording import count

MOST_POINTS = 3000
"""Images that a scatter plot shows: of more, as many spread evenly over the records."""

_LINKED = 80
_FEW = 5
HEIGHT = 240

Spec = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        name: of the element, unique on the page.
        title: above it.
        text: what it shows, for those who cannot see it.
        spec: Vega-Lite, without data.
        rows: the data.
        note: below it; empty for none.
        columns: the column of the table of all images that a series shows, for charts whose bars lead there.
    """

    name: str
    title: str
    text: str
    spec: Spec
    rows: Rows
    note: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


def distribution_chart(score: Score, runs: Sequence[RunData]) -> Chart | None:
    """Return a chart of the distribution of a score: input and output of a run, or the outputs of several."""
    series: dict[str, Values] = {}
    colours: list[str]
    if len(runs) == 1:
        if score.before is not None and runs[0].has(score.before):
            series["input"] = runs[0].values(score.before)
        series["restored"] = runs[0].values(score.column)
        colours = ["$input", "$restored"] if len(series) == 2 else ["$restored"]
    else:
        series = {run.label: run.values(score.column) for run in runs}
        colours = series_colours(len(runs))
    counted = histogram(list(series.values()), score.step)
    if counted is None:
        return None
    averages = {
        name: float(values[np.isfinite(values)].mean()) for name, values in series.items() if np.isfinite(values).any()
    }
    colour = colour_by("series", list(series), colours)
    spec = {
        "height": HEIGHT,
        "layer": [
            {
                "transform": [{"filter": "isValid(datum.count)"}],
                # Where bars lie over each other, their outlines keep the colours that the legend names.
                "mark": {"type": "bar", "fillOpacity": 0.3 if len(series) > 1 else 0.85, "strokeWidth": 1.5},
                "encoding": {
                    **_bin_encoding(score, score.axis, counted),
                    "fill": colour,
                    "stroke": colour,
                    "tooltip": [
                        {"field": "series", "title": " "},
                        {"field": "low", "title": "from", "format": f".{score.digits}f"},
                        {"field": "high", "title": "to", "format": f".{score.digits}f"},
                        {"field": "count", "title": "images"},
                    ],
                },
            },
            {
                "transform": [{"filter": "isValid(datum.mean)"}],
                "mark": {"type": "rule", "strokeWidth": 2, "strokeDash": [5, 3]},
                "encoding": {
                    "x": {"field": "mean", "type": "quantitative"},
                    "stroke": colour,
                    "tooltip": [
                        {"field": "series", "title": " "},
                        {"field": "mean", "title": "mean", "format": f".{score.digits}f"},
                    ],
                },
            },
        ],
    }
    rows = _bins(counted, list(series)) + [{"series": name, "mean": mean} for name, mean in averages.items()]
    told = "; ".join(f"{name} {score.show(mean)} on average" for name, mean in averages.items())
    text, note = f"{score.name}: {told}", "Dashed lines are the means."
    columns = {"input": score.before or "", "restored": score.column} if len(runs) == 1 else {}
    if score == PSNR and len(runs) > 1:
        columns = {run.label: f"psnr{number}" for number, run in enumerate(runs, 1)}
    return Chart(f"distribution-{score.column}", score.name, text, spec, rows, note, columns)


def gain_chart(score: Score, run: RunData) -> Chart | None:
    """Return a chart of how much the images gained, and how many lost."""
    gains = gains_of(run, score)
    chart = _signed_chart(
        f"gain-{score.column}", f"{score.name} gained", gains, score, f"{score.name} of the output less the input's"
    )
    if chart is None:
        return None
    known = gains[np.isfinite(gains)]
    lost, equal = int((known <= -score.tie).sum()), int((abs(known) < score.tie).sum())
    kept = f", {equal} kept theirs" if equal else ""
    note = f"{lost} of {count(len(known), 'image')} lost, {len(known) - lost - equal} gained{kept}."
    columns = {"images": f"{score.column}_gain"}
    return replace(chart, text=f"{chart.title}: {note}", note=note, columns=columns)


def difference_chart(number: int, differences: Values, score: Score, label: str, baseline: str) -> Chart | None:
    """Return a chart of how one run differs from the first, image by image."""
    chart = _signed_chart(
        f"difference-{score.column}-{number}",
        f"{label} against {baseline}",
        differences,
        score,
        f"{score.name} of {label} less that of {baseline}",
    )
    if chart is None:
        return None
    better, worse = int((differences >= score.tie).sum()), int((differences <= -score.tie).sum())
    equal = len(differences) - better - worse
    note = f"Of {count(len(differences), 'image')}, {better} higher, {worse} lower, {equal} equal."
    columns = {"images": f"change{number + 1}"}
    return replace(chart, text=f"{chart.title}: {note}", note=note, columns=columns)


def _signed_chart(name: str, title: str, values: Values, score: Score, axis: str) -> Chart | None:
    counted = histogram([values], score.step)
    if counted is None:
        return None
    known = values[np.isfinite(values)]
    rows = _bins(counted, ["images"])
    # A bar of images that are all equal beside the digits that are shown is neither.
    changed = np.histogram(known[abs(known) >= score.tie], counted.edges)[0]
    signs = [
        "equal" if not number else "lost" if low + high < 0 else "gained"
        for number, low, high in zip(changed, counted.edges[:-1], counted.edges[1:], strict=True)
    ]
    for row, sign in zip(
        rows, [sign for sign, number in zip(signs, counted.counts[0], strict=True) if number], strict=True
    ):
        row["sign"] = sign
    digits = score.digits
    spec = {
        "height": HEIGHT,
        "layer": [
            {
                "transform": [{"filter": "isValid(datum.count)"}],
                "mark": {"type": "bar", "opacity": 0.85, "binSpacing": 1},
                "encoding": {
                    **_bin_encoding(score, f"{axis} ({score.unit})" if score.unit else axis, counted),
                    "color": {
                        "field": "sign",
                        "type": "nominal",
                        "legend": None,
                        "scale": {"domain": ["lost", "equal", "gained"], "range": ["$bad", "$muted", "$good"]},
                    },
                    "tooltip": [
                        {"field": "low", "title": "from", "format": f"+.{digits}f"},
                        {"field": "high", "title": "to", "format": f"+.{digits}f"},
                        {"field": "count", "title": "images"},
                    ],
                },
            },
            {
                "transform": [{"filter": "isValid(datum.mean)"}],
                "mark": {"type": "rule", "strokeWidth": 2, "strokeDash": [5, 3], "color": "$ink"},
                "encoding": {
                    "x": {"field": "mean", "type": "quantitative"},
                    "tooltip": [{"field": "mean", "title": "mean", "format": f"+.{digits}f"}],
                },
            },
        ],
    }
    return Chart(name, title, title, spec, [*rows, {"mean": float(known.mean())}])


def scatter_chart(x: Score, y: Score, runs: Sequence[RunData]) -> Chart | None:
    """Return the chart of every image by two scores: before and after, or by run."""
    rows: Rows = []
    shown = total = 0
    single = len(runs) == 1
    linked = False
    for run in runs:
        after = np.isfinite(run.values(x.column)) & np.isfinite(run.values(y.column))
        places = np.flatnonzero(after)
        total += len(places)
        chosen = _evenly(places, MOST_POINTS // len(runs))
        shown += len(chosen)
        keys = run.table["key"].take(chosen).to_pylist() if len(chosen) else []
        values = {name: run.values(name)[chosen] for name in (x.column, y.column)}
        label = "restored" if single else run.label
        rows += _points(keys, values[x.column], values[y.column], label)
        if single and x.before and y.before and run.has(x.before) and run.has(y.before):
            before = _points(keys, run.values(x.before)[chosen], run.values(y.before)[chosen], "input")
            linked = len(before) <= _LINKED
            # Below the restored ones.
            rows = before + rows
    if not rows:
        return None
    names = list(dict.fromkeys(row["series"] for row in rows))
    colours = {"input": "$input", "restored": "$restored"}
    colour = colour_by("series", names, [colours[name] for name in names] if single else series_colours(len(names)))
    encoding = {
        name: {
            "field": name,
            "title": score.axis,
            "type": "quantitative",
            "scale": least_span([row[name] for row in rows], score),
            "axis": {"tickCount": 6},
        }
        for name, score in (("x", x), ("y", y))
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 46 if len(rows) < 400 else 16, "opacity": 0.75},
        "encoding": {
            **encoding,
            "color": colour,
            "tooltip": [
                {"field": "key", "title": "key"},
                {"field": "series", "title": " "},
                {"field": "x", "title": x.name, "format": f".{x.digits}f"},
                {"field": "y", "title": y.name, "format": f".{y.digits}f"},
            ],
        },
    }
    lines = {
        "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.5, "color": "$muted"},
        "encoding": {**encoding, "detail": {"field": "key", "type": "nominal"}},
    }
    spec = {"height": 300, "layer": [lines, points] if linked else [points]}
    note = f"{shown} of {total} images, spread evenly over the records." if shown < total else ""
    title = f"{x.name} against {y.name}"
    return Chart("scatter", title, f"{title} of {shown} images", spec, rows, note, {"key": "key"})


def least_span(values: Sequence[float], score: Score) -> dict[str, Any]:
    """Return the scale of an axis around values of a score, so wide that no difference without meaning fills it."""
    low, high = min(values), max(values)
    more = max(0.0, 2 * score.step - (high - low)) / 2
    return {"zero": False, "domain": [low - more, high + more], "nice": True}


def series_colours(number: int) -> list[str]:
    """Return the names of the colours of so many series."""
    return [f"$s{place % 8}" for place in range(number)]


def _bins(counted: Histogram, names: Sequence[str]) -> Rows:
    return [
        {"series": name, "low": low, "high": high, "count": number}
        for name, counts in zip(names, counted.counts, strict=True)
        for low, high, number in zip(
            counted.edges[:-1].round(9).tolist(), counted.edges[1:].round(9).tolist(), counts.tolist(), strict=True
        )
        if number
    ]


def _bin_encoding(score: Score, axis: str, counted: Histogram) -> dict[str, Any]:
    most = int(max(counts.max() for counts in counted.counts))
    # Vega's own ticks of few images would be fractions of one.
    few = {"values": list(range(most + 1)), "format": "d"} if most <= _FEW else {}
    return {
        "x": {
            "field": "low",
            "type": "quantitative",
            "title": axis,
            "bin": {"binned": True},
            "scale": {**least_span([float(counted.edges[0]), float(counted.edges[-1])], score), "nice": False},
            "axis": {"format": f".{score.digits}~f", "tickCount": 6},
        },
        "x2": {"field": "high"},
        "y": {"field": "count", "type": "quantitative", "title": "images", "stack": None, "axis": few},
    }


def colour_by(field: str, names: Sequence[str], colours: Sequence[str]) -> dict[str, Any]:
    """Return the encoding of colour by a field, with a legend where there is more than one name."""
    legend = {"orient": "top", "title": None, "columns": 2 if len(names) > 2 else 0} if len(names) > 1 else None
    return {
        "field": field,
        "type": "nominal",
        "scale": {"domain": list(names), "range": list(colours)},
        "legend": legend,
    }


def _points(keys: Sequence[str], x: Values, y: Values, series: str) -> Rows:
    return [
        {"key": key, "series": series, "x": round(one, 4), "y": round(two, 5)}
        for key, one, two in zip(keys, x.tolist(), y.tolist(), strict=True)
        if math.isfinite(one) and math.isfinite(two)
    ]


def _evenly(places: np.ndarray[Any, np.dtype[np.intp]], most: int) -> Any:
    if len(places) <= most:
        return places
    return places[np.linspace(0, len(places) - 1, most).round().astype(np.intp)]
