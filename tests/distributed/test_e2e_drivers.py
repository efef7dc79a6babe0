"""Two drivers on one run: the second waits, says so and gives up; the dead one's run is taken over at once."""

import os
import signal
from pathlib import Path

import pytest
from archives import TORCH, assert_same_run, count_outputs, make_archive, parts, restore_undisturbed
from fixtures_clusters import Cluster
from fixtures_runs import Runs

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_second_driver_is_refused_and_a_dead_one_replaced_at_once(
    runs: Runs, tmp_path: Path, tiny_weights: Path, ray_cluster: Cluster
) -> None:
    source, output, undisturbed = tmp_path / "in", tmp_path / "out", tmp_path / "undisturbed"
    keys = make_archive(source, 24)
    options = (*TORCH, "--weights", tiny_weights, "--shard-size", 4, "--workers", 2)
    restore_undisturbed(source, undisturbed, tiny_weights)

    first = runs.start(source, output, *options, on=ray_cluster, faults="pause-commit:120")
    first.until(lambda: count_outputs(output) >= 4, "outputs")
    second = runs.finish(source, output, *options, on=ray_cluster)
    assert second.code == 1, second.text
    assert f"(process {first.process.pid}) holds this run; waiting" in second.text
    assert f"(process {first.process.pid}) is working on this run" in second.text
    assert "Traceback" not in second.text
    assert first.alive
    assert not parts(output)

    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait(30)
    finished = runs.finish(source, output, *options, on=ray_cluster)
    assert finished.code == 0, finished.text
    assert "holds this run" not in finished.text, "a dead driver's lease needs no waiting"
    assert_same_run(output, undisturbed, keys)
