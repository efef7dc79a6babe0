"""What a listing does not take is counted and told, except for what systems leave in folders."""

from pathlib import Path

import pytest
from pictures import WHOLE

from mimo_core.cli.main import main
from mimo_core.datasets.imagelist import list_images
from mimo_core.datasets.left_aside import LeftAside, describe, is_image_name, is_leftover
from mimo_core.runs.plan import read_plan
from mimo_core.runs.plan_writer import extend, write_plan
from mimo_core.storage import Store

LEFTOVERS = ("@eaDir/a.png", "sub/.thumbnails/b.jpg", "._a.png", "Thumbs.db", "sub/.DS_Store", "__MACOSX/a.png")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    for name in ("a.png", "sub/b.png", "film.MOV", "sub/film.mov", "notes.txt", "README", *LEFTOVERS):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(WHOLE["png"])
    return folder


@pytest.mark.parametrize("pattern", ["", "/**/*"])
def test_others_are_counted_by_extension_and_leftovers_are_not(archive: Path, pattern: str) -> None:
    aside = LeftAside()
    assert [entry.key for entry in list_images(f"{archive}{pattern}", aside=aside)] == ["a.png", "sub/b.png"]
    assert aside.counted == {".mov": 2, ".txt": 1, "without extension": 1}
    told = "4 files left aside, not images by name: 2 .mov, 1 .txt, 1 without extension"
    assert describe(aside.counted) == told


def test_what_is_included_is_not_left_aside(archive: Path) -> None:
    aside = LeftAside()
    keys = [entry.key for entry in list_images(str(archive), include=("*.mov",), aside=aside)]
    assert keys == ["a.png", "sub/b.png", "sub/film.mov"]
    assert aside.counted == {".mov": 1, ".txt": 1, "without extension": 1}


def test_a_plan_keeps_the_count_of_its_latest_listing(archive: Path, tmp_path: Path) -> None:
    aside = LeftAside()
    store = Store(str(tmp_path / "run"))
    plan = write_plan(store, list_images(str(archive), aside=aside), aside=aside)
    assert plan.aside == {".mov": 2, ".txt": 1, "without extension": 1}
    assert read_plan(store) == plan
    (archive / "c.png").write_bytes(WHOLE["png"])
    (archive / "notes.txt").unlink()
    aside = LeftAside()
    extended, added = extend(plan, list_images(str(archive), aside=aside), aside=aside)
    assert (added, extended.aside) == (1, {".mov": 2, "without extension": 1})


def test_a_dry_run_tells_it(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restore", str(archive), str(tmp_path / "out"), "--dry-run", "--engine", "identity"]) == 0
    assert "4 files left aside, not images by name: 2 .mov" in " ".join(capsys.readouterr().out.split())


def test_very_many_kinds_are_others() -> None:
    aside = LeftAside()
    for number in range(500):
        aside.add(f"file.{number}")
    assert len(aside.counted) <= 101
    assert aside.counted.total() == 500


def test_names_of_leftovers() -> None:
    assert all(is_leftover(key) and not is_image_name(key) for key in LEFTOVERS)
    assert not is_leftover("my@eaDir/a.png")
    assert is_image_name("holiday/.hidden.png")
