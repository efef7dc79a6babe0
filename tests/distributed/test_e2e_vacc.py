"""The restore job on the double of VACC cards: torch's records, a die for each worker, faults, too little memory."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import inprocess
import numpy as np
import numpy.typing as npt
import pytest
from archives import check_tree, count_outputs, make_archive, outputs, rows_by_key
from fixtures_clusters import cluster
from fixtures_runs import Runs
from fixtures_vacc import DOUBLES, compiled_folder
from processes import ROOT

from mimo_core.metrics.psnr_ssim import psnr
from mimo_core.models.weights import load_weights

pytestmark = pytest.mark.ray

SIZE = (64, 96)
# What another engine may fill in otherwise; the rest of a record is the same.
OF_THE_ENGINE = {
    *("engine", "precision", "device", "output_sha256", "bytes_out"),
    *("psnr", "ssim", "tiles", "attempt", "suspect"),
}
OF_THE_DAY = {"finished_at", "read_ms", "decode_ms", "infer_ms", "score_ms", "encode_ms", "write_ms"}


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    return cv2.imread(str(path))


def copy_of(source: Path) -> Path:
    """The images once more, to be scored against: no image is its own reference."""
    copy = source.with_name("copy")
    if not copy.exists():
        shutil.copytree(source, copy)
    return copy


def assert_as_torch(output: Path, source: Path, weights: Path, keys: list[str]) -> None:
    """The records that torch gives for the same images and, within float16, the same images."""
    folder = output.with_name("torch")
    options = {"weights": str(weights), "reference": copy_of(source), "interpolation": "bilinear"}
    expected = inprocess.run(source, folder, **options).records
    found = rows_by_key(output)
    assert set(keys) <= set(found)
    for key in keys:
        mine, its = found[key], vars(expected[key])
        differing = {name for name, value in its.items() if name != "features" and mine[name] != value}
        assert differing <= OF_THE_ENGINE | OF_THE_DAY, f"{key}: {mine}, {its}"
        assert mine["status"] == "restored"
        # The measure of a suspect is of its engine's pixels, to a tenth of a level.
        assert (mine["suspect"] is None) == (its["suspect"] is None), (mine["suspect"], its["suspect"])
        assert (mine["engine"], mine["precision"]) == ("vacc", "fp16")
        assert float(str(mine["psnr"])) == pytest.approx(its["psnr"], abs=0.05)
        if key.endswith(".png"):
            assert psnr(pixels(output / str(mine["output"])), pixels(folder / its["output"])) >= 50, key


@pytest.mark.slow
def test_a_run_through_child_processes_is_torchs_and_goes_on_after_a_fault(
    runs: Runs, tmp_path: Path, colourful_weights: Path, vacc_python: str
) -> None:
    source, folder = tmp_path / "in", tmp_path / "compiled"
    keys = make_archive(source, 24, size=SIZE)
    compiled_folder(load_weights(str(colourful_weights)), folder, SIZE)
    output, struck = tmp_path / "vacc", tmp_path / "struck"
    options = ("--reference", copy_of(source), "--overlap", 16, "--shard-size", 6)
    # Opening is the first run of a die.
    faults = {"VACC_DOUBLE_FAULT": f"0:6:{struck}"}
    command = (source, output, *options, "--weights", folder, "--vacc-python", vacc_python, "--workers", "1")
    finished = runs.start(*command, environment=faults).end()
    assert finished.code == 0, finished.text
    assert struck.exists()
    assert "a worker died" in finished.text
    assert "vacc fp16 on VA1 die 0" in finished.text
    # The worker that takes the place of the dead one may get the same die, or another.
    assert re.search(
        r"[12] devices?: 4[01] °C at most, 2\d\.\d W and 90% utilisation on average, 1\.36 GB at most", finished.text
    ), finished.text
    assert_as_torch(output, source, colourful_weights, keys)
    check_tree(output)
    told = json.loads((output / "summary.json").read_text())["last_session"]["telemetry"]
    assert all(one["temperature"] in (40.0, 41.0) and one["memory"] == 1293 << 20 for one in told.values())
    # The model is part of what the run is.
    again = runs.finish(*command[:2], *options, "--vacc-python", vacc_python)
    assert (again.code, "nothing was left to do" in again.text) == (0, True), again.text
    compiled_folder(load_weights(str(colourful_weights)), tmp_path / "other", SIZE, output="image")
    other = runs.finish(source, output, *options, "--weights", tmp_path / "other", "--vacc-python", vacc_python)
    assert other.code == 2
    assert "compiled_sha256: was" in other.text


@pytest.mark.slow
def test_a_die_that_is_broken_is_left_out_and_the_others_finish(
    runs: Runs, tmp_path: Path, colourful_weights: Path
) -> None:
    source, folder = tmp_path / "in", tmp_path / "compiled"
    keys = make_archive(source, 24, size=SIZE)
    compiled_folder(load_weights(str(colourful_weights)), folder, SIZE)
    environment = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(DOUBLES)]),
        "VACC_DOUBLE_CARDS": "1",
        "VACC_DOUBLE_FAULT": f"0:4:{tmp_path / 'struck'}",
        "VACC_DOUBLE_FOR_GOOD": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = (source, tmp_path / "out", "--weights", folder, "--workers", "2", "--shard-size", "4", "--overlap", "16")
    (tmp_path / "struck").touch()
    # Slow enough for both workers to have tried to open their dies.
    finished = runs.start(*command, environment=environment, faults="pause-image:0.5").end()
    assert finished.code == 0, finished.text
    assert re.search(r"a worker on \S+ cannot start: .*; it is left out for 30 s", finished.text.replace("\n", " "))
    assert "a worker could not start, and the run went on without it" in finished.text
    found = rows_by_key(tmp_path / "out")
    assert {row["status"] for row in found.values()} == {"restored"}
    assert set(found) == set(keys)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["last_session"]["failed_starts"]


@pytest.mark.slow
def test_a_model_that_does_not_fit_stops_the_run_before_its_first_image(
    runs: Runs, tmp_path: Path, colourful_weights: Path
) -> None:
    source, folder = tmp_path / "in", tmp_path / "compiled"
    make_archive(source, 2)
    compiled_folder(load_weights(str(colourful_weights)), folder, (720, 1280))
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(DOUBLES)])}
    finished = runs.start(source, tmp_path / "out", "--weights", folder, environment=environment).end()
    assert finished.code == 1, finished.text
    assert "compiled for 720x1280 in fp16 does not fit the die's memory; compile it in int8" in finished.text
    assert not count_outputs(tmp_path / "out")


@pytest.mark.slow
def test_each_worker_of_two_cards_has_its_own_die_and_loses_nothing_to_a_fault(
    runs: Runs, tmp_path: Path, colourful_weights: Path
) -> None:
    source, folder, log = tmp_path / "in", tmp_path / "compiled", tmp_path / "log"
    keys = make_archive(source, 80, size=SIZE)
    # Sizes that the card does not take.
    for key, size in (("small.png", (30, 50)), ("large.png", (150, 200))):
        picture = pixels(ROOT / "samples" / "blurred" / "brushes.png")[: size[0], : size[1]]
        assert cv2.imwrite(str(source / key), picture)
    deep = np.full((*SIZE, 3), 40000, np.uint16)
    assert cv2.imwrite(str(source / "deep.png"), deep)
    log.mkdir()
    compiled_folder(load_weights(str(colourful_weights)), folder, SIZE, output="image")
    output, struck = tmp_path / "vacc", tmp_path / "struck"
    environment = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(DOUBLES)]),
        "RAY_custom_unit_instance_resources": "VACC",
        "VACC_DOUBLE_LOG": str(log),
        "VACC_DOUBLE_FAULT": f"2:5:{struck}",
        "OPENBLAS_NUM_THREADS": "1",
    }
    announced = subprocess.run(
        [sys.executable, "-m", "mimo_core.distributed.resources"],
        env={**os.environ, **environment},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    options = ("--reference", copy_of(source), "--overlap", 16, "--shard-size", 4)
    with cluster(cpus=4, environment=environment, resources=json.loads(announced)) as made:
        run = runs.start(source, output, *options, "--weights", folder, "--engine", "vacc", on=made)
        # Before its first image a worker has bound the die that it keeps.
        run.until(lambda: len(made.workers()) == 4, "four workers")
        finished = run.end()
    assert finished.code == 3, finished.text
    assert struck.exists()
    found = rows_by_key(output)
    assert len(found) == len(keys) + 3
    refused = found["deep.png"]
    assert (refused["status"], refused["error_kind"]) == ("failed", "unsupported")
    assert "a 16-bit image" in str(refused["error"])
    failed = [key for key, row in found.items() if row["status"] != "restored"]
    assert failed == ["deep.png"]
    assert {row["device"] for row in found.values()} <= {f"VA1 die {number}" for number in range(4)}
    bound: dict[str, set[str]] = {}
    for note in log.iterdir():
        die, process = note.name.split("-")
        bound.setdefault(process, set()).add(die)
    assert all(len(dies) == 1 for dies in bound.values()), bound
    assert {die for dies in bound.values() for die in dies} == {"0", "1", "2", "3"}
    exact = [key for key in keys if found[key]["tiles"] == 1]
    assert exact == keys
    assert (found["large.png"]["tiles"], found["small.png"]["tiles"]) == (12, 1)
    for key in ("small.png", "large.png"):
        assert pixels(output / "images" / key).shape == pixels(source / key).shape
        (output / "images" / key).unlink()
    assert set(outputs(output)) == set(keys)
    assert_as_torch(output, source, colourful_weights, keys)
