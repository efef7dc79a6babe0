"""The worker: a Ray actor that owns one session and takes one task after another."""

import os
import platform
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray

from mimo_core.distributed.resources import assigned_die
from mimo_core.engines import SessionHost
from mimo_core.engines.vacc.compiled import CompiledModel
from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.images.cache import DecodedImages
from mimo_core.inference.fault_hook import Faults
from mimo_core.inference.open_restorer import session_spec
from mimo_core.inference.pipeline import Pipeline, PipelineOptions
from mimo_core.inference.progress import Snapshot
from mimo_core.inference.task import Task, TaskResult
from mimo_core.metrics.fid.inception import Inception
from mimo_core.models.weights import Weights
from mimo_core.runs.recipe import Recipe
from mimo_core.storage import Store
from mimo_core.storage.outages import set_patience

if TYPE_CHECKING:
    from mimo_core.metrics.fid.extractor import FeatureExtractor

# Two tasks at a worker, so that reading the next shard overlaps computing this one, and one thread to spare.
SLOTS = 2
# 64 MB: of inputs and references that the cells of a sweep share.
_KEPT_FEATURES = 8192
_GROUPS = {"work": SLOTS + 1, "control": 2}


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker of a run is made from, besides its networks, which travel once through the object store.

    `decoded` is how many bytes of decoded images it keeps for the runs to come, 0 for none; `patience` for how many
    seconds it waits for a storage that does not answer.
    """

    store: Store
    recipe: Recipe
    device: str
    options: PipelineOptions
    probe: str | None = None
    vacc_python: str | None = None
    faults: Faults = field(default_factory=Faults)
    decoded: int = 0
    patience: float = 0.0


@dataclass(frozen=True)
class WorkerInfo:
    """Where a worker runs: node (Ray's hexadecimal identity), host, process and device."""

    node: str
    host: str
    pid: int
    device: str


@ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups=_GROUPS)  # type: ignore[call-overload]
class WorkerActor:
    """Opens its session when it is asked whether it is ready; a failure to do so is the answer."""

    def __init__(
        self, setup: WorkerSetup, weights: Weights | CompiledModel | None, inception: Inception | None = None
    ) -> None:
        self._pipeline: Pipeline | None = None
        self._failure: SystemFailure | None = None
        self._host: SessionHost | None = None
        self._session: tuple[object, ...] = ()
        self._decoded: DecodedImages | None = None
        self._extractor: FeatureExtractor | None = None
        self._extracting: tuple[object, ...] = ()
        # Not here: nothing would tell where a worker is that hangs while it opens its session.
        self._to_begin: tuple[Any, ...] | None = (setup, weights, inception)
        self._beginning = threading.Lock()

    def _begin(self, setup: WorkerSetup, weights: Weights | CompiledModel | None, inception: Inception | None) -> None:
        set_patience(setup.patience)
        try:
            if setup.probe is not None and not setup.store.exists(setup.probe):
                raise SystemFailure(
                    ErrorKind.STORAGE,
                    f"node {platform.node()} cannot see the output {setup.store}; use a shared folder or a bucket",
                )
            host = self._open(setup, weights)
            if setup.decoded and self._decoded is None:
                self._decoded = DecodedImages(setup.decoded)
            self._pipeline = Pipeline(
                setup.store,
                setup.recipe,
                host,
                setup.options,
                setup.faults,
                self._extractor_of(setup, inception) if inception is not None else None,
                self._decoded,
            )
        except SystemFailure as failure:
            self._failure = failure
        except Exception as error:  # noqa: BLE001 - the next worker would fail alike, so it is told and not tried again
            self._failure = SystemFailure(
                ErrorKind.DEVICE, f"a session cannot be opened: {type(error).__name__}: {error}"
            )

    def _open(self, setup: WorkerSetup, weights: Weights | CompiledModel | None) -> SessionHost:
        """Open the session, unless the run before had the same one."""
        wanted = (setup.recipe.session, setup.device, setup.vacc_python)
        if self._host is not None and self._session == wanted:
            return self._host
        if self._host is not None:
            self._host.close()
            self._host = None
        device = f"vacc:{assigned_die()}" if setup.device == "vacc" else setup.device
        self._host = SessionHost(session_spec(setup.recipe, weights, device, setup.vacc_python))
        self._session = wanted
        return self._host

    def _extractor_of(self, setup: WorkerSetup, inception: Inception) -> "FeatureExtractor":
        """Load the Inception network, unless the run before had the same one."""
        wanted = (inception.sha256, setup.device, setup.recipe.threads)
        if self._extractor is None or self._extracting != wanted:
            if self._extractor is not None:
                self._extractor.close()
            # Only here: it computes by PyTorch, which takes seconds and memory that no other run needs.
            from mimo_core.metrics.fid.extractor import FeatureExtractor

            self._extractor = FeatureExtractor(
                inception, setup.device, setup.recipe.threads, kept=_KEPT_FEATURES if setup.decoded else 0
            )
            self._extracting = wanted
        return self._extractor

    @ray.method(concurrency_group="work")
    def assign(
        self, setup: WorkerSetup, weights: Weights | CompiledModel | None, inception: Inception | None = None
    ) -> WorkerInfo | tuple[ErrorKind, str]:
        """Turn to another run, once all tasks of the one before have come back; returns what `ready` does."""
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None
        self._failure = None
        self._begin(setup, weights, inception)
        return self._info()

    @ray.method(concurrency_group="control")
    def here(self) -> str:
        """Return the name of the host."""
        return platform.node()

    @ray.method(concurrency_group="work")
    def ready(self) -> WorkerInfo | tuple[ErrorKind, str]:
        """Return where the worker is once its session is open, or the failure that kept it from opening."""
        with self._beginning:
            if self._to_begin is not None:
                self._begin(*self._to_begin)
                self._to_begin = None
        return self._info()

    def _info(self) -> WorkerInfo | tuple[ErrorKind, str]:
        if self._pipeline is None:
            failure = self._failure or SystemFailure(ErrorKind.INTERNAL, "the worker did not start")
            return failure.kind, str(failure)
        context = ray.get_runtime_context()
        return WorkerInfo(context.get_node_id(), platform.node(), os.getpid(), self._pipeline.device_name)

    @ray.method(concurrency_group="work")
    def process(self, task: Task) -> TaskResult:
        """Restore the rows of the task and return their records."""
        assert self._pipeline is not None
        return self._pipeline.submit(task).result()

    @ray.method(concurrency_group="control")
    def hand_back(self) -> None:
        """Begin no more images; the tasks come back with the records that they have then."""
        assert self._pipeline is not None
        self._pipeline.hand_back()

    @ray.method(concurrency_group="control")
    def snapshot(self) -> Snapshot:
        """Return what the worker is doing; answered at any time."""
        assert self._pipeline is not None
        return self._pipeline.snapshot()
