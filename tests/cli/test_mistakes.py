"""Mistakes on the command line: answered with exit code 2 before anything that takes long is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fsspec.config import conf

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import USAGE, main
from mimo_core.cli.mistakes import refuse_mistakes
from mimo_core.errors import UsageError
from mimo_core.models.metadata import INT8, read_metadata
from mimo_core.runs.config import RestoreConfig

ROOT = Path(__file__).resolve().parents[2]
# Answers every command line of standard input, and tells in the end what was imported.
ANSWER = """
import contextlib, io, json, sys
from mimo_core.cli.main import main
for line in sys.stdin:
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        code = main(json.loads(line))
    print(json.dumps([code, told.getvalue()]))
print(json.dumps(sorted({"torch", "ray", "openvino", "pyarrow", "cv2", "s3fs"} & set(sys.modules))))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / "in" / name).write_bytes(b"1")
    (tmp_path / "full.txt").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere/at/all")
    header = json.dumps({"__metadata__": {"variant": "mimo-unet"}}).encode()
    (tmp_path / "plain.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return tmp_path


CASES = [
    (["in", "full.txt"], "full.txt is a file: name a folder"),
    (["in", "full.txt/out"], "full.txt/out lies below"),
    (["in", "link"], "leads nowhere; choose another one"),
    (["in", "/proc/nope/out"], "OUTPUT cannot be /proc/nope/out: no such file or directory"),
    (["in", "o" * 300], "file name too long"),
    (["absent.csv", "out"], "there is no list at absent.csv"),
    (["absent", "out"], "there is nothing at absent"),
    (["in", "out", "--reference", "absent"], "--reference absent is no folder"),
    (["in/a.png", "in/b.png"], "in/b.png is a file: name a folder; was the glob quoted?"),
    (["in/a.png", "in/b.png", "in/c.png", "out"], "2 arguments more: in/c.png out; was the glob quoted?"),
    (["in", "out", "--precison", "fp32"], "no option is named --precison; did you mean --precision?"),
    (["in", "out", "--xyzzy"], "no option is named --xyzzy; --help lists them"),
    (
        ["in", "out", "--precision", "int8"],
        "mimo-unet-lite is not prepared for it; make weights that are prepared with `mimo ",
    ),
    (["in", "out", "--precision", "int8", "--weights", "plain.safetensors"], "plain.safetensors is not prepared"),
    (["s3://archive/2019", "out"], "there are no credentials for s3://archive/2019: set AWS_ACCESS_KEY_ID"),
    (["in", "s3://archive/2019"], "there are no credentials for s3://archive/2019"),
    (["in", "hf://datasets/box"], "OUTPUT hf://datasets/box: a run cannot be kept there"),
    (["in", "sftp://me@host/out"], "OUTPUT sftp://host/out: a run cannot be kept there"),
]


def test_mistakes_are_answered_before_anything_large_is_imported(place: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_", "FSSPEC"))}
    environment |= {"AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(ROOT)}
    environment |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    cases = list(CASES)
    if not [path for path in Path("/dev").iterdir() if path.name.startswith(("nvidia", "dxg", "nv", "kfd"))]:
        cases.append((["in", "out", "--device", "cuda"], "--device cuda: this machine has no GPU"))
    lines = "".join(json.dumps(["restore", *arguments]) + "\n" for arguments, _ in cases)
    before = sorted(place.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", ANSWER], input=lines, capture_output=True, text=True, cwd=place, env=environment
    )
    assert done.returncode == 0, done.stderr
    *answers, imported = map(json.loads, done.stdout.splitlines())
    for (arguments, expected), (code, told) in zip(cases, answers, strict=True):
        assert expected in told, arguments
        assert told.count("\n") == 1, "one line"
        assert code == USAGE, arguments
    assert imported == []
    assert sorted(place.rglob("*")) == before, "nothing is left behind"


def test_a_run_whose_source_is_gone_may_still_be_asked_for(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    (place / "out").mkdir()
    (place / "out" / "run.json").write_text("{}")
    assert main(["restore", "absent", "out", "--dry-run"]) == USAGE
    assert "is not a run of this program" in capsys.readouterr().err
    assert main(["restore", "absent", "out", "--dry-run", "--mode", "overwrite"]) == USAGE
    assert "there is nothing at absent" in capsys.readouterr().err


def test_arguments_and_options_come_in_any_order() -> None:
    for argv in (["in", "--tile", "auto", "out"], ["--tile", "auto", "in", "out"], ["in", "out", "--tile", "auto"]):
        config = parse(RestoreConfig, argv, "mimo restore")
        assert (config.source, config.output, config.tile) == ("in", "out", "auto")


def test_what_is_no_safetensors_file_has_no_metadata(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    assert read_metadata(file) is None
    for data in (b"", b"\xff" * 16, b"\x02" + b"\0" * 7 + b"[]", b"\x02" + b"\0" * 7 + b"{"):
        file.write_bytes(data)
        assert read_metadata(file) is None
    file.write_bytes(b"\x02" + b"\0" * 7 + b"{}")
    assert read_metadata(file) == {}
    assert INT8 == "quantisation", "files that exist say so"


@pytest.mark.parametrize("settings", [{"anon": True}, {"key": "k", "secret": "s"}, {"profile": "archive"}])
def test_settings_of_fsspec_open_buckets_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    config = RestoreConfig(source="s3://archive/2019", output=str(tmp_path / "out"))
    monkeypatch.setitem(conf, "s3", {})
    with pytest.raises(UsageError, match="there are no credentials for s3://archive/2019"):
        refuse_mistakes(config)
    monkeypatch.setitem(conf, "s3", settings)
    refuse_mistakes(config)
