"""What `mimo train` can be told on the command line and in YAML, and what it refuses."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mimo_core.cli.arguments import parse
from mimo_core.errors import UsageError
from mimo_core.hardware import Hardware
from mimo_core.training.start import choose_means
from mimo_core.training.train_config import PairData, PhotoData, TrainConfig, VideoData

LONG = ["out", "--minutes", "1"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("pairs/blur", "pairs/sharp", "photos"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "notes.txt").touch()
    return tmp_path


def parsed(*argv: str) -> TrainConfig:
    return parse(TrainConfig, argv, "mimo train")


def test_data_are_told_by_what_is_there(data: Path) -> None:
    paths = [str(data / name) for name in ("pairs", "photos", "clip.mp4")]
    config = parsed(*LONG, *(part for path in paths for part in ("--data", path)))
    assert config.data == (
        PairData(folder=data / "pairs"),
        PhotoData(folders=(data / "photos",)),
        VideoData(path=data / "clip.mp4"),
    )


def test_kinds_can_be_said_and_pairs_counted_off(data: Path) -> None:
    config = parsed(
        *(*LONG, "--data", f"pairs:{data / 'pairs'}[:28]", "--data", f"video:{data / 'photos'}"),
        *("--validation", f"{data / 'pairs'}[28:38]"),
    )
    assert config.data == (PairData(folder=data / "pairs", last=28), VideoData(path=data / "photos"))
    held_out = config.validation[0]
    assert (held_out.name, held_out.first, held_out.last) == ("pairs", 28, 38)


def test_the_file_and_the_command_line_say_the_same(data: Path) -> None:
    file = data / "recipe.yaml"
    file.write_text(
        f"data: [{{kind: pairs, folder: {data / 'pairs'}, min_scale: 0.5}}]\n"
        "learning-rate: 1e-3\nsteps: 7\nmodel: mimo-unet\n"
    )
    config = parsed("out", "--config", str(file), "--model", "mimo-unet-w8-r2")
    assert (config.learning_rate, config.steps, config.model) == (1e-3, 7, "mimo-unet-w8-r2")
    assert config.data == (PairData(folder=data / "pairs", min_scale=0.5),)
    again = TrainConfig.model_validate_json(config.model_dump_json())
    assert again == config


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["out", "--data", "pairs"], "either --minutes or --steps"),
        ([*LONG, "--steps", "3", "--data", "pairs"], "either --minutes or --steps"),
        (LONG, "no training data given"),
        ([*LONG, "--data", "nothing"], "--data: nothing does not exist"),
        ([*LONG, "--data", "notes.txt"], "neither a folder nor a video"),
        ([*LONG, "--data", "photos[1:2]"], "only pairs can be counted off"),
        ([*LONG, "--data", "pairs", "--crop", "50"], "multiples of 4"),
        ([*LONG, "--data", "pairs", "--model", "resnet"], "--model: expected mimo-unet"),
        ([*LONG, "--data", "pairs", "--device", "gpu"], "--device: expected auto, cpu, cuda"),
        ([*LONG, "--data", "pairs", "--validation", "pairs[:1]", "--validation", "pairs[1:]"], "the same name"),
        (["--minutes", "1", "--data", "pairs"], "OUTPUT is missing"),
    ],
)
def test_wrong_use_is_named(data: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], message: str) -> None:
    monkeypatch.chdir(data)
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        parsed(*argv)


def test_a_folder_without_images_is_named(data: Path) -> None:
    from mimo_core.training.loader import open_mixture

    assert cv2.imwrite(str(data / "photos" / "soft.png"), np.full((300, 300, 3), 128, np.uint8))
    for name, message in (("pairs", "no image pairs"), ("photos", "none of 1 photographs")):
        with pytest.raises(UsageError, match=message):
            open_mixture(parsed(*LONG, "--data", str(data / name)).data, seed=0)


MACHINES = {
    "cpu": Hardware(8, 1 << 34, cpu_bf16=True, cuda=False, cuda_bf16=False, cuda_memory=0),
    "old": Hardware(8, 1 << 34, cpu_bf16=False, cuda=False, cuda_bf16=False, cuda_memory=0),
    "gpu": Hardware(16, 1 << 34, cpu_bf16=True, cuda=True, cuda_bf16=True, cuda_memory=1 << 36),
}


def test_the_machine_decides_what_is_left_to_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parsed(*LONG, "--data", str(data / "pairs"))
    cpu, old, gpu = (choose_means(config, MACHINES[name]) for name in ("cpu", "old", "gpu"))
    assert (cpu.device, cpu.precision, cpu.threads, cpu.loaders) == ("cpu", "bf16", 8, 1)
    assert (old.device, old.precision) == ("cpu", "fp32")
    assert (gpu.device, gpu.precision, gpu.threads, gpu.loaders) == ("cuda", "bf16", None, 15)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert choose_means(config, MACHINES["cpu"]).threads == 2
    with pytest.raises(UsageError, match="no CUDA device"):
        choose_means(parsed(*LONG, "--data", str(data / "pairs"), "--device", "cuda"), MACHINES["cpu"])
