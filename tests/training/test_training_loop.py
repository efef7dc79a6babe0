"""Training repeats itself, resumes exactly, is followed in its log, and teaches the network something."""

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mimo_core.cli.main import main
from mimo_core.errors import UsageError
from mimo_core.models.network import MimoUNet, arrays_of
from mimo_core.models.weights import ModelSpec, load_weights, save_weights
from mimo_core.training.loader import Loader, open_mixture
from mimo_core.training.losses import decibel_loss, multi_scale_loss, pyramid
from mimo_core.training.optimizer import MuonWithAdam, orthogonalise
from mimo_core.training.schedule import crop_of, learning_rate
from mimo_core.training.train_config import PairData, PhotoData, TrainConfig, ValidationData
from mimo_core.training.trainer import Progress, Trainer
from mimo_core.training.validation import restore


def blobs(seed: int, side: int = 96) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_NEAREST))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for index in range(6):
        sharp = blobs(index)
        for name, image in (("sharp", sharp), ("blur", cv2.blur(sharp, (5, 1)))):
            (folder / name).mkdir(exist_ok=True)
            assert cv2.imwrite(str(folder / name / f"{index}.png"), image)
    return folder


def config_of(pairs: Path, **changes: object) -> TrainConfig:
    # Everything but the subject of these tests is fixed and plain.
    values: dict[str, object] = {
        "optimizer": "adam",
        "schedule": "cosine",
        "clip_norm": None,
        "ema": 0.999,
        "output": pairs / "out",
        "model": "mimo-unet-w8-r1",
        "data": (PairData(folder=pairs, last=4),),
        "crop": 32,
        "batch": 2,
        "steps": 12,
        "learning_rate": 2e-3,
        "precision": "fp32",
        "log_every": 1,
        "threads": 1,
    }
    return TrainConfig.model_validate(values | changes)


def curve(config: TrainConfig, folder: Path, **arguments: int) -> list[float]:
    losses: list[float] = []
    Trainer(config.model_copy(update={"output": folder})).run(lambda line: losses.append(line.loss), **arguments)
    return losses


