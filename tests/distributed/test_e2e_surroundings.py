"""Surroundings that are not as they should be: files in the way, no home, nodes that lack packages, a lost cluster."""

import os
import signal
from pathlib import Path

import pytest
from archives import make_archive
from fixtures_clusters import cluster
from fixtures_runs import Runs
from processes import ROOT, marked

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_neither_other_files_nor_a_long_temporary_folder_nor_a_missing_home_stand_in_the_way(
    runs: Runs, tmp_path: Path
) -> None:
    make_archive(tmp_path / "in", 4)
    lying, long = tmp_path / "lying", tmp_path / ("long" * 25)
    for name in ("queue.py", "cluster.py", "fsspec.py", "jobs/__init__.py", "mimo_core/__init__.py"):
        (lying / name).parent.mkdir(parents=True, exist_ok=True)
        (lying / name).write_text("raise RuntimeError('this is not the program')")
    long.mkdir()
    environment = {
        "TMPDIR": str(long),
        "HOME": "/proc/nothing",
        "MIMO_CACHE": str(tmp_path / "cache"),
        "PYTHONSAFEPATH": "1",
    }
    arguments = ("../in", "../out", "--engine", "identity")
    finished = runs.start(*arguments, environment=environment, cwd=lying).end()
    assert finished.code == 0, finished.text
    assert "4 restored" in finished.text


@pytest.mark.parametrize("package", ["cv2", "pydantic"])
def test_a_cluster_that_lacks_a_package_ends_the_run_at_once_and_names_it(
    runs: Runs, tmp_path: Path, package: str
) -> None:
    make_archive(tmp_path / "in", 4)
    (tmp_path / "lacking").mkdir()
    missing = f"No module named '{package}'"
    (tmp_path / "lacking" / f"{package}.py").write_text(f'raise ModuleNotFoundError("{missing}")')
    with cluster(cpus=1, environment={"PYTHONPATH": f"{tmp_path / 'lacking'}:{ROOT}"}) as made:
        finished = runs.start(tmp_path / "in", tmp_path / "out", "--engine", "identity", on=made).end()
    assert finished.code == 1, finished.text
    assert "Traceback" not in finished.text
    assert missing in finished.text
    assert "install this program and what it needs on every node, or submit the job with a runtime" in finished.text


def test_a_lost_cluster_leaves_the_last_word_to_the_run(runs: Runs, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    make_archive(source, 60)
    with cluster(cpus=1) as made:
        run = runs.start(source, output, "--engine", "identity", "--shard-size", 2, on=made, faults="pause-image:2")
        run.until(lambda: list((output / "records").glob("part-*")), "a part")
        for pid, command in marked(f"{made.mark}-head").items():
            if "gcs_server" in command:
                os.kill(pid, signal.SIGKILL)
        finished = run.end()
    assert finished.code == 1, finished.text
    assert f"mimo restore: the Ray cluster ({made.address}) has not answered for 50 s" in finished.text
    assert finished.text.rstrip().endswith(
        f"What is committed stays. Once that is mended: the same command goes on from here:\n  mimo restore {source} "
        f"{output} --engine identity --shard-size 2"
    )
    assert runs.finish(source, output, "--engine", "identity", "--shard-size", 2).code == 0
