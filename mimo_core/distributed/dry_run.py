"""`--dry-run`: what a run would do, found out without writing anything or starting Ray."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mimo_core.datasets.imagelist import ImageEntry
from mimo_core.datasets.left_aside import LeftAside
from mimo_core.distributed.preparation import entries_of, request_of, resolve, shard_size_of
from mimo_core.hardware import Hardware
from mimo_core.runs.config import RunConfig
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.plan import Plan, read_plan
from mimo_core.runs.plan_writer import Clashes, new_entries, try_plan
from mimo_core.runs.recipe import Recipe
from mimo_core.storage import Store

_SHOWN = 5


@dataclass(frozen=True)
class Listed:
    """What was found in listing images.

    Attributes:
        images: their number.
        bytes: sum of the known sizes of their sources.
        first_keys: of the first few.
        paired: images whose reference is there, 0 where none is asked for.
        unseen: those whose reference nobody looked for, because a list or a web address names it.
        unpaired: keys of the first few whose reference is not there.
        aside: how many files are left aside that are no images by name, by extension.
    """

    images: int = 0
    bytes: int = 0
    first_keys: tuple[str, ...] = ()
    paired: int = 0
    unseen: int = 0
    unpaired: tuple[str, ...] = ()
    aside: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DryRun:
    """What the same command without `--dry-run` would do.

    Attributes:
        folder: OUTPUT.
        recipe: the choices, as this machine would make them.
        resumes: whether OUTPUT holds the run already.
        images, shards: of the whole run, what would be added to it included.
        shards_done: shards that have their records.
        listed: what a new run, or `--mode extend`, would take; None where a run goes on as it is.
    """

    folder: str
    recipe: Recipe
    resumes: bool
    images: int
    shards: int
    shards_done: int = 0
    listed: Listed | None = None


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
        listed = _count(config, plan)
        shards += -(-listed.images // plan.shard_size)
        return DryRun(name, resolved.recipe, True, images + listed.images, shards, done, listed)
    listed = _count(config)
    shards = -(-listed.images // shard_size_of(config, listed.images))
    return DryRun(name, resolved.recipe, False, listed.images, shards, 0, listed)


def _count(config: RunConfig, plan: Plan | None = None) -> Listed:
    """Count what a new run would take, or what would be added to a plan; refuse what planning would."""
    images = size = paired = unseen = 0
    first: list[str] = []
    unpaired: list[str] = []
    aside, output_format = LeftAside(), config.format if plan is None else plan.format
    clashes = Clashes(output_format, plan)
    for entry in _entries(config, plan, aside):
        clashes.add(entry)
        images += 1
        size += entry.size or 0
        paired += entry.paired is True
        unseen += entry.reference is not None and entry.paired is None
        if len(first) < _SHOWN:
            first.append(entry.key)
        if entry.paired is False and len(unpaired) < _SHOWN:
            unpaired.append(entry.key)
    if clashes:
        # Which they are, and whether other names settle it, only a plan tells; most lists come to none.
        try_plan(_entries(config, plan), output_format=output_format, plan=plan)
    return Listed(images, size, tuple(first), paired, unseen, tuple(unpaired), dict(aside.counted))


def _entries(config: RunConfig, plan: Plan | None, aside: LeftAside | None = None) -> Iterator[ImageEntry]:
    entries = entries_of(config, aside=aside)
    return entries if plan is None else new_entries(plan, entries)
