"""Ranges for int8: histograms of what each convolution takes in, and the methods that choose a range from one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.images.pixels import Pixels, pad_to_multiple
from mimo_core.models.architecture import MULTIPLE
from mimo_core.models.int8 import activation_steps
from mimo_core.models.network import MimoUNet

Method = Literal["percentile", "max", "mse", "entropy"]
Range = tuple[float, float]

_BINS = 8192
_FIRST_LIMIT = 1.0
# Ranges that `mse` and `entropy` try, as shares of the largest.
_SHARES = np.linspace(0.2, 1.0, 81)


class Histogram:
    """How often which values occurred, in equal bins around 0; the bins double in width when larger values come."""

    def __init__(self) -> None:
        self._limit = _FIRST_LIMIT
        self._counts = np.zeros(_BINS, np.int64)
        self._low, self._high = 0.0, 0.0

    def add(self, values: torch.Tensor) -> None:
        """Count every value.

        Raises:
            SystemFailure: one of them is not finite.
        """
        low, high = (float(value) for value in torch.aminmax(values))
        if not np.isfinite([low, high]).all():
            raise SystemFailure(ErrorKind.DEVICE, "the network's values are not finite: its weights are of no use")
        self._low, self._high = min(self._low, low), max(self._high, high)
        while max(-self._low, self._high) > self._limit:
            self._limit *= 2
            quarter = np.zeros(_BINS // 4, np.int64)
            self._counts = np.concatenate([quarter, self._counts.reshape(-1, 2).sum(axis=1), quarter])
        # In float32 PyTorch would count in float32 too, where a bin stops at 2**24, and could not hold every limit.
        self._counts += torch.histc(values.double(), _BINS, -self._limit, self._limit).numpy().astype(np.int64)

    def range(self, method: Method, percentile: float) -> Range:
        """Return the lowest and the highest value that int8 shall tell apart; 0 lies within.

        Args:
            method: `max` takes in every value; `percentile` leaves out the share of the values beyond it at the upper
                end, and at the lower end where there are negative ones; `mse` makes the mean square of the rounding
                errors least, and `entropy` what the rounded values tell of the exact ones most.
            percentile: for `percentile`, of 100.
        """
        if method == "max":
            return self._low, self._high
        if method == "percentile":
            return self._quantile(1 - percentile / 100), self._quantile(percentile / 100)
        loss = self._mean_square if method == "mse" else self._divergence
        candidates = [(share * self._low, share * self._high) for share in _SHARES]
        return min(candidates, key=lambda one: loss(*one))

    def _quantile(self, share: float) -> float:
        """Return the value below which this share lies, not beyond the extremes and not across 0."""
        below = np.cumsum(self._counts)
        index = int(np.searchsorted(below, share * below[-1]))
        edge = (index + (share > 0.5)) * 2 * self._limit / _BINS - self._limit
        return min(max(edge, 0.0), self._high) if share > 0.5 else max(min(edge, 0.0), self._low)

    def _occupied(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the middles of the bins that hold something, and how much they hold."""
        bins = np.flatnonzero(self._counts)
        return (bins + 0.5) * 2 * self._limit / _BINS - self._limit, self._counts[bins].astype(np.float64)

    def _levels(self, values: npt.NDArray[np.float64], low: float, high: float) -> tuple[npt.NDArray[np.intp], Any]:
        steps = activation_steps(low, high, symmetric=False)
        levels = np.clip(np.rint(values / steps.scale) + float(steps.zero), 0, 255).astype(np.intp)
        return levels, (np.arange(256) - float(steps.zero)) * steps.scale

    def _mean_square(self, low: float, high: float) -> float:
        values, counts = self._occupied()
        levels, rounded = self._levels(values, low, high)
        return float(np.average((values - rounded[levels]) ** 2, weights=counts))

    def _divergence(self, low: float, high: float) -> float:
        """Return the Kullback-Leibler divergence of the values, those beyond the range moved to its ends, from the
        values as far as their levels tell them: each level's share spread evenly over its bins."""
        values, counts = self._occupied()
        inside = np.clip(values, low, high)
        _, bins = np.unique(inside, return_inverse=True)
        exact = np.bincount(bins, counts)
        levels = np.zeros(len(exact), np.intp)
        levels[bins], _ = self._levels(inside, low, high)
        told = (np.bincount(levels, exact) / np.maximum(np.bincount(levels), 1))[levels]
        return float(np.sum(exact * np.log(exact / told)) / exact.sum())


@torch.inference_mode()
def observe(network: MimoUNet, images: Iterable[Pixels]) -> dict[str, Histogram]:
    """Run images through the network in float32 and count what each convolution of the residual takes in, by name.

    Args:
        network: on the CPU, in evaluation mode.
        images: (H, W, 3) RGB, uint8 or uint16.
    """
    histograms: dict[str, Histogram] = {}

    def count(name: str, _: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        histograms.setdefault(name, Histogram()).add(inputs[0])

    hooks = [
        network.get_submodule(name).register_forward_pre_hook(partial(count, name))
        for name in convolutions(network.state_dict())
    ]
    for image in images:
        network.residual(as_tensor(image))
    for hook in hooks:
        hook.remove()
    return histograms


def convolutions(state: Iterable[str]) -> list[str]:
    """Return the names of the convolutions among a network's parameters."""
    suffix = ".main.0.weight"
    return [name.removesuffix(suffix) for name in state if name.endswith(suffix)]


def as_tensor(image: Pixels) -> torch.Tensor:
    """Return an image as the network takes it: (1, 3, H, W) in 0..1, padded to the network's multiple."""
    padded = pad_to_multiple(image, MULTIPLE)
    planes = np.ascontiguousarray(padded.transpose(2, 0, 1)[np.newaxis]).astype(np.float32)
    return torch.from_numpy(planes / np.float32(np.iinfo(image.dtype).max))
