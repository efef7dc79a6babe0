"""Nodes that come and go, and clusters that are full: nothing is lost, nobody waits in silence."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from archives import TORCH, assert_same_run, count_outputs, make_archive, parts, restore_undisturbed
from fixtures_clusters import Cluster, blind_to, cluster
from fixtures_runs import Runs
from processes import shell_environment as environment_of
from processes import wait_until

pytestmark = pytest.mark.ray

HOG = """
import ray, sys, time
ray.init(address=sys.argv[1], log_to_driver=False)
@ray.remote(num_cpus=int(sys.argv[2]))
class Hog:
    def here(self): return True
hog = Hog.remote()
ray.get(hog.here.remote())
print("sitting", flush=True)
sys.stdin.read()
"""


@contextmanager
def occupied(on: Cluster, cpus: int) -> Iterator["subprocess.Popen[str]"]:
    """Hold so many CPUs of the cluster until the block ends or the process is killed."""
    environment = environment_of(on.mark, on.ray_environment)
    process = subprocess.Popen(
        [sys.executable, "-c", HOG, on.address, str(cpus)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "sitting"
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_full_cluster_is_waited_for_aloud(runs: Runs, tmp_path: Path, ray_cluster: Cluster) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    make_archive(source, 12)
    with occupied(ray_cluster, 2):
        run = runs.start(source, output, "--engine", "identity", "--workers", "2", on=ray_cluster)
        run.says("waiting for a worker: it needs 1 CPU (the cluster has 2 CPU, 0 CPU of it free)")
        assert run.alive
        assert not count_outputs(output)
    finished = run.end()
    assert finished.code == 0, finished.text
    assert "12 restored" in finished.text


@pytest.mark.slow
def test_more_workers_than_the_cluster_holds_is_no_deadlock(runs: Runs, tmp_path: Path, ray_cluster: Cluster) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    make_archive(source, 12)
    with occupied(ray_cluster, 1):
        finished = runs.finish(source, output, "--engine", "identity", "--workers", "4", on=ray_cluster)
    assert finished.code == 0, finished.text


@pytest.mark.slow
def test_a_node_is_lost_and_another_joins(runs: Runs, tmp_path: Path, tiny_weights: Path) -> None:
    source, output, undisturbed = tmp_path / "in", tmp_path / "out", tmp_path / "undisturbed"
    keys = make_archive(source, 200)
    options = (*TORCH, "--weights", tiny_weights, "--shard-size", 10)
    with cluster(cpus=1) as made:
        made.start_node("second", cpus=1)
        restore_undisturbed(source, undisturbed, tiny_weights)
        # Slow enough to outlast what happens to it.
        run = runs.start(source, output, *options, "--workers", "1:2", on=made, faults="pause-image:0.6")
        run.until(lambda: made.workers("head") and made.workers("second"), "both nodes have a worker")
        run.until(lambda: count_outputs(output) >= 10, "outputs")
        made.kill_node("second")
        run.says("was lost with its node")
        made.start_node("third", cpus=3)
        run.until(lambda: made.workers("third"), "the new node has a worker")
        # Three CPUs are free there, but two workers are the most.
        most = 0
        while run.alive:
            most = max(most, len(made.workers("head")) + len(made.workers("third")))
            time.sleep(0.2)
        finished = run.end()
    assert finished.code == 0, finished.text
    assert most == 2
    assert "died" not in finished.text
    assert_same_run(output, undisturbed, keys)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a node another view of the files")
def test_an_output_that_a_node_cannot_see_is_refused(runs: Runs, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "shared" / "out"
    make_archive(source, 4)
    output.parent.mkdir()
    with cluster(cpus=1) as made:
        made.start_node("blind", cpus=1, prefix=blind_to(output.parent))
        finished = runs.finish(source, output, "--engine", "identity", on=made)
        assert finished.code == 2, finished.text
        assert "is not visible on 1 of the cluster's nodes" in finished.text
        assert "s3://bucket/prefix" in finished.text
        assert not (output / "images").exists()
        assert not (output / "plan").exists()
        # Without that node the same command works.
        made.kill_node("blind")
        wait_until(lambda: parts(output) or _retry(runs, source, output, made), "the lost node is forgotten")
    assert len(parts(output)) == 2


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a node another view of the files")
def test_a_source_that_a_node_cannot_see_is_refused(runs: Runs, tmp_path: Path) -> None:
    """Else a part of the archive, at random, would be recorded as not found."""
    source, output = tmp_path / "disk" / "in", tmp_path / "out"
    make_archive(source, 4)
    with cluster(cpus=1) as made:
        made.start_node("blind", cpus=1, prefix=blind_to(source.parent))
        finished = runs.finish(source, output, "--engine", "identity", on=made)
    assert finished.code == 2, finished.text
    assert f"the source's folder {source}/00 is not there on 1 of the cluster's nodes" in finished.text
    assert not (output / "images").exists()


@pytest.mark.slow
def test_labels_choose_the_nodes_of_workers_who_have_names(runs: Runs, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    make_archive(source, 24)
    wanted = ("--engine", "identity", "--worker-label", "market=spot", "--shard-size", 2)
    with cluster(cpus=1) as made:
        run = runs.start(source, output, *wanted, on=made, faults="pause-image:0.4")
        run.says("on one node with the label market=spot; no node has that much")
        made.start_node("spot", cpus=1, options=("--labels", "market=spot,zone=a"))
        run.until(lambda: made.workers("spot"), "a worker")
        run.until(lambda: count_outputs(output) >= 2, "outputs")
        assert not made.workers("head")
        listed = subprocess.run(
            [sys.executable, "-c", NAMES, made.address],
            env=environment_of(made.mark, made.ray_environment),
            capture_output=True,
            text=True,
        )
        assert "mimo:out:worker-1" in listed.stdout, listed.stderr
        finished = run.end()
        assert finished.code == 0, finished.text
    refused = runs.finish(source, tmp_path / "other", *wanted)
    assert refused.code == 2
    assert "--worker-label is for nodes of a cluster" in refused.text


NAMES = """
import ray, sys
from ray.util import list_named_actors
ray.init(address=sys.argv[1], log_to_driver=False)
print([one["name"] for one in list_named_actors(all_namespaces=True)])
"""


def _retry(runs: Runs, source: Path, output: Path, made: Cluster) -> bool:
    finished = runs.finish(source, output, "--engine", "identity", on=made)
    assert finished.code in (0, 2), finished.text
    return finished.code == 0


@pytest.mark.slow
def test_a_stopped_worker_is_replaced(runs: Runs, tmp_path: Path, tiny_weights: Path, ray_cluster: Cluster) -> None:
    """A worker that is stopped gives no sign of life, as one on a machine that swaps."""
    source, output, undisturbed = tmp_path / "in", tmp_path / "out", tmp_path / "undisturbed"
    keys = make_archive(source, 60)
    options = (*TORCH, "--weights", tiny_weights, "--shard-size", 10, "--workers", 1)
    restore_undisturbed(source, undisturbed, tiny_weights)
    run = runs.start(source, output, *options, "--timeout", 10, on=ray_cluster, faults="pause-commit:1")
    run.until(lambda: count_outputs(output) >= 5, "outputs")
    # The only worker, so it is the one that has the work; of two, one may still be starting.
    (victim,) = ray_cluster.workers()
    os.kill(victim, signal.SIGSTOP)
    try:
        finished = run.end()
    finally:
        # The pool has ended it already if all is well.
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    assert finished.code == 0, finished.text
    assert "made no progress" in finished.text
    assert_same_run(output, undisturbed, keys)
