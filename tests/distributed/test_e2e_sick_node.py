"""A node of a cluster that cannot reach the storage is left out, named; the others do its work."""

import os
from pathlib import Path

import pytest
from archives import make_archive
from fixtures_clusters import cluster
from fixtures_runs import Runs
from fixtures_s3 import S3Server

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.slow]

WRONG = {
    "credentials": {"AWS_SECRET_ACCESS_KEY": "not-the-secret"},
    "endpoint": {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
}


@pytest.mark.parametrize("what", ["credentials", "endpoint"])
def test_a_sick_node_does_not_end_the_run(
    runs: Runs, tmp_path: Path, s3_bucket: str, s3_env: S3Server, what: str
) -> None:
    source = tmp_path / "in"
    keys = make_archive(source, 80)
    for key in keys:
        s3_env.client().put_object(Bucket=s3_bucket, Key=f"in/{key}", Body=(source / key).read_bytes())
    sound = {**s3_env.environment(), "AWS_CONFIG_FILE": os.devnull}
    with cluster(cpus=1, environment=sound) as made:
        made.environment.update(WRONG[what])
        made.start_node("sick", cpus=1)
        options = ("--engine", "identity", "--shard-size", 4, "--workers", "1:2")
        place = (f"s3://{s3_bucket}/in", f"s3://{s3_bucket}/out")
        # Slow enough that both nodes get something to do.
        run = runs.start(*place, *options, on=made, environment=sound, faults="pause-image:0.4")
        finished = run.end(within=400)
    assert finished.code == 0, finished.text
    assert "80 restored, 0 failed" in finished.text
    assert f"a worker on {os.uname().nodename} cannot use the storage" in finished.text
    assert "it is left out for 30 s; its" in finished.text
    assert "not-the-secret" not in finished.text
