"""`mimo status --watch` beside a run at work, which logs for machines."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from archives import make_archive
from fixtures_runs import Run, Runs
from processes import ROOT, shell_environment


def watch(output: Path, run: Run) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "mimo_core.cli.main", "status", str(output), "--watch"],
        cwd=ROOT,
        env=shell_environment(run.mark),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.ray
def test_a_run_is_watched_until_its_driver_ends(runs: Runs, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    make_archive(source, 28)
    options = ("--engine", "identity", "--workers", 1, "--shard-size", 4, "--log-format", "json")
    run = runs.start(source, output, *options, faults="pause-image:0.5")
    run.until(lambda: (output / "run.json").exists(), "a run")
    watching = watch(output, run)
    finished = run.end()
    said, told = watching.communicate(timeout=60)
    assert (finished.code, watching.returncode) == (0, 0), told
    # Where a phase takes ten seconds, it is told.
    lines = [line for line in told.splitlines() if not line.endswith(" ...")]
    assert len(lines) >= 2
    assert all("/28 images (" in line and " 0 failed, " in line and " images/s" in line for line in lines)
    assert lines[0].endswith(", 1 worker")
    assert "state" in said
    assert "finished" in said
    # What the run has printed besides is the table of its end.
    log = [json.loads(line) for line in finished.text.splitlines() if line.startswith("{")]
    assert {one["run"] for one in log} == {"out"}
    messages = [one["message"] for one in log if not one["message"].endswith(" ...")]
    assert messages[0].startswith("28 images in 7 shards")
    assert [one["progress"]["done"] for one in log if "progress" in one][-1] == 28


@pytest.mark.ray
def test_watching_ends_with_a_driver_that_is_killed_and_says_what_goes_on(runs: Runs, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    make_archive(source, 200)
    run = runs.start(source, output, "--engine", "identity", "--workers", 1, faults="pause-image:0.5")
    run.until(lambda: (output / "images").exists(), "images")
    watching = watch(output, run)
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait()
    said, told = watching.communicate(timeout=60)
    assert watching.returncode == 0, told
    assert "interrupted" in said
    assert f"mimo restore {source} {output}" in said
