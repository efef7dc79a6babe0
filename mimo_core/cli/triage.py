"""`mimo triage SOURCE OUTPUT`: a fast look at each image, and a list of what restoring it would gain."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import OK, SOME_FAILED
from mimo_core.wording import count, duration, significant

if TYPE_CHECKING:
    from mimo_core.triage.survey import Survey


def _parquet(name: str) -> str:
    if not name.endswith(".parquet"):
        raise ValueError(f"expected a file named .parquet, found {name!r}")
    return name


class TriageConfig(BaseModel):
    """Look at every image of SOURCE without the network, and write what blurs it and what restoring would gain.

    OUTPUT is a Parquet file, one row an image: a list that `mimo restore` takes. The gain is that of the weights which
    come with the package. `mimo restore --minimum-gain` and `--skip-sharp` need no list: they look by themselves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    EXAMPLES: ClassVar[tuple[str, ...]] = ("photos photos.parquet",)

    source: str = Field(description="folder, bucket prefix, glob, image, or list, as for `mimo restore`")
    output: Annotated[str, AfterValidator(_parquet)] = Field(description="Parquet file to write, local or in a bucket")
    include: tuple[str, ...] = Field((), description="also take files whose name matches this glob (repeatable)")
    limit: int | None = Field(None, ge=1, description="look at the first N images only")
    threads: int | None = Field(None, ge=1, description="images looked at at a time (default: all cores)")
    max_pixels: int = Field(1 << 28, ge=1, description="refuse an image with more pixels than this")


def main(argv: Sequence[str]) -> int:
    """Run the job; the exit code is 3 if images could not be looked at, else 0."""
    config = parse(TriageConfig, argv, "mimo triage")
    # OpenCV and Arrow, which `--help` need not load.
    from mimo_core.cli.terminal import Terminal
    from mimo_core.datasets.imagelist import list_images
    from mimo_core.hardware import Hardware
    from mimo_core.triage.survey import survey

    console = Terminal(soft_wrap=True)
    entries = list_images(config.source, include=config.include, limit=config.limit)
    with console.status("looking") as status:
        done = survey(
            entries,
            config.output,
            threads=config.threads or Hardware.here().cores,
            max_pixels=config.max_pixels,
            tick=lambda images: status.update(f"looking: {images:,} images"),
        )
    for line in told(done):
        console.print(line, markup=False)
    return SOME_FAILED if done.failed else OK


def told(done: "Survey") -> list[str]:
    """Return in lines what was seen."""
    speed = significant(done.images / done.seconds) if done.seconds else "-"
    lines = [f"{count(done.images, 'image')} in {duration(done.seconds)}, {speed} images/s"]
    if done.failed:
        lines.append(f"{done.failed} could not be looked at; the column `error` says why")
    if done.too_small:
        lines.append(f"{done.too_small} too small to be judged")
    if done.shortened:
        lines.append(
            f"{count(done.shortened, 'link')} written without signature, password or place in a container: to "
            "restore these images name SOURCE again, with --minimum-gain or --skip-sharp, not this list"
        )
    if done.judged:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(done.kinds.items(), key=lambda one: -one[1]))
        lines.append(f"blur: {kinds}")
        lines.append(f"predicted gain: {done.gain / done.judged:.2f} dB an image")
        for least, number, gain in done.below:
            lines.append(
                f"below {least:g} dB: {number} ({100 * number / done.judged:.0f}%), "
                f"with {100 * gain / done.gain if done.gain > 0 else 0:.1f}% of the predicted gain"
            )
    return lines
