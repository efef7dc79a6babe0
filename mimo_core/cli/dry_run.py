"""What `--dry-run` prints."""

from mimo_core.cli.terminal import Terminal
from mimo_core.distributed.dry_run import dry_run
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
    images, shards = count(would.images, "image"), count(would.shards, "shard")
    if would.resumes:
        more = "" if would.added is None else f"{would.added} of them new ({size(would.bytes)}), "
        text = f"would {config.mode} the run in {would.folder}: {images}, {more}{would.shards_done} of {shards} done"
    else:
        text = f"would restore {images} ({size(would.bytes)}) in {shards} into {would.folder}"
    console.print(text, markup=False)
    for key in would.first_keys:
        console.print(f"  {key}", markup=False)
    for name, value in would.recipe.model_dump().items():
        console.print(f"{name:>16}: {show_choice(name, value)}", markup=False)
    console.print("automatic choices are those for this machine; a cluster's nodes decide for themselves", markup=False)
    return 0
