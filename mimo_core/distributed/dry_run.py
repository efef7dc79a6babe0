"""`--dry-run`: what a run would do, found out without writing anything or starting Ray."""

from dataclasses import dataclass

from mimo_core.distributed.preparation import entries_of, request_of, resolve, shard_size_of
from mimo_core.hardware import Hardware
from mimo_core.runs.config import RunConfig
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.plan import read_plan
from mimo_core.runs.recipe import Recipe
from mimo_core.storage import Store

_SHOWN = 5


@dataclass(frozen=True)
class DryRun:
    """What the same command without `--dry-run` would do.

    Attributes:
        folder: OUTPUT.
        recipe: the choices, as this machine would make them.
        resumes: whether OUTPUT holds the run already; what `--mode extend` would add to it is not counted.
        images, shards: of the whole run.
        shards_done: shards that have their records.
        bytes: sum of the known sizes of the sources of a new run.
        first_keys: of a new run.
        paired: images of a new run whose reference is there, 0 where none is asked for.
        unseen: those whose reference nobody looked for, because a list or a web address names it.
        unpaired: keys of the first few whose reference is not there.
    """

    folder: str
    recipe: Recipe
    resumes: bool
    images: int
    shards: int
    shards_done: int = 0
    bytes: int = 0
    first_keys: tuple[str, ...] = ()
    paired: int = 0
    unseen: int = 0
    unpaired: tuple[str, ...] = ()


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
        return DryRun(name, resolved.recipe, True, images, shards, len(folder.committed()))
    images = size = paired = unseen = 0
    first: list[str] = []
    unpaired: list[str] = []
    for entry in entries_of(config):
        images += 1
        size += entry.size or 0
        paired += entry.paired is True
        unseen += entry.reference is not None and entry.paired is None
        if len(first) < _SHOWN:
            first.append(entry.key)
        if entry.paired is False and len(unpaired) < _SHOWN:
            unpaired.append(entry.key)
    shards = -(-images // shard_size_of(config, images))
    counts = {"images": images, "shards": shards, "bytes": size, "paired": paired, "unseen": unseen}
    return DryRun(name, resolved.recipe, False, **counts, first_keys=tuple(first), unpaired=tuple(unpaired))
