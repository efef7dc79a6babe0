"""Questions to the nodes of the connected Ray: what they see, what they have, what is fastest there."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import NodeDiedError, RayActorError, RayError, TaskUnschedulableError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mimo_core.distributed.ray_errors import why_unfit
from mimo_core.distributed.resources import VACC, Demand, describe_shortage, free_slots
from mimo_core.engines.vacc import count_dies
from mimo_core.errors import ErrorKind, SystemFailure, UsageError
from mimo_core.hardware import Hardware
from mimo_core.inference.tuning import Answer, Question, tune
from mimo_core.storage import Store, is_local

_FIRST_NOTICE_SECONDS = 5.0
_NOTICE_SECONDS = 30.0
_SHARED = "use a folder that all nodes share, or a bucket such as s3://bucket/prefix"


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


def tune_on_a_node(question: Question, labels: dict[str, str], say: Callable[[str], None]) -> Answer:
    """Return what is fastest on a node with these labels that can hold a worker of the CPU.

    Raises:
        UsageError: nothing there can compute what is asked for.
    """
    answer: Answer | UsageError = _on_a_node(_tune, (question,), Demand(cpus=question.threads, labels=labels), say)
    if isinstance(answer, UsageError):
        raise answer
    return answer


def _on_a_node(task: Any, arguments: tuple[Any, ...], demand: Demand, say: Callable[[str], None]) -> Any:
    """Run a task on a node that has what a worker takes; waits for such a node and says so."""
    # It needs little memory, whatever a worker needs.
    reference = task.options(**{**demand.options(), "memory": None}).remote(*arguments)
    patience = _FIRST_NOTICE_SECONDS
    while not ray.wait([reference], timeout=patience)[0]:
        if not free_slots(demand):
            say(describe_shortage(demand))
            patience = _NOTICE_SECONDS
    try:
        return ray.get(reference)
    except RayError as error:
        raise SystemFailure(ErrorKind.DEVICE, f"a node of the cluster gives no answer: {why_unfit(error)}") from error


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
