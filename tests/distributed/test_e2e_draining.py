"""A node that gets notice in the middle of a run: its worker hands back its rest, and no image is restored twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from archives import TORCH, assert_same_run, count_outputs, make_archive, restore_undisturbed
from fixtures_clusters import Cluster, cluster
from fixtures_runs import Runs
from processes import shell_environment

from mimo_core.runs.folder import RunFolder
from mimo_core.storage import Store

NODES = """
import json, ray, sys
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(json.dumps({node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}))
"""


def node_with(made: Cluster, resource: str) -> str:
    """Ray's identity of the node with this resource."""
    environment = shell_environment(made.mark, made.ray_environment)
    asked = subprocess.run(
        [sys.executable, "-c", NODES, made.address], env=environment, capture_output=True, text=True, check=True
    )
    (node,) = (name for name, has in json.loads(asked.stdout.splitlines()[-1]).items() if resource in has)
    return str(node)


def drain(made: Cluster, node: str) -> None:
    """Give notice to a node, as a cloud's spot handler does through Ray."""
    environment = shell_environment(made.mark, made.ray_environment)
    options = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", made.address, "--node-id", node]
    done = subprocess.run([*command, *options, "120"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_a_drained_node_costs_no_image(runs: Runs, tmp_path: Path, tiny_weights: Path) -> None:
    source, output, undisturbed = tmp_path / "in", tmp_path / "out", tmp_path / "undisturbed"
    keys = make_archive(source, 120)
    restore_undisturbed(source, undisturbed, tiny_weights)
    options = (*TORCH, "--weights", tiny_weights, "--shard-size", 20, "--cpus-per-worker", 1)
    first_seen: dict[Path, int] = {}

    def note() -> int:
        # A file that is written again is another one under the same name.
        for path in (output / "images").rglob("*.*"):
            if path.is_file() and ".mimo-tmp" not in path.parts:
                first_seen.setdefault(path, path.stat().st_ino)
        return len(first_seen)

    with cluster(cpus=1) as made:
        made.start_node("spot", cpus=1, resources={"spot": 1})
        # Here, for it takes seconds, in which the run would go on.
        spot = node_with(made, "spot")
        run = runs.start(source, output, *options, on=made, faults="pause-image:0.6")
        run.until(lambda: made.workers("head") and made.workers("spot"), "both nodes have a worker")
        run.until(lambda: note() > 12, "outputs")
        drain(made, spot)
        run.until(lambda: note() and not made.workers("spot"), "the worker of the drained node ends")
        handed_over = count_outputs(output)
        run.until(lambda: note() == len(keys), "all outputs")
        finished = run.end()
    assert finished.code == 0, finished.text
    assert "a node is to go away: its worker on" in finished.text
    assert "died" not in finished.text
    assert "lost" not in finished.text
    assert handed_over < len(keys) - 20
    assert {path: path.stat().st_ino for path in first_seen} == first_seen
    folder = RunFolder(Store(str(output)))
    records = [record for part in sorted(folder.committed()) for record in folder.read(part)]
    assert {record.attempt for record in records} == {1}
    assert_same_run(output, undisturbed, keys)
