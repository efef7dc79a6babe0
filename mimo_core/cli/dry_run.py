"""What `--dry-run` prints."""

from mimo_core.cli.terminal import Terminal
from mimo_core.datasets.left_aside import describe
from mimo_core.distributed.dry_run import Listed, dry_run
from mimo_core.runs.config import RunConfig
from mimo_core.runs.recipe import show_choice
from mimo_core.wording import count, size


def print_dry_run(config: RunConfig) -> int:
    """Print what the same command without `--dry-run` would do; return the exit code 0.

    Raises:
        UsageError: what the run itself would refuse.
    """
    console = Terminal(soft_wrap=True)
    would = dry_run(config)
    images, shards, listed = count(would.images, "image"), count(would.shards, "shard"), would.listed
    size_of_listed = size(listed.bytes) if listed is not None else ""
    if would.resumes:
        more = f"{listed.images} of them new ({size_of_listed}), " if listed is not None else ""
        text = f"would {config.mode} the run in {would.folder}: {images}, {more}{would.shards_done} of {shards} done"
    else:
        text = f"would restore {images} ({size_of_listed}) in {shards} into {would.folder}"
    console.print(text, markup=False)
    if listed is not None:
        for key in listed.first_keys:
            console.print(f"  {key}", markup=False)
        if config.reference is not None or listed.unseen:
            console.print(_references(listed), markup=False)
        if listed.aside:
            console.print(describe(listed.aside), markup=False)
    for name, value in would.recipe.model_dump().items():
        console.print(f"{name:>16}: {show_choice(name, value)}", markup=False)
    console.print("automatic choices are those for this machine; a cluster's nodes decide for themselves", markup=False)
    return 0


def _references(listed: Listed) -> str:
    """Return in words how many images have a reference."""
    text = f"{listed.paired} of {count(listed.images, 'image')} have a reference"
    if listed.unseen:
        text += f", {listed.unseen} more by the word of a list or a web address alone"
    if listed.unpaired:
        missing = listed.images - listed.paired - listed.unseen
        names = ", ".join(listed.unpaired) + (", ..." if missing > len(listed.unpaired) else "")
        text += f"; without one: {names}"
    return text
