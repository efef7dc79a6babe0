"""The figures of one finished cell, from its records, its summary and its recipe."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mimo_core.errors import UsageError
from mimo_core.images.scales import FULL, JUDGED_FACTORS, parse_scales
from mimo_core.models.architecture import count_parameters, gflops
from mimo_core.models.variants import parse_variant
from mimo_core.runs import records
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.recipe import Recipe
from mimo_core.runs.statistics import SCORES, Statistics
from mimo_core.storage import Store


@dataclass(frozen=True)
class Figures:
    """What a cell came to; None where there is no figure.

    Attributes:
        model: the variant.
        how: engine and precision, and the ensemble if there is one.
        images, restored, failed, skipped: counts; scores are means over the restored.
        gflops: 10^9 operations for one image, mean over the images.
        parameters: millions of them.
        scores: means of what images were scored by, the inputs' too, by record column.
        fid, input_fid: of the whole set.
        shape: of the images as the network saw them, such as `3x360x640`; `3xHxW` where they differ.
        rate: images per second of one session: 1000 / median milliseconds of inference, for a session's first images
            of a size take longer, and a cell that is handed an open session would seem faster than one that is not.
        fingerprint: of the recipe.
    """

    model: str
    how: str
    images: int
    restored: int
    failed: int
    skipped: int
    gflops: float | None
    parameters: float | None
    scores: dict[str, float]
    fid: float | None
    input_fid: float | None
    shape: str
    rate: float | None
    fingerprint: str


def read_figures(store: Store) -> Figures:
    """Return the figures of a finished run.

    Raises:
        UsageError: there is no finished run.
    """
    folder = RunFolder(store)
    manifest, summary = folder.manifest(), folder.summary()
    if manifest is None or summary is None:
        raise UsageError(f"{store} holds no finished run")
    recipe, statistics = manifest.recipe, folder.totals(manifest).sum()
    restored = _restored(store, ["height", "width", "infer_ms"])
    shapes = _shapes(restored, recipe)
    operations = _operations(recipe, shapes, statistics.scales)
    milliseconds = pc.quantile(restored["infer_ms"], 0.5)[0].as_py()
    return Figures(
        model=recipe.model,
        how=_how(recipe),
        images=statistics.images,
        restored=statistics.restored,
        failed=statistics.failed,
        skipped=statistics.skipped,
        gflops=operations,
        parameters=_parameters(recipe),
        scores=_means(statistics),
        fid=summary.get("fid"),
        input_fid=summary.get("input_fid"),
        shape="3x" + "x".join(map(str, next(iter(shapes)))) if len(shapes) == 1 else "3xHxW",
        rate=1e3 / milliseconds if milliseconds and not recipe.given else None,
        fingerprint=manifest.fingerprint,
    )


def read_scores(store: Store) -> pa.Table:
    """Key and scores of a run's restored images: columns `key` and those of SCORES."""
    return _restored(store, ["key", *SCORES])


def _restored(store: Store, columns: list[str]) -> pa.Table:
    """Return columns of the restored images' records, part after part."""
    tables = [records.SCHEMA.empty_table().select(columns)]
    for number in records.part_numbers(store):
        table = records.read_part_table(store, number)
        tables.append(table.filter(pc.equal(table["status"], "restored")).select(columns))
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables], promote_options="permissive")


def _means(statistics: Statistics) -> dict[str, float]:
    means = {name: statistics.mean(name) for name in SCORES}
    return {name: mean for name, mean in means.items() if mean is not None}


def _shapes(restored: pa.Table, recipe: Recipe) -> Counter[tuple[int, int]]:
    """Return how many images have each (height, width) as the network sees them."""
    if recipe.size is not None:
        return Counter({recipe.size: len(restored)}) if len(restored) else Counter()
    return Counter(zip(restored["height"].to_pylist(), restored["width"].to_pylist(), strict=True))


def _operations(recipe: Recipe, shapes: Counter[tuple[int, int]], scales: Mapping[str, int]) -> float | None:
    spec = _spec(recipe)
    if spec is None or not shapes:
        return None
    total = sum(gflops(*spec, *shape) * count for shape, count in shapes.items())
    return recipe.ensemble * _passes(recipe, scales) * total / shapes.total()


def _passes(recipe: Recipe, scales: Mapping[str, int]) -> float:
    """Return what all passes over an image cost on average, in passes at full size; `scales`: what images took."""
    if recipe.factors is not None:
        return _cost(recipe.factors)
    further = {taken: number for taken, number in scales.items() if taken != FULL}
    total = sum(_cost(parse_scales(taken)) * number for taken, number in further.items())
    return _cost(JUDGED_FACTORS) + total / max(1, sum(scales.values()))


def _cost(factors: Iterable[int]) -> float:
    return sum(1 / factor**2 for factor in factors)


def _parameters(recipe: Recipe) -> float | None:
    spec = _spec(recipe)
    return None if spec is None else count_parameters(*spec) / 1e6


def _spec(recipe: Recipe) -> tuple[int, int] | None:
    try:
        return parse_variant(recipe.model)
    except ValueError:
        # No network: copies, or what another tool made.
        return None


def _how(recipe: Recipe) -> str:
    if recipe.given:
        return "as given"
    device = f" on {recipe.device_type}" if recipe.device_type != "cpu" else ""
    ensemble = f", {recipe.ensemble} rotations" if recipe.ensemble > 1 else ""
    return f"{recipe.engine} {recipe.precision}{device}{ensemble}"
