"""`mimo doctor`: what this machine has, which places can be read, and what is wrong, with exit codes."""

from dataclasses import replace
from pathlib import Path

import pytest

from mimo_core.cli import doctor
from mimo_core.cli.main import FAILED, OK, main
from mimo_core.hardware import Hardware
from mimo_core.version import __version__


@pytest.fixture(autouse=True)
def sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nothing wrong."""
    monkeypatch.setenv("MIMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_it_says_what_is_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    assert main(["doctor", str(tmp_path)]) == OK
    told = capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in told.splitlines())
    assert f"mimo {__version__}" in lines["program"]
    assert "fp32" in lines["openvino"]
    assert "fp32" in lines["torch"]
    assert lines["cache"].startswith(f"{tmp_path}/cache, 0 B in it")
    assert lines["place"] == f"{tmp_path}: can be read"
    assert told.endswith("nothing is wrong\n")
    assert not (tmp_path / "cache").exists(), "it changes nothing"


@pytest.mark.s3
def test_buckets_are_asked(
    s3_bucket: str, s3_env: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["doctor", f"s3://{s3_bucket}/empty"]) == OK
    assert "nothing is there" in capsys.readouterr().out
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    assert main(["doctor", f"s3://{s3_bucket}/other"]) == FAILED
    told = capsys.readouterr().out
    assert "wrong      s3://" in told
    assert "credentials" in told
    assert "not-the-secret" not in told


def test_what_is_wrong_is_named_with_its_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMO_CACHE", "/proc/nothing")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    unseen = replace(Hardware.here(), cuda=False)
    monkeypatch.setattr(Hardware, "here", lambda: unseen)
    monkeypatch.setattr(doctor, "may_have_cuda", lambda: True)
    assert main(["doctor"]) == FAILED
    told = capsys.readouterr().out
    assert "only 0 B are free where the cache is (/proc/nothing): make room, or name a folder with MIMO_CACHE" in told
    assert "no Ray cluster answers at 127.0.0.1:9" in told
    assert "a GPU is here, and PyTorch" in told
    assert "nothing is wrong" not in told
