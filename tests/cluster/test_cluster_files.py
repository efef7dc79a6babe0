"""What starts clusters: files that their readers accept, and scripts that really start Ray."""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from fixtures_s3 import free_ports
from processes import shell_environment, wait_until

from mimo_core.cli.arguments import parse
from mimo_core.runs.config import RestoreConfig

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
DISABLED = {"RAY_AUTH_MODE": "disabled", "PYTHON": sys.executable}


def read(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["aws.yaml", "on_premises.yaml"])
def test_rays_launcher_accepts_its_files(name: str) -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(read(f"launcher/{name}"), schema)


def pods(document: Any) -> list[Any]:
    spec = document["spec"].get("rayClusterSpec", document["spec"])
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


@pytest.mark.parametrize("name", ["rayjob.yaml", "raycluster.yaml"])
def test_kuberay_files_name_what_every_pod_needs(name: str) -> None:
    """The fields are those of KubeRay's RayClusterSpec and RayJobSpec (ray.io/v1)."""
    document = read(f"kuberay/{name}")
    assert document["apiVersion"] == "ray.io/v1"
    spec = document["spec"].get("rayClusterSpec", document["spec"])
    assert spec["rayVersion"] == re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)[1]  # type: ignore[index]
    assert spec["enableInTreeAutoscaling"] is True
    for group in pods(document):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "mimo-storage"}}]
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts == {"tmp": "/tmp"}
        if "groupName" in group:
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
            assert group["template"]["spec"]["terminationGracePeriodSeconds"] > 30


def test_the_rayjob_asks_for_what_the_program_takes() -> None:
    mimo, job, *argv = shlex.split(read("kuberay/rayjob.yaml")["spec"]["entrypoint"])
    assert (mimo, job) == ("mimo", "restore")
    assert parse(RestoreConfig, argv, "mimo restore").tolerate == "1%"


def test_a_container_is_built_from_files_that_its_context_holds() -> None:
    lines = (CLUSTER / "Containerfile").read_text(encoding="utf-8").splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    kept = [line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")]
    for source in (name for names in copied for name in names):
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), f"{source} is left out of the context"
    assert any(line == "USER mimo" for line in lines)
    pythons = [re.search(r"python:3\.(\d+)", line) for line in lines if line.startswith("FROM")]
    assert all(found is not None and 10 <= int(found[1]) <= 13 for found in pythons)


def test_the_upload_leaves_out_what_no_job_needs_and_keeps_what_is_installed() -> None:
    environment = read("runtime_env.yaml")
    excluded = {pattern.strip("/") for pattern in environment["excludes"]}
    assert {"tests", "docs", "samples", ".venv"} <= excluded
    needed = {"mimo_core", "jobs", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert not needed & excluded
    assert environment["pip"]["packages"][-1] == "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"


def test_the_policy_writes_to_the_results_alone() -> None:
    policy = json.loads((CLUSTER / "s3-policy.json").read_text(encoding="utf-8"))
    reading, writing = policy["Statement"]
    assert all(action.startswith(("s3:Get", "s3:List")) for action in reading["Action"])
    assert not set(reading["Resource"]) & set(writing["Resource"])


def test_a_node_starts_and_says_what_is_wrong(tmp_path: Path) -> None:
    script = str(CLUSTER / "start_node.sh")
    unnamed = subprocess.run([script], capture_output=True, text=True)
    assert unnamed.returncode == 2
    assert "cluster/start_node.sh head" in unnamed.stderr
    nothing = {**os.environ, "PYTHON": "/usr/bin/env"}
    missing = subprocess.run([script, "head"], env=nothing, capture_output=True, text=True)
    assert missing.returncode == 2
    assert "has no mimo-restore" in missing.stderr
    port, dashboard, agent = free_ports(3)
    # Ray's sockets lie below it, whose names are short.
    short = tempfile.mkdtemp(prefix="node-", dir="/tmp")
    options = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    command = [script, "head", "--block", "--num-cpus=1", *options, f"--temp-dir={short}"]
    with (tmp_path / "log").open("wb") as log:
        node = subprocess.Popen(command, env=shell_environment(short, DISABLED), stdout=log, stderr=log)
    try:
        status = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", f"127.0.0.1:{port}"]

        def works() -> bool:
            asked = subprocess.run(status, env=shell_environment(short, DISABLED), capture_output=True, text=True)
            return "/1.0 CPU" in asked.stdout

        wait_until(works, (tmp_path / "log").read_text(errors="replace"), within=90, every=1)
        listening = subprocess.run(["ss", "-ltn"], capture_output=True, text=True).stdout if shutil.which("ss") else ""
        assert not listening or f"127.0.0.1:{dashboard}" in listening, "the dashboard listens on this machine alone"
    finally:
        node.terminate()
        node.wait(60)
        shutil.rmtree(short, ignore_errors=True)


SRUN = """#!/bin/sh
# A double of Slurm's: one node, this one.
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""


# Ray ends every Ray of a machine with a Slurm job's; here it sees the processes of the job alone.
ALONE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")


@pytest.mark.slow
def test_a_run_by_slurms_script(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run([*ALONE, "true"], capture_output=True).returncode:
        pytest.skip("this machine gives no namespace of processes, in which Ray would end none but its own")
    (tmp_path / "bin").mkdir()
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/sh\necho 127.0.0.1\n")):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NUM_NODES": "1",
    }
    environment.pop("RAY_AUTH_MODE", None)
    source = str(ROOT / "samples" / "blurred" / "brushes.png")
    command = [*ALONE, "bash", str(CLUSTER / "slurm.sbatch"), "restore", source, str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "images" / "brushes.png").exists()
    refused = subprocess.run(["bash", str(CLUSTER / "slurm.sbatch")], env=environment, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "usage: sbatch" in refused.stderr
