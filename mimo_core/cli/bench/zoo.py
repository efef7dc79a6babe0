"""`mimo bench zoo`: the model zoo's table, every variant in every precision, on one machine in one run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from rich.table import Table

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import OK
from mimo_core.cli.terminal import tables
from mimo_core.errors import UsageError
from mimo_core.runs.config import parse_size

if TYPE_CHECKING:
    from mimo_core.datasets.samples import Sample
    from mimo_core.engines.zoo import Row, Subject

_CALIBRATION = 8
_OTHERS = ("golden:mimo-unet", "golden:mimo-unet-plus")


def _size(text: str) -> str:
    parse_size(text)
    return text


class BenchZooConfig(BaseModel):
    """Print the model zoo's table: variants without trained weights are timed with weights made by rule."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    weights: tuple[str, ...] = Field(
        (), description="trained weights to score (repeatable; default: those that are shipped)"
    )
    images: str | None = Field(None, description="blurred images to score on")
    reference: str | None = Field(None, description="their sharp originals, paired by key")
    size: Annotated[str, AfterValidator(_size)] = Field("360x640", description="HxW that speed is measured at")
    pairs: int = Field(20, ge=1, description="take at most so many pairs, evenly from all")
    turns: int = Field(5, ge=1, description="how often each session is timed, in turn with the others")
    threads: int | None = Field(None, ge=1, description="CPU threads of a session (default: all cores)")


def main(argv: Sequence[str]) -> int:
    """Run `mimo bench zoo`."""
    config = parse(BenchZooConfig, argv, "mimo bench zoo")
    if (config.images is None) != (config.reference is None):
        raise UsageError("--images and --reference are given together, or neither")
    from mimo_core.datasets.samples import sample_images, sample_pairs
    from mimo_core.engines.zoo import PUBLISHED, measure
    from mimo_core.hardware import usable_cores
    from mimo_core.images.resizing import resize_bilinear

    samples: list[Sample] = []
    if config.images is not None:
        samples = sample_pairs(config.images, config.reference, config.pairs + _CALIBRATION)
        if len(samples) < 2:
            raise UsageError(f"{config.images}: at least two images are needed")
    # Every so many: what calibration sees is not scored.
    step = max(2, len(samples) // _CALIBRATION)
    calibration = [sample.image for sample in samples[::step]] or sample_images(None, 4)
    scored = [sample for number, sample in enumerate(samples) if number % step]
    image = resize_bilinear(calibration[0], parse_size(config.size))
    threads = config.threads or usable_cores()
    console = tables()
    rows = list(
        measure(
            _subjects(config.weights),
            image,
            calibration,
            scored,
            threads=threads,
            turns=config.turns,
            say=lambda text: console.print(text, markup=False),
        )
    )
    console.print_table(_table([*rows, *PUBLISHED]))
    console.print(
        f"3x{config.size}, one image at a time, {threads} threads; speed is against the plain loop (fp32, NCHW, eager)."
    )
    if scored:
        console.print(f"PSNR and SSIM: {len(scored)} pairs at their own size; a dash where no weights are trained.")
    console.print(
        "zoo: the model zoo's published figures (GoPro's 1111 test pairs at 360x640; one VACC die, batch 1). No card "
        "was at hand: nothing of them was measured here. Its GFLOP are thop's multiply-adds x 2 / 0.9, with the "
        "transposed convolutions counted four times: (448.1 + 22.6) / 0.9 = 523.1."
    )
    return OK


def _subjects(names: Sequence[str]) -> "list[Subject]":
    """Return trained weights, and weights made by rule for the zoo's variants that have none."""
    from mimo_core.engines.zoo import Subject
    from mimo_core.models.shipped import shipped
    from mimo_core.models.weights import load_weights

    trained = [load_weights(name) for name in names or [entry.name for entry in shipped() if entry.trained]]
    known = {weights.spec.variant for weights in trained}
    others = [load_weights(name) for name in _OTHERS if name.partition(":")[2] not in known]
    return [*(Subject(weights, True) for weights in trained), *(Subject(weights, False) for weights in others)]


def _table(rows: "Sequence[Row]") -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for header in ("model", "engine", "GFLOP", "M params", "images/s", "speed", "PSNR dB", "SSIM"):
        table.add_column(header, justify="left" if header in ("model", "engine") else "right")
    for row in rows:
        figures = (
            (row.gflops, ".1f"),
            (row.parameters, ".3f"),
            (row.rate, ".3f"),
            (row.speed, ".2f"),
            (row.psnr, ".3f"),
            (row.ssim, ".4f"),
        )
        table.add_row(row.model, row.how, *("-" if value is None else format(value, form) for value, form in figures))
    return table
