"""What the page about a sweep says: its table, what speed costs, differences to the baseline, and cells not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mimo_core.errors import UsageError
from mimo_core.report.charts import Chart, Rows, Spec, colour_by, least_span, series_colours
from mimo_core.report.content import footer
from mimo_core.report.gallery import images_section
from mimo_core.report.measures import PSNR, SSIM
from mimo_core.report.page import Page, Section, Table, Tile
from mimo_core.report.run_data import read_run
from mimo_core.storage import Store
from mimo_core.sweep.cells import FOLDER
from mimo_core.sweep.figures import Figures
from mimo_core.sweep.folder import NAME, SweepFolder
from mimo_core.sweep.results import Result
from mimo_core.sweep.sweep_config import DATA
from mimo_core.sweep.table import Grid, grid_of
from mimo_core.wording import count, significant

_BAR = 26
_MOST_NAMES = 12


def is_sweep(store: Store) -> bool:
    """Return whether the folder holds a sweep."""
    return store.exists(NAME)


def sweep_page(store: Store, label: str, pictures: int, tick: Callable[[int], None]) -> Page:
    """Return the page about the sweep in a folder.

    Args:
        store: the sweep's folder.
        label: what the page calls it.
        pictures: images shown of each group.
        tick: told how many pictures are still to be read.

    Raises:
        UsageError: no cell of it is finished.
    """
    results = list(SweepFolder(store).results().values())
    done = [(result, result.figures) for result in results if result.figures is not None]
    if not done:
        raise UsageError(f"{store}: no cell of the sweep is finished, so that there is nothing to report")
    left_out = [result for result in results if result.figures is None]
    sections = [
        Section("table", "Table", _about(results), table=_as_table(grid_of(results)), charts=tuple(_charts(done))),
        _left_out(left_out),
        _images(store, done, pictures, tick),
    ]
    return Page(
        title=label,
        subtitle=f"A sweep of {len(results)} cells over {', '.join(_data_sets(done))}",
        made=footer(),
        tiles=tuple(_tiles(done, left_out)),
        sections=tuple(section for section in sections if section is not None),
    )


Done = tuple[Result, Figures]


def _data_sets(done: Sequence[Done]) -> list[str]:
    return list(dict.fromkeys(str(result.choices[DATA]) for result, _ in done))


def _tiles(done: Sequence[Done], left_out: Sequence[Result]) -> list[Tile]:
    tiles = [Tile("Cells run", str(len(done)), f"{len(left_out)} not run" if left_out else "all of them", not left_out)]
    for data in _data_sets(done):
        scored = [one for one in done if one[0].choices[DATA] == data and "psnr" in one[1].scores]
        if scored:
            psnr, detail = best_psnr(scored)
            tiles.append(Tile(f"Best PSNR, {data}", PSNR.show(psnr), detail))
    timed = [one for one in done if one[1].rate is not None]
    if timed:
        fastest, figures = max(timed, key=lambda one: one[1].rate or 0.0)
        tiles.append(Tile("Most images per second", significant(figures.rate or 0.0), fastest.name))
    return tiles


def best_psnr(scored: Sequence[Done]) -> tuple[float, str]:
    """Return the highest PSNR, and which cell has it: and others, too, as far as digits and intervals tell."""
    best, its_figures = max(scored, key=lambda one: one[1].scores["psnr"])
    top, difference = its_figures.scores["psnr"], best.differences.get("psnr")
    if difference is not None and PSNR.is_tie(difference):
        return top, f"{best.name}; a tie with the baseline"

    def ties(result: Result, figures: Figures) -> bool:
        its = result.differences.get("psnr")
        with_baseline = best.name == best.baseline == result.baseline and its is not None and PSNR.is_tie(its)
        return with_baseline or abs(figures.scores["psnr"] - top) < PSNR.tie

    others = sum(ties(result, figures) for result, figures in scored if result.name != best.name)
    return top, f"{best.name}; a tie with {count(others, 'cell')} more" if others else best.name


def _about(results: Sequence[Result]) -> str:
    baselines = dict.fromkeys(result.baseline for result in results if result.baseline is not None)
    if not baselines:
        return "Means over the restored images; images/s are those of one session."
    return (
        "Means over the restored images; images/s are those of one session. Differences are to the baseline "
        f"({', '.join(map(str, baselines))}), paired over the images that both have, with 95 % bootstrap intervals."
    )


def _as_table(grid: Grid) -> Table:
    numbers = frozenset(place for place, word in enumerate(grid.words) if not word)
    return Table(tuple(grid.titles), tuple(tuple(row) for row in grid.rows), numbers)


def _left_out(results: Sequence[Result]) -> Section | None:
    if not results:
        return None
    rows = tuple((result.name, result.reason) for result in results)
    return Section("not-run", "Not run", table=Table(("Cell", "Reason"), rows))


def _charts(done: Sequence[Done]) -> list[Chart]:
    charts = []
    for number, data in enumerate(_data_sets(done)):
        of_data = [one for one in done if one[0].choices[DATA] == data]
        charts += [_speed_chart(number, data, of_data), _difference_chart(number, data, of_data)]
    return [chart for chart in charts if chart is not None]


def _speed_chart(number: int, data: str, done: Sequence[Done]) -> Chart | None:
    """PSNR against images per second, a point for each cell."""
    rows: Rows = [
        {
            "cell": result.name,
            "how": figures.how,
            "model": figures.model,
            "shape": figures.shape,
            "rate": figures.rate,
            "psnr": figures.scores["psnr"],
            "ssim": figures.scores.get("ssim"),
        }
        for result, figures in done
        if figures.rate is not None and "psnr" in figures.scores
    ]
    if not rows:
        return None
    names = list(dict.fromkeys(row["how"] for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    models_legend = {"orient": "bottom", "title": None, "symbolFillColor": "$muted"} if len(models) > 1 else None
    scale = least_span([row["psnr"] for row in rows], PSNR)
    # Room for the names.
    scale["padding"] = 18
    logarithmic = {"scale": {"type": "log", "padding": 60}, "axis": {"tickCount": 5, "format": ".3~r"}}
    spec: Spec = {
        "height": 300,
        "encoding": {
            "x": {"field": "rate", "type": "quantitative", "title": "images/s", **logarithmic},
            "y": {"field": "psnr", "type": "quantitative", "title": PSNR.axis, "scale": scale},
            "tooltip": [
                {"field": "cell", "title": "cell"},
                {"field": "model", "title": "model"},
                {"field": "how", "title": "engine"},
                {"field": "shape", "title": "shape"},
                {"field": "psnr", "title": PSNR.name, "format": f".{PSNR.digits}f"},
                {"field": "ssim", "title": SSIM.name, "format": f".{SSIM.digits}f"},
                {"field": "rate", "title": "images/s", "format": ".3~r"},
            ],
        },
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 0.8},
        "encoding": {
            "color": colour_by("how", names, series_colours(len(names))),
            "shape": {"field": "model", "type": "nominal", "legend": models_legend},
        },
    }
    # More names than these would hide each other and the points.
    named = {
        "mark": {"type": "text", "dy": -11, "fontSize": 11, "limit": 150, "color": "$muted"},
        "encoding": {"text": {"field": "cell"}},
    }
    spec["layer"] = [points, named] if len(rows) <= _MOST_NAMES else [points]
    title = f"PSNR against speed, {data}"
    return Chart(f"speed-{number}", title, f"{title}: {len(rows)} cells", spec, rows)


def _difference_chart(number: int, data: str, done: Sequence[Done]) -> Chart | None:
    """Return a chart of the difference in PSNR of every cell to its baseline, with its interval."""
    rows: Rows = []
    for result, _ in done:
        difference = result.differences.get("psnr")
        if difference is not None:
            low, high = difference.low, difference.high
            sign = "tie" if PSNR.is_tie(difference) else "lower" if difference.mean < 0 else "higher"
            known = {"mean": difference.mean, "low": low, "high": high, "n": difference.images}
            rows.append({"cell": result.name, "sign": sign, **known})
    if not rows:
        return None
    title = f"Difference to the baseline, {data}"
    ends = [0.0, *(row[end] for row in rows for end in ("low", "high"))]
    x = {"type": "quantitative", "title": PSNR.axis, "scale": least_span(ends, PSNR)}
    signed = colour_by("sign", ["lower", "tie", "higher"], ["$bad", "$muted", "$good"])
    spec: Spec = {
        "height": _BAR * len(rows),
        "encoding": {
            "y": {"field": "cell", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 190}},
            "tooltip": [
                {"field": "cell", "title": "cell"},
                {"field": "sign", "title": " "},
                {"field": "mean", "title": "difference", "format": f"+.{PSNR.digits + 1}f"},
                {"field": "low", "title": "from", "format": f"+.{PSNR.digits + 1}f"},
                {"field": "high", "title": "to", "format": f"+.{PSNR.digits + 1}f"},
                {"field": "n", "title": "images"},
            ],
        },
        "layer": [
            {
                "mark": {"type": "bar", "opacity": 0.8, "height": {"band": 0.6}},
                "encoding": {"x": {"field": "mean", **x}, "color": signed},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2, "color": "$ink"},
                "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}},
            },
        ],
    }
    return Chart(
        f"baseline-{number}",
        title,
        f"{title}: {len(rows)} cells",
        spec,
        rows,
        "Lines are the 95 % intervals; where one holds zero, it is a tie.",
    )


def _images(store: Store, done: Sequence[Done], pictures: int, tick: Callable[[int], None]) -> Section | None:
    """Return the pictures of the cell that differs most from its baseline, beside those of the baseline."""
    compared = [result for result, _ in done if "psnr" in result.differences]
    if compared:
        most = max(compared, key=lambda result: abs(result.differences["psnr"].mean))
        names = [str(most.baseline), most.name]
    else:
        names = [max(done, key=lambda one: one[1].scores.get("psnr", 0.0))[0].name]
    runs = [read_run(Store(f"{store.url.rstrip('/')}/{FOLDER}/{name}"), name) for name in names]
    return images_section(runs, pictures, tick)
