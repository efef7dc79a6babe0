"""`mimo preview SOURCE [N]`: one page with a sample restored in several ways, to choose by."""

from collections.abc import Sequence
from itertools import product
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import OK
from mimo_core.cli.streams import show
from mimo_core.images.scales import check_scales
from mimo_core.wording import size


def _strengths(text: str) -> str:
    try:
        numbers = [float(one) for one in text.split(",")]
    except ValueError:
        numbers = [-1.0]
    if not all(0 <= one <= 1 for one in numbers):
        raise ValueError(f"expected numbers from 0 to 1 such as 0.5,1, found {text!r}")
    return text


class PreviewConfig(BaseModel):
    """Restore a sample of SOURCE in several ways and write one page with sliders; nothing else is written.

    N images (8 unless said otherwise) are chosen at random, spread evenly from those that would gain little to those
    that would gain most. Every combination of weights, scales and strengths is shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)
    POSITIONAL: ClassVar[tuple[str, ...]] = ("number",)
    EXAMPLES: ClassVar[tuple[str, ...]] = ("photos", "photos 4 --scales 1 --scales auto --strengths 0.5,1")

    source: str = Field(description="folder, bucket prefix, glob, image, or list, as for `mimo restore`")
    number: int = Field(8, ge=1, le=50, description="images that are shown (default: 8)")
    to: str = Field("preview.html", description="file to write")
    weights: tuple[str, ...] = Field(
        (), description="weights to compare (repeatable; default: those of `mimo restore`)"
    )
    scales: tuple[Annotated[str, AfterValidator(check_scales)], ...] = Field(
        (), description="scales to compare, such as 1 or 1/2,1 or auto (repeatable)"
    )
    strengths: Annotated[str, AfterValidator(_strengths)] = Field("0.5,1", description="strengths to compare")
    seed: int = Field(0, ge=0, description="of chance; the same one takes the same images")
    include: tuple[str, ...] = Field((), description="also take files whose name matches this glob (repeatable)")
    max_pixels: int = Field(1 << 28, ge=1, description="pass over images with more pixels than this")


def main(argv: Sequence[str]) -> int:
    """Run the job."""
    config = parse(PreviewConfig, argv, "mimo preview")
    # PyTorch and the templates, which `--help` need not load.
    from mimo_core.cli.terminal import Terminal
    from mimo_core.datasets.imagelist import list_images
    from mimo_core.report.preview import Way, preview_page, sample
    from mimo_core.storage import redact, write_url

    strengths = [float(one) for one in config.strengths.split(",")]
    ways = [Way(weights, scales) for weights, scales in product(config.weights or (None,), config.scales or (None,))]
    console = Terminal(stderr=True, soft_wrap=True)
    with console.status("listing") as status:
        entries = list_images(config.source, include=config.include)
        pieces, total = sample(entries, config.number, config.seed, config.max_pixels, status.update)
        page = preview_page(redact(config.source), pieces, total, ways, strengths, status.update)
    write_url(config.to, page.encode())
    show(f"{redact(config.to)} ({size(len(page.encode()))})")
    return OK
