"""What int8 needs besides weights: the range of values at each convolution's input, kept in the weights' metadata."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mimo_core.errors import WeightsError
from mimo_core.models.metadata import INT8
from mimo_core.models.weights import Weights

KEY = INT8
"""The entry of a safetensors file's metadata that holds a `Quantisation`."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Quantisation:
    """How a network is computed in int8.

    Attributes:
        calibration: how the ranges were chosen, such as `percentile 99.99`.
        ranges: lowest and highest value at the input of each convolution that is computed in int8, by the
            convolution's name; those that are left out stay in floating point.
    """

    calibration: str
    ranges: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, weights: Weights) -> Quantisation | None:
        """Return what the weights' metadata say, None where they say nothing of int8.

        Raises:
            WeightsError: they say something that cannot be.
        """
        text = weights.metadata.get(KEY)
        if text is None:
            return None
        try:
            values: dict[str, Any] = json.loads(text)
            ranges = {str(name): (float(low), float(high)) for name, (low, high) in values["ranges"].items()}
            found = cls(str(values["calibration"]), ranges)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"{weights.source}: its metadata {KEY!r} cannot be read; quantise it again") from error
        calibrated = weights.metadata.get("interpolation", weights.spec.interpolation)
        if calibrated != weights.spec.interpolation:
            raise WeightsError(
                f"{weights.source} was calibrated with {calibrated} interpolation: leave out --interpolation, or "
                "quantise it again"
            )
        unknown = [name for name in ranges if f"{name}.main.0.weight" not in weights.state]
        wrong = [name for name, (low, high) in ranges.items() if not -np.inf < low <= 0 <= high < np.inf]
        if unknown or wrong:
            raise WeightsError(
                f"{weights.source}: its metadata {KEY!r} do not fit its weights at {(unknown + wrong)[0]}; "
                "quantise it again"
            )
        return found

    def text(self) -> str:
        """Return the metadata's text."""
        return json.dumps(asdict(self), separators=(",", ":"))


@dataclass(frozen=True)
class Steps:
    """A linear map of values to 8 bits: value = scale * (integer - zero), per tensor or per output channel."""

    scale: Floats
    zero: npt.NDArray[np.uint8] | npt.NDArray[np.int8]


def activation_steps(low: float, high: float, *, symmetric: bool) -> Steps:
    """Return the map of a range that holds 0: to uint8, or symmetric around 0 to int8."""
    if symmetric:
        return Steps(_positive(np.float32(max(-low, high) / 127)), np.zeros((), np.int8))
    scale = _positive(np.float32((high - low) / 255))
    return Steps(scale, np.asarray(np.clip(np.rint(-low / scale), 0, 255), np.uint8))


def weight_steps(weight: Floats, axis: int) -> tuple[npt.NDArray[np.int8], Steps]:
    """Return a convolution's weights as int8, symmetric for each output channel (`axis`), and their map."""
    others = tuple(one for one in range(weight.ndim) if one != axis)
    scale = _positive(np.abs(weight).max(axis=others).astype(np.float32) / np.float32(127))
    integers = np.clip(np.rint(weight / np.expand_dims(scale, others)), -127, 127).astype(np.int8)
    return integers, Steps(scale, np.zeros(len(scale), np.int8))


def _positive(scale: Any) -> Floats:
    # A channel of zeros, or an input that is always 0, still needs a scale to divide by.
    positive: Floats = np.maximum(np.asarray(scale, np.float32), np.float32(1e-12))
    return positive
