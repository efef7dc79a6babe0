"""The table of all images in a report, and taking tables along, in a real browser."""

import base64
import csv
import gzip
import io
import json
import math
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from finished import finish, make_pairs
from fixtures_browser import Browser

from mimo_core.cli.main import main
from mimo_core.report.image_table import image_table
from mimo_core.report.run_data import read_run
from mimo_core.runs.record import Record, now
from mimo_core.runs.records import write_part
from mimo_core.storage import Store

KEYS = [f"street/a # b %20 {number:02d}.png" for number in range(8)]
MANY = 100_000
READY = "#all-images[data-ready]"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight images and one that failed, and its report."""
    folder = tmp_path_factory.mktemp("table")
    pairs = make_pairs(folder / "pairs", KEYS)
    (pairs / "blurred" / "empty.png").write_bytes(b"")
    finish(pairs, folder / "run")
    assert main(["report", str(folder / "run"), "--pictures", "1"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a hundred thousand records, and its report."""
    folder = tmp_path_factory.mktemp("large")
    outcome = finish(make_pairs(folder / "pairs", KEYS), folder / "run", weights=None)
    (some, *_) = outcome.records.values()
    for part in range(MANY // 2000):
        rows = []
        for number in range(2000):
            gain = math.sin(part * 2000 + number)
            values = {"key": f"{part}/IMG_{number * 7919 % 10007:05d}.png", "input_psnr": 28.0, "psnr": 28 + gain}
            rows.append(Record(**{**some.__dict__, **values, "finished_at": now()}))
        write_part(Store(str(folder / "run")), part, rows)
    assert main(["report", str(folder / "run"), "--pictures", "0"]) == 0
    return folder / "run"


def column(page: object, kind: str) -> list[str]:
    """The texts of a column's rows in sight."""
    return page.locator(f"#all-images tbody .{kind}").all_inner_texts()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_it_holds_all_images_the_worst_first(browser: Browser, run: Path, phone: bool) -> None:
    with browser.open(run / "report.html", phone=phone) as opened:
        page = opened.page
        page.locator(READY).wait_for()
        keys = column(page, "key")
        assert keys[0] == "empty.png"
        assert sorted(keys[1:]) == KEYS
        place = page.locator("#all-images thead th").evaluate_all("all => all.findIndex(one => one.ariaSort)")
        gains = [
            float(text.replace("−", "-"))
            for text in page.locator(f"#all-images tbody tr > :nth-child({place + 1}):not([colspan])").all_inner_texts()
            if text != "–"
        ]
        assert gains == sorted(gains)
        assert len(gains) == 8
        assert "empty: the file is empty" in column(page, "reason")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert opened.said == []


def test_links_lead_to_the_files(browser: Browser, run: Path) -> None:
    with browser.open(run / "report.html") as opened:
        opened.page.locator(READY).wait_for()
        links = opened.page.locator("#all-images tbody a")
        files = [Path(unquote(urlparse(url).path)) for url in links.evaluate_all("all => all.map(one => one.href)")]
        assert len(files) == 17
        assert all(file.is_file() for file in files)
        labels = links.evaluate_all("all => all.map(one => one.textContent)")
        assert (labels.count("output"), labels.count("source")) == (8, 9)


def test_a_page_elsewhere_links_from_there(run: Path, tmp_path: Path, browser: Browser) -> None:
    assert main(["report", str(run), "--pictures", "0", "--to", str(tmp_path / "deep" / "page.html")]) == 0
    with browser.open(tmp_path / "deep" / "page.html") as opened:
        opened.page.locator(READY).wait_for()
        urls = opened.page.locator("#all-images tbody a").evaluate_all("all => all.map(one => one.href)")
        assert len(urls) == 17
        assert all(Path(unquote(urlparse(url).path)).is_file() for url in urls)


def test_a_hundred_thousand_rows_are_sorted_filtered_and_scrolled(browser: Browser, large: Path) -> None:
    assert (large / "report.html").stat().st_size < 5_000_000
    with browser.open(large / "report.html") as opened:
        page = opened.page
        page.locator(READY).wait_for()
        count = page.locator("#all-count")
        assert count.inner_text() == "100,000 images"
        # Only what is in sight is in the page.
        assert page.locator("#all-images tbody tr").count() < 100
        page.locator("#all-images .rows").focus()
        page.keyboard.press("End")
        page.locator("#all-images tr[aria-rowindex='100001']").wait_for()
        assert page.locator("#all-images tbody tr").count() < 100
        page.get_by_role("button", name="PSNR, gain").click()
        assert page.locator("#all-images th[data-name=psnr_gain]").get_attribute("aria-sort") == "descending"
        assert page.locator("#all-images tbody tr").nth(1).inner_text().count("+1.00") == 1
        page.locator("#all-filter").fill("17/ psnr_gain<-0.5")
        page.locator("#all-count", has_text=" of ").wait_for()
        wanted = sum(math.sin(17 * 2000 + number) < -0.5 for number in range(2000))
        assert count.inner_text() == f"{wanted:,} of 100,000 images"
        assert opened.said == []


def test_a_bar_leads_to_its_images(browser: Browser, run: Path) -> None:
    with browser.open(run / "report.html") as opened:
        page = opened.page
        page.locator(READY).wait_for()
        bar = page.locator("#chart-gain-psnr svg .mark-rect.role-mark path").first
        bar.scroll_into_view_if_needed()
        bar.click(force=True)
        page.locator("#all-count", has_text=" of ").wait_for()
        assert page.locator("#all-filter").input_value().startswith("psnr_gain>=")
        rows = page.evaluate("JSON.parse(document.getElementById('chart-data').textContent)['gain-psnr'].rows")
        expected = next(row["count"] for row in rows if "count" in row)
        assert len(column(page, "key")) == expected


def test_failed_images_are_a_choice_away(browser: Browser, run: Path) -> None:
    with browser.open(run / "report.html") as opened:
        page = opened.page
        page.locator(READY).wait_for()
        page.locator("#all-state").select_option("failed")
        assert column(page, "key") == ["empty.png"]
        page.locator("#all-filter").fill("nothing like it")
        page.locator("#all-count", has_text="0 of 9 images").wait_for()


def saved(page: object, name: str, form: str) -> str:
    """What the menu of a table saves."""
    first = page.get_by_label(f"Save {name} as {form}", exact=True)  # type: ignore[attr-defined]
    menu = page.locator("details.save", has=first)  # type: ignore[attr-defined]
    if menu.get_attribute("open") is None:
        menu.locator("summary").click()
    with page.expect_download() as download:  # type: ignore[attr-defined]
        first.click()
    return Path(download.value.path()).read_text(encoding="utf-8")


def test_tables_are_taken_along(browser: Browser, run: Path) -> None:
    with browser.open(run / "report.html") as opened:
        page = opened.page
        page.locator(READY).wait_for()
        rows = list(csv.DictReader(io.StringIO(saved(page, "images", "CSV"))))
        assert next(row["Image"] for row in rows) == "empty.png"
        assert {row["Image"] for row in rows[1:]} == set(KEYS)
        for row in rows[1:]:
            gain = float(row["PSNR"]) - float(row["PSNR, input"])
            assert float(row["PSNR, gain"]) == pytest.approx(gain, abs=0.011)
        (psnr, _) = list(csv.DictReader(io.StringIO(saved(page, "scores", "CSV"))))[:2]
        assert float(psnr["Restored"]) > float(psnr["Input"])
        markdown = saved(page, "scores", "Markdown").splitlines()
        assert markdown[0] == "| Score | Input | Restored | Gain [95 %] | Images |"
        assert markdown[1] == "| --- | ---: | ---: | ---: | ---: |"
        latex = saved(page, "images", "LaTeX")
        assert "\\begin{tabular}" in latex
        assert "a \\# b \\%20 00.png" in latex
        assert opened.said == []


def test_menus_and_sorting_work_by_keyboard(browser: Browser, run: Path) -> None:
    with browser.open(run / "report.html") as opened:
        page = opened.page
        page.locator(READY).wait_for()
        page.get_by_role("button", name="Image", exact=True).focus()
        page.keyboard.press("Enter")
        assert column(page, "key")[1] == KEYS[0]
        menu = page.locator("details.save").first
        menu.locator("summary").focus()
        page.keyboard.press("Enter")
        assert menu.get_attribute("open") is not None
        page.keyboard.press("Escape")
        assert menu.get_attribute("open") is None


def test_what_is_too_large_loses_columns_and_then_the_best_images(run: Path) -> None:
    data = read_run(Store(str(run)), "run")
    whole = image_table([data], Store(str(run)))
    assert whole is not None
    assert (whole.rows, whole.total) == (9, 9)
    assert whole.left_out == ()
    narrow = image_table([data], Store(str(run)), budget=len(whole.packed) - 1)
    assert narrow is not None
    assert (narrow.rows, narrow.left_out) == (9, ("ms",))
    less = image_table([data], Store(str(run)), budget=len(narrow.packed) - 100)
    assert less is not None
    assert less.rows < 9
    assert len(less.packed) <= len(narrow.packed) - 100
    kept = json.loads(gzip.decompress(base64.b64decode(less.packed)))["keys"]
    assert "empty.png" in kept


def test_runs_are_compared_image_by_image(browser: Browser, run: Path, tmp_path: Path) -> None:
    finish(run.parent / "pairs", tmp_path / "copied", weights=None)
    target = tmp_path / "both.html"
    assert main(["report", str(run), str(tmp_path / "copied"), "--pictures", "0", "--to", str(target)]) == 0
    with browser.open(target) as opened:
        opened.page.locator(READY).wait_for()
        titles = opened.page.locator("#all-images thead button").all_inner_texts()
        assert [one for one in titles if "run" in one or "copied" in one] == ["PSNR run", "PSNR copied", "copied − run"]
        assert "[" in opened.page.locator("#comparison tbody tr").nth(1).inner_text()
        assert len(column(opened.page, "key")) == 9
        assert opened.said == []
