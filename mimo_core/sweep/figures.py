"""The figures of one finished cell, from its records, its summary and its recipe."""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mimo_core.errors import UsageError
from mimo_core.images.scales import format_scales, parse_scales
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
    restored = _restored(store, ["height", "width", "infer_ms", "scales"])
    taken = _taken(restored, recipe)
    shapes = {shape for shape, _ in taken}
    milliseconds = pc.quantile(restored["infer_ms"], 0.5)[0].as_py()
    return Figures(
        model=recipe.model,
        how=_how(recipe),
        images=statistics.images,
        restored=statistics.restored,
        failed=statistics.failed,
        skipped=statistics.skipped,
        gflops=_operations(recipe, taken),
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
    """Return columns of the restored images' records, part after part; null where a part is older than a column."""
    tables = [records.SCHEMA.empty_table().select(columns)]
    for number in records.part_numbers(store):
        table = records.read_part_table(store, number)
        there = [name for name in columns if name in table.column_names]
        tables.append(table.filter(pc.equal(table["status"], "restored")).select(there))
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables], promote_options="permissive")


def _means(statistics: Statistics) -> dict[str, float]:
    means = {name: statistics.mean(name) for name in SCORES}
    return {name: mean for name, mean in means.items() if mean is not None}


Taken = Counter[tuple[tuple[int, int], str]]
"""How many images have each shape (height, width), as the network sees them, and took each passes."""


def _taken(restored: pa.Table, recipe: Recipe) -> Taken:
    columns = ("height", "width", "scales")
    rows = zip(*(restored[name].to_pylist() for name in columns), strict=True)
    usual = format_scales(recipe.factors or (1,))
    return Counter((recipe.size or (height, width), scales or usual) for height, width, scales in rows)


def _operations(recipe: Recipe, taken: Taken) -> float | None:
    spec = _spec(recipe)
    if spec is None or not taken:
        return None
    from mimo_core.inference.coarse_to_fine import passes_of

    total = sum(
        gflops(*spec, *seen) * count
        for (shape, scales), count in taken.items()
        for seen in passes_of(shape, parse_scales(scales), judged=recipe.factors is None)
    )
    return recipe.ensemble * total / taken.total()


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
