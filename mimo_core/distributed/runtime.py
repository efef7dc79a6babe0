"""Connecting to Ray: the cluster that `RAY_ADDRESS` names, or an embedded one that lives as long as the run."""

import logging
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import NodeDiedError, RayActorError, TaskUnschedulableError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import mimo_core
from mimo_core.distributed.ray_private import require_supported_ray, silence_notices, use_token
from mimo_core.distributed.resources import UNITS_VARIABLE, VACC, Demand, describe_shortage, free_slots
from mimo_core.engines.vacc import count_dies
from mimo_core.errors import ErrorKind, SystemFailure, UsageError
from mimo_core.hardware import Hardware, usable_cores
from mimo_core.inference.tuning import Answer, Question, tune
from mimo_core.storage import Store, is_local

# Only shard numbers and the weights pass through the object store.
_OBJECT_STORE_BYTES = 256 << 20
_FIRST_NOTICE_SECONDS = 5.0
_NOTICE_SECONDS = 30.0
_SHARED = "use a folder that all nodes share, or a bucket such as s3://bucket/prefix"


@dataclass(frozen=True)
class Connection:
    """A connection to Ray; `embedded` if this process started it."""

    embedded: bool
    address: str


@contextmanager
def connect(device: str = "auto", dies: int = 0) -> Iterator[Connection]:
    """Connect to the cluster of `RAY_ADDRESS`, or start an embedded Ray, and disconnect in the end.

    Args:
        device: as asked for; `cuda:N` shows an embedded Ray that GPU alone, `vacc:N` one die.
        dies: VACC dies of this machine, for an embedded Ray to give out.

    Raises:
        UsageError: the address is of a kind that a driver cannot use, or `cuda:N` or `vacc:N` is asked of a cluster,
            where Ray gives them out.
        SystemFailure: there is no cluster at the address.
    """
    require_supported_ray()
    address = os.environ.get("RAY_ADDRESS", "")
    if "://" in address:
        raise UsageError(
            f"RAY_ADDRESS is {address}: a job cannot be driven through that kind of address; "
            "use `ray job submit --working-dir . -- python -m jobs.restore ...`"
        )
    if ":" in device and address:
        kind = device.split(":")[0]
        raise UsageError(f"--device {device}: on a cluster Ray gives out the devices; say --device {kind}")
    if device.startswith("cuda:"):
        os.environ["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's own notice of this setting would be the first thing that a user of a machine without GPUs reads.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            if "RAY_AUTH_MODE" not in os.environ:
                use_token()
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=_runtime_env())
        else:
            os.environ.setdefault(UNITS_VARIABLE, VACC)
            # Its processes end with this one, however it ends; those that look for a dead server do so for a minute.
            os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
            ray.init(
                address="local",
                num_cpus=usable_cores(),
                resources={VACC: min(dies, 1) if device.startswith("vacc:") else dies} if dies else None,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=_OBJECT_STORE_BYTES,
            )
    except ConnectionError as error:
        raise SystemFailure(
            ErrorKind.DEVICE,
            f"no Ray cluster answers at {address} (from RAY_ADDRESS), or it asks for another token (RAY_AUTH_MODE, "
            "RAY_AUTH_TOKEN); unset RAY_ADDRESS to run on this machine",
        ) from error
    silence_notices()
    # Ray takes SIGTERM for itself while connecting.
    signal.signal(signal.SIGTERM, on_term)
    try:
        yield Connection(embedded=not address, address=address or "embedded")
    except KeyboardInterrupt:
        # Shutting down in order takes longer than `ray job stop` waits; Ray's processes end with this one.
        raise
    except BaseException:
        ray.shutdown()
        raise
    else:
        ray.shutdown()


