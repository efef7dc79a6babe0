"""A run in this process, without Ray: plan the source, let one pipeline work, and return what came of it."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from mimo_core.datasets.imagelist import list_images
from mimo_core.engines import SessionSpec
from mimo_core.inference.fault_hook import Faults
from mimo_core.inference.pipeline import Pipeline, PipelineOptions
from mimo_core.inference.task import Task, TaskResult
from mimo_core.models.weights import Weights, load_weights
from mimo_core.runs.plan import Plan
from mimo_core.runs.plan_writer import write_plan
from mimo_core.runs.recipe import Recipe
from mimo_core.runs.record import Record
from mimo_core.storage import Store

LITE = "golden:mimo-unet-lite"
_DEFAULTS = {
    "interpolation": "nearest",
    "device_type": "cpu",
    "precision": "fp32",
    "size": None,
    "tile": (512, 512),
    "overlap": 32,
    "call_pixels": 1 << 20,
    "batch": 1,
    "threads": 1,
    "max_pixels": 1 << 24,
    "format": "same",
    "quality": None,
}


def recipe_of(weights: Weights | None = None, **changes: object) -> Recipe:
    """A recipe: of the identity engine, or of these weights."""
    model = (
        {"model": "identity", "weights": "none", "weights_sha256": "", "engine": "identity"}
        if weights is None
        else {"model": weights.spec.variant, "weights": weights.source, "weights_sha256": weights.sha256}
        | {"engine": "torch"}
    )
    return Recipe.model_validate({**_DEFAULTS, **model, **changes})


@dataclass
class InProcessRun:
    """What came of a run: results by task, the records by key, and where the outputs lie."""

    plan: Plan
    recipe: Recipe
    folder: Path
    results: list[TaskResult] = field(default_factory=list)

    @property
    def records(self) -> dict[str, Record]:
        """Records by key; fails where a row has none or a task failed."""
        assert [result.failure for result in self.results] == [None] * len(self.results)
        for result in self.results:
            assert sorted(result.records) == list(result.task.rows)
        keys = [row.key for row in self.plan.rows()]
        found = [record for result in self.results for _, record in sorted(result.records.items())]
        assert [record.key for record in found] == keys, "one record for each row, in the order of the plan"
        return {record.key: record for record in found}

    def output(self, key: str) -> bytes:
        """The bytes written for an image."""
        name = self.records[key].output
        assert name is not None
        return (self.folder / name).read_bytes()


def plan_of(
    source: Path,
    folder: Path,
    *,
    reference: Path | None = None,
    restored: Path | None = None,
    shard_size: int = 64,
    **changes: str,
) -> Plan:
    """Plan the images of a folder (or of a list), with what another tool made of them in `restored`."""
    entries = list_images(str(source), reference=None if reference is None else str(reference))
    if restored is not None:
        entries = (replace(entry, restored=str(restored / entry.key)) for entry in entries)
    return write_plan(Store(str(folder)), entries, shard_size=shard_size, **changes)  # type: ignore[arg-type]


def run(
    source: Path,
    folder: Path,
    *,
    weights: str | None = None,
    reference: Path | None = None,
    restored: Path | None = None,
    shard_size: int = 64,
    options: PipelineOptions | None = None,
    plan: Plan | None = None,
    faults: Faults | None = None,
    **changes: object,
) -> InProcessRun:
    """Restore a source with one pipeline."""
    loaded = load_weights(weights) if weights is not None else None
    recipe = recipe_of(loaded, **changes)
    plan = plan or plan_of(
        source,
        folder,
        reference=reference,
        restored=restored,
        shard_size=shard_size,
        output_format=str(changes.get("format", "same")),
    )
    spec = SessionSpec(recipe.engine, "cpu", recipe.precision, loaded, threads=1)
    pipeline = Pipeline(Store(str(folder)), recipe, spec, options or PipelineOptions(), faults)
    tasks = [Task(shard, tuple(range(len(plan.shard(shard))))) for shard in range(plan.num_shards)]
    waiting = [pipeline.submit(task) for task in tasks]
    results = [one.result(timeout=300) for one in waiting]
    pipeline.close()
    return InProcessRun(plan, recipe, folder, results)
