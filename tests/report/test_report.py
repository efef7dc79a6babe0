"""`mimo report` as a person sees it: pages of real runs, opened in a real browser."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from finished import finish, make_pairs
from fixtures_browser import Browser

from mimo_core.cli.main import main
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.record import Record, now
from mimo_core.runs.records import read_part, write_part
from mimo_core.storage import Store

HOSTILE = "<img src=x onerror=\"document.title='broken'\">&amp;</script>.png"
KEYS = [f"street/{number:02d}.png" for number in range(12)]
MOST_BYTES = 10_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve images, one of them under a hostile name, with failures of two kinds, and its report."""
    folder = tmp_path_factory.mktemp("report")
    pairs = make_pairs(folder / "pairs", [*KEYS[:-1], HOSTILE.replace("/", "-")])
    (pairs / "blurred" / "empty.png").write_bytes(b"")
    (pairs / "blurred" / "text.png").write_text("no image")
    finish(pairs, folder / "run")
    assert main(["report", str(folder / "run"), "--pictures", "2"]) == 0
    return folder / "run"


def divider(page: object, number: int = 0) -> float:
    """Where the slider of a card stands, as a share of the picture's width."""
    return float(
        page.evaluate(  # type: ignore[attr-defined]
            "(number) => { const stage = document.querySelectorAll('.stage')[number];"
            "const box = stage.getBoundingClientRect();"
            "return (stage.querySelector('.divider').getBoundingClientRect().x + 1 - box.x) / box.width; }",
            number,
        )
    )


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_opens_without_errors_and_shows_its_charts(browser: Browser, run: Path, dark: bool, phone: bool) -> None:
    with browser.open(run / "report.html", dark=dark, phone=phone) as opened:
        page = opened.page
        assert opened.said == []
        assert [url for url in opened.asked if not url.startswith(("data:", "file:"))] == []
        charts = page.eval_on_selector_all("[data-chart]", "all => all.map(one => one.dataset.chart)")
        assert charts == ["distribution-psnr", "gain-psnr", "distribution-ssim", "scatter", "pace", "stages"]
        for chart in charts:
            marks = page.locator(f"#chart-{chart} svg .mark-rect path, #chart-{chart} svg .mark-symbol path")
            assert marks.count() >= 2, chart
            width = page.locator(f"#chart-{chart} svg").bounding_box()["width"]
            assert width > (250 if phone else 400)
        # Nothing sticks out of the page, and its colours are those of the theme.
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        red = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
        assert (int(red) < 64) == dark
        assert page.locator(".tile").count() >= 5


def test_every_picture_can_be_seen(browser: Browser, run: Path) -> None:
    with browser.open(run / "report.html") as opened:
        pictures = opened.page.locator(".stage img")
        pictures.evaluate_all("all => Promise.all(all.map(one => one.decode()))")
        sizes = pictures.evaluate_all("all => all.map(one => one.naturalWidth)")
        # Six cards of input, output, error and reference.
        assert sizes == [144] * 24
        assert opened.page.locator(".shot").count() == 6


def test_tall_pictures_are_seen_whole(browser: Browser, tmp_path: Path) -> None:
    finish(make_pairs(tmp_path / "pairs", KEYS[:2], size=(300, 100)), tmp_path / "run", weights=None)
    assert main(["report", str(tmp_path / "run")]) == 0
    for phone in (False, True):
        with browser.open(tmp_path / "run" / "report.html", phone=phone) as opened:
            box = opened.page.locator(".stage").first.bounding_box()
            assert box["height"] == pytest.approx(3 * box["width"], rel=0.02)
            assert 200 < box["height"] < 600


