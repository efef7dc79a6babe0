"""`--dry-run`: what a run would do, found out without writing anything or starting Ray."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from mimo_core.datasets.imagelist import ImageEntry
from mimo_core.distributed.preparation import entries_of, request_of, resolve, shard_size_of
from mimo_core.hardware import Hardware
from mimo_core.runs.config import RunConfig
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.plan import read_plan
from mimo_core.runs.plan_writer import new_entries
from mimo_core.runs.recipe import Recipe
from mimo_core.storage import Store

_SHOWN = 5


@dataclass(frozen=True)
class DryRun:
    """What the same command without `--dry-run` would do.

    Attributes:
        folder: OUTPUT.
        recipe: the choices, as this machine would make them.
        resumes: whether OUTPUT holds the run already.
        images, shards: of the whole run, what would be added to it included.
        shards_done: shards that have their records.
        added: images that `--mode extend` would add to the run; None in another mode.
        bytes: sum of the known sizes of the sources of a new run, or of what would be added.
        first_keys: of a new run, or of what would be added.
    """

    folder: str
    recipe: Recipe
    resumes: bool
    images: int
    shards: int
    shards_done: int = 0
    added: int | None = None
    bytes: int = 0
    first_keys: tuple[str, ...] = ()


def dry_run(config: RunConfig) -> DryRun:
    """Return what a run would do; see `DryRun`.

    Raises:
        UsageError: what the run itself would refuse.
    """
    folder = RunFolder(Store(config.output))
    resolved = resolve(request_of(config, folder), Hardware.here())
    name = str(folder.store)
    if resolved.manifest is not None:
        plan = read_plan(folder.store)
        images, shards = (plan.num_images, plan.num_shards) if plan is not None else (0, 0)
        done = len(folder.committed())
        if config.mode != "extend" or plan is None:
            return DryRun(name, resolved.recipe, True, images, shards, done)
        added, size, keys = _count(new_entries(plan, entries_of(config)))
        shards += -(-added // plan.shard_size)
        return DryRun(name, resolved.recipe, True, images + added, shards, done, added, size, keys)
    images, size, keys = _count(entries_of(config))
    shards = -(-images // shard_size_of(config, images))
    return DryRun(name, resolved.recipe, False, images, shards, bytes=size, first_keys=keys)


def _count(entries: Iterator[ImageEntry]) -> tuple[int, int, tuple[str, ...]]:
    """Return how many entries there are, the sum of their known sizes, and the first keys."""
    first = list(islice(entries, _SHOWN))
    images, size = len(first), sum(entry.size or 0 for entry in first)
    for entry in entries:
        images += 1
        size += entry.size or 0
    return images, size, tuple(entry.key for entry in first)
