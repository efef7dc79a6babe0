"""`ray job submit` on a cluster of two workers, source and output in a bucket: the same bytes, and what it reports."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from archives import TORCH, make_archive, outputs, parts, restore_undisturbed, rows
from fixtures_clusters import Cluster, cluster
from fixtures_s3 import S3Server
from processes import ROOT, wait_until
from processes import shell_environment as environment_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

RAY = str(Path(sys.executable).with_name("ray"))


@pytest.fixture(scope="module")
def board(s3_server: S3Server) -> Iterator[Cluster]:
    """A cluster whose nodes reach the S3 server, as a cluster's operator sets it up."""
    environment = {**s3_server.environment(), "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    with cluster(cpus=2, environment=environment, dashboard=True, guarded=True) as made:
        yield made


class Submission:
    """`ray job submit --working-dir . -- python -m jobs.JOB ...`."""

    def __init__(
        self, on: Cluster, name: str, log: Path, *arguments: object, faults: str = "", job: str = "restore"
    ) -> None:
        self.name = name
        self._on = on
        self._environment = environment_of(on.mark, on.ray_environment)
        self._log = log
        runtime = ["--runtime-env-json", json.dumps({"env_vars": {"MIMO_FAULTS": faults}})] if faults else []
        command = [RAY, "job", "submit", "--address", f"http://127.0.0.1:{on.dashboard}", "--submission-id", name]
        command += ["--working-dir", ".", *runtime, "--", sys.executable, "-m", f"jobs.{job}", *map(str, arguments)]
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=sink,
                stderr=sink,
                env=self._environment,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def end(self) -> int:
        """The exit code of `ray job submit`."""
        return self._process.wait(400)

    def stop(self) -> str:
        """`ray job stop`; what it says."""
        command = [RAY, "job", "stop", "--address", f"http://127.0.0.1:{self._on.dashboard}", self.name]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def details(self) -> dict[str, object]:
        """What the cluster says about the job: status, message, driver_exit_code."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._on.dashboard}/api/jobs/{self.name}")
        request.add_header("Authorization", f"Bearer {self._on.token}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))


def test_a_submitted_job_restores_a_bucket_to_the_bytes_of_a_local_run(
    tmp_path: Path, tiny_weights: Path, board: Cluster, s3_env: S3Server, s3_bucket: str
) -> None:
    source, local = tmp_path / "in", tmp_path / "local"
    keys = make_archive(source, 24)
    client = s3_env.client()
    for key in keys:
        client.put_object(Bucket=s3_bucket, Key=f"in/{key}", Body=(source / key).read_bytes())
    options = (*TORCH, "--weights", tiny_weights, "--shard-size", 3, "--workers", 2)
    restore_undisturbed(source, local, tiny_weights)

    place = (f"s3://{s3_bucket}/in", f"s3://{s3_bucket}/out")
    job = Submission(board, "good", tmp_path / "good.log", *place, *options)
    assert job.end() == 0, job.text
    assert "24 restored, 0 failed" in job.text
    details = job.details()
    print("exit code 0:", details["status"], details["message"], details["driver_exit_code"])
    assert (details["status"], details["driver_exit_code"]) == ("SUCCEEDED", 0)

    manifest = json.load(client.get_object(Bucket=s3_bucket, Key="out/run.json")["Body"])
    assert manifest["ray_job"] == "good"

    copy = tmp_path / "copy"
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=s3_bucket, Prefix="out/"):
        for item in page["Contents"]:
            target = copy / item["Key"].removeprefix("out/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(client.get_object(Bucket=s3_bucket, Key=item["Key"])["Body"].read())
    assert outputs(copy) == outputs(local)
    assert sorted(row["key"] for row in rows(copy)) == sorted(keys)
    uploaded = next(path for path in (board.folder / "ray").rglob("_ray_pkg_*") if path.is_dir())
    size = sum(path.stat().st_size for path in uploaded.rglob("*") if path.is_file())
    print(f"working directory: {size / 1e6:.1f} MB, {sorted(path.name for path in uploaded.iterdir())}")
    assert not (uploaded / ".git").exists()
    assert size < 30e6


@pytest.mark.parametrize(("code", "status"), [(3, "FAILED"), (2, "FAILED"), (1, "FAILED")])
def test_what_ray_reports_for_each_exit_code(tmp_path: Path, board: Cluster, code: int, status: str) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    make_archive(source, 6)
    arguments: tuple[object, ...] = (source, output, "--engine", "identity")
    if code == 3:
        (source / "empty.png").write_bytes(b"")
    elif code == 2:
        arguments = (source, output, "--shard-size", "none")
    else:
        (source / "empty.png").write_bytes(b"")
        arguments += ("--max-failed", "0")
    job = Submission(board, f"code-{code}", tmp_path / "log", *arguments)
    seen = job.end()
    details = job.details()
    print(f"exit code {code}: submit exits {seen};", details["status"], details["driver_exit_code"], details["message"])
    assert details["status"] == status, job.text
    assert details["driver_exit_code"] == code, job.text
    assert seen == 1


def test_a_stopped_job_keeps_what_is_committed(tmp_path: Path, board: Cluster) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    make_archive(source, 40)
    arguments = (source, output, "--engine", "identity", "--shard-size", 2)
    job = Submission(board, "stopped", tmp_path / "log", *arguments, faults="pause-image:0.5")
    wait_until(lambda: parts(output), "a part is committed")
    begun = time.monotonic()
    said = job.stop()
    seen = job.end()
    details = job.details()
    print(f"stopped after {time.monotonic() - begun:.1f} s: submit exits {seen};", details["status"], said[-80:])
    print(details["driver_exit_code"], details["message"])
    assert details["status"] == "STOPPED"
    assert "stopped by SIGTERM" in job.text
    again = Submission(board, "resumed", tmp_path / "log2", *arguments)
    assert again.end() == 0, again.text
    assert "40 restored, 0 failed" in again.text


def test_a_stopped_training_leaves_a_checkpoint_and_goes_on(tmp_path: Path) -> None:
    pairs, output = tmp_path / "pairs", tmp_path / "out"
    for name in ("blur", "sharp"):
        (pairs / name).mkdir(parents=True)
        for sample in sorted((ROOT / "samples" / "blurred").iterdir())[:2]:
            shutil.copy(sample, pairs / name / sample.name)
    arguments = (output, "--data", pairs, "--model", "mimo-unet-w8-r1", "--crop", 32, "--batch", 2, "--steps", 120)
    arguments += ("--workers", 2, "--log-every", 1)
    log = output / "log.csv"
    # Three seconds by default, after which Ray kills the job: enough for a checkpoint unless the machine is busy.
    with cluster(cpus=2, environment={"RAY_JOB_STOP_WAIT_TIME_S": "60"}, dashboard=True, guarded=True) as made:
        job = Submission(made, "stopped", tmp_path / "log", *arguments, job="train")
        wait_until(lambda: log.exists() and log.read_text().count("\n") > 3, "three steps")
        begun = time.monotonic()
        job.stop()
        job.end()
        print(f"stopped after {time.monotonic() - begun:.1f} s")
        assert job.details()["status"] == "STOPPED"
        assert "stopped; the same command goes on" in job.text
        (checkpoint,) = (output / "checkpoint").iterdir()
        step = int(checkpoint.name.removeprefix("step-"))
        assert 3 <= step < 120
        again = Submission(made, "resumed", tmp_path / "log2", *arguments, job="train")
        assert again.end() == 0, again.text
    assert f"goes on exactly from step {step}," in again.text
    assert not [path for path in output.iterdir() if path.name.startswith(".")]
