"""Carrying a sweep out from the command line: what a person sees of it, and its table."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from mimo_core.cli.arguments import load_yaml
from mimo_core.cli.display import Display
from mimo_core.cli.main import OK, SOME_FAILED
from mimo_core.cli.running import attempt, same_command
from mimo_core.cli.streams import show
from mimo_core.cli.terminal import Terminal, tables
from mimo_core.datasets.imagelist import list_images
from mimo_core.errors import UsageError
from mimo_core.inference.progress import RunProgress
from mimo_core.storage import Store
from mimo_core.sweep.cells import Cell, describe, expand
from mimo_core.sweep.folder import TABLE, TABLE_CSV, SweepFolder
from mimo_core.sweep.sweep_config import DATA, SweepConfig
from mimo_core.wording import count, significant

if TYPE_CHECKING:
    from mimo_core.sweep.results import Result

# Columns of the table that a narrow terminal does without, in this order.
_LESS_IMPORTANT = ("shape", "M params", "GFLOP", "images", "SSIM, difference [95 %]", "model", "SSIM", "images/s")


def carry_out(file: str, output: str, argv: Sequence[str], *, dry_run: bool) -> int:
    """Work on the sweep until it is finished, and print its table; or print its grid and do nothing.

    Args:
        file: the YAML file that describes it.
        output: its folder.
        argv: how it was asked for, to say which command goes on after an interruption.
        dry_run: whether nothing is to be done.

    Returns:
        The exit code; see `mimo_core.cli.main.run`.
    """
    config = read_sweep(file)
    cells = expand(config, output)
    folder = SweepFolder(Store(output))
    folder.check(config)
    done = {name for name, result in folder.results().items() if result.status == "done"}
    _refuse_missing_data([cell for cell in cells if cell.name not in done])
    if dry_run:
        _print_grid(cells, folder)
        return OK

    def work(display: Display) -> int:
        # Ray takes a second to import, which `--help` need not.
        display.phase("loading the program")
        from mimo_core.distributed.sweep import sweep

        results = sweep(config, cells, folder, _SweepDisplay(display))
        display.finish()
        return _print_results(results, output)

    return attempt("sweep", work, lambda _: same_command("sweep", argv))


def read_sweep(file: str) -> SweepConfig:
    """Return what a sweep's file asks for.

    Raises:
        UsageError: it asks for something that there is not; the message says where.
    """
    try:
        return SweepConfig(**load_yaml(file, file))
    except TypeError as error:
        raise UsageError(f"{file}: names of settings are text") from error
    except ValidationError as error:
        raise UsageError("; ".join(f"{file}: {_explain(one)}" for one in error.errors()[:3])) from error


class _SweepDisplay:
    """Shows each cell's progress as that of a run."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def say(self, text: str) -> None:
        self._display.say(text)

    def phase(self, text: str) -> None:
        self._display.phase(text)

    def lost(self, text: str) -> None:
        self._display.lost(text)

    def progress(self, progress: RunProgress) -> None:
        self._display.progress(progress)

    def cell(self, cell: Cell, number: int, total: int) -> None:
        self._display.say(f"[{number}/{total}] {cell.name}")

    def result(self, result: "Result") -> None:
        self._display.finish()
        figures = result.figures
        if figures is None:
            self._display.say(f"  not run: {result.reason}")
            return
        parts = [f"{figures.restored} of {count(figures.images, 'image')}"]
        if "psnr" in figures.scores:
            parts.append(f"PSNR {figures.scores['psnr']:.3f} dB")
        if figures.rate is not None:
            parts.append(f"{significant(figures.rate)} images/s")
        self._display.say(f"  {', '.join(parts)}")


def _refuse_missing_data(cells: Sequence[Cell]) -> None:
    """Refuse data sets without images before the first cell begins: a mistyped path is no property of a cell."""
    for name, config in {str(cell.choices[DATA]): cell.config for cell in cells}.items():
        try:
            next(list_images(config.source, include=config.include, reference=config.reference))
        except UsageError as error:
            raise UsageError(f"data {name}: {error}") from error


def _print_grid(cells: Sequence[Cell], folder: SweepFolder) -> None:
    known = folder.results()
    for cell in cells:
        state = known[cell.name].status.replace("_", " ") if cell.name in known else "to do"
        show(f"{cell.name}  ({describe(cell.choices)}): {state}")
    sets = count(len({cell.choices[DATA] for cell in cells}), "data set")
    done = sum(cell.name in known and known[cell.name].status == "done" for cell in cells)
    show(f"{count(len(cells), 'cell')} over {sets}, {done} of them done; nothing was run")


def _print_results(results: "Sequence[Result]", output: str) -> int:
    from mimo_core.sweep.table import markdown

    place, console = output.rstrip("/"), tables()
    if console.is_terminal:
        table, left_out = table_within(results, console)
        console.print_table(table)
        if left_out:
            show(f"left out, for the terminal is narrow: {'; '.join(left_out)}")
        for result in results:
            if result.figures is None:
                show(f"not run: {result.name}: {result.reason}")
    else:
        show(markdown(results))
    show(f"table    {place}/{TABLE}, {place}/{TABLE_CSV}")
    show(f"records  {place}/records")
    show(f"next     mimo report {shlex.quote(place)}")
    whole = all(
        result.figures is not None and not result.figures.failed and not result.figures.skipped for result in results
    )
    return OK if whole else SOME_FAILED


def table_within(results: "Sequence[Result]", console: Terminal) -> tuple[Table, list[str]]:
    """Return the sweep's table as the terminal has room for it, and the titles of the columns that it has none for."""
    from mimo_core.sweep.table import grid_of

    grid, left_out = grid_of(results), list[str]()
    wide = console.options.update(max_width=10_000)
    for less in ("", *_LESS_IMPORTANT):
        if less in grid.titles:
            left_out.append(less)
        table = Table(box=None, padding=(0, 2, 0, 0))
        shown = [place for place, title in enumerate(grid.titles) if title not in left_out]
        for place in shown:
            table.add_column(grid.titles[place], justify="left" if grid.words[place] else "right", overflow="fold")
        for row in grid.rows:
            table.add_row(*(escape(row[place]) for place in shown))
        if console.measure(table, options=wide).maximum <= console.width:
            break
    return table, left_out


def _explain(error: object) -> str:
    assert isinstance(error, dict)
    place = ".".join(str(one) for one in error["loc"])
    text = str(error.get("ctx", {}).get("error") or error["msg"])
    return f"{place}: {text}" if place else text
