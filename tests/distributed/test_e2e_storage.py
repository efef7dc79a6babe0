"""Storage that fills up or goes away stops the run with a clear message; nothing is recorded as failed; it resumes."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from archives import assert_same_run, download, make_archive, outputs, parts, restore_undisturbed, rows
from fixtures_clusters import Cluster
from fixtures_runs import Runs
from fixtures_s3 import RestartableServer, S3Server
from s3_proxy import Handler, proxy, slow_down

pytestmark = pytest.mark.ray


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False).returncode:
        pytest.skip("this machine lets not even root mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_stops_the_run_which_goes_on_later(
    runs: Runs, tmp_path: Path, small_disk: Path, ray_cluster: Cluster
) -> None:
    source, output, undisturbed = tmp_path / "in", small_disk / "out", tmp_path / "undisturbed"
    keys = make_archive(source, 40, size=(200, 240))
    options = ("--engine", "identity", "--shard-size", 4, "--workers", 1)
    restore_undisturbed(source, undisturbed)
    finished = runs.finish(source, output, *options, on=ray_cluster)
    assert finished.code == 1, finished.text
    assert "the disk is full" in finished.text
    assert "same command" in finished.text, "the message says what to do"
    assert "Traceback" not in finished.text
    assert all(row["status"] == "restored" for row in rows(output))
    # Still full: the same message, at once.
    again = runs.finish(source, output, *options, on=ray_cluster)
    assert again.code == 1, again.text
    assert "the disk is full" in again.text
    committed = parts(output)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    last = runs.finish(source, output, *options, on=ray_cluster)
    assert last.code == 0, last.text
    assert committed <= parts(output)
    assert_same_run(output, undisturbed, keys)


@pytest.fixture
def server() -> Iterator[RestartableServer]:
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    made = RestartableServer(folder)
    yield made
    made.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.s3
@pytest.mark.slow
def test_an_outage_of_the_bucket_stops_the_run_which_goes_on_later(
    runs: Runs, tmp_path: Path, server: RestartableServer
) -> None:
    source, undisturbed = tmp_path / "in", tmp_path / "undisturbed"
    keys = make_archive(source, 60)
    client = server.s3.client()
    client.create_bucket(Bucket="archive")
    for key in keys:
        client.put_object(Bucket="archive", Key=f"in/{key}", Body=(source / key).read_bytes())
    environment = {**server.s3.environment(), "AWS_CONFIG_FILE": os.devnull}
    options = ("--engine", "identity", "--shard-size", 4, "--workers", 2)
    restore_undisturbed(source, undisturbed)

    options = (*options, "--patience", 10)
    place = ("s3://archive/in", "s3://archive/out")
    run = runs.start(*place, *options, environment=environment, faults="pause-image:0.2")

    def committed() -> int:
        return client.list_objects_v2(Bucket="archive", Prefix="out/records/")["KeyCount"]

    run.until(lambda: committed() >= 2, "two parts are committed")
    server.stop()
    finished = run.end(within=200)
    assert finished.code == 1, finished.text
    assert "cannot be reached" in finished.text
    assert "AWS_ENDPOINT_URL" in finished.text
    assert "Traceback" not in finished.text
    assert len(finished.text) < 10_000

    server.start()
    resumed = runs.finish(*place, *options, environment=environment)
    assert resumed.code == 0, resumed.text
    assert "60 restored, 0 failed" in resumed.text
    copy = tmp_path / "copy"
    download(client, "archive", "out/", copy)
    assert_same_run(copy, undisturbed, keys)
    assert outputs(copy) == outputs(undisturbed)


@pytest.mark.s3
@pytest.mark.slow
def test_outages_of_ten_seconds_are_waited_for_and_leave_no_failed_image(
    runs: Runs, tmp_path: Path, s3_bucket: str, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, undisturbed = tmp_path / "in", tmp_path / "undisturbed"
    keys = make_archive(source, 60)
    client = s3_env.client()
    for key in keys:
        client.put_object(Bucket=s3_bucket, Key=f"in/{key}", Body=(source / key).read_bytes())
    away: list[Callable[[Handler], None]] = []

    def meddle(handler: Handler, number: int) -> bool:
        fault = away[-1] if away else None
        if fault is not None:
            fault(handler)
        return fault is not None

    def committed() -> int:
        return int(client.list_objects_v2(Bucket=s3_bucket, Prefix="out/records/")["KeyCount"])

    with proxy(s3_env, monkeypatch, meddle) as passing:
        environment = {**S3Server(passing.endpoint).environment(), "AWS_CONFIG_FILE": os.devnull}
        run = runs.start(
            *(f"s3://{s3_bucket}/in", f"s3://{s3_bucket}/out", "--engine", "identity", "--shard-size", 4),
            *("--workers", 2),
            environment=environment,
            faults="pause-image:0.2",
        )
        # One while it begins, one while it works, in both ways.
        run.until(lambda: passing.requests, "it asks for something")
        for fault, parts_first in ((Handler.drop, 0), (slow_down, 2), (Handler.drop, 5)):
            run.until(lambda least=parts_first: committed() >= least, "some parts are committed")
            away.append(fault)
            time.sleep(10)
            away.clear()
        finished = run.end(within=300)
    assert finished.code == 0, finished.text
    assert "60 restored, 0 failed" in finished.text
    assert f"s3://{s3_bucket} does not answer" in finished.text
    assert f"s3://{s3_bucket} answers again after" in finished.text
    assert "left out" not in finished.text
    copy = tmp_path / "copy"
    download(client, s3_bucket, "out/", copy)
    restore_undisturbed(source, undisturbed)
    assert_same_run(copy, undisturbed, keys)
