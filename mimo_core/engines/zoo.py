"""The model zoo's table: every variant in every precision, measured on this machine, beside the zoo's own figures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch

from mimo_core.datasets.samples import Sample
from mimo_core.engines import Session, SessionSpec, open_session
from mimo_core.engines.base import Precision
from mimo_core.engines.quantization.calibration import observe
from mimo_core.errors import UsageError
from mimo_core.images.pixels import Pixels, as_8bit, crop_to, pad_to_multiple
from mimo_core.metrics.psnr_ssim import psnr, ssim
from mimo_core.models.architecture import count_parameters, gflops
from mimo_core.models.int8 import KEY, Quantisation
from mimo_core.models.network import MimoUNet, build_network
from mimo_core.models.weights import Weights

_PERCENTILE = 99.99


@dataclass(frozen=True)
class Row:
    """A line of the table; None where there is no figure.

    Attributes:
        model: the variant.
        how: engine and precision.
        gflops: 10^9 operations for one image.
        parameters: millions of them.
        rate: images per second, one at a time.
        speed: images per second against the plain loop.
        psnr: means over the pairs, in dB.
        ssim: means over the pairs.
        published: whether the figures are the model zoo's own and not measured here.
    """

    model: str
    how: str
    gflops: float | None
    parameters: float | None
    rate: float | None = None
    speed: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    published: bool = False


# The zoo's README, deployment page and scoring script (Vastai/VastModelZOO@84bf3fb, deblurring_denoising/mimo_unet):
# GoPro's 1111 test pairs, all images resized to 360x640; one die, batch 1. The README's scores of MIMO-UNet come from
# the compiler's debug engine; those of the card stand at the end of the script alone.
PUBLISHED = (
    Row("mimo-unet", "zoo: ONNX fp32", 523.079, 6.807, None, None, 30.302, 0.9143, True),
    Row("mimo-unet", "zoo: VACC fp16, debug engine", None, None, None, None, 29.857, 0.9061, True),
    Row("mimo-unet", "zoo: VACC fp16, on the card", None, None, 22.71, None, 29.553, 0.8998, True),
    Row("mimo-unet", "zoo: VACC int8 percentile, debug engine", None, None, None, None, 29.274, 0.8854, True),
    Row("mimo-unet", "zoo: VACC int8 percentile, on the card", None, None, 29.76, None, 29.276, 0.8855, True),
    Row("mimo-unet-plus", "zoo: ONNX fp32", 1202.556, 16.108, None, None, 30.853, 0.9241, True),
    Row("mimo-unet-plus", "zoo: VACC fp16", None, None, 11.54, None, 30.606, 0.9203, True),
    Row("mimo-unet-plus", "zoo: VACC int8 percentile", None, None, 22.75, None, 29.379, 0.8866, True),
)


@dataclass(frozen=True)
class Subject:
    """A variant to measure: its weights, and whether they are trained, so that scores mean something."""

    weights: Weights
    trained: bool


def measure(
    subjects: Sequence[Subject],
    image: Pixels,
    calibration: Sequence[Pixels],
    pairs: Sequence[Sample],
    *,
    threads: int,
    turns: int,
    say: Callable[[str], None],
) -> Iterator[Row]:
    """Measure every variant in fp32, in bf16 (fp16 where there is a GPU) and in int8.

    Args:
        subjects: the variants.
        image: (H, W, 3) RGB, 8 bits; what speed is measured on.
        calibration: images for the ranges of int8.
        pairs: images with their references, other ones than those; empty for no scores.
        threads: CPU threads of a session.
        turns: how often each session restores the image, in turn with the others of its variant.
        say: hears what is being done.
    """
    for subject in subjects:
        weights = subject.weights
        say(f"{weights.spec.variant}: calibrating")
        observed = observe(build_network(weights), calibration)
        ranges = {name: histogram.range("percentile", _PERCENTILE) for name, histogram in observed.items()}
        text = Quantisation(f"percentile {_PERCENTILE}", ranges).text()
        runners = dict(_runners(weights, replace(weights, metadata={KEY: text}), threads))
        say(f"{weights.spec.variant}: timing {', '.join(runners)}")
        times = _times(runners, image, turns)
        plain = times[_PLAIN]
        shape = weights.spec.width, weights.spec.num_res
        facts = gflops(*shape, *image.shape[:2]), count_parameters(*shape) / 1e6
        for how, runner in runners.items():
            scores = _scores(runner, pairs) if subject.trained and pairs and how != _PLAIN else (None, None)
            yield Row(weights.spec.variant, how, *facts, 1 / times[how], plain / times[how], *scores)
            if runner.session is not None:
                runner.session.close()


_PLAIN = "torch fp32, plain loop"


@dataclass(frozen=True)
class _Runner:
    """One way to restore an image; without a session the plain loop of a script."""

    restore: Callable[[Pixels], Pixels]
    session: Session | None = None


def _runners(weights: Weights, quantised: Weights, threads: int) -> Iterator[tuple[str, _Runner]]:
    network = build_network(weights)
    torch.set_num_threads(threads)
    yield _PLAIN, _Runner(lambda image: _plainly(network, image))
    cases: list[tuple[str, str, Precision, Weights]] = [
        ("torch", "cpu", "fp32", weights),
        ("torch", "cpu", "bf16", weights),
        ("openvino", "cpu", "fp32", weights),
        ("openvino", "cpu", "bf16", weights),
        ("openvino", "cpu", "int8", quantised),
    ]
    if torch.cuda.is_available():
        cases += [("torch", "cuda", "fp32", weights), ("torch", "cuda", "fp16", weights)]
    for engine, device, precision, chosen in cases:
        try:
            session = open_session(SessionSpec(engine, device, precision, chosen, threads))
        except UsageError:
            # This machine does not compute in it.
            continue
        name = f"{engine} {precision}" + (" percentile" if precision == "int8" else "")
        yield name + (f" on {session.device_name}" if device != "cpu" else ""), _Runner(_by(session), session)


def _by(session: Session) -> Callable[[Pixels], Pixels]:
    def restore(image: Pixels) -> Pixels:
        batch = pad_to_multiple(image, session.limits.multiple_of)[np.newaxis]
        restored: Pixels = session.restore(batch)[0]
        return crop_to(restored, *image.shape[:2])

    return restore


def _plainly(network: MimoUNet, image: Pixels) -> Pixels:
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)[np.newaxis]).astype(np.float32) / np.float32(255)
    with torch.inference_mode():
        output = network(torch.from_numpy(planes))[2].clamp_(0, 1).mul_(255).add_(0.5).to(torch.uint8)
    return cast(Pixels, output[0].permute(1, 2, 0).contiguous().numpy())


def _times(runners: dict[str, _Runner], image: Pixels, turns: int) -> dict[str, float]:
    """Return the median seconds for the image, all ways in turn, so that a busy moment hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for runner in runners.values():
        runner.restore(image)
    for _ in range(turns):
        for name, runner in runners.items():
            begun = time.perf_counter()
            runner.restore(image)
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _scores(runner: _Runner, pairs: Sequence[Sample]) -> tuple[float, float]:
    found = []
    for pair in pairs:
        assert pair.reference is not None
        output, truth = as_8bit(runner.restore(pair.image)), as_8bit(pair.reference)
        found.append((psnr(output, truth), ssim(output, truth) or 0.0))
    means = np.mean(found, axis=0)
    return float(means[0]), float(means[1])
