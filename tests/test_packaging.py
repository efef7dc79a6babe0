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


def test_wheel_holds_every_tracked_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    command = ["git", "ls-files", "mimo_core"]
    tracked = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert tracked
    assert set(tracked) <= set(wheel.namelist())


def test_wheel_holds_weights_that_work_at_once(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "mimo_core/models/shipped/mimo-unet-lite.safetensors" in names
    assert "mimo_core/models/shipped/mimo-unet-lite.json" in names


def test_wheel_has_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "mimo = mimo_core.cli.main:cli" in wheel.read(entry_points).decode()
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_only_one_name_is_installed(wheel: zipfile.ZipFile) -> None:
    """Names as common as `jobs` and `cluster` would take the place of other people's modules."""
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name} == {"mimo_core"}
