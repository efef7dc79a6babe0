"""Runs of the jobs, Ray clusters for them, archives to restore, and how to compare results.

A run whose end is all that matters works in this process and saves the seconds that loading PyTorch and Ray takes; one
that is to be killed, stopped or watched is a process of its own. Every process that a test starts carries a mark in its
environment, which its children inherit. So a test finds the processes of its own run or cluster, and ends them,
whatever else runs Ray on the machine.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import inprocess
import pytest
from fixtures_s3 import _free_ports as free_ports

from mimo_core.cli.main import run as run_job
from mimo_core.runs.records import write_part
from mimo_core.storage import Store

ROOT = Path(__file__).resolve().parents[1]
MARK = "MIMO_TEST_MARK"
# Generous, for the machine may be busy; a wait that takes this long has failed.
PATIENCE = 240.0


def wait_until(condition: Callable[[], object], what: str, within: float = PATIENCE, every: float = 0.02) -> float:
    """Wait for the condition, at most so long; return the seconds that it took."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > within:
            raise AssertionError(f"waited {within:g} s in vain: {what}")
        time.sleep(every)
    return time.monotonic() - begun


# Processes


def marked(mark: str) -> dict[int, str]:
    """Living processes with this mark: command line by process number."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                state = (folder / "stat").read_text().rsplit(")", 1)[-1].split()[0]
                if command and state != "Z":
                    found[int(folder.name)] = command
    return found


def workers_of(mark: str) -> list[int]:
    """Process numbers of the restoring Ray workers with this mark, in order."""
    return sorted(pid for pid, command in marked(mark).items() if command.startswith("ray::Worker"))


def end_all(mark: str) -> None:
    """Kill every process with this mark."""
    for _ in range(20):
        left = marked(mark)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        time.sleep(0.1)


def _environment(mark: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a user's shell: nothing of Ray or faults is inherited from the tests' own."""
    base = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MIMO_"))}
    base.update(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1", COLUMNS="200", RAY_USAGE_STATS_ENABLED="0")
    base[MARK] = mark
    base.update(extra or {})
    return base


@dataclass
class Finished:
    """How a run ended: exit code (negative for a signal), what it printed, and how long it took in seconds."""

    code: int
    text: str
    seconds: float


class Run:
    """One run of the main job in a process of its own."""

    def __init__(
        self, arguments: list[str], log: Path, environment: Mapping[str, str], *, job: str = "restore", cwd: Path = ROOT
    ) -> None:
        self.mark = uuid.uuid4().hex
        self._log = log
        self._begun = time.monotonic()
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"jobs.{job}", *arguments],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=_environment(self.mark, environment),
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def says(self, text: str, within: float = PATIENCE) -> None:
        """Wait until it has printed the text."""
        self.until(lambda: text in self.text, f"the run says {text!r}", within)

    def until(self, condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
        """Wait for a condition that comes true only while this run works."""
        # A condition may hold for a moment only, so it is not asked again.
        held = []
        wait_until(lambda: held.append(condition()) or held[-1] or not self.alive, what, within, every=0.003)
        assert held[-1], f"the run ended ({self.process.returncode}) before {what}:\n{self.text}"

    def end(self, within: float = PATIENCE) -> Finished:
        """Wait for its end."""
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run hangs; it said:\n{self.text}") from None
        return Finished(code, self.text, time.monotonic() - self._begun)

    def signal(self, number: signal.Signals) -> None:
        """Send the driver a signal."""
        self.process.send_signal(number)


def finish_here(job: str, arguments: list[str], environment: Mapping[str, str]) -> Finished:
    """Run a job in this process, with the environment of a user's shell, to its end."""
    said, begun, before = io.StringIO(), time.monotonic(), dict(os.environ)
    os.environ.clear()
    os.environ.update({"RAY_AUTH_MODE": "disabled", **_environment(uuid.uuid4().hex, environment)})
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = run_job(job, arguments)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return Finished(code, said.getvalue(), time.monotonic() - begun)


@dataclass
class Cluster:
    """A Ray cluster of these tests' own, and its nodes (processes of `ray start --block`) by name.

    With `guarded`, its clients must show a token. A process that has once shown one asks every later Ray for it, so
    only drivers with a process of their own can use such a cluster.
    """

    mark: str
    port: int
    folder: Path
    environment: dict[str, str]
    nodes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    dashboard: int | None = None
    guarded: bool = False

    @property
    def address(self) -> str:
        """Where drivers reach it."""
        return f"127.0.0.1:{self.port}"

    @property
    def driver_environment(self) -> dict[str, str]:
        """What leads a driver to it; a token is used without being told to, as Ray's own commands do."""
        shown = {"RAY_AUTH_TOKEN": self.token} if self.guarded else {"RAY_AUTH_MODE": "disabled"}
        return {"RAY_ADDRESS": self.address, **shown}

    @property
    def token(self) -> str:
        """What its clients must show."""
        return self.mark * 2

    @property
    def ray_environment(self) -> dict[str, str]:
        """What Ray's own programs need to reach it."""
        return (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token} if self.guarded else {"RAY_AUTH_MODE": "disabled"}
        )

    def start_node(
        self, name: str, *, cpus: int, prefix: tuple[str, ...] = (), resources: Mapping[str, int] | None = None
    ) -> None:
        """Start a node that announces these resources; `prefix` is a command that runs it, such as `unshare -m`."""
        log = self.folder / f"{name}.log"
        ports = free_ports(8)
        command = [*prefix, str(Path(sys.executable).with_name("ray")), "start", "--block", f"--num-cpus={cpus}"]
        command += [f"--resources={json.dumps(resources or {})}"]
        command += ["--disable-usage-stats", "--include-log-monitor=false", f"--object-store-memory={80 << 20}"]
        command += [f"--{name_}-port={port}" for name_, port in zip(_NODE_PORTS, ports, strict=False)]
        command += ["--min-worker-port=0", "--max-worker-port=0", "--node-ip-address=127.0.0.1"]
        if not self.nodes:
            command += ["--head", f"--port={self.port}", f"--temp-dir={self.folder / 'ray'}"]
            command += [f"--ray-client-server-port={ports[6]}"]
            if self.dashboard is None:
                command += ["--include-dashboard=false"]
            else:
                command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1"]
                command += [f"--dashboard-port={self.dashboard}"]
        else:
            command += [f"--address={self.address}"]
        environment = _environment(f"{self.mark}-{name}", {**self.environment, **self.ray_environment})
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, cwd=self.folder, stdout=sink, stderr=sink, env=environment, start_new_session=True
            )
        self.nodes[name] = process
        wait_until(
            lambda: "Ray runtime started" in log.read_text() or process.poll() is not None, f"node {name} starts"
        )
        assert process.poll() is None, f"node {name} did not start:\n{log.read_text()}"

    def workers(self, name: str = "head") -> list[int]:
        """Process numbers of the restoring workers on a node."""
        return workers_of(f"{self.mark}-{name}")

    def kill_node(self, name: str) -> None:
        """Take a node away at once, as a power cut does."""
        end_all(f"{self.mark}-{name}")
        self.nodes.pop(name).wait(30)

    def close(self) -> None:
        """End all nodes."""
        for name in reversed(list(self.nodes)):
            self.kill_node(name)
        shutil.rmtree(self.folder, ignore_errors=True)


