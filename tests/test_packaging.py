"""The wheel holds all that the program needs where there is no checkout, and so does one built from the sdist."""

import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
import yaml

from mimo_core.version import __version__

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


def test_metadata_says_what_an_index_shows(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = HeaderParser().parsestr(wheel.read(name).decode())
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    pythons = {one.rpartition(" ")[2] for one in metadata.get_all("Classifier", []) if ":: Python :: 3." in one}
    assert pythons == {"3.10", "3.11", "3.12", "3.13"}
    assert metadata["Requires-Python"] == "<3.14,>=3.10"
    assert "mimo_core/py.typed" in wheel.namelist()


def test_the_citation_and_the_changes_name_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", ["defect", "wish"])
def test_issue_forms_ask_for_something(form: str) -> None:
    document = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{form}.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(document)
    assert any(field.get("validations", {}).get("required") for field in document["body"])


@pytest.mark.slow
def test_what_the_sdist_builds_restores_a_photograph_away_from_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build"]
    subprocess.run([*build, "-t", "sdist", "-d", str(tmp_path)], cwd=ROOT, check=True, capture_output=True, timeout=120)
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    subprocess.run(
        [*build, "-t", "wheel", "-d", str(tmp_path)], cwd=source, check=True, capture_output=True, timeout=120
    )
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, str(wheel)], check=True, timeout=120)
    # What the program needs is taken from the environment of the tests, after the environment's own packages.
    (packages,) = (tmp_path / "env/lib").glob("python*/site-packages")
    (packages / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    told = subprocess.run(
        [str(tmp_path / "env/bin/mimo"), "--version"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.stdout == f"mimo {__version__}\n"
    photograph = ROOT / "samples/blurred/window.png"
    code = (
        "import mimo_core\n"
        f"assert mimo_core.__file__.startswith({str(tmp_path)!r}), mimo_core.__file__\n"
        f"mimo_core.restore_file({str(photograph)!r}, 'restored.png')"
    )
    subprocess.run([str(python), "-c", code], cwd=tmp_path, check=True, timeout=300)
    assert (tmp_path / "restored.png").stat().st_size > 10_000


def test_only_one_name_is_installed(wheel: zipfile.ZipFile) -> None:
    """Names as common as `jobs` and `cluster` would take the place of other people's modules."""
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name} == {"mimo_core"}
