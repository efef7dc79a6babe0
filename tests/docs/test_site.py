"""The documents make a site on which every link leads somewhere and nothing comes from other servers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there_and_is_reached(site: Path) -> None:
    start = (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / name).is_file()
        assert f'href="{name}"' in start, f"{name} is in no menu"
    assert "Three doors" in start, "the README is the first page"


def test_what_lies_beside_the_documents_is_on_the_site(site: Path) -> None:
    clusters = (site / "clusters.html").read_text(encoding="utf-8")
    assert 'href="project/cluster/index.html"' in clusters
    assert (site / "project/cluster/index.html").is_file()
    assert (site / "project/cluster/kuberay/rayjob.yaml").is_file()
    assert not list(site.rglob("site_hooks*"))


def test_nothing_is_asked_of_other_servers(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        asked = re.findall(r'<(?:script|img|iframe)[^>]+src="(\w+://[^"]+)"', text)
        asked += re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect|icon)"[^>]*href="(\w+://[^"]+)"', text)
        assert not asked, page


def test_commands_are_copied_without_their_prompts(site: Path) -> None:
    tutorial = (site / "tutorials/archive.html").read_text(encoding="utf-8")
    code = re.sub(r"<[^>]+>", "", tutorial)
    assert "\ncp LICENSE tour/photos/notes.txt" in code
    assert "$ cp" not in code