@pytest.mark.parametrize(("optimizer", "precision"), [("adam", "fp32"), ("muon", "bf16")])
def test_a_killed_and_resumed_training_gives_the_same_curve_and_weights(
    tmp_path: Path, pairs: Path, optimizer: str, precision: str
) -> None:
    config = config_of(pairs, optimizer=optimizer, precision=precision, corrected=0.5 if optimizer == "muon" else 0.0)
    whole = curve(config, tmp_path / "whole")
    again = curve(config, tmp_path / "again")
    parts = [*curve(config, tmp_path / "parts", stop_after=5), *curve(config, tmp_path / "parts")]
    assert whole == again == parts
    first, second = (load_weights(str(tmp_path / name / "weights.safetensors")) for name in ("whole", "parts"))
    assert first.sha256 == second.sha256
    with (tmp_path / "parts" / "log.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == list(range(1, 13))


def test_training_gains_on_what_it_never_saw(tmp_path: Path) -> None:
    # Faded contrast instead of blur: this small network learns it in seconds.
    for index in range(6):
        for name, image in (("sharp", blobs(index)), ("blur", blobs(index) // 2 + 64)):
            (tmp_path / name).mkdir(exist_ok=True)
            assert cv2.imwrite(str(tmp_path / name / f"{index}.png"), image)
    held_out = ValidationData(name="held_out", folder=tmp_path, first=4)
    config = config_of(
        tmp_path,
        output=tmp_path / "run",
        steps=100,
        optimizer="muon",
        batch=4,
        ema=0.9,
        log_every=50,
        precision="fp32",
        validation=(held_out,),
    )
    lines: list[Progress] = []
    scores = Trainer(config).run(lines.append)
    assert scores["held_out"].images == 2
    assert scores["held_out"].gain > 2.0
    assert lines[-1].scores == scores


def test_two_workers_with_the_same_batch_give_the_same_curve(tmp_path: Path, pairs: Path) -> None:
    config = config_of(pairs, steps=6)
    alone = curve(config, tmp_path / "alone")
    file = tmp_path / "config.yaml"
    file.write_text(config.model_dump_json(exclude={"output"}))
    environment = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-m", "jobs.train", str(tmp_path / "two"), "--config", str(file)]
    workers = [subprocess.Popen(command, env=environment | {"RANK": str(rank)}) for rank in (0, 1)]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    with (tmp_path / "two" / "log.csv").open() as log:
        together = [float(row["loss"]) for row in csv.DictReader(log)]
    assert together == pytest.approx(alone, rel=1e-2)


def test_another_configuration_does_not_resume(tmp_path: Path, pairs: Path) -> None:
    curve(config_of(pairs), tmp_path, stop_after=1)
    with pytest.raises(UsageError, match=r"learning_rate was 0.002, now 0.001"):
        Trainer(config_of(pairs, output=tmp_path, learning_rate=1e-3))


def test_training_starts_as_the_identity_and_fine_tuning_from_its_weights(tmp_path: Path, pairs: Path) -> None:
    image = blobs(9, 40)
    fresh = Trainer(config_of(pairs, output=tmp_path / "fresh"))
    assert np.array_equal(restore(fresh.averaged_network(), image), image)
    torch.manual_seed(1)
    initial = arrays_of(MimoUNet(8, 1).state_dict())
    save_weights(tmp_path / "initial.safetensors", ModelSpec(8, 1, "nearest"), initial, half=False)
    config = config_of(pairs, output=tmp_path / "tuned", init=str(tmp_path / "initial.safetensors"), model=None)
    tuned = Trainer(config)
    assert tuned.spec.interpolation == "nearest"
    assert all(np.array_equal(tensor.numpy(), initial[name]) for name, tensor in tuned.network.state_dict().items())
    with pytest.raises(UsageError, match=r"asks for mimo-unet, but .* holds mimo-unet-w8-r1"):
        Trainer(config.model_copy(update={"model": "mimo-unet"}))


def test_samples_depend_on_seed_and_number_alone(pairs: Path) -> None:
    data = (PairData(folder=pairs),)
    mixture = open_mixture(data, seed=3)
    ahead, behind = Loader(mixture, 4, lambda _: 32), Loader(open_mixture(data, seed=3), 4, lambda _: 32, start=2)
    whole = [next(ahead) for _ in range(3)][2]
    halves = [next(Loader(mixture, 4, lambda _: 32, start=2, rank=rank, world=2)) for rank in (0, 1)]
    resumed = next(behind)
    assert torch.equal(whole.blurred, resumed.blurred)
    assert torch.equal(whole.sharp, torch.cat([half.sharp for half in halves]))
    assert whole.blurred.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(next(Loader(open_mixture(data, seed=4), 4, lambda _: 32)).sharp, whole.sharp)
    with pytest.raises(UsageError, match="shared evenly"):
        Loader(mixture, 5, lambda _: 32, world=2)


def test_repeated_crops_come_back_turned_and_survive_a_resume(pairs: Path) -> None:
    data = (PairData(folder=pairs),)
    whole, resumed = (open_mixture(data, seed=3, repeats=2, block=4) for _ in range(2))
    samples = [whole.sample(index, 32).sharp for index in range(16)]
    content = [np.sort(sample, axis=None).tobytes() for sample in samples]
    assert content[0:4] == content[4:8]
    assert content[8:12] == content[12:16]
    assert content[0:4] != content[8:12]
    assert any(not np.array_equal(samples[index], samples[index + 4]) for index in range(4))
    assert np.array_equal(resumed.sample(6, 32).sharp, samples[6])


def test_loss_is_the_papers() -> None:
    torch.manual_seed(0)
    sharp, other = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    assert float(multi_scale_loss(pyramid(sharp), sharp, 0.1)) == 0.0
    expected = 0.0
    for output, target in zip(pyramid(other), pyramid(sharp), strict=True):
        expected += float((output - target).abs().mean())
        spectra = [torch.fft.rfft2(image) for image in (output, target)]
        difference = torch.stack([(spectra[0] - spectra[1]).real, (spectra[0] - spectra[1]).imag])
        expected += 0.1 * float(difference.abs().mean())
    assert float(multi_scale_loss(pyramid(other), sharp, 0.1)) == pytest.approx(expected, rel=1e-4)
    assert float(decibel_loss(pyramid(other), sharp)) > float(decibel_loss(pyramid(sharp), sharp))


def test_rates_rise_decay_and_end(pairs: Path) -> None:
    cosine = config_of(pairs, warmup=0.1, final_rate=1e-6)
    assert learning_rate(cosine, 0.0) < learning_rate(cosine, 0.05) < learning_rate(cosine, 0.1) == 2e-3
    assert learning_rate(cosine, 0.55) == pytest.approx(1e-3, rel=1e-2)
    assert learning_rate(cosine, 1.0) == pytest.approx(1e-6)
    halving = config_of(pairs, schedule="halving", warmup=0.0, halvings=3)
    assert [learning_rate(halving, done) for done in (0.0, 0.3, 0.6, 0.9)] == [2e-3, 1e-3, 5e-4, 2.5e-4]
    growing = config_of(pairs, crop=32, final_crop=64, final_from=0.5)
    assert [crop_of(growing, done) for done in (0.0, 0.49, 0.5, 1.0)] == [32, 32, 64, 64]


@pytest.mark.parametrize(
    "changes",
    [{"minutes": 1.0}, {"steps": None}, {"crop": 34}, {"data": ()}, {"unknown": 1}, {"learning_rate": 0.0}],
)
def test_configurations_that_cannot_work_are_refused(pairs: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"minutes|multiples of 4|no training data|unknown|greater than"):
        config_of(pairs, **changes)


def test_muon_steps_are_orthogonal() -> None:
    torch.manual_seed(0)
    for shape in ((3, 8, 72), (2, 72, 8)):
        singular = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert 0.6 < float(singular.min()) <= float(singular.max()) < 1.3


def test_muon_weights_do_not_grow_without_end() -> None:
    torch.manual_seed(0)
    network = MimoUNet(8, 1)
    optimizer = MuonWithAdam(network, 5e-2)
    weight = network.get_parameter("Encoder.0.layers.0.main.0.main.0.weight")
    push = torch.randn_like(weight)
    for _ in range(300):
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        weight.grad = push.clone()
        optimizer.step()
    assert float(torch.linalg.matrix_norm(weight.detach().reshape(8, -1), 2)) < 2.6


def test_the_command_tells_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("{data: [{kind: pairs, folder: none}], steps: 1, colour: red}")
    assert main(["train", str(tmp_path / "out"), "--config", str(file)]) == 2
    assert "colour" in capsys.readouterr().err


def test_photographs_alone_suffice(tmp_path: Path, shared_data: Path) -> None:
    data = PhotoData(folders=(shared_data / "photos" / "python3-skimage",), exclude=("motorcycle_right.png",))
    config = TrainConfig(output=tmp_path, model="mimo-unet-w8-r1", data=(data,), crop=32, batch=2, steps=2, threads=1)
    losses = curve(config, tmp_path)
    assert len(losses) <= 2
    assert all(np.isfinite(losses))


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
