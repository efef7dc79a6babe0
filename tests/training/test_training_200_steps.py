"""Two hundred float32 steps on real photographs: the same curve every time, which falls, also after a kill."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEPS = 200
# The paper's recipe in small: Adam, its loss, torch's own start, flips; a real network on real photographs.
OPTIONS = (
    *("--data", "photos:samples/sharp", "--model", "mimo-unet-w16-r1", "--steps", str(STEPS), "--crop", "32"),
    *("--batch", "4", "--optimizer", "adam", "--learning-rate", "4e-4", "--schedule", "halving", "--clip-norm", "1"),
    *("--no-zero-start", "--precision", "fp32", "--log-every", "1", "--checkpoint-minutes", "0.05", "--seed", "7"),
)

pytestmark = pytest.mark.slow


def start(output: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jobs.train", str(output), *OPTIONS, *more]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def train(output: Path, *more: str) -> list[float]:
    process = start(output, *more)
    try:
        _, said = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate(timeout=60)
        pytest.fail(f"no end within 400 s: {said}")
    assert process.returncode == 0, said
    return losses(output)


def losses(output: Path) -> list[float]:
    with (output / "log.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def curve(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return train(tmp_path_factory.mktemp("whole") / "out", "--threads", "1")


def test_the_curve_falls(curve: list[float]) -> None:
    assert len(curve) == STEPS
    assert sum(curve[-20:]) < 0.8 * sum(curve[:20])


def test_the_same_seed_gives_the_same_curve(curve: list[float], tmp_path: Path) -> None:
    assert train(tmp_path / "out", "--threads", "1") == curve


def test_killed_and_resumed_it_gives_that_curve_too(curve: list[float], tmp_path: Path) -> None:
    output = tmp_path / "out"
    kills = 0
    for target in (30, 90, 150):
        process = start(output, "--threads", "1")
        deadline = time.monotonic() + 600
        while process.poll() is None and not (
            (output / "log.csv").exists() and len(losses(output)) >= target and any(output.glob("checkpoint/step-*"))
        ):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 2
    assert train(output, "--threads", "1") == curve


@pytest.mark.ray
def test_two_ray_workers_give_it_to_one_percent(curve: list[float], tmp_path: Path) -> None:
    assert train(tmp_path / "out", "--workers", "2", "--threads", "1") == pytest.approx(curve, rel=1e-2)
