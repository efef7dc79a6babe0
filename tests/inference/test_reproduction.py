"""Restoring a sample of a run again: the same bytes come out, and what has changed is named."""

import json
from pathlib import Path

import cv2
import pytest
from finished import finish, make_pairs

from mimo_core.cli.main import main

KEYS = [f"{number}.png" for number in range(5)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("again")
    make_pairs(folder, KEYS)
    (folder / "blurred" / "broken.png").write_bytes(b"no image")
    finish(folder, folder / "run", mark=True)
    return folder / "run"


def test_a_sample_comes_out_with_the_same_bytes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert main(["verify", str(run), "--reproduce", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "3 images restored again, 3 with the same bytes"
    # More than there are: all that were restored, and nothing of the run is touched.
    assert main(["verify", str(run), "--reproduce", "100", "--seed", "7"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "5 images restored again, 5 with the same bytes"
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_what_comes_out_otherwise_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_pairs(tmp_path, KEYS[:3])
    finish(tmp_path, tmp_path / "run")
    source = tmp_path / "blurred" / KEYS[0]
    assert cv2.imwrite(str(source), cv2.imread(str(source))[::-1])
    (tmp_path / "blurred" / KEYS[1]).unlink()
    # As another program would have written it, with records to match.
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    manifest["recipe"]["strength"] = 0.5
    (tmp_path / "run" / "run.json").write_text(json.dumps(manifest))
    assert main(["verify", str(tmp_path / "run"), "--reproduce", "9"]) == 1
    told = capsys.readouterr().out
    assert f"{KEYS[0]}: cannot be restored again: changed: " in told
    assert f"{KEYS[1]}: cannot be restored again: not_found: " in told
    assert f"{KEYS[2]}: comes out otherwise when it is restored again: by up to " in told
    assert told.splitlines()[-1] == "3 images restored again, 0 with the same bytes"


def test_what_cannot_be_done_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_pairs(tmp_path, KEYS[:1])
    finish(tmp_path, tmp_path / "run", weights=None, saves_images=False)
    assert main(["verify", str(tmp_path / "run"), "--reproduce", "1"]) == 2
    assert "keeps no outputs" in capsys.readouterr().err
    finish(tmp_path, tmp_path / "other")
    manifest = json.loads((tmp_path / "other" / "run.json").read_text())
    manifest["recipe"]["weights_sha256"] = "0" * 64
    (tmp_path / "other" / "run.json").write_text(json.dumps(manifest))
    assert main(["verify", str(tmp_path / "other"), "--reproduce", "1"]) == 2
    assert "are not those of the run any more" in capsys.readouterr().err