_NODE_PORTS = (
    *("object-manager", "node-manager", "dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent"),
    "metrics-export",
)


@contextlib.contextmanager
def cluster(
    *,
    cpus: int = 2,
    environment: Mapping[str, str] | None = None,
    dashboard: bool = False,
    resources: Mapping[str, int] | None = None,
    guarded: bool = False,
) -> Iterator[Cluster]:
    """Start a cluster of one node for the duration of the block."""
    # Ray's socket paths are limited to about 100 characters, which pytest's own folders may exceed.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    port, board = free_ports(2)
    made = Cluster(uuid.uuid4().hex, port, folder, dict(environment or {}), guarded=guarded)
    made.dashboard = board if dashboard else None
    try:
        made.start_node("head", cpus=cpus, resources=resources)
        yield made
    finally:
        made.close()


def blind_to(folder: Path) -> tuple[str, ...]:
    """What to put before a command so that it sees an empty disk in the folder's place."""
    unshare = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh")
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets not even root mount a file system")
    return unshare


@dataclass
class Runs:
    """Starts runs and ends what is left of them."""

    folder: Path
    started: list[Run] = field(default_factory=list)

    def start(
        self,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        faults: str = "",
        on: Cluster | None = None,
        job: str = "restore",
    ) -> Run:
        """Start `mimo restore` with these arguments in a process of its own, on a cluster or with an embedded Ray."""
        log = self.folder / f"run-{len(self.started)}.log"
        run = Run([str(one) for one in arguments], log, _added(environment, faults, on), job=job)
        self.started.append(run)
        return run

    def finish(
        self,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        faults: str = "",
        on: Cluster | None = None,
        job: str = "restore",
    ) -> Finished:
        """Run it to its end: in this process, unless the cluster is guarded."""
        if on is not None and on.guarded:
            return self.start(*arguments, environment=environment, faults=faults, on=on, job=job).end()
        return finish_here(job, [str(one) for one in arguments], _added(environment, faults, on))


def _added(environment: Mapping[str, str] | None, faults: str, on: Cluster | None) -> dict[str, str]:
    """What a run's environment has beyond that of a user's shell."""
    return {"MIMO_FAULTS": faults, **(on.driver_environment if on else {}), **(environment or {})}


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    """Starts runs of this test; all their processes end with it."""
    folder = tmp_path / "logs"
    folder.mkdir()
    made = Runs(folder)
    yield made
    for run in made.started:
        end_all(run.mark)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(10)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Cluster]:
    """A cluster of one node with two CPUs, for all tests that take nothing of it away."""
    with cluster() as made:
        yield made


