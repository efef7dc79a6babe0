"""Checkpoints are whole or named as damaged, come in small files, and start warm without the optimiser."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mimo_core.cli.main import main
from mimo_core.errors import MimoError, UsageError
from mimo_core.training import checkpoints
from mimo_core.training.checkpoints import Checkpoint, Exact
from mimo_core.training.train_config import PairData, TrainConfig
from mimo_core.training.trainer import Trainer


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("blur", "sharp"):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
        for name in "ab":
            image = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
            assert cv2.imwrite(str(tmp_path / "pairs" / folder / f"{name}.png"), image)
    return tmp_path / "pairs"


def config_of(pairs: Path, **changes: object) -> TrainConfig:
    values: dict[str, object] = {
        "output": pairs.parent / "out",
        "model": "mimo-unet-w8-r1",
        "data": (PairData(folder=pairs),),
        "crop": 32,
        "batch": 2,
        "steps": 6,
        "precision": "fp32",
        "threads": 1,
        "log_every": 1,
    }
    return TrainConfig.model_validate(values | changes)


def checkpoint_of(step: int, tensors: dict[str, torch.Tensor]) -> Checkpoint:
    return Checkpoint(step, 1.5, {}, {}, tensors, tensors, step, Exact({}, torch.get_rng_state()))


def test_large_weights_come_in_small_files_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SHARD_BYTES", 1 << 20)
    tensors = {f"layer{index}": torch.randn(200, 500) for index in range(9)}
    checkpoints.save(checkpoint_of(3, tensors), tmp_path)
    checkpoints.save(checkpoint_of(4, tensors), tmp_path)
    (folder,) = (tmp_path / "checkpoint").iterdir()
    sizes = [file.stat().st_size for file in folder.glob("*.safetensors")]
    assert len(sizes) == 10
    assert max(sizes) < 1.01 * (1 << 20)
    back = checkpoints.load(tmp_path)
    assert back.step == 4
    assert all(torch.equal(back.network[name], tensor) for name, tensor in tensors.items())
    assert set(back.average) == set(tensors)


@pytest.mark.parametrize("damage", ["missing", "cut", "no state", "format"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    checkpoints.save(checkpoint_of(3, {"layer": torch.zeros(4)}), tmp_path)
    (folder,) = (tmp_path / "checkpoint").iterdir()
    shard = next(folder.glob("average-*"))
    if damage == "missing":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif damage == "no state":
        (folder / "state.json").unlink()
    else:
        (folder / "state.json").write_text('{"format": 1}')
    with pytest.raises(
        UsageError, match=r"not whole: average-|damaged: average-|state\.json cannot be read|of format 2"
    ):
        checkpoints.load(tmp_path)


def test_what_a_killed_save_left_behind_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / "checkpoint" / ".step-abc" / "step-00000001"
    left.mkdir(parents=True)
    assert not checkpoints.exists(tmp_path)
    checkpoints.save(checkpoint_of(3, {"layer": torch.zeros(4)}), tmp_path)
    assert not left.exists()
    assert checkpoints.load(tmp_path).step == 3


def test_a_slim_checkpoint_starts_warm(pairs: Path) -> None:
    config = config_of(pairs)
    Trainer(config).run(lambda _: None, stop_after=3)
    (exact,) = config.output.glob("checkpoint/*/exact.pt")
    exact.unlink()
    said: list[str] = []
    rates: list[float] = []
    trainer = Trainer(config, said.append)
    trainer.run(lambda line: rates.append(line.rate))
    assert "without the optimiser's memory" in said[0]
    assert trainer.step == 6
    assert rates[0] < 0.05 * config.highest_rate


def test_a_training_can_be_prolonged_and_moved(pairs: Path) -> None:
    config = config_of(pairs)
    Trainer(config).run(lambda _: None)
    moved = config.output.rename(pairs.parent / "elsewhere")
    longer = Trainer(config_of(pairs, output=moved, steps=8))
    assert not longer.finished
    longer.run(lambda _: None)
    assert (longer.step, longer.finished) == (8, True)


def test_a_diverged_training_stops_and_keeps_the_weights_from_before(pairs: Path) -> None:
    config = config_of(pairs, steps=200, learning_rate=1e30, optimizer="adam", warmup=0.0, clip_norm=None)
    with pytest.raises(MimoError, match=r"the training diverged.*--learning-rate"):
        Trainer(config).run(lambda _: None)
    assert not checkpoints.exists(config.output)


def test_an_interrupted_training_leaves_a_checkpoint_and_goes_on(
    pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = pairs.parent / "out"
    options = ["--data", str(pairs), "--model", "mimo-unet-w8-r1", "--crop", "32", "--batch", "2", "--log-every", "1"]
    arguments = ["train", str(output), *options, "--threads", "1", "--steps"]
    command = [sys.executable, "-m", "mimo_core.cli.main", *arguments, "100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    log = output / "log.csv"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") > 3):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "goes on from the checkpoint" in said
    step = checkpoints.load(output).step
    capsys.readouterr()
    assert main([*arguments, str(step + 2)]) == 0
    said = capsys.readouterr().err
    assert f"goes on exactly from step {step}," in said
    assert "--weights" in said
    assert checkpoints.load(output).step == step + 2