def test_charts_tell_of_their_images_where_they_are_pointed_at(browser: Browser, run: Path) -> None:
    with browser.open(run / "report.html") as opened:
        page = opened.page
        name = HOSTILE.replace("/", "-")
        rows = page.evaluate("JSON.parse(document.getElementById('chart-data').textContent).scatter.rows")
        place = next(number for number, row in enumerate(rows) if row["key"] == name)
        point = page.locator("#chart-scatter svg .mark-symbol.role-mark path").nth(place)
        point.scroll_into_view_if_needed()
        point.hover(force=True)
        tooltip = page.locator("#vg-tooltip-element.visible")
        tooltip.wait_for()
        assert re.search(r"street/\d\d\.png|onerror", tooltip.inner_text())
        assert tooltip.locator("img").count() == 0
        assert opened.said == []


def test_slider_moves_with_the_mouse(browser: Browser, run: Path) -> None:
    with browser.open(run / "report.html") as opened:
        page = opened.page
        assert divider(page) == pytest.approx(0.5, abs=0.01)
        page.locator(".stage").first.scroll_into_view_if_needed()
        box = page.locator(".stage").first.bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] / 2, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.8 * box["width"], middle, steps=5)
        page.mouse.up()
        assert divider(page) == pytest.approx(0.8, abs=0.02)
        # What is seen moves with it.
        clip = page.locator(".stage img.right").first.evaluate("one => getComputedStyle(one).clipPath")
        assert re.search(r"(79|80|81)(\.\d+)?%", clip), clip


def test_slider_moves_by_touch(browser: Browser, run: Path) -> None:
    with browser.open(run / "report.html", phone=True) as opened:
        page = opened.page
        page.locator(".stage").first.scroll_into_view_if_needed()
        box = page.locator(".stage").first.bounding_box()
        page.touchscreen.tap(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2)
        assert divider(page) == pytest.approx(0.25, abs=0.03)
        # A finger that drags.
        session = page.context.new_cdp_session(page)
        height = box["y"] + box["height"] / 2
        for kind, share in [("touchStart", 0.25), *(("touchMove", 0.25 + step / 10) for step in range(1, 6))]:
            points = [{"x": box["x"] + share * box["width"], "y": height}]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert divider(page) == pytest.approx(0.75, abs=0.03)


def test_slider_moves_with_the_keyboard(browser: Browser, run: Path) -> None:
    with browser.open(run / "report.html") as opened:
        page = opened.page
        page.locator(".stage input").first.focus()
        page.keyboard.press("End")
        assert divider(page) == pytest.approx(1, abs=0.01)
        page.keyboard.press("PageDown")
        assert divider(page) < 0.95
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        assert 0 < divider(page) < 0.05


def test_reference_and_error_are_a_switch_away(browser: Browser, run: Path) -> None:
    with browser.open(run / "report.html") as opened:
        shot = opened.page.locator(".shot").first
        shown = "all => all.map(one => one.dataset.layer)"
        assert shot.locator("img.left, img.right").evaluate_all(shown) == ["input", "output-0"]
        shot.get_by_role("radio", name="Reference").check()
        shot.get_by_role("radio", name="Error").check()
        assert shot.locator("img.left").evaluate_all(shown) == ["reference"]
        assert shot.locator("img.right").evaluate_all(shown) == ["difference-0"]
        assert shot.locator(".tag.left").inner_text() == "Reference"


def test_theme_changes_with_the_button_and_the_charts_with_it(browser: Browser, run: Path) -> None:
    with browser.open(run / "report.html") as opened:
        page = opened.page
        label = "document.querySelector('#chart-scatter svg .role-axis-label text').getAttribute('fill')"
        light = page.evaluate(label)
        page.locator("#theme").click()
        page.wait_for_function("document.querySelector('#chart-stages').dataset.drawn === '2'")
        assert page.evaluate(label) != light
        assert opened.said == []


def test_keys_are_text_whatever_they_hold(browser: Browser, run: Path) -> None:
    name = HOSTILE.replace("/", "-")
    with browser.open(run / "report.html") as opened:
        assert "broken" not in opened.page.title()
        assert opened.page.locator("img[src='x']").count() == 0
        rows = opened.page.evaluate("JSON.parse(document.getElementById('chart-data').textContent).scatter.rows")
        assert name in {row["key"] for row in rows}
    text = (run / "report.html").read_text()
    assert name not in text
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    assert "unsafe-eval" not in policy[1]
    assert "http" not in policy[1]


