"""`mimo preview` as a person sees it: a sample of an archive restored in several ways, and the archive as it was."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_browser import Browser
from processes import ROOT

from mimo_core.cli.main import main
from mimo_core.images.pixels import Pixels8
from mimo_core.report.preview import mixed, most_detailed

SAMPLES = ROOT / "samples"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for side in ("blurred", "sharp"):
        (folder / side).mkdir()
        for name in ("street.jpg", "seeds.jpg"):
            (folder / side / name).write_bytes((SAMPLES / side / name).read_bytes())
    (folder / "bad <b>.png").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_every_way_can_be_looked_at(browser: Browser, archive: Path, tmp_path: Path, phone: bool) -> None:
    page = tmp_path / "page.html"
    before = sorted(archive.rglob("*"))
    options = ["--scales", "1", "--scales", "1/2", "--strengths", "0.5,1", "--to", str(page)]
    assert main(["preview", str(archive), "3", *options]) == 0
    assert sorted(archive.rglob("*")) == before
    with browser.open(page, phone=phone) as opened:
        assert opened.said == []
        shown = opened.page
        assert shown.locator(".shot").count() == 3
        labels = (
            shown.locator(".shot").first.locator(".stage img").evaluate_all("all => all.map(one => one.dataset.label)")
        )
        assert labels == [
            "Input",
            *(f"scales {scales}, strength {share}" for scales in ("1", "1/2") for share in ("0.5", "1")),
        ]
        shown.locator(".stage img").evaluate_all("all => Promise.all(all.map(one => one.decode()))")
        # From the one that is sharp to those that are blurred.
        told = shown.locator(".shot").all_inner_texts()
        assert "sharp/" in told[0]
        assert "blurred/" in told[-1]
        assert f"mimo restore {archive} OUTPUT --scales 1/2 --strength 0.5" in shown.locator("#commands").inner_text()
        assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_same_seed_gives_the_same_page_and_what_cannot_be_is_said(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = []
    for name in ("one.html", "two.html"):
        assert (
            main(["preview", str(archive), "1", "--strengths", "1", "--scales", "1", "--to", str(tmp_path / name)]) == 0
        )
        # But for the time of day at its end.
        pages.append((tmp_path / name).read_text().partition("<footer")[0])
    assert pages[0] == pages[1]
    capsys.readouterr()
    assert main(["preview", str(archive / "bad <b>.png"), "--to", str(tmp_path / "no.html")]) == 2
    assert "can be read and judged" in capsys.readouterr().err
    assert main(["preview", str(archive), "--strengths", "2"]) == 2
    assert "expected numbers from 0 to 1" in capsys.readouterr().err
    assert not (tmp_path / "no.html").exists()


def test_the_piece_is_where_there_is_most_to_see() -> None:
    image = np.full((1500, 2000, 3), 128, np.uint8)
    place = np.s_[900:1300, 1300:1900]
    image[place] = cv2.resize(np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8), (600, 400))
    piece = most_detailed(image)
    assert piece.shape == (720, 960, 3)
    assert (piece != 128).any(axis=2).sum() == (image != 128).any(axis=2).sum()
    small: Pixels8 = image[:100, :50]
    assert most_detailed(small) is small


def test_a_share_of_the_change_is_shown() -> None:
    before, after = np.full((4, 4, 3), 100, np.uint8), np.full((4, 4, 3), 120, np.uint8)
    assert (mixed(before, after, 0.25) == 105).all()
    assert mixed(before, after, 1) is after
    assert (mixed(before, after, 0) == before).all()
