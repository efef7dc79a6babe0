"""Workers of a Ray cluster train as one process does, through kills and stops; what cannot work is refused."""

import csv
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import ray
import torch
from fixtures_clusters import Cluster, blind_to, cluster
from fixtures_runs import Run, Runs
from processes import marked, wait_until

from mimo_core.distributed.training import choose_worker_group, train
from mimo_core.errors import UsageError
from mimo_core.training.train_config import PairData, TrainConfig
from mimo_core.training.trainer import Trainer

pytestmark = pytest.mark.ray

STEPS = 80


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for index in range(4):
        small = np.random.default_rng(index).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        sharp = np.asarray(cv2.resize(small, (96, 96), interpolation=cv2.INTER_NEAREST))
        for name, image in (("sharp", sharp), ("blur", cv2.blur(sharp, (5, 1)))):
            (folder / name).mkdir(exist_ok=True)
            assert cv2.imwrite(str(folder / name / f"{index}.png"), image)
    return folder


def config_of(pairs: Path, output: Path, **changes: object) -> TrainConfig:
    values: dict[str, object] = {
        "output": output,
        "model": "mimo-unet-w8-r1",
        "data": (PairData(folder=pairs),),
        "crop": 32,
        "batch": 2,
        "steps": STEPS,
        "precision": "fp32",
        "log_every": 1,
    }
    return TrainConfig.model_validate(values | changes)


