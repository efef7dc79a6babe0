"""The driver of a run: connects to Ray, takes the lease, prepares the run, and lets the pool work on it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import ray

from mimo_core.distributed.execution.execution import Execution, set_distance
from mimo_core.distributed.execution.outcome import Outcome, SetDistance, View
from mimo_core.distributed.preparation import Opening, Prepared, demand_of, open_run, plan_run, settle, suit, wants_gpu
from mimo_core.distributed.resources import VACC, Demand
from mimo_core.distributed.runtime import (
    Connection,
    connect,
    inspect_hardware,
    refuse_unseen_output,
    refuse_unseen_source,
    tune_on_a_node,
)
from mimo_core.distributed.workers.pool import PoolOptions, WorkerPool
from mimo_core.distributed.workers.scheduler import Staff
from mimo_core.distributed.workers.worker import WorkerSetup
from mimo_core.engines.vacc import count_dies
from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.hardware import Hardware
from mimo_core.inference.fault_hook import Faults
from mimo_core.inference.pipeline import PipelineOptions
from mimo_core.inference.tuning import Answer, Question
from mimo_core.inference.tuning import tune as tune_here
from mimo_core.runs.config import RunConfig, parse_workers
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.lease import Lease
from mimo_core.runs.plan import read_plan
from mimo_core.runs.records import scan
from mimo_core.storage import Store
from mimo_core.wording import count


@dataclass(frozen=True)
class Site:
    """Where runs are worked on: a connection to Ray, the workers there, and what they may share.

    Attributes:
        connection: to Ray.
        staff: the workers.
        dies: VACC dies that an embedded Ray has to give out.
        keeps_decoded: whether workers keep decoded images for the next run.
        hardware: of the cluster's nodes that hold workers, as far as it was asked for, by what these take.
        answers: what was measured there.
    """

    connection: Connection
    staff: Staff
    dies: int = 0
    keeps_decoded: bool = False
    hardware: dict[str, Hardware] = field(default_factory=dict)
    answers: dict[Question, Answer] = field(default_factory=dict)


def run(config: RunConfig, view: View, site: Site | None = None) -> Outcome:
    """Work on a run until every image of the plan has its record.

    Args:
        config: what is asked for.
        view: is told what goes on.
        site: where several runs are worked on in turn; None opens one for this run.

    Raises:
        UsageError: the configuration cannot work.
        SystemFailure, LeaseLostError, TooManyFailuresError: the run stopped; it can be resumed.
        KeyboardInterrupt: so too; workers are gone, what is committed stays, the lease is given back.
    """
    folder = RunFolder(Store(config.output))
    opening = open_run(config, folder)
    if opening.manifest is not None and config.mode == "resume":
        plan = read_plan(folder.store)
        if plan is not None and len(folder.committed()) == plan.num_shards:
            # Nothing is left to do but to tidy up, so Ray is not needed.
            recipe = settle(config, opening, Hardware.here())
            statistics, summary = scan(folder.store), folder.summary()
            distance = set_distance(folder, recipe) if summary is None else SetDistance.of(summary)
            outcome = Outcome(statistics, recipe, plan, 0, 0.0, 0.0, (), 0, distance=distance)
            with leased(folder, view):
                if summary is None:
                    # The last driver died between its last part and this.
                    folder.write_summary(outcome.summary())
            return outcome
    with nullcontext(site) if site is not None else _site_for(config, opening) as place, leased(folder, view) as lease:
        return _work(config, folder, opening, place, lease, view)


@contextmanager
def _site_for(config: RunConfig, opening: Opening) -> Iterator[Site]:
    dies = dies_here(config.vacc_python) if opening.vacc else 0
    if opening.vacc and not dies and not os.environ.get("RAY_ADDRESS"):
        # Before Ray starts, which takes seconds.
        raise no_card()
    with connect(config.device, dies) as connection:
        yield Site(connection, Staff(), dies)


def _work(config: RunConfig, folder: RunFolder, opening: Opening, site: Site, lease: Lease, view: View) -> Outcome:
    faults = Faults.from_environment()
    if config.mode != "overwrite" and folder.manifest() != opening.manifest:
        # Another driver began the run while this one waited for the lease.
        opening = open_run(config, folder)
    probe = None if site.connection.embedded else refuse_unseen_output(folder.store)
    hardware = _hardware(config, opening, site, view)

    def tune(question: Question) -> Answer:
        if question not in site.answers:
            if site.connection.embedded:
                answer = tune_here(question)
            else:
                # Workers that wait for a run hold what the measurement needs.
                site.staff.close()
                answer = tune_on_a_node(question, view.say)
            view.say(answer.reason)
            site.answers[question] = answer
        return site.answers[question]

    opening = suit(config, opening, hardware)
    recipe = settle(config, opening, hardware, tune)
    plan = plan_run(config, folder, opening, recipe, view.say)
    if not site.connection.embedded:
        refuse_unseen_source(plan.shard(0)[0].source)
    prepared = Prepared(recipe, plan, demand_of(config, recipe, hardware, opening.weights))
    minimum, maximum = parse_workers(config.workers)
    setup = WorkerSetup(
        store=folder.store,
        recipe=recipe,
        # Ray shows a worker its own GPU only, and tells it which die is its own.
        device=config.device if config.device.startswith("vacc:") else recipe.device_type,
        options=PipelineOptions(memory=min(2 << 30, hardware.memory // 8)),
        probe=probe,
        vacc_python=config.vacc_python,
        faults=faults,
        decoded=_decoded_bytes(hardware) if site.keeps_decoded else 0,
    )
    options = PoolOptions(
        min(minimum, plan.num_shards),
        min(maximum, plan.num_shards) if maximum is not None else plan.num_shards,
        prepared.demand,
        config.timeout,
    )
    view.say(describe(prepared, chosen=config.weights is not None or opening.manifest is not None))
    networks = tuple(ray.put(network) for network in (opening.weights, opening.inception))
    pool = WorkerPool(setup, networks, options, view.say, site.staff)
    return Execution(config, folder, lease, prepared, pool, view, faults).run()


def _hardware(config: RunConfig, opening: Opening, site: Site, view: View) -> Hardware:
    """Return what a node that holds workers has; asked of a cluster once for each kind of worker."""
    if site.connection.embedded:
        if opening.vacc and not site.dies:
            raise no_card()
        return Hardware.here(vacc_dies=site.dies)
    gpu = wants_gpu(config, opening, ray.cluster_resources().get("GPU", 0))
    demand = Demand(gpus=int(gpu), custom={VACC: 1} if opening.vacc else {})
    kind = f"{demand.items()} {config.vacc_python}"
    if kind not in site.hardware:
        site.staff.close()
        site.hardware[kind] = inspect_hardware(demand, view.say, config.vacc_python)
    return site.hardware[kind]


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
    return 0 if os.environ.get("RAY_ADDRESS") else count_dies(vacc_python)


def no_card() -> SystemFailure:
    """Return the error of a machine that has no VACC die."""
    return SystemFailure(
        ErrorKind.DEVICE,
        "no VACC card is here: vaststreamx cannot be imported and there is no /dev/vacc*; name a Python that has "
        "vaststreamx with --vacc-python, or a cluster with RAY_ADDRESS",
    )


@contextmanager
def leased(folder: RunFolder, view: View) -> Iterator[Lease]:
    """Hold the folder's lease for the duration of the block."""
    if folder.store.path is None:
        # Local disks always do; some imitations of S3 ignore the condition.
        folder.store.check_exclusive()
    lease = Lease.acquire(folder.store, view.say)
    try:
        folder.tidy()
        yield lease
        folder.tidy()
    finally:
        lease.release()
    # Giving the lease back was one more write.
    folder.store.remove_leftovers()