def _runtime_env() -> dict[str, object] | None:
    """Ship the program to the nodes, unless it runs as a submitted job, whose working directory ships it already."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return None
    return {"py_modules": [str(Path(mimo_core.__file__).parent)]}


def refuse_unseen_output(store: Store) -> str | None:
    """Make sure that every node sees the output that this process sees; return the probe's key for later nodes.

    Raises:
        UsageError: some node does not; it is named with the remedy.
    """
    if store.path is None:
        return None
    probe = f"lease/probe-{uuid.uuid4().hex}"
    store.write(probe, b"visible")
    blind = _blind_nodes(lambda strategy: _sees.options(num_cpus=0, scheduling_strategy=strategy).remote(store, probe))
    if blind:
        store.delete(probe)
        raise UsageError(
            f"the output {store} is not visible on {len(blind)} of the cluster's nodes "
            f"({', '.join(blind[:5])}): {_SHARED}"
        )
    return probe


def refuse_unseen_source(source: str) -> None:
    """Make sure that every node sees the folder of a source that this process sees; nothing is asked of a bucket.

    Args:
        source: path or URL of one image of the plan.

    Raises:
        UsageError: some node does not, so that its images would all seem to be missing.
    """
    if not is_local(source):
        return
    folder = Store(source.rpartition("/")[0] or "/").path
    if folder is not None:
        refuse_unseen_folder(folder, f"the source's folder {folder}")


def refuse_unseen_folder(folder: Path, name: str, remedy: str = _SHARED) -> None:
    """Make sure that every node has a folder that this process sees; nothing is asked if it does not see it either.

    Args:
        folder: absolute path.
        name: what the user knows it by.
        remedy: what to do about it.

    Raises:
        UsageError: some node does not have it; it is named with the remedy.
    """
    if not folder.is_dir():
        return
    blind = _blind_nodes(lambda strategy: _is_folder.options(num_cpus=0, scheduling_strategy=strategy).remote(folder))
    if blind:
        raise UsageError(
            f"{name} is not there on {len(blind)} of the cluster's nodes ({', '.join(blind[:5])}): {remedy}"
        )


def _blind_nodes(ask: Callable[[NodeAffinitySchedulingStrategy], Any]) -> list[str]:
    """Return the hosts of the nodes that answer no; nodes that vanish meanwhile are left out."""
    asked = {
        ask(NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)): str(node["NodeManagerHostname"])
        for node in ray.nodes()
        if node["Alive"]
    }
    blind = []
    for reference, host in asked.items():
        try:
            if not ray.get(reference):
                blind.append(host)
        except (RayActorError, TaskUnschedulableError, WorkerCrashedError, NodeDiedError):
            continue
    return sorted(blind)


def inspect_hardware(demand: Demand, say: Callable[[str], None], vacc_python: str | None = None) -> Hardware:
    """Return what a node that can hold a worker has; waits for such a node and says so."""
    hardware: Hardware = _on_a_node(_inspect, (VACC in demand.custom, vacc_python), demand, say)
    return hardware


def tune_on_a_node(question: Question, say: Callable[[str], None]) -> Answer:
    """Return what is fastest on a node that can hold a worker of the CPU.

    Raises:
        UsageError: nothing there can compute what is asked for.
    """
    answer: Answer | UsageError = _on_a_node(_tune, (question,), Demand(cpus=question.threads), say)
    if isinstance(answer, UsageError):
        raise answer
    return answer


def _on_a_node(task: Any, arguments: tuple[Any, ...], demand: Demand, say: Callable[[str], None]) -> Any:
    """Run a task on a node that has what a worker takes; waits for such a node and says so."""
    options = {"num_cpus": demand.cpus, "num_gpus": demand.gpus, "resources": demand.custom or None}
    reference = task.options(**options).remote(*arguments)
    patience = _FIRST_NOTICE_SECONDS
    while not ray.wait([reference], timeout=patience)[0]:
        if not free_slots(demand):
            say(describe_shortage(demand))
            patience = _NOTICE_SECONDS
    return ray.get(reference)


@ray.remote(max_retries=3)
def _sees(store: Store, key: str) -> bool:
    return store.exists(key)


@ray.remote(max_retries=3)
def _is_folder(path: Path) -> bool:
    return path.is_dir()


@ray.remote(max_retries=3)
def _inspect(vacc: bool, vacc_python: str | None) -> Hardware:
    return Hardware.here(vacc_dies=count_dies(vacc_python) if vacc else 0)


@ray.remote(max_retries=3)
def _tune(question: Question) -> Answer | UsageError:
    try:
        return tune(question)
    except UsageError as error:
        return error