@pytest.fixture(scope="module")
def alone(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of one process."""
    folder = tmp_path_factory.mktemp("alone")
    threads = torch.get_num_threads()
    Trainer(config_of(pairs, folder, threads=1)).run(lambda _: None)
    torch.set_num_threads(threads)
    return losses(folder)


def losses(output: Path) -> list[float]:
    with (output / "log.csv").open() as file:
        rows = {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file)}
    assert list(rows) == list(range(1, len(rows) + 1))
    return list(rows.values())


def lines(output: Path) -> int:
    """How many steps the log tells of."""
    log = output / "log.csv"
    return log.read_text().count("\n") - 1 if log.exists() else 0


def start(runs: Runs, pairs: Path, output: Path, *options: object, on: Cluster | None = None) -> Run:
    """Start the command that trains as `config_of` says, with two workers."""
    file = runs.folder / "config.yaml"
    file.write_text(config_of(pairs, output).model_dump_json(exclude={"output"}))
    return runs.start(output, "--config", file, "--workers", 2, *options, on=on, job="train")


def workers_of(run: Run) -> list[int]:
    return sorted(pid for pid, command in marked(run.mark).items() if command.startswith("ray::RayTrainWorker"))


def assert_tidy(output: Path, text: str) -> None:
    """Nothing of Ray's is left or has been said."""
    assert not [path.name for path in output.iterdir() if path.name.startswith(".")]
    assert not [line for line in text.splitlines() if "Traceback" in line or "pid=" in line or "ray.train" in line]


@pytest.mark.slow
def test_a_killed_worker_and_a_stop_leave_the_curve_of_one_process(
    runs: Runs, tmp_path: Path, pairs: Path, alone: list[float]
) -> None:
    output = tmp_path / "out"
    # Less than a step: every step has its checkpoint.
    often = ("--checkpoint-minutes", 1e-4)
    first = start(runs, pairs, output, *often)
    first.until(lambda: lines(output) >= 5, "five steps")
    os.kill(workers_of(first)[-1], signal.SIGKILL)
    first.says("died; all workers start again from the last checkpoint (1 of 3)")
    seen = lines(output)
    first.until(lambda: lines(output) > seen, "steps after the restart")
    # As a terminal does at Ctrl-C: every process of the command gets it.
    os.killpg(first.process.pid, signal.SIGINT)
    stopped = first.end()
    assert stopped.code == 130, stopped.text
    assert "goes on exactly from step" in stopped.text
    assert "stopped; the same command goes on" in stopped.text
    assert 5 < lines(output) < STEPS
    wait_until(lambda: not marked(first.mark), "every process of the command ends", within=30)
    at_stop = lines(output)
    second = start(runs, pairs, output, *often).end()
    assert second.code == 0, second.text
    assert f"goes on exactly from step {at_stop}," in second.text
    assert losses(output) == pytest.approx(alone, rel=1e-2)
    for text in (stopped.text, second.text):
        assert_tidy(output, text)


@pytest.mark.slow
def test_an_error_of_the_users_is_told_and_not_tried_again(runs: Runs, tmp_path: Path, pairs: Path) -> None:
    output = tmp_path / "out"
    finished = start(runs, tmp_path, output).end()
    assert finished.code == 2, finished.text
    assert f"mimo train: {tmp_path}" in finished.text
    assert "start again" not in finished.text
    assert_tidy(output, finished.text)


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_starts(tmp_path: Path, pairs: Path) -> None:
    with pytest.raises(UsageError, match="a batch of 2 cannot be shared evenly by 3 workers"):
        train(config_of(pairs, tmp_path / "out", workers=3), print, lambda: False)
    assert not ray.is_initialized()
    assert not (tmp_path / "out").exists()


@pytest.fixture
def four_gpus() -> Iterator[None]:
    """A Ray with three CPUs and four GPUs, of which only the numbers are real."""
    ray.init(address="local", num_cpus=3, num_gpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_workers_share_what_the_cluster_has(four_gpus: None, tmp_path: Path, pairs: Path) -> None:
    def group(**changes: object) -> str:
        return str(choose_worker_group(config_of(pairs, tmp_path, **changes)))

    assert group(batch=16) == "4 workers, 1 GPU each"
    assert group(batch=6) == "3 workers, 1 GPU each"
    assert group(batch=4, device="cuda", workers=2, threads=1) == "2 workers, 1 CPU and 1 GPU each"
    assert group(device="cpu") == "1 worker, 3 CPU"
    assert group(device="cpu", workers=2) == "2 workers, 1 CPU each"
    assert group(device="cpu", threads=2) == "1 worker, 2 CPU"
    with pytest.raises(UsageError, match=r"5 workers with 1 GPU each cannot .* the cluster has 4 GPU \(4 free\)"):
        group(batch=5, workers=5)
    with pytest.raises(
        UsageError, match=r"2 workers with 2 CPU each .* room for 1; ask for fewer --workers or --threads"
    ):
        group(device="cpu", workers=2, threads=2)
    with pytest.raises(UsageError, match=r"4 workers with 1 CPU each .* room for 3; ask for fewer --workers$"):
        group(device="cpu", batch=4, workers=4)


@pytest.mark.slow
def test_workers_that_die_again_and_again_end_the_training(runs: Runs, tmp_path: Path, pairs: Path) -> None:
    output = tmp_path / "out"
    run = start(runs, pairs, output, "--checkpoint-minutes", 1e-4, "--steps", 100_000)
    for number in range(1, 5):
        seen = lines(output)
        run.until(lambda seen=seen: lines(output) > seen, "a step")  # type: ignore[misc]
        os.kill(workers_of(run)[0], signal.SIGKILL)
        if number < 4:
            run.says(f"all workers start again from the last checkpoint ({number} of 3)")
    finished = run.end()
    assert finished.code == 1, finished.text
    assert "mimo train: the training failed 4 times, at last because worker" in finished.text
    assert "died; the same command goes on from the last checkpoint" in finished.text
    assert_tidy(output, finished.text)


@pytest.mark.slow
def test_workers_of_a_lost_node_start_again_when_there_is_room(
    runs: Runs, tmp_path: Path, pairs: Path, alone: list[float]
) -> None:
    output = tmp_path / "out"
    with cluster(cpus=1) as made:
        made.start_node("second", cpus=1)
        run = start(runs, pairs, output, "--checkpoint-minutes", 1e-4, on=made)
        run.until(lambda: lines(output) >= 5, "five steps")
        made.kill_node("second")
        run.says("waiting for room for 2 workers, 1 CPU each: the cluster has 1 CPU")
        made.start_node("third", cpus=1)
        finished = run.end()
    assert finished.code == 0, finished.text
    assert losses(output) == pytest.approx(alone, rel=1e-2)
    assert_tidy(output, finished.text)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a node another view of the files")
@pytest.mark.parametrize("unseen", ["output", "pairs"])
def test_what_a_node_cannot_see_is_refused(runs: Runs, tmp_path: Path, pairs: Path, unseen: str) -> None:
    folders = {name: tmp_path / f"disk of {name}" / name for name in ("output", "pairs")}
    shutil.copytree(pairs, folders["pairs"])
    folders["output"].mkdir(parents=True)
    with cluster(cpus=1) as made:
        made.start_node("blind", cpus=1, prefix=blind_to(folders[unseen].parent))
        finished = start(runs, folders["pairs"], folders["output"], on=made).end()
    assert finished.code == 2, finished.text
    assert f"{folders[unseen]} is not there on 1 of the cluster's nodes" in finished.text
    assert "use a folder that all nodes share" in finished.text
    assert not list(folders["output"].iterdir())