# Archives and results


def make_archive(folder: Path, count: int, seed: int = 1, size: tuple[int, int] = (64, 96)) -> list[str]:
    """Cut so many small pictures (height, width) out of the sample photographs; return their keys."""
    import cv2

    rng = random.Random(seed)
    photographs = [cv2.imread(str(path)) for path in sorted((ROOT / "samples" / "blurred").iterdir())]
    keys = []
    for number in range(count):
        picture = photographs[number % len(photographs)]
        top, left = rng.randrange(picture.shape[0] - size[0]), rng.randrange(picture.shape[1] - size[1])
        key = f"{number // 10:02d}/{number:03d}.{'png' if number % 3 else 'jpg'}"
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / key), picture[top : top + size[0], left : left + size[1]])
        keys.append(key)
    return keys


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a very small network that changes pixels; the same at every call."""
    import torch

    from mimo_core.models.network import MimoUNet
    from mimo_core.models.weights import ModelSpec, save_weights

    torch.manual_seed(7)
    network = MimoUNet(width=8, num_res=1)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, ModelSpec(8, 1, "nearest"), network.state_dict())
    return path


TORCH = ("--engine", "torch", "--precision", "fp32")


def restore_undisturbed(source: Path, output: Path, weights: Path | None = None) -> None:
    """Leave what a run with these weights and `TORCH` leaves, or one of the identity: by one pipeline, without Ray."""
    outcome = inprocess.run(source, output, weights=None if weights is None else str(weights))
    store = Store(str(output))
    for result in outcome.results:
        write_part(store, result.task.shard, list(result.records.values()))


def outputs(output: Path) -> dict[str, str]:
    """SHA-256 of every output by key."""
    base = output / "images"
    files = (path for path in base.rglob("*") if path.is_file())
    return {path.relative_to(base).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def count_outputs(output: Path) -> int:
    """How many outputs there are."""
    return sum(len(files) for _, _, files in os.walk(output / "images"))


def parts(output: Path) -> set[int]:
    """Numbers of the committed parts."""
    return {int(path.stem[5:]) for path in (output / "records").glob("part-*.parquet")}


def rows(output: Path) -> list[dict[str, object]]:
    """All records, read by plain pyarrow."""
    import pyarrow.parquet as pq

    return [row for path in sorted((output / "records").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def rows_by_key(output: Path) -> dict[str, dict[str, object]]:
    """All records by key; each key has exactly one."""
    found = rows(output)
    twice = [key for key, number in Counter(row["key"] for row in found).items() if number > 1]
    assert not twice, f"more than one record: {twice}"
    return {str(row["key"]): row for row in found}


def written_unrecorded(output: Path) -> bool:
    """Whether some shard's outputs are all written while its part is not committed."""
    import pyarrow.parquet as pq

    for shard in sorted((output / "plan").glob("shard-*.parquet")):
        number = int(shard.stem[6:])
        if number not in parts(output):
            names = pq.read_table(shard, columns=["output"])["output"].to_pylist()
            if all((output / name).exists() for name in names) and number not in parts(output):
                return True
    return False


def check_tree(output: Path) -> None:
    """Nothing lies in a finished run's folder that does not belong there."""
    known = {"images", "plan", "records", "lease"}
    strange = [
        path.relative_to(output).as_posix()
        for path in output.rglob("*")
        if not (path.is_dir() and path.relative_to(output).parts[0] in known)
        and not _belongs(path.relative_to(output).as_posix())
    ]
    assert not strange, f"left behind: {strange}"
    assert len(list((output / "lease").iterdir())) <= 1


def _belongs(name: str) -> bool:
    import re

    return bool(
        re.fullmatch(
            r"run\.json|summary\.json|plan/plan\.json|plan/shard-\d{8}\.parquet|records/part-\d{8}\.parquet"
            r"|lease/epoch-\d{8}\.json|images/.*[^/]",
            name,
        )
    )


def assert_same_run(output: Path, undisturbed: Path, keys: list[str]) -> None:
    """Every key has one record and restored bytes, equal to those of the undisturbed run; nothing is left over."""
    found, expected = rows_by_key(output), rows_by_key(undisturbed)
    assert sorted(found) == sorted(keys) == sorted(expected)
    blamed = {key: row["error"] for key, row in found.items() if row["status"] != "restored"}
    assert not blamed
    written = outputs(output)
    assert written == outputs(undisturbed)
    assert {f"images/{key}": value for key, value in written.items()} == {
        row["output"]: row["output_sha256"] for row in found.values()
    }
    check_tree(output)


def lease_state(output: Path) -> str:
    """The state of the newest lease."""
    newest = sorted((output / "lease").glob("epoch-*.json"))[-1]
    return str(json.loads(newest.read_text())["state"])
