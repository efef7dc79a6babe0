"""The tutorials do what they say: their commands are given as they stand, and tell what the pages show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_s3 import S3Server
from processes import ROOT, end_all, shell_environment

TUTORIALS = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r"^```(console|text|yaml)\n(.*?)^```", re.S | re.M)
# What a test cannot do or has done: setting up, an address of the reader's, what needs a builder of images, and a
# cluster for good (tests/cluster/ and tests/cli/test_e2e_submit.py have those).
NOT_HERE = ("python3 dev.py", "source ", "export AWS_", "podman ", "ray job submit", "PYTHON=.venv/bin/python cluster/")


class Reader:
    """Somebody who reads a tutorial in a fresh clone and types what stands there."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        for name in ("samples", "LICENSE", "cluster", "jobs", "recipes"):
            (folder / name).symlink_to(ROOT / name)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = shell_environment(folder.name, {"PATH": path, **environment})
        self.told = ""
        self.typed = 0

    def follow(self, name: str) -> None:
        """Type every command, and compare what it tells with what the page shows after it."""
        for kind, block in BLOCK.findall((TUTORIALS / name).read_text(encoding="utf-8")):
            if kind == "console":
                self.told = ""
                for line in block.splitlines():
                    self.type(line.removeprefix("$ "))
            elif kind == "yaml":
                (self.folder / "tour" / name).with_suffix(".yaml").write_text(block)
            elif self.told:
                told = {alike(line) for line in self.told.splitlines()}
                assert {alike(line) for line in block.splitlines()} <= told, self.told

    def type(self, line: str) -> None:
        """Give one command, and expect the exit code that stands beside it."""
        if line.startswith(NOT_HERE):
            return
        self.typed += 1
        expected = int(found[1]) if (found := re.search(r"# exit code (\d+)", line)) else 0
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        # As the shell of somebody who types tells a signal.
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        assert code == expected, f"{line}\n{done.stdout}"
        self.told += done.stdout


def alike(line: str) -> str:
    """A line without what differs from machine to machine: sizes and blanks."""
    return re.sub(r"[\d.]+ [kM]B", "SIZE", " ".join(line.split()))


@pytest.mark.ray
@pytest.mark.slow
def test_the_archivists_tutorial(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {})
    try:
        reader.follow("archive.md")
    finally:
        end_all(tmp_path.name)
    assert reader.typed == 10
    assert (tmp_path / "tour/restored/report.html").is_file()


@pytest.mark.ray
@pytest.mark.slow
def test_the_researchers_tutorial(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {})
    try:
        reader.follow("compare.md")
    finally:
        end_all(tmp_path.name)
    assert reader.typed == 6
    assert "street.jpg" in reader.told
    assert (tmp_path / "tour/compared/report.html").is_file()


@pytest.mark.ray
@pytest.mark.s3
@pytest.mark.slow
def test_the_engineers_tutorial(tmp_path: Path, s3_env: S3Server) -> None:
    s3_env.client().create_bucket(Bucket="mimo-tour")
    reader = Reader(tmp_path, s3_env.environment())
    try:
        reader.follow("cluster.md")
    finally:
        end_all(tmp_path.name)
    assert reader.typed == 7


def test_every_tutorial_is_followed() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    for page in TUTORIALS.glob("*.md"):
        assert f'follow("{page.name}")' in here
