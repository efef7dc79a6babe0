"""The commands of the documents, and the Python of docs/analysing.md and docs/python.md, work as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import cv2
import pytest
from finished import photograph

import mimo_core
from mimo_core.cli.arguments import parse
from mimo_core.cli.main import JOBS
from mimo_core.runs.config import RestoreConfig
from mimo_core.runs.record import Record
from mimo_core.runs.records import write_part
from mimo_core.storage import Store

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M)


def commands() -> list[str]:
    lines = [line for page in PAGES for block in blocks(page, "console") for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


ONE_LINERS = blocks(ROOT / "docs" / "analysing.md", "python")


@pytest.fixture
def run_named_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `restored` with the records of two images in two parts, as the current directory's."""
    store = Store(str(tmp_path / "restored"))
    moment = datetime.now(timezone.utc)
    good = Record(
        "a.png", "/in/a.png", "restored", output="images/a.png", input_psnr=20.0, psnr=22.5, finished_at=moment
    )
    bad = Record("b.png", "/in/b.png", "failed", error_kind="empty", error="the file is empty", finished_at=moment)
    write_part(store, 0, [good])
    write_part(store, 1, [bad])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_one_liner(code: str, folder: Path) -> str:
    lines = code.strip().splitlines()
    show = f"result = {lines[-1]}\nif result is not None: print(result)"
    script = "\n".join([*lines[:-1], show])
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        ("pandas", ["restored", "failed", "empty"]),
        ("polars", ["22.5", "20.0"]),
        ("duckdb", ["b.png", "the file is empty"]),
    ],
)
def test_one_liner(library: str, expected: list[str], run_named_restored: Path) -> None:
    (code,) = [code for code in ONE_LINERS if f"import {library}" in code]
    shown = run_one_liner(code, run_named_restored)
    assert all(text in shown for text in expected), shown


def test_all_one_liners_are_tested() -> None:
    assert len(ONE_LINERS) == 3


def test_python_page_runs_from_top_to_bottom(run_named_restored: Path) -> None:
    folder = run_named_restored
    (folder / "blurred").mkdir()
    for side, name in (("blurred", "photo.jpg"), ("sharp", "sharp.png"), ("blurred", "blurred/a.png")):
        piece = photograph(side)[100:260, 60:280]
        assert cv2.imwrite(str(folder / name), piece, [cv2.IMWRITE_JPEG_QUALITY, 95])
    page = blocks(ROOT / "docs" / "python.md", "python")
    assert len(page) == 6
    script = "\n".join(page)
    # The program of this checkout, which need not be the one that is installed.
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, env=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    before, after = re.findall(r"'psnr': ([\d.]+)", done.stdout)
    assert float(after) > float(before)
    assert "mimo-unet-lite" in done.stdout
    assert "not_found" in done.stdout
    assert "['b.png']" in done.stdout
    assert (folder / "restored.png").is_file()
    assert (folder / "sharper" / "a.png").is_file()


def test_python_page_names_every_option() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in mimo_core.RestorerOptions.__annotations__)


def test_commands_are_accepted() -> None:
    """Each `mimo` command of the documents names a job that is there and options that it takes."""
    seen = 0
    for command in commands():
        words = shlex.split(command, comments=True)
        while words and "=" in words[0]:
            words = words[1:]
        if "jobs.restore" in words:
            words = ["mimo", "restore", *words[words.index("jobs.restore") + 1 :]]
        if not words or Path(words[0]).name != "mimo":
            continue
        seen += 1
        assert words[1] in JOBS, command
        if words[1] == "restore":
            parse(RestoreConfig, words[2:], "mimo restore")
    assert seen >= 8


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_dev_script_has_the_commands() -> None:
    shown = subprocess.run([sys.executable, "dev.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0
    for command in ("demo", "test"):
        assert f"python3 dev.py {command}" in shown.stdout
        assert f"$ python3 dev.py {command}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
