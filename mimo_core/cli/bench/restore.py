"""`mimo bench restore SOURCE`: what the automatic choices and the pipeline cost and gain on this machine."""

import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import OK
from mimo_core.cli.terminal import Terminal
from mimo_core.errors import UsageError
from mimo_core.images.scales import FULL
from mimo_core.runs.config import EngineName, PrecisionName, RestoreConfig


class BenchRestoreConfig(BaseModel):
    """Measure the plain loop, the bare session and the whole job on the images of SOURCE, in one run on the CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    source: str = Field(description="images to measure with; the first ones are taken")
    weights: str | None = Field(None, description="shipped name, file or URL")
    engine: EngineName = Field("auto", description="of the session and the job, as for `mimo restore`")
    precision: PrecisionName = Field("auto", description="of the session and the job")
    scales: str | None = Field(None, description="of the session and the job, as for `mimo restore`")
    images: int = Field(8, ge=2, description="number of images in memory")
    repeat: int = Field(4, ge=1, description="how often the job restores each of them")


def main(argv: Sequence[str]) -> int:
    """Run `mimo bench restore`."""
    return _run(parse(BenchRestoreConfig, argv, "mimo bench restore"))


def _run(config: BenchRestoreConfig) -> int:
    from mimo_core.datasets.imagelist import list_images
    from mimo_core.hardware import Hardware
    from mimo_core.images.codecs import decode, model_input
    from mimo_core.inference.baselines import bare_session, bare_sessions, plain_loop
    from mimo_core.inference.choices import choose, choose_weights
    from mimo_core.inference.tuning import tune
    from mimo_core.metrics.psnr_ssim import psnr
    from mimo_core.models.weights import Weights
    from mimo_core.storage import read_url

    console = Terminal()
    with tempfile.TemporaryDirectory(prefix="mimo-bench-") as folder:
        job = RestoreConfig(
            source=str(Path(folder) / "list.csv"),
            output=str(Path(folder) / "out"),
            weights=config.weights,
            engine=config.engine,
            precision=config.precision,
            scales=config.scales,
            device="cpu",
        )
        entries = list(islice(list_images(config.source), config.images))
        if len(entries) < 2:
            raise UsageError(f"{config.source}: at least two images are needed")
        images = [model_input(decode(read_url(one.source)[0])) for one in entries]
        if any(image.dtype != "uint8" for image in images):
            raise UsageError("the benchmark takes 8-bit images")
        hardware = Hardware.here()
        weights = choose_weights(job, None)
        if not isinstance(weights, Weights):
            raise UsageError("the benchmark compares with the plain loop, so it takes weights, not a compiled model")
        recipe = choose(job, weights, hardware, None, tune)
        workers = max(1, hardware.cores // (recipe.threads or 1))
        # The same images several times over, each under a key of its own, so that the job has enough to do.
        rows = [
            f"{turn:03d}-{number:03d}.png,{one.source}"
            for turn in range(config.repeat)
            for number, one in enumerate(entries)
        ]
        Path(job.source).write_text("key,source\n" + "\n".join(rows) + "\n", encoding="utf-8")

        plain, expected = plain_loop(weights, images, hardware.cores)
        full, restored = bare_session(recipe.model_copy(update={"scales": FULL}), weights, images, hardware.cores)
        session = full
        if recipe.scales != FULL:
            session, _ = bare_session(recipe, weights, images, hardware.cores)
        sessions = bare_sessions(recipe, weights, images, workers)
        rate, startup = _job_rate(job)

    fidelity = [psnr(one, other) for one, other in zip(restored, expected, strict=True)]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for header in ("what", "images/s", "ratio"):
        table.add_column(header, justify="left" if header == "what" else "right")
    table.add_row(
        f"plain loop: fp32, NCHW, eager, {hardware.cores} threads", f"{plain.rate:.3f}", "1.00 of the plain loop"
    )
    table.add_row(
        f"one bare session: {recipe.engine} {recipe.precision}, {hardware.cores} threads",
        f"{full.rate:.3f}",
        f"{full.rate / plain.rate:.2f} of the plain loop",
    )
    if recipe.scales != FULL:
        table.add_row(
            f"the same session, scales {recipe.scales}",
            f"{session.rate:.3f}",
            f"{session.rate / full.rate:.2f} of full size alone",
        )
    table.add_row(
        f"{workers} bare sessions side by side, {recipe.threads} thread each",
        f"{sessions.rate:.3f}",
        f"{sessions.rate / plain.rate:.2f} of the plain loop",
    )
    table.add_row(
        f"whole job: {workers} workers, files to files",
        f"{rate:.3f}",
        f"{100 * rate / sessions.rate:.0f}% of the bare sessions",
    )
    heights, widths = {image.shape[0] for image in images}, {image.shape[1] for image in images}
    console.print(f"{len(images)} images of {_range(widths)}x{_range(heights)}, {recipe.model_name}")
    console.print_table(table)
    console.print(f"session against plain loop: {min(fidelity):.2f} dB PSNR at worst, mean {fmean(fidelity):.2f} dB")
    console.print(f"the job took {startup:.1f} s more to start Ray and open its sessions")
    return OK


def _job_rate(job: RestoreConfig) -> tuple[float, float]:
    """Return the job's images per second once its first worker is ready, and the seconds before that."""
    from mimo_core.cli.display import Display
    from mimo_core.distributed.driver import run

    begun = time.perf_counter()
    with Display() as display:
        outcome = run(job, display)
    return outcome.session_images / outcome.seconds, time.perf_counter() - begun - outcome.seconds


def _range(values: set[int]) -> str:
    return str(min(values)) if len(values) == 1 else f"{min(values)}..{max(values)}"