def test_failures_are_told_by_kind_with_their_images(browser: Browser, run: Path) -> None:
    with browser.open(run / "report.html") as opened:
        failures = opened.page.locator(".failure")
        kinds = failures.locator(".kind").all_inner_texts()
        assert sorted(kinds) == ["empty", "not_an_image"]
        # Open before anybody asks, above all else, and with the command that tries them again.
        assert opened.page.locator("section[id]").first.get_attribute("id") == "failures"
        command = opened.page.locator(".command code").inner_text()
        assert command.startswith("mimo restore ")
        assert command.endswith("--mode retry-failed")
        # Two of fourteen are not all.
        box, bar = (failures.first.locator(one).bounding_box() for one in (".bar", ".bar span"))
        assert bar["width"] == pytest.approx(box["width"] / 14, rel=0.05)
        assert failures.first.locator("li code").first.inner_text() in ("empty.png", "text.png")


def test_nobody_is_sent_to_try_files_again_that_have_changed(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(run, output)
    folder = RunFolder(Store(str(output)))
    for number in folder.committed():
        rows = folder.read(number)
        changed = [replace(row, error_kind="changed") if row.status == "failed" else row for row in rows]
        write_part(folder.store, number, changed)
    assert main(["report", str(output), "--pictures", "0"]) == 0
    text = (output / "report.html").read_text()
    assert "restore them as they are now into another OUTPUT" in text
    assert "--mode retry-failed" not in text


def test_several_runs_are_compared(browser: Browser, run: Path, tmp_path: Path) -> None:
    finish(run.parent / "pairs", tmp_path / "copied", weights=None)
    target = tmp_path / "both.html"
    assert main(["report", str(run), str(tmp_path / "copied"), "--pictures", "1", "--to", str(target)]) == 0
    with browser.open(target) as opened:
        page = opened.page
        assert opened.said == []
        assert page.title() == "2 runs compared"
        table = page.locator("#comparison table").inner_text()
        assert "mimo-unet-lite" in table
        assert "identity" in table
        assert page.locator("#chart-difference-psnr-1 svg .mark-rect path").count() >= 2
        layers = page.locator(".shot").first.locator("img").evaluate_all("all => all.map(one => one.dataset.layer)")
        assert layers == ["input", "output-0", "difference-0", "output-1", "difference-1", "reference"]


def test_what_is_gone_is_said(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (record,) = [one for one in read_part(Store(str(copy)), 0) if one.key == KEYS[0]]
    assert record.output is not None
    (copy / record.output).unlink()
    (second,) = [one for one in read_part(Store(str(copy)), 0) if one.key == KEYS[1]]
    assert second.output is not None
    assert cv2.imwrite(str(copy / second.output), cv2.imread(str(copy / second.output)) // 2)
    assert main(["report", str(copy), "--pictures", "12"]) == 0
    text = (copy / "report.html").read_text()
    assert text.count("the output cannot be shown") == 2
    assert "is not the file that the run wrote (SHA-256 differs)" in text


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_suspects_come_first_with_their_pictures(browser: Browser, run: Path, tmp_path: Path, phone: bool) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "totals", ignore_errors=True)
    what = "colours change by 11.3 levels at 96,64"
    for part in (copy / "records").iterdir():
        number = int(part.stem[5:])
        records = read_part(Store(str(copy)), number)
        write_part(
            Store(str(copy)), number, [replace(one, suspect=what) if one.key == KEYS[3] else one for one in records]
        )
    assert main(["report", str(copy), "--pictures", "2"]) == 0
    with browser.open(copy / "report.html", phone=phone) as opened:
        page = opened.page
        assert opened.said == []
        assert page.locator("main > section[id]").first.get_attribute("id") == "suspects"
        assert f"{KEYS[3]} {what}" in page.locator("#suspects").inner_text()
        assert page.locator("#images h3").all_inner_texts()[0] == "Suspects"
        assert what in page.locator("#images .shot").first.inner_text()
        # Neither twice among the pictures, nor missing from what the table finds by the word.
        assert sum(KEYS[3] in text for text in page.locator("#images .shot figcaption").all_inner_texts()) == 1
        page.fill("#all-filter", "suspect")
        page.locator("#all-count", has_text="1 of").wait_for()
        assert KEYS[3] in page.locator("#all-images tbody").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_page_stays_small_whatever_it_shows(tmp_path: Path) -> None:
    """Pictures of noise, which no encoder can shrink, are shown smaller until they fit."""
    import numpy as np

    noise = np.random.default_rng(1).integers(0, 256, (720, 1000, 3), np.uint8)
    for side in ("blurred", "sharp"):
        (tmp_path / side).mkdir()
        for number in range(6):
            assert cv2.imwrite(str(tmp_path / side / f"{number}.png"), np.roll(noise, number * (side == "sharp"), 0))
    finish(tmp_path, tmp_path / "run", weights=None)
    assert main(["report", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "report.html").stat().st_size < MOST_BYTES


def test_a_run_without_references_or_pictures_has_a_page(browser: Browser, tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "pairs", KEYS[:3])
    finish(pairs, tmp_path / "run", reference=False, weights=None)
    assert main(["report", str(tmp_path / "run")]) == 0
    with browser.open(tmp_path / "run" / "report.html") as opened:
        assert opened.said == []
        assert opened.page.locator("#scores").count() == 0
        assert opened.page.locator(".shot").count() == 3
        assert opened.page.get_by_text("Images, spread evenly").count() == 1
    assert main(["report", str(tmp_path / "run"), "--pictures", "0"]) == 0
    assert "data:image/webp" not in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.s3
def test_a_run_in_a_bucket_has_its_page_there(run: Path, s3_bucket: str) -> None:
    place = f"s3://{s3_bucket}/archive/run"
    store = Store(place)
    for path in run.rglob("*"):
        if path.is_file() and path.name != "report.html":
            store.write(path.relative_to(run).as_posix(), path.read_bytes())
    assert main(["report", place, "--pictures", "1"]) == 0
    page = store.read("report.html").decode()
    assert page.count("data:image/webp") == 12
    assert "cannot be shown" not in page


def test_fid_is_shown_and_warned_of_where_the_images_are_few(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "pairs", KEYS[:3])
    finish(pairs, tmp_path / "run", weights=None)
    summary = {"fid": 12.345, "input_fid": 23.456, "fid_images": 3}
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    assert main(["report", str(tmp_path / "run"), "--pictures", "0"]) == 0
    text = (tmp_path / "run" / "report.html").read_text()
    assert "12.35" in text or "12.34" in text
    assert "−11.11" in text
    assert "FID over fewer than 2,048 images is biased upwards" in text


def test_wrong_use_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["report"]) == 2
    assert "OUTPUT is missing" in capsys.readouterr().err
    pairs = make_pairs(tmp_path / "pairs", KEYS[:1])
    finish(pairs, tmp_path / "run", weights=None)
    (tmp_path / "run" / "records" / "part-00000000.parquet").unlink()
    assert main(["report", str(tmp_path / "run")]) == 2
    assert "no records yet" in capsys.readouterr().err


def test_where_the_page_cannot_be_written_the_remedy_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert main(["report", str(run), "--pictures", "0", "--to", str(tmp_path / "file" / "page.html")]) == 1
    assert "name another place with --to FILE" in capsys.readouterr().err


def test_ten_thousand_images_make_a_small_page(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "pairs", KEYS)
    outcome = finish(pairs, tmp_path / "run", weights=None)
    store = Store(str(tmp_path / "run"))
    some = list(outcome.records.values())
    for part in range(1, 157):
        rows = [
            Record(
                **{
                    **some[number % 12].__dict__,
                    "key": f"{part}/{number}.png",
                    "psnr": 30 + (7 * number + part) % 83 / 10,
                    "finished_at": now(),
                }
            )
            for number in range(64)
        ]
        write_part(store, part, rows)
    assert main(["report", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "report.html").stat().st_size < MOST_BYTES
