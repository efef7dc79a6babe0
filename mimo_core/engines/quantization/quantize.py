"""Post-training quantisation: calibrate, measure on images that calibration did not see, keep what hurts in float."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import torch

from mimo_core.datasets.samples import Sample
from mimo_core.engines import Session, SessionSpec, open_session
from mimo_core.engines.base import Precision
from mimo_core.engines.quantization.calibration import Histogram, Method, Range, as_tensor, convolutions, observe
from mimo_core.errors import ErrorKind, SystemFailure, UsageError
from mimo_core.hardware import refuse_int8_that_saturates
from mimo_core.images.pixels import Pixels, as_8bit, crop_to, pad_to_multiple
from mimo_core.metrics.psnr_ssim import psnr, ssim
from mimo_core.models.int8 import KEY, Quantisation, activation_steps, weight_steps
from mimo_core.models.network import build_network
from mimo_core.models.weights import Weights
from mimo_core.wording import count

METHODS: tuple[Method, ...] = get_args(Method)
ASSUMED_PSNR = 35.0
"""Where there are no references: the PSNR of the image in which the error of int8 is imagined (dB)."""
# Enough to rank the layers, and little enough to run the network once for each of them.
_RANKING_SIDE = 128


@dataclass(frozen=True)
class Trial:
    """One way to compute the network, measured on samples: means over them.

    Attributes:
        name: what it is.
        fidelity: PSNR against float32, in dB.
        psnr, ssim: against the references; None without them.
        drop: what it loses against float32, in dB; without references what its error would cost in an image restored
            to `ASSUMED_PSNR`.
        milliseconds: for one image, on one thread; the median.
    """

    name: str
    fidelity: float
    psnr: float | None
    ssim: float | None
    drop: float
    milliseconds: float


@dataclass(frozen=True)
class Quantised:
    """Weights with their ranges, the layers that stay in float, and what was measured on the way, float first."""

    quantisation: Quantisation
    kept: tuple[str, ...]
    trials: tuple[Trial, ...]
    chosen: Trial


def quantise(
    weights: Weights,
    calibration: Sequence[Pixels],
    held_out: Sequence[Sample],
    *,
    method: Method | None,
    percentile: float,
    max_drop: float,
    say: Callable[[str], None],
) -> Quantised:
    """Choose the ranges for int8 so that little is lost on images that calibration did not see.

    Args:
        weights: what to quantise.
        calibration: images, (H, W, 3) RGB.
        held_out: images to measure on, of few different shapes: int8 is compiled for each.
        method: how ranges are chosen; None takes the one that loses least. All are measured.
        percentile: for the method of that name.
        max_drop: most dB to lose; the layers that hurt most stay in float until that holds.
        say: hears what is being done.

    Raises:
        UsageError: no image, or this machine does not compute in int8.
        SystemFailure: more is lost even with every layer in float.
    """
    if not calibration or not held_out:
        raise UsageError("calibration needs at least one image, and measuring another one")
    # Calibration takes minutes and would be for nothing.
    refuse_int8_that_saturates()
    say(f"calibrating on {count(len(calibration), 'image')}")
    network = build_network(weights)
    histograms = observe(network, calibration)
    judge = _Judge(weights, held_out)
    trials = [judge.exact, *judge.lower()]
    names = {one: _name(one, percentile) for one in METHODS}
    measured: dict[Method, Trial] = {}
    for one, name in names.items():
        say(f"measuring {name} on {count(len(held_out), 'image')} that calibration did not see")
        measured[one] = judge.trial(f"int8 {name}", _ranges(histograms, one, percentile))
    trials += measured.values()
    best = method if method is not None else min(METHODS, key=lambda one: measured[one].drop)
    chosen = measured[best]
    ranges = _ranges(histograms, best, percentile)
    kept: tuple[str, ...] = ()
    order: Iterator[str] = iter(())
    while chosen.drop > max_drop:
        if not kept:
            say(f"{chosen.drop:.3f} dB are lost: finding the layers that hurt")
            order = iter(_by_harm(weights, ranges, held_out[0].image))
        # Twice as many each time: a search of few steps that keeps at most twice as many layers as needed.
        more = tuple(name for _, name in zip(range(max(1, len(kept))), order, strict=False))
        if not more:
            raise SystemFailure(ErrorKind.INTERNAL, f"{chosen.drop:.3f} dB are lost even with every layer in float")
        kept += more
        left = {name: span for name, span in ranges.items() if name not in kept}
        chosen = judge.trial(f"int8 {names[best]}, {len(kept)} layers in float", left)
        trials.append(chosen)
    ranges = {name: span for name, span in ranges.items() if name not in kept}
    return Quantised(Quantisation(names[best], ranges), kept, tuple(trials), chosen)


class _Judge:
    """Measures ways to compute the network against float32, all by the engine that will run them."""

    def __init__(self, weights: Weights, samples: Sequence[Sample]) -> None:
        self._weights = weights
        self._samples = samples
        self._expected, milliseconds = self._run("fp32", weights)
        self.exact = self._compare("fp32", self._expected, milliseconds)

    def lower(self) -> Iterator[Trial]:
        """Measure bfloat16, where the machine has it."""
        try:
            outputs, milliseconds = self._run("bf16", self._weights)
        except UsageError:
            return
        yield self._compare("bf16", outputs, milliseconds)

    def trial(self, name: str, ranges: Mapping[str, Range]) -> Trial:
        """Measure int8 with these ranges."""
        quantised = replace(self._weights, metadata={KEY: Quantisation(name, dict(ranges)).text()})
        outputs, milliseconds = self._run("int8", quantised)
        return self._compare(name, outputs, milliseconds)

    def _run(self, precision: Precision, weights: Weights) -> tuple[list[Pixels], float]:
        session = open_session(SessionSpec("openvino", "cpu", precision, weights, threads=1))
        outputs, seconds = [], []
        for sample in self._samples:
            restored, took = _restore(session, sample.image)
            outputs.append(restored)
            seconds.append(took)
        session.close()
        return outputs, 1000 * statistics.median(seconds)

    def _compare(self, name: str, outputs: Sequence[Pixels], milliseconds: float) -> Trial:
        fidelity, drops = [], []
        scores: list[tuple[float, float]] = []
        for sample, output, expected in zip(self._samples, outputs, self._expected, strict=True):
            fidelity.append(psnr(output, expected))
            if sample.reference is None:
                drops.append(10 * math.log10(1 + 10 ** ((ASSUMED_PSNR - fidelity[-1]) / 10)))
                continue
            truth = as_8bit(sample.reference)
            found, exact = psnr(as_8bit(output), truth), psnr(as_8bit(expected), truth)
            # Both infinite where the network changes nothing.
            drops.append(exact - found if found != exact else 0.0)
            scores.append((found, ssim(as_8bit(output), truth) or 0.0))
        means = np.mean(scores, axis=0) if scores else (None, None)
        return Trial(
            name,
            float(np.mean(fidelity)),
            None if means[0] is None else float(means[0]),
            None if means[1] is None else float(means[1]),
            float(np.mean(drops)),
            milliseconds,
        )


def _restore(session: Session, image: Pixels) -> tuple[Pixels, float]:
    """Restore one image twice, the first time to compile for its shape, and time the second."""
    batch = pad_to_multiple(image, session.limits.multiple_of)[np.newaxis]
    session.restore(batch)
    begun = time.process_time()
    restored = session.restore(batch)[0]
    return crop_to(restored, *image.shape[:2]), time.process_time() - begun


def _ranges(histograms: Mapping[str, Histogram], method: Method, percentile: float) -> dict[str, Range]:
    return {name: histogram.range(method, percentile) for name, histogram in histograms.items()}


def _name(method: Method, percentile: float) -> str:
    return f"percentile {percentile:g}" if method == "percentile" else method


@torch.inference_mode()
def _by_harm(weights: Weights, ranges: Mapping[str, Range], image: Pixels) -> list[str]:
    """Return the layers by the error that each of them makes when it alone is rounded to int8, the worst first."""
    network = build_network(weights)
    picture = as_tensor(image[:_RANKING_SIDE, :_RANKING_SIDE])
    exact = network.residual(picture)
    harm = {}
    for name in convolutions(weights.state):
        if name not in ranges:
            continue
        layer = network.get_submodule(name).get_submodule("main.0")
        transposed = isinstance(layer, torch.nn.ConvTranspose2d)
        steps = activation_steps(*ranges[name], symmetric=transposed)
        weight = weights.state[f"{name}.main.0.weight"]
        axis = 1 if transposed else 0
        integers, scales = weight_steps(weight, axis)
        spread = np.expand_dims(scales.scale, tuple(one for one in range(4) if one != axis))
        layer.weight = torch.nn.Parameter(torch.from_numpy(integers * spread), requires_grad=False)
        ends = (-127, 127) if transposed else (0, 255)
        hook = layer.register_forward_pre_hook(_rounding(float(steps.scale), float(steps.zero), *ends))
        harm[name] = float((network.residual(picture) - exact).square().mean())
        hook.remove()
        layer.weight = torch.nn.Parameter(torch.tensor(weight), requires_grad=False)
    return sorted(harm, key=lambda name: -harm[name])


def _rounding(scale: float, zero: float, low: int, high: int) -> Callable[..., tuple[torch.Tensor]]:
    def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (torch.clamp(torch.round(inputs[0] / scale) + zero, low, high).sub(zero).mul(scale),)

    return hook
