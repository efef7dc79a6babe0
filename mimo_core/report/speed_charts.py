"""The charts of a run's speed: throughput over time, and where the time went."""

from collections.abc import Mapping

from mimo_core.report.charts import HEIGHT, Chart, Rows, Spec, colour_by, series_colours
from mimo_core.report.measures import Pace
from mimo_core.wording import duration, share


def pace_chart(pace: Pace) -> Chart:
    """Throughput over the time that was worked."""
    unit, divisor = _time_unit(pace.seconds)
    rows: Rows = [
        {"low": low / divisor, "high": high / divisor, "rate": rate}
        for low, high, rate in zip(pace.edges[:-1].tolist(), pace.edges[1:].tolist(), pace.rates.tolist(), strict=True)
    ]
    rows += [{"pause": place / divisor, "length": duration(length)} for place, length in pace.pauses]
    bars = {
        "transform": [{"filter": "isValid(datum.rate)"}],
        "mark": {"type": "bar", "opacity": 0.85, "binSpacing": 0.5, "color": "$restored"},
        "encoding": {
            "x": {
                "field": "low",
                "type": "quantitative",
                "title": f"{unit} worked",
                "bin": {"binned": True},
                "axis": {"tickCount": 8},
            },
            "x2": {"field": "high"},
            "y": {"field": "rate", "type": "quantitative", "title": "images/s"},
            "tooltip": [
                {"field": "low", "title": f"from ({unit})", "format": ".3~f"},
                {"field": "high", "title": f"to ({unit})", "format": ".3~f"},
                {"field": "rate", "title": "images/s", "format": ".3~r"},
            ],
        },
    }
    marks = {
        "transform": [{"filter": "isValid(datum.pause)"}],
        "mark": {"type": "rule", "strokeWidth": 2, "strokeDash": [2, 3], "color": "$bad"},
        "encoding": {
            "x": {"field": "pause", "type": "quantitative"},
            "tooltip": [{"field": "length", "title": "paused for"}],
        },
    }
    told = ", ".join(duration(length) for _, length in pace.pauses[:5])
    note = f"Dotted lines are pauses, left out: {told}." if pace.pauses else ""
    text = f"Throughput, {pace.rate or 0:.3g} images per second over {duration(pace.seconds)}"
    layers = [bars, marks] if pace.pauses else [bars]
    return Chart("pace", "Throughput", text, {"height": HEIGHT, "layer": layers}, rows, note)


def stages_chart(stages: Mapping[str, Mapping[str, float]]) -> Chart | None:
    """Return a chart of where the time went: mean milliseconds of each stage, for each run by its label."""
    rows: Rows = []
    for label, means in stages.items():
        total = sum(means.values())
        rows += [
            {"run": label, "stage": stage, "ms": ms, "share": ms / total, "told": share(ms, total), "order": place}
            for place, (stage, ms) in enumerate(means.items())
        ]
    if not rows:
        return None
    names = list(dict.fromkeys(row["stage"] for row in rows))
    tooltip = [
        {"field": "stage", "title": "stage"},
        {"field": "ms", "title": "ms per image", "format": ".3~r"},
        {"field": "share", "title": "share", "format": ".1%"},
    ]
    if len(stages) == 1:
        y = {"field": "stage", "type": "nominal", "sort": names, "title": None}
        x = {"field": "ms", "type": "quantitative", "title": "milliseconds per image", "axis": {"tickCount": 8}}
        spec: Spec = {
            "height": 38 * len(rows),
            "encoding": {"y": y, "x": x},
            "layer": [
                {
                    "mark": {"type": "bar", "color": "$restored", "opacity": 0.85, "height": {"band": 0.7}},
                    "encoding": {"tooltip": tooltip},
                },
                {
                    "mark": {"type": "text", "align": "left", "dx": 5, "color": "$ink"},
                    "encoding": {"text": {"field": "told", "type": "nominal"}},
                },
            ],
        }
    else:
        spec = {
            "height": 44 * len(stages),
            "mark": {"type": "bar", "opacity": 0.9, "height": {"band": 0.7}},
            "encoding": {
                "y": {"field": "run", "type": "nominal", "sort": list(stages), "title": None},
                "x": {"field": "ms", "type": "quantitative", "title": "milliseconds per image", "stack": "zero"},
                "color": colour_by("stage", names, series_colours(len(names))),
                "order": {"field": "order"},
                "tooltip": [{"field": "run", "title": " "}, *tooltip],
            },
        }
    text = "; ".join(f"{row['run']} {row['stage']} {row['ms']:.3g} ms" for row in rows)
    note = "Stages of several images overlap, so that they add up to more than the time that passed."
    return Chart("stages", "Where the time went", f"Mean time of each stage: {text}", spec, rows, note)


def _time_unit(seconds: float) -> tuple[str, float]:
    for unit, divisor in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * divisor:
            return unit, divisor
    return "seconds", 1.0
