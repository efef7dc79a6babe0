"""`mimo report` of a sweep: its table, its plots, the cells that were not run, and pictures of two cells."""

from pathlib import Path

import pytest
from finished import finish, make_pairs
from fixtures_browser import Browser

from mimo_core.cli.main import USAGE, main
from mimo_core.report.sweep_page import best_psnr
from mimo_core.runs.folder import RunFolder
from mimo_core.storage import Store
from mimo_core.sweep.cells import expand
from mimo_core.sweep.comparison import Difference
from mimo_core.sweep.figures import Figures
from mimo_core.sweep.folder import SweepFolder
from mimo_core.sweep.results import Result
from mimo_core.sweep.sweep_config import SweepConfig

KEYS = [f"{number:02d}.png" for number in range(10)]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two engines by two sizes, of which one cell was not run."""
    folder = tmp_path_factory.mktemp("sweep")
    pairs = make_pairs(folder / "pairs", KEYS)
    config = SweepConfig.model_validate(
        {
            "data": {"streets": {"source": str(pairs / "blurred"), "reference": str(pairs / "sharp")}},
            "grids": [{"engine": ["torch", "identity"], "size": ["native", "48x64"]}],
            "baseline": {"engine": "identity"},
        }
    )
    made = SweepFolder(Store(str(folder / "out")))
    made.begin(config)
    cells = expand(config, str(folder / "out"))
    results = []
    for cell in cells:
        if cell.choices["engine"] == "torch" and cell.choices["size"] == "48x64":
            results.append(Result(cell.name, cell.choices, "not_run", "no <memory> left"))
            continue
        size = None if cell.choices["size"] == "native" else (48, 64)
        weights = {} if cell.choices["engine"] == "torch" else {"weights": None}
        run = folder / "out" / "cells" / cell.name
        finish(pairs, run, evaluates=True, saves_images=False, size=size, **weights)
        RunFolder(Store(str(run))).write_summary({"fid": 10.0})
        results.append(made.finish(cell))
    made.write(config, cells, results)
    assert main(["report", str(folder / "out"), "--pictures", "1"]) == 0
    return folder / "out"


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_page_of_a_sweep(browser: Browser, sweep: Path, phone: bool) -> None:
    with browser.open(sweep / "report.html", dark=phone, phone=phone) as opened:
        page = opened.page
        assert opened.said == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("#table tbody tr").count() == 3
        assert "FID" in page.locator("#table thead").inner_text()
        assert page.locator("#chart-speed-0 svg .mark-symbol.role-mark path").count() == 3
        assert page.locator("#chart-baseline-0 svg .mark-rect path").count() == 1
        assert "no <memory> left" in page.locator("#not-run").inner_text()
        # The cell that differs most beside its baseline, both restored again.
        layers = page.locator(".shot").first.locator("img").evaluate_all("all => all.map(one => one.dataset.layer)")
        assert layers == ["input", "output-0", "difference-0", "output-1", "difference-1", "reference"]
        assert "restored again" in page.locator("#images").inner_text()


def test_a_sweep_is_reported_alone(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(sweep), str(sweep)]) == USAGE
    assert "name it alone" in capsys.readouterr().err


def test_a_cell_of_a_sweep_is_a_run_like_any_other(sweep: Path) -> None:
    cell = next((sweep / "cells").iterdir())
    assert main(["report", str(cell), "--pictures", "0"]) == 0
    assert (cell / "report.html").exists()


def test_a_sweep_without_a_finished_cell_has_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.json").write_text('{"format": 1}')
    assert main(["report", str(tmp_path)]) == USAGE
    assert "no cell of the sweep is finished" in capsys.readouterr().err


def cell_of(name: str, psnr: float, difference: Difference | None = None) -> Result:
    figures = Figures("m", "torch fp32", 9, 9, 0, 0, None, None, {"psnr": psnr}, None, None, "3xHxW", None, "")
    differences = {} if difference is None else {"psnr": difference}
    return Result(name, {"data": "streets"}, "done", figures=figures, baseline="base", differences=differences)


@pytest.mark.parametrize(
    ("cells", "detail"),
    [
        (
            [cell_of("base", 30.0), cell_of("a", 30.00004, Difference(4e-5, 3e-5, 5e-5, 9))],
            "a; a tie with the baseline",
        ),
        ([cell_of("base", 30.0), cell_of("a", 30.3, Difference(0.3, -0.1, 0.7, 9))], "a; a tie with the baseline"),
        ([cell_of("base", 30.0), cell_of("a", 29.9, Difference(-0.1, -0.3, 0.1, 9))], "base; a tie with 1 cell more"),
        ([cell_of("base", 30.0), cell_of("a", 29.0, Difference(-1.0, -1.3, -0.7, 9))], "base"),
        ([cell_of("base", 30.0), cell_of("a", 31.0, Difference(1.0, 0.7, 1.3, 9))], "a"),
    ],
)
def test_what_may_as_well_be_equal_has_no_winner(cells: list[Result], detail: str) -> None:
    scored = [(cell, cell.figures) for cell in cells if cell.figures is not None]
    assert best_psnr(scored) == (max(figures.scores["psnr"] for _, figures in scored), detail)
