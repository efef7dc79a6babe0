"""Ray clusters of the tests' own, of one node or several on this machine."""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fixtures_s3 import free_ports
from processes import end_all, shell_environment, wait_until, workers_of


@dataclass
class Cluster:
    """A Ray cluster of these tests' own, and its nodes (processes of `ray start --block`) by name.

    `metrics` is the port at which its head tells Prometheus. With `guarded`, its clients must show a token. A process
    that has once shown one asks every later Ray for it, so only drivers with a process of their own can use such a
    cluster.
    """

    mark: str
    port: int
    folder: Path
    environment: dict[str, str]
    nodes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    dashboard: int | None = None
    guarded: bool = False
    metrics: int = 0

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
        self,
        name: str,
        *,
        cpus: int,
        prefix: tuple[str, ...] = (),
        resources: Mapping[str, int] | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        """Start a node that announces these resources.

        Args:
            name: what tests call it.
            cpus: that it announces.
            prefix: a command that runs it, such as `unshare -m`.
            resources: that it announces, too.
            options: more of `ray start`.
        """
        log = self.folder / f"{name}.log"
        ports = free_ports(8)
        command = [*prefix, str(Path(sys.executable).with_name("ray")), "start", "--block", f"--num-cpus={cpus}"]
        command += [f"--resources={json.dumps(resources or {})}"]
        command += ["--disable-usage-stats", "--include-log-monitor=false", f"--object-store-memory={80 << 20}"]
        command += [f"--{name_}-port={port}" for name_, port in zip(_NODE_PORTS, ports, strict=False)]
        command += ["--min-worker-port=0", "--max-worker-port=0", "--node-ip-address=127.0.0.1"]
        if not self.nodes:
            self.metrics = ports[5]
            command += ["--head", f"--port={self.port}", f"--temp-dir={self.folder / 'ray'}"]
            command += [f"--ray-client-server-port={ports[6]}"]
            if self.dashboard is None:
                command += ["--include-dashboard=false"]
            else:
                command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1"]
                command += [f"--dashboard-port={self.dashboard}"]
        else:
            command += [f"--address={self.address}"]
        command += options
        environment = shell_environment(f"{self.mark}-{name}", {**self.environment, **self.ray_environment})
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


_NO_COMMANDS = (
    *("setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter"),
)
_FAKE_HEAD = "f" * 51 + "00000"


@contextlib.contextmanager
def autoscaling_cluster(most: int) -> Iterator[Cluster]:
    """Start a head without CPUs, whose autoscaler adds nodes of one CPU and takes them away when they are idle.

    Ray's `AutoscalingCluster` does the same, but begins by ending every other Ray of this machine, and needs a file
    that Ray's wheel lacks.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    (port,) = free_ports(1)
    config = {
        "cluster_name": "fake",
        "max_workers": most,
        "idle_timeout_minutes": 0.1,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": f"127.0.0.1:{port}",
            "head_node_id": _FAKE_HEAD,
            "launch_multiple": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "foreground_node_launch": True,
            "use_node_id_as_ip": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 1, "object_store_memory": 80 << 20},
                "node_config": {},
                "min_workers": 0,
                "max_workers": most,
            },
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "file_mounts": {},
        **{name: [] for name in _NO_COMMANDS},
    }
    scaling = folder / "autoscaler.json"
    scaling.write_text(json.dumps(config))
    environment = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _FAKE_HEAD,
        # That of the other autoscaler needs the file.
        "RAY_enable_autoscaler_v2": "0",
    }
    made = Cluster(uuid.uuid4().hex, port, folder, environment)
    try:
        made.start_node("head", cpus=0, options=(f"--autoscaling-config={scaling}",))
        yield made
    finally:
        made.close()


def blind_to(folder: Path) -> tuple[str, ...]:
    """What to put before a command so that it sees an empty disk in the folder's place."""
    unshare = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh")
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets not even root mount a file system")
    return unshare


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Cluster]:
    """A cluster of one node with two CPUs, for all tests that take nothing of it away."""
    with cluster() as made:
        yield made
