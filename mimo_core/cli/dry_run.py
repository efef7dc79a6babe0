"""What `--dry-run` prints."""

from rich.console import Console

from mimo_core.distributed.dry_run import DryRun, dry_run
from mimo_core.runs.config import RunConfig
from mimo_core.runs.recipe import show_choice
from mimo_core.wording import count, size


def print_dry_run(config: RunConfig) -> int:
    """Print what the same command without `--dry-run` would do; return the exit code 0.

    Raises:
        UsageError: what the run itself would refuse.
    """
    console = Console(highlight=False, soft_wrap=True)
    would = dry_run(config)
    images, shards = count(would.images, "image"), count(would.shards, "shard")
    if would.resumes:
        text = f"would {config.mode} the run in {would.folder}: {images}, {would.shards_done} of {shards} done"
    else:
        text = f"would restore {images} ({size(would.bytes)}) in {shards} into {would.folder}"
    console.print(text, markup=False)
    for key in would.first_keys:
        console.print(f"  {key}", markup=False)
    if not would.resumes and (config.reference is not None or would.unseen):
        console.print(_references(would), markup=False)
    for name, value in would.recipe.model_dump().items():
        console.print(f"{name:>16}: {show_choice(name, value)}", markup=False)
    console.print("automatic choices are those for this machine; a cluster's nodes decide for themselves", markup=False)
    return 0


def _references(would: DryRun) -> str:
    """Return in words how many images have a reference."""
    text = f"{would.paired} of {count(would.images, 'image')} have a reference"
    if would.unseen:
        text += f", {would.unseen} more by the word of a list or a web address alone"
    if would.unpaired:
        missing = would.images - would.paired - would.unseen
        names = ", ".join(would.unpaired) + (", ..." if missing > len(would.unpaired) else "")
        text += f"; without one: {names}"
    return text
