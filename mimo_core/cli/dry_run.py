"""`--dry-run`: what a run would do, found out without writing anything or starting Ray."""

from itertools import islice

from rich.console import Console

from mimo_core.distributed.preparation import SHARD_SIZE, entries_of, open_run, settle, suit
from mimo_core.hardware import Hardware
from mimo_core.runs.config import RunConfig
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.plan import read_plan
from mimo_core.runs.recipe import show_choice
from mimo_core.storage import Store
from mimo_core.wording import size

_SHOWN = 5


def rehearse(config: RunConfig) -> int:
    """Print what the same command without `--dry-run` would do; return the exit code 0.

    Raises:
        UsageError: what the run itself would refuse.
    """
    console = Console(highlight=False, soft_wrap=True)
    folder = RunFolder(Store(config.output))
    hardware = Hardware.here()
    opening = suit(config, open_run(config, folder), hardware)
    recipe = settle(config, opening, hardware)
    if opening.manifest is not None:
        plan = read_plan(folder.store)
        total = plan.num_images if plan is not None else 0
        done = len(folder.committed())
        console.print(
            f"would {config.mode} the run in {folder.store}: {total} images, {done} shards are done", markup=False
        )
    else:
        entries = entries_of(config)
        first = list(islice(entries, _SHOWN))
        number, total_bytes = len(first), sum(entry.size or 0 for entry in first)
        for entry in entries:
            number += 1
            total_bytes += entry.size or 0
        shards = -(-number // (config.shard_size or SHARD_SIZE))
        console.print(
            f"would restore {number} images ({size(total_bytes)}) in {shards} shards into {folder.store}", markup=False
        )
        for entry in first:
            console.print(f"  {entry.key}", markup=False)
    for name, value in recipe.model_dump().items():
        console.print(f"{name:>16}: {show_choice(name, value)}", markup=False)
    console.print("automatic choices are those for this machine; a cluster's nodes decide for themselves", markup=False)
    return 0
