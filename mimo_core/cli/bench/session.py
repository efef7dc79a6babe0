"""`mimo bench session`: the latencies of one session by queue depth and batch, as the model zoo prints them."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from rich.table import Table

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import OK
from mimo_core.cli.terminal import tables
from mimo_core.runs.config import DeviceName, EngineName, PrecisionName, RestoreConfig, parse_size
from mimo_core.wording import share, size

if TYPE_CHECKING:
    from mimo_core.engines.latency import Measurement


def _numbers(text: str) -> str:
    if not re.fullmatch("[1-9][0-9]*(,[1-9][0-9]*)*", text):
        raise ValueError(f"expected numbers such as 1,2,4, found {text!r}")
    return text


def _size(text: str) -> str:
    parse_size(text)
    return text


class BenchSessionConfig(BaseModel):
    """Measure one session on one image of a size: images/s, latencies, and what the device tells of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    weights: str | None = Field(None, description="shipped name, file or URL")
    interpolation: Literal["auto", "nearest", "bilinear"] = Field("auto", description="as for `mimo restore`")
    engine: EngineName = Field("auto", description="as for `mimo restore`")
    device: DeviceName = Field("auto", description="as for `mimo restore`")
    precision: PrecisionName = Field("auto", description="arithmetic of the network")
    size: Annotated[str, AfterValidator(_size)] = Field("360x640", description="HxW of the images")
    batches: Annotated[str, AfterValidator(_numbers)] = Field("1,2", description="numbers of images in a request")
    depths: Annotated[str, AfterValidator(_numbers)] = Field("1,2,4", description="numbers of requests under way")
    vacc_python: str | None = Field(None, description="as for `mimo restore`")
    threads: int | None = Field(None, ge=1, description="CPU threads of the session (default: all cores)")
    streams: int = Field(1, ge=1, description="images of a batch computed at a time, where the engine shares threads")
    seconds: float = Field(5.0, gt=0, description="for each line of the table")
    images: str | None = Field(None, description="whose first image is resized (default: the project's samples)")


def main(argv: Sequence[str]) -> int:
    """Run `mimo bench session`."""
    config = parse(BenchSessionConfig, argv, "mimo bench session")
    from mimo_core.datasets.samples import sample_images
    from mimo_core.engines.latency import Load, matrix_rate, measure_loads
    from mimo_core.hardware import Hardware
    from mimo_core.images.resizing import resize_bilinear
    from mimo_core.inference.choices import choose, choose_weights
    from mimo_core.inference.open_restorer import session_spec
    from mimo_core.inference.tuning import tune
    from mimo_core.models.architecture import gflops
    from mimo_core.models.weights import Weights

    hardware = Hardware.here()
    threads = config.threads or hardware.cores
    asked = RestoreConfig(
        source="",
        output="",
        cpus_per_worker=threads,
        # Nothing is cut here.
        overlap=0,
        **config.model_dump(include={"weights", "interpolation", "engine", "device", "precision"}),
    )
    weights = choose_weights(asked, None)
    recipe = choose(asked, weights, hardware, None, tune)
    device = asked.device if asked.device != "auto" else recipe.device_type
    spec = replace(session_spec(recipe, weights, device, config.vacc_python), streams=config.streams)
    image = resize_bilinear(sample_images(config.images, 1)[0], parse_size(config.size))
    loads = [
        Load(int(batch), int(depth), config.seconds)
        for batch in config.batches.split(",")
        for depth in config.depths.split(",")
    ]
    measured = measure_loads(spec, image, loads)
    console = tables()
    where = f"{device}, {recipe.threads} threads" if recipe.threads is not None else device
    console.print(f"{recipe.model_name}, {recipe.engine} {recipe.precision} on {where}, 3x{config.size}", markup=False)
    console.print_table(_table(measured))
    ceiling = matrix_rate(spec)
    if ceiling is not None and isinstance(weights, Weights):
        height, width = parse_size(config.size)
        operations = gflops(weights.spec.width, weights.spec.num_res, height, width) * 1e9
        reached = max(one.rate for one in measured) * operations
        console.print(
            f"{operations / 1e9:.1f} GFLOP an image: {reached / 1e12:.3g} TFLOP/s at best, "
            f"{share(reached, ceiling)} of what square matrix products in {recipe.precision} reach here "
            f"({ceiling / 1e12:.3g} TFLOP/s)"
        )
    return OK


def _table(measured: "Sequence[Measurement]") -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    latencies = ("min", "avg", "p50", "p90", "p99 ms")
    for header in ("batch", "depth", "images/s", *latencies, "requests", "busy", "power", "memory"):
        table.add_column(header, justify="right")
    for one in measured:
        times = (one.latencies[0], one.mean, *(one.percentile(percent) for percent in (50, 90, 99)))
        table.add_row(
            str(one.load.batch),
            str(one.load.depth),
            f"{one.rate:.2f}",
            *(f"{1000 * seconds:.1f}" for seconds in times),
            str(len(one.latencies)),
            "-" if one.utilisation is None else f"{100 * one.utilisation:.0f}%",
            "-" if one.power is None else f"{one.power:.1f} W",
            "-" if one.memory is None else size(one.memory),
        )
    return table
