"""Whether an exported file gives the images that the program gives: run by OpenVINO, beside the torch session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from mimo_core.engines import SessionSpec, open_session
from mimo_core.errors import ErrorKind, SystemFailure, UsageError
from mimo_core.images.pixels import Pixels, pad_to_multiple
from mimo_core.images.resizing import resize_bilinear
from mimo_core.models.architecture import MULTIPLE
from mimo_core.models.onnx_graph import Output
from mimo_core.models.weights import Weights

FP32_TOLERANCE = 1e-4
"""Most that two right float32 implementations differ by, in values of 0..1."""
INT8_DECIBELS = 38.0
"""Least PSNR of int8 against float32."""


@dataclass(frozen=True)
class Agreement:
    """An exported file against the torch session: images compared, largest difference (of 0..1) and least PSNR (dB)."""

    images: int
    difference: float
    psnr: float

    def require(self, *, int8: bool) -> None:
        """Refuse a file that does not give the images.

        Raises:
            SystemFailure: it differs by more than rounding explains.
        """
        if self.psnr < INT8_DECIBELS if int8 else self.difference > FP32_TOLERANCE:
            raise SystemFailure(
                ErrorKind.INTERNAL,
                f"the exported network does not give the images: max |diff| {self.difference:.2g}, "
                f"{self.psnr:.1f} dB at worst; nothing was kept",
            )


def compare(
    file: Path,
    weights: Weights,
    images: Sequence[Pixels],
    *,
    size: tuple[int, int] | None,
    batch: int | None,
    output: Output,
) -> Agreement:
    """Run an exported file on images and compare with the torch session in float32.

    Args:
        file: what `export_onnx` wrote with this size, batch and output.
        weights: what was exported.
        images: (H, W, 3) RGB, uint8 or uint16; resized where the file takes one size only.
    """
    try:
        import openvino
    except ImportError as error:
        raise UsageError(
            f"the exported file is checked with openvino, which cannot be imported here ({error}): install it"
        ) from error

    session = open_session(SessionSpec("torch", "cpu", "fp32", weights))
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(str(file), "CPU", settings).create_infer_request()
    difference, psnr = 0.0, float("inf")
    for image in images:
        fitting = resize_bilinear(image, size) if size is not None else pad_to_multiple(image, MULTIPLE)
        pixels = cast(Pixels, np.repeat(fitting[np.newaxis], batch or 1, axis=0))
        expected = session.restore_float(pixels)
        planes = np.divide(pixels, np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32).transpose(0, 3, 1, 2)
        found = request.infer([np.ascontiguousarray(planes)])[0]
        if output == "residual":
            found = found + planes
        errors = np.abs(np.clip(found, 0, 1).transpose(0, 2, 3, 1) - expected)
        difference = max(difference, float(errors.max()))
        mean = float(np.square(errors, dtype=np.float64).mean())
        psnr = min(psnr, -10 * float(np.log10(mean)) if mean else float("inf"))
    session.close()
    return Agreement(len(images), difference, psnr)
