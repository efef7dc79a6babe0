"""A tar in a bucket, restored into a bucket by a driver that is killed again and again, comes out like its folder."""

import os
import signal
import tarfile
from pathlib import Path

import pytest
from archives import assert_same_run, download, make_archive, restore_undisturbed
from fixtures_runs import Runs
from fixtures_s3 import S3Server

pytestmark = pytest.mark.ray


@pytest.mark.s3
@pytest.mark.slow
def test_a_tar_is_restored_like_its_folder_whatever_is_killed(
    runs: Runs, tmp_path: Path, s3_bucket: str, s3_env: S3Server
) -> None:
    source, undisturbed = tmp_path / "in", tmp_path / "undisturbed"
    keys = make_archive(source, 60)
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for key in keys:
            tar.add(source / key, key)
    client = s3_env.client()
    client.put_object(Bucket=s3_bucket, Key="photos.tar", Body=(tmp_path / "photos.tar").read_bytes())
    environment = {**s3_env.environment(), "AWS_CONFIG_FILE": os.devnull}
    restore_undisturbed(source, undisturbed)

    def committed() -> int:
        return int(client.list_objects_v2(Bucket=s3_bucket, Prefix="out/records/")["KeyCount"])

    place = (f"s3://{s3_bucket}/photos.tar", f"s3://{s3_bucket}/out")
    options = ("--engine", "identity", "--shard-size", 4, "--workers", 1)
    for _ in range(5):
        before = committed()
        run = runs.start(*place, *options, environment=environment, faults="pause-image:0.2")
        run.until(lambda before=before: committed() > before, "one more part is committed")
        run.signal(signal.SIGKILL)
        run.end()
    assert committed() < 15, "there was something left to do each time"
    finished = runs.finish(*place, *options, environment=environment)
    assert finished.code == 0, finished.text
    assert "60 restored, 0 failed" in finished.text
    copy = tmp_path / "copy"
    download(client, s3_bucket, "out/", copy)
    assert_same_run(copy, undisturbed, keys)
