"""`mimo bench train` compares the two halves of a training and leaves the training's folder alone."""

from pathlib import Path

import pytest

from mimo_core.cli import bench
from mimo_core.cli.bench import train as bench_train


def test_both_halves_are_measured_at_every_size_of_crops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_train, "_SECONDS", 0.01)
    monkeypatch.setenv("COLUMNS", "200")
    samples = Path(__file__).resolve().parents[2] / "samples" / "sharp"
    options = ["--data", f"photos:{samples}", "--model", "mimo-unet-w8-r1", "--steps", "5", "--batch", "2"]
    options += ["--crop", "32", "--final-crop", "48", "--threads", "1", "--loaders", "2"]
    assert bench.main(["train", str(tmp_path / "out"), *options]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [(row[0], row[-3]) for row in rows] == [
        *(("network:", "32"), ("preparing", "32"), ("preparing", "32")),
        *(("network:", "48"), ("preparing", "48"), ("preparing", "48")),
    ]
    assert all(float(row[-2]) > 0.0 for row in rows)
    assert not (tmp_path / "out").exists()
