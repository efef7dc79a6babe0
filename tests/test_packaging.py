"""The wheel holds all that the program needs where there is no checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


def test_wheel_holds_every_tracked_file_of_the_rooms(wheel: zipfile.ZipFile) -> None:
    command = ["git", "ls-files", "jobs", "cluster", "mimo_core"]
    tracked = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert tracked
    assert set(tracked) <= set(wheel.namelist())


def test_wheel_holds_weights_that_work_at_once(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "mimo_core/shipped/mimo-unet-lite.safetensors" in names
    assert "mimo_core/shipped/mimo-unet-lite.json" in names


def test_wheel_has_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "mimo = jobs.main:cli" in wheel.read(entry_points).decode()
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
    assert not any(name.startswith(("tests/", "samples/")) for name in wheel.namelist())
