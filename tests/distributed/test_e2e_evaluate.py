"""Evaluation as a user starts it: the same scores on any number of workers and after a kill, to the last digit."""

import json
import re
from pathlib import Path
from typing import Any

import cv2
import pytest
from archives import parts, rows_by_key
from fixtures_clusters import Cluster, cluster
from fixtures_runs import Runs
from processes import ROOT, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("inception")]

SCORES = (
    *("psnr", "ssim", "psnr_float", "psnr_y", "ssim_matlab3d"),
    *("input_psnr", "input_ssim", "input_psnr_y", "input_ssim_matlab3d"),
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pieces of the sample photographs, as GoPro lays them out."""
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(8):
        name = ("window.png", "mountains.jpg", "seeds.jpg")[number % 3]
        for side, samples in (("blur", "blurred"), ("sharp", "sharp")):
            picture = cv2.imread(str(ROOT / "samples" / samples / name))
            path = folder / f"sequence{number % 2}" / side / f"{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), picture[10 * number : 10 * number + 80, 40:136])
    return folder


def scores(output: Path) -> dict[str, Any]:
    """All that must be equal to the last digit."""
    summary = json.loads((output / "summary.json").read_text())
    found = {key: tuple(row[name] for name in SCORES) for key, row in rows_by_key(output).items()}
    assert len(found) == 8
    assert all(None not in values for values in found.values())
    return {**found, **{name: summary[name] for name in ("fid", "input_fid", "fid_images")}}


def command(pairs: Path, output: Path, weights: Path, workers: int) -> list[object]:
    return [
        *(pairs, pairs, output, "--fid", "--weights", weights, "--engine", "torch", "--precision", "fp32"),
        *("--shard-size", 2, "--workers", workers),
    ]


@pytest.mark.slow
def test_scores_are_the_same_on_any_number_of_workers_and_after_a_kill(
    runs: Runs, pairs: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    one, three, killed = (tmp_path / name for name in ("one", "three", "killed"))
    with cluster(cpus=3) as on:
        finished = runs.finish(*command(pairs, one, tiny_weights, 1), job="evaluate", on=on)
        assert finished.code == 0, finished.text
        assert "FID" in finished.text
        assert "of 8 images" in finished.text
        assert not (one / "images").exists()
        expected = scores(one)
        assert expected["fid_images"] == 8
        assert expected["fid"] > 0

        # Killed while a shard's features are written and its records are not.
        first = runs.start(*command(pairs, killed, tiny_weights, 1), job="evaluate", on=on, faults="pause-commit:2")

        def between() -> bool:
            written = list((killed / "features").glob("part-*.parquet"))
            return len(written) > len(parts(killed)) > 0

        wait_until(between, "features without records")
        first.process.kill()
        first.process.wait()
        resumed = runs.finish(*command(pairs, killed, tiny_weights, 1), job="evaluate", on=on)
        assert resumed.code == 0, resumed.text
        assert scores(killed) == expected
        assert len(list((killed / "features").iterdir())) == 4

        finished = runs.finish(*command(pairs, three, tiny_weights, 3), job="evaluate", on=on)
        assert finished.code == 0, finished.text
        assert scores(three) == expected
    assert runs.finish(killed, job="verify").code == 0


@pytest.mark.slow
def test_what_has_no_reference_is_named_and_the_exit_code_tells(
    runs: Runs, pairs: Path, tiny_weights: Path, tmp_path: Path, ray_cluster: Cluster
) -> None:
    lonely = tmp_path / "data"
    for side in ("blur", "sharp"):
        (lonely / side).mkdir(parents=True)
        for path in sorted((pairs / "sequence0" / side).iterdir())[:3]:
            (lonely / side / path.name).write_bytes(path.read_bytes())
    gone = min((lonely / "sharp").iterdir())
    gone.unlink()
    output = tmp_path / "out"
    arguments: list[object] = [
        *(lonely / "blur", lonely / "sharp", output, "--weights", tiny_weights),
        *("--engine", "torch", "--precision", "fp32", "--workers", 1),
    ]
    finished = runs.finish(*arguments, "--fid", job="evaluate", on=ray_cluster)
    assert finished.code == 3, finished.text
    assert "1 image left out: reference_missing" in finished.text
    assert gone.name in finished.text
    assert rows_by_key(output)[gone.name]["status"] == "skipped"
    told = runs.start(output, job="status").end()
    assert told.code == 3
    assert re.search(r"skipped +1 \(1 reference_missing\)", told.text)
    # A driver that dies over more work leaves no summary that is not so any more.
    retry = (*arguments, "--fid", "--mode", "retry-failed")
    again = runs.start(*retry, job="evaluate", on=ray_cluster, faults="pause-commit:60")
    again.until(lambda: not (output / "summary.json").exists(), "the old summary gone")
    again.process.kill()
    again.process.wait()
    # Once it is there, it is scored, and the others' features are still in the distance.
    gone.write_bytes((pairs / "sequence0" / "sharp" / gone.name).read_bytes())
    finished = runs.finish(*retry, job="evaluate", on=ray_cluster)
    assert finished.code == 0, finished.text
    assert json.loads((output / "summary.json").read_text())["fid_images"] == 3
