"""The charts of a report as Vega-Lite specifications; colours are names such as `$restored` that the page resolves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mimo_core.report.measures import Histogram, Score, gains_of, histogram
from mimo_core.report.run_data import RunData, Values

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
        note: below it; empty for none.
        text: what it shows, for those who cannot see it.
        spec: Vega-Lite, without data.
        rows: the data.
    """

    name: str
    title: str
    text: str
    spec: Spec
    rows: Rows
    note: str = ""


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
                "mark": {"type": "bar", "opacity": 0.5 if len(series) > 1 else 0.85, "binSpacing": 1},
                "encoding": {
                    **_bin_encoding(score.axis, score.digits, counted),
                    "color": colour,
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
                    "color": colour,
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
    return Chart(
        f"distribution-{score.column}", score.name, f"{score.name}: {told}", spec, rows, "Dashed lines are the means."
    )


def gain_chart(score: Score, run: RunData) -> Chart | None:
    """Return a chart of how much the images gained, and how many lost."""
    gains = gains_of(run, score)
    chart = _signed_chart(
        f"gain-{score.column}", f"{score.name} gained", gains, score, f"{score.name} of the output less the input's"
    )
    if chart is None:
        return None
    known = gains[np.isfinite(gains)]
    lost = int((known < 0).sum())
    note = f"{lost} of {len(known)} images lost, {len(known) - lost} gained or kept theirs."
    return Chart(chart.name, chart.title, f"{chart.title}: {note}", chart.spec, chart.rows, note)


def difference_chart(number: int, differences: Values, score: Score, label: str, baseline: str) -> Chart | None:
    """Return a chart of how one run differs from the first, image by image."""
    chart = _signed_chart(
        f"difference-{score.column}-{number}", f"{label} against {baseline}", differences, score, f"{score.name} higher"
    )
    if chart is None:
        return None
    better = int((differences > 0).sum())
    note = f"Higher on {better} of {len(differences)} images."
    return Chart(chart.name, chart.title, f"{chart.title}: {note}", chart.spec, chart.rows, note)


def _signed_chart(name: str, title: str, values: Values, score: Score, axis: str) -> Chart | None:
    counted = histogram([values], score.step)
    if counted is None:
        return None
    known = values[np.isfinite(values)]
    rows = _bins(counted, ["images"])
    for row in rows:
        row["sign"] = "lost" if row["low"] + row["high"] < 0 else "gained"
    digits = score.digits
    spec = {
        "height": HEIGHT,
        "layer": [
            {
                "transform": [{"filter": "isValid(datum.count)"}],
                "mark": {"type": "bar", "opacity": 0.85, "binSpacing": 1},
                "encoding": {
                    **_bin_encoding(f"{axis} ({score.unit})" if score.unit else axis, digits, counted),
                    "color": {
                        "field": "sign",
                        "type": "nominal",
                        "legend": None,
                        "scale": {"domain": ["lost", "gained"], "range": ["$bad", "$good"]},
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
    between = {"type": "quantitative", "scale": {"zero": False}, "axis": {"tickCount": 6}}
    encoding = {
        "x": {"field": "x", "title": x.axis, **between},
        "y": {"field": "y", "title": y.axis, **between},
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
    return Chart("scatter", title, f"{title} of {shown} images", spec, rows, note)


def series_colours(number: int) -> list[str]:
    """Return the names of the colours of so many series."""
    return [f"$s{place % 8}" for place in range(number)]


def _bins(counted: Histogram, names: Sequence[str]) -> Rows:
    return [
        {"series": name, "low": low, "high": high, "count": count}
        for name, counts in zip(names, counted.counts, strict=True)
        for low, high, count in zip(
            counted.edges[:-1].round(9).tolist(), counted.edges[1:].round(9).tolist(), counts.tolist(), strict=True
        )
        if count
    ]


def _bin_encoding(axis: str, digits: int, counted: Histogram) -> dict[str, Any]:
    most = int(max(counts.max() for counts in counted.counts))
    # Vega's own ticks of few images would be fractions of one.
    few = {"values": list(range(most + 1))} if most <= _FEW else {}
    return {
        "x": {
            "field": "low",
            "type": "quantitative",
            "title": axis,
            "bin": {"binned": True},
            "scale": {"zero": False},
            "axis": {"format": f".{digits}~f", "tickCount": 6},
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
