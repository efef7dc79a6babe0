"""The driver of a run: makes its choices, connects to Ray, takes the lease, plans, and lets the pool work on it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import ray

from mimo_core.distributed.connection import Connection, cluster_address, connect
from mimo_core.distributed.execution.execution import Execution, set_distance
from mimo_core.distributed.metrics import RunMetrics
from mimo_core.distributed.nodes import inspect_hardware, refuse_unseen_output, refuse_unseen_source, tune_on_a_node
from mimo_core.distributed.observer import Observer
from mimo_core.distributed.outcome import Outcome, SetDistance
from mimo_core.distributed.preparation import (
    Prepared,
    Request,
    Resolved,
    demand_of,
    pixel_budget,
    plan_run,
    request_of,
    resolve,
)
from mimo_core.distributed.resources import VACC, Demand
from mimo_core.distributed.workers.options import PoolOptions
from mimo_core.distributed.workers.pool import WorkerPool
from mimo_core.distributed.workers.ray_scheduler import RayScheduler
from mimo_core.distributed.workers.scheduler import Scheduler
from mimo_core.distributed.workers.worker import WorkerSetup
from mimo_core.engines.vacc import count_dies
from mimo_core.errors import ErrorKind, SystemFailure, UsageError
from mimo_core.hardware import Hardware
from mimo_core.inference.fault_hook import Faults
from mimo_core.inference.pipeline import PipelineOptions
from mimo_core.inference.tuning import Answer, Question
from mimo_core.inference.tuning import tune as tune_here
from mimo_core.runs.config import RunConfig, parse_labels, parse_workers
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.lease import Lease
from mimo_core.runs.plan import Plan, read_plan
from mimo_core.runs.replacement import discard_replacement
from mimo_core.storage import Store
from mimo_core.storage.outages import patient
from mimo_core.wording import count


@dataclass(frozen=True)
class Cluster:
    """Where runs are worked on, an embedded Ray included: the connection, the workers, and what runs in turn share.

    Attributes:
        connection: to Ray.
        scheduler: starts the workers.
        dies: VACC dies that an embedded Ray has to give out.
        keeps_decoded: whether workers keep decoded images for the next run.
        hardware: of the cluster's nodes that hold workers, as far as it was asked for, by what these take.
        answers: what was measured there.
    """

    connection: Connection
    scheduler: Scheduler
    dies: int = 0
    keeps_decoded: bool = False
    hardware: dict[str, Hardware] = field(default_factory=dict)
    answers: dict[Question, Answer] = field(default_factory=dict)

    def hardware_for(self, request: Request, observer: Observer) -> Hardware:
        """Return what a node that holds workers has; asked of a cluster once for each kind of worker."""
        labels = parse_labels(request.config.worker_label)
        if self.connection.embedded:
            if labels:
                raise UsageError("--worker-label is for nodes of a cluster: name one in RAY_ADDRESS, or leave it out")
            if request.vacc and not self.dies:
                raise no_card()
            return Hardware.here(vacc_dies=self.dies)
        gpu = request.wants_gpu(ray.cluster_resources().get("GPU", 0))
        demand = Demand(gpus=int(gpu), custom={VACC: 1} if request.vacc else {}, labels=labels)
        kind = f"{demand.items()} {labels} {request.config.vacc_python}"
        if kind not in self.hardware:
            self.scheduler.close()
            self.hardware[kind] = inspect_hardware(demand, observer.say, request.config.vacc_python)
        return self.hardware[kind]

    def tune(self, question: Question, labels: dict[str, str], observer: Observer) -> Answer:
        """Return what is fastest where workers run; measured once for each question."""
        if question not in self.answers:
            observer.phase("measuring what is fastest here")
            if self.connection.embedded:
                answer = tune_here(question)
            else:
                # Workers that wait for a run hold what the measurement needs.
                self.scheduler.close()
                answer = tune_on_a_node(question, labels, observer.say)
            observer.say(answer.reason)
            self.answers[question] = answer
        return self.answers[question]


def run(config: RunConfig, observer: Observer, cluster: Cluster | None = None) -> Outcome:
    """Work on a run until every image of the plan has its record.

    Args:
        config: what is asked for.
        observer: is told what goes on.
        cluster: where several runs are worked on in turn; None connects for this run alone, and not at all where
            nothing is left to do.

    Raises:
        UsageError: the configuration cannot work.
        SystemFailure, LeaseLostError, TooManyFailuresError: the run stopped; it can be resumed.
        KeyboardInterrupt: so too; workers are gone, what is committed stays, the lease is given back.
    """
    # Here, so that a malformed value is refused at once.
    faults = Faults.from_environment()
    with patient(config.patience, observer.say):
        return _run(config, observer, cluster, faults)


def _run(config: RunConfig, observer: Observer, cluster: Cluster | None, faults: Faults) -> Outcome:
    folder = RunFolder(Store(config.output))
    observer.phase("looking at SOURCE and OUTPUT")
    request = request_of(config, folder)
    if config.mode == "resume" and (plan := _finished(request, folder)) is not None:
        # Nothing is left to do but to tidy up, so Ray is not needed.
        return _close_finished(folder, resolve(request, Hardware.here()), plan, observer)
    with (
        nullcontext(cluster) if cluster is not None else _cluster_for(request, observer) as place,
        leased(folder, observer) as lease,
    ):
        if config.mode != "overwrite" and folder.manifest() != request.manifest:
            # Another driver began the run while this one waited for the lease.
            request = request_of(config, folder)
        # Before a node's hardware is asked for, which waits for room there.
        probe = None if place.connection.embedded else refuse_unseen_output(folder.store)
        hardware = place.hardware_for(request, observer)
        labels = parse_labels(config.worker_label)
        resolved = resolve(request, hardware, lambda question: place.tune(question, labels, observer))
        return _work(config, folder, resolved, place, lease, observer, faults, probe)


def _finished(request: Request, folder: RunFolder) -> Plan | None:
    """Return the plan of a run in which nothing is left to do."""
    plan = read_plan(folder.store) if request.manifest is not None else None
    return plan if plan is not None and len(folder.committed()) == plan.num_shards else None


def _close_finished(folder: RunFolder, resolved: Resolved, plan: Plan, observer: Observer) -> Outcome:
    statistics, summary = folder.totals(folder.manifest()).sum(), folder.summary()
    distance = set_distance(folder, resolved.recipe) if summary is None else SetDistance.of(summary)
    outcome = Outcome(statistics, resolved.recipe, plan, 0, 0.0, 0.0, (), 0, distance=distance)
    with leased(folder, observer):
        discard_replacement(folder)
        if summary is None:
            # The last driver died between its last part and this.
            folder.write_summary(outcome.summary())
    return outcome


@contextmanager
def _cluster_for(request: Request, observer: Observer) -> Iterator[Cluster]:
    address = cluster_address()
    dies = dies_here(request.config.vacc_python) if request.vacc else 0
    if request.vacc and not dies and not address:
        # Before Ray starts, which takes seconds.
        raise no_card()
    observer.phase(f"connecting to Ray at {address}" if address else "starting Ray")
    with connect(request.config.device, dies, observer.lost) as connection:
        yield Cluster(connection, RayScheduler(), dies)


def _work(
    config: RunConfig,
    folder: RunFolder,
    resolved: Resolved,
    cluster: Cluster,
    lease: Lease,
    observer: Observer,
    faults: Faults,
    probe: str | None,
) -> Outcome:
    plan = plan_run(config, folder, resolved, observer)
    if not cluster.connection.embedded:
        refuse_unseen_source(plan.shard(0)[0].source)
    demand = replace(demand_of(config, resolved), labels=parse_labels(config.worker_label))
    prepared = Prepared(resolved.recipe, plan, demand)
    minimum, maximum = parse_workers(config.workers)
    setup = WorkerSetup(
        store=folder.store,
        recipe=resolved.recipe,
        # Ray shows a worker its own GPU only, and tells it which die is its own.
        device=config.device if config.device.startswith("vacc:") else resolved.recipe.device_type,
        options=PipelineOptions(memory=pixel_budget(resolved.hardware, prepared.demand)),
        probe=probe,
        vacc_python=config.vacc_python,
        faults=faults,
        decoded=_decoded_bytes(resolved.hardware) if cluster.keeps_decoded else 0,
        patience=config.patience,
    )
    options = PoolOptions(
        min(minimum, plan.num_shards),
        min(maximum, plan.num_shards) if maximum is not None else plan.num_shards,
        prepared.demand,
        config.timeout,
        config.patience,
        asks=not cluster.connection.embedded,
    )
    observer.say(describe(prepared, chosen=config.weights is not None or resolved.manifest is not None))
    observer.phase("opening the workers' sessions")
    networks = tuple(ray.put(network) for network in (resolved.weights, resolved.inception))
    pool = WorkerPool(setup, networks, options, observer.say, cluster.scheduler)
    # Nobody reads those of a Ray that ends with the run.
    metrics = None if cluster.connection.embedded else RunMetrics(folder.store.name)
    return Execution(config, folder, lease, prepared, pool, observer, faults, metrics).run()


def _decoded_bytes(hardware: Hardware) -> int:
    """Return how much a worker may keep of decoded images."""
    return min(2 << 30, hardware.memory // (8 * max(1, hardware.cores)))


def describe(prepared: Prepared, *, chosen: bool) -> str:
    """Return what is about to be done, in one line; weights that nobody has `chosen` are called the default."""
    recipe, plan = prepared.recipe, prepared.plan
    images = f"{count(plan.num_images, 'image')} in {count(plan.num_shards, 'shard')}"
    if recipe.given:
        return f"{images}; scoring {recipe.model_name}; recipe {recipe.fingerprint()[:12]}"
    what = "copying (identity)" if recipe.engine == "identity" else recipe.method
    if not chosen and recipe.engine != "identity":
        what += " (the default weights)"
    return (
        f"{images}; {what}, {recipe.engine}, {recipe.precision} on {recipe.device_type}; recipe "
        f"{recipe.fingerprint()[:12]}"
    )


def dies_here(vacc_python: str | None) -> int:
    """Return how many VACC dies an embedded Ray has to give out; 0 where a cluster will be asked."""
    return 0 if cluster_address() else count_dies(vacc_python)


def no_card() -> SystemFailure:
    """Return the error of a machine that has no VACC die."""
    return SystemFailure(
        ErrorKind.DEVICE,
        "no VACC card is here: vaststreamx cannot be imported and there is no /dev/vacc*; name a Python that has "
        "vaststreamx with --vacc-python, or a cluster with RAY_ADDRESS",
    )


@contextmanager
def leased(folder: RunFolder, observer: Observer) -> Iterator[Lease]:
    """Hold the folder's lease for the duration of the block."""
    if folder.store.path is None:
        # Local disks always do; some imitations of S3 ignore the condition.
        folder.store.check_exclusive()
    lease = Lease.acquire(folder.store, observer.say)
    try:
        folder.tidy()
        yield lease
        folder.tidy()
    finally:
        lease.release()
    # Giving the lease back was one more write.
    folder.store.remove_leftovers()
