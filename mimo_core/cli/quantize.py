"""`mimo quantize WEIGHTS IMAGES TARGET`: ranges for int8, from real images, with a report of what they cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import OK
from mimo_core.cli.terminal import tables
from mimo_core.errors import UsageError
from mimo_core.wording import size

if TYPE_CHECKING:
    from mimo_core.engines.quantization.quantize import Quantised

_EVERY = 4


class QuantizeConfig(BaseModel):
    """Write weights that can be computed in int8: they hold the ranges of what each layer takes in."""

    EXAMPLES: ClassVar[tuple[str, ...]] = ("mimo-unet-lite blurred int8.safetensors --reference sharp",)

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    weights: str = Field(description="shipped name, file or URL")
    images: str = Field(description="blurred images such as will be restored; every fourth is only measured on")
    target: str = Field(description="file to write, .safetensors")

    reference: str | None = Field(None, description="folder or prefix of the sharp originals, paired by key")
    calibration: Literal["auto", "percentile", "max", "mse", "entropy"] = Field(
        "auto", description="how ranges are chosen; auto takes what loses least on the images that are measured on"
    )
    percentile: float = Field(99.99, gt=50, lt=100, description="of the values at each end, for that calibration")
    max_drop: float = Field(
        0.1, gt=0, description="most dB to lose against fp32; layers that hurt stay in float until that holds"
    )
    limit: int = Field(100, ge=2, description="take at most so many images, evenly from all")
    crop: int = Field(640, ge=64, description="of larger images take the middle, at most so many pixels a side")
    interpolation: Literal["auto", "nearest", "bilinear"] = Field("auto", description="as for `mimo restore`")


def main(argv: Sequence[str]) -> int:
    """Quantise one network; see `mimo_core.cli.main.run` for the exit codes."""
    config = parse(QuantizeConfig, argv, "mimo quantize")
    import numpy as np

    from mimo_core.datasets.samples import sample_pairs
    from mimo_core.engines.quantization.quantize import quantise
    from mimo_core.hardware import refuse_int8_that_saturates
    from mimo_core.models.int8 import KEY
    from mimo_core.models.weights import load_weights, save_weights

    target = Path(config.target)
    if target.suffix != ".safetensors":
        raise UsageError(f"{target}: the target must end in .safetensors")
    if target.exists():
        raise UsageError(f"{target} exists; weights are never overwritten")
    refuse_int8_that_saturates("quantise on a machine that has it")
    weights = load_weights(config.weights, None if config.interpolation == "auto" else config.interpolation)
    samples = sample_pairs(config.images, config.reference, config.limit, config.crop)
    if len(samples) < 2:
        raise UsageError(f"{config.images}: at least two images are needed, one to calibrate on and one to measure on")
    console = tables()
    done = quantise(
        weights,
        [sample.image for number, sample in enumerate(samples) if number % _EVERY != _EVERY - 1],
        [sample for number, sample in enumerate(samples) if number % _EVERY == _EVERY - 1] or samples[-1:],
        method=None if config.calibration == "auto" else config.calibration,
        percentile=config.percentile,
        max_drop=config.max_drop,
        say=lambda text: console.print(text, markup=False),
    )
    halves = all(bool((values.astype(np.float16) == values).all()) for values in weights.state.values())
    digest = save_weights(
        target,
        weights.spec,
        weights.state,
        trained_on=weights.metadata.get("trained_on", ""),
        source_sha256=weights.sha256,
        half=halves,
        scales=weights.scales,
        more={KEY: done.quantisation.text()},
    )
    console.print_table(_table(done))
    console.print("drop: what is lost against fp32" + ("" if config.reference else ", in an image restored to 35 dB"))
    console.print(f"kept in float: {', '.join(done.kept) or 'no layer'}", markup=False)
    console.print(
        f"{target}: {weights.spec.variant} for int8 by {done.chosen.name.removeprefix('int8 ')}", markup=False
    )
    console.print(f"  {size(target.stat().st_size)}, sha256 {digest}", markup=False)
    return OK


def _table(done: "Quantised") -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    headers = ("what", "dB against fp32", "PSNR dB", "SSIM", "drop dB", "ms/image", "speed")
    for header in headers:
        table.add_column(header, justify="left" if header == "what" else "right")
    exact = done.trials[0]
    for trial in done.trials:
        table.add_row(
            trial.name + (" *" if trial is done.chosen else ""),
            f"{trial.fidelity:.2f}",
            "-" if trial.psnr is None else f"{trial.psnr:.3f}",
            "-" if trial.ssim is None else f"{trial.ssim:.4f}",
            f"{trial.drop:.4f}",
            f"{trial.milliseconds:.0f}",
            f"{exact.milliseconds / trial.milliseconds:.2f}x",
        )
    return table
