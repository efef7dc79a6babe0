"""MIMO-UNet by OpenVINO on the CPU, in float32, bfloat16 or int8."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino.preprocess import PrePostProcessor

from mimo_core.engines.base import SessionLimits, SessionSpec, check_batch
from mimo_core.engines.model_cache import kept
from mimo_core.errors import DeviceFaultError, ErrorKind, ImageError, SessionOutOfMemoryError, UsageError
from mimo_core.hardware import refuse_int8_that_saturates
from mimo_core.images.pixels import Pixels, quantise
from mimo_core.models.architecture import MULTIPLE
from mimo_core.models.onnx_graph import build_onnx

_PRECISIONS = ("fp32", "bf16", "int8")
# A compiled model in int8 holds its own weights: 50 MB for MIMO-UNet+.
_MOST_SHAPES = 8

Floats = npt.NDArray[np.float32]


def computes_bf16(core: ov.Core) -> bool:
    """Return whether OpenVINO has instructions for bfloat16 on this CPU."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoSession:
    """The network's residual by OpenVINO; the input is added in float32 outside.

    That addition outside is for certainty only: OpenVINO itself leaves the last addition in float32, and its bfloat16
    came to the same 78.4 dB on a photograph either way (measured with the lite weights).

    In fp32 and bf16 one compiled model takes every size: it gave the same bits as one compiled for the size alone, at
    1.00 to 1.03 times its time, and a new size costs 0.05 s instead of 0.3 s. In int8 that would cost 12 %, so there a
    model is compiled for each size. Compiled models are kept on the disk.

    Images of a batch are computed one by one, for batches gain nothing on a CPU: all threads at one image (latency),
    or with `streams` above 1 as many images at a time, each with its share of the threads (throughput).
    """

    def __init__(self, spec: SessionSpec) -> None:
        if spec.weights is None:
            raise UsageError("the openvino engine needs weights")
        if spec.precision not in _PRECISIONS:
            raise UsageError(f"the openvino engine computes in {', '.join(_PRECISIONS)}, not in {spec.precision}")
        if spec.device != "cpu":
            raise UsageError(f"the openvino engine computes on the CPU, not on {spec.device}")
        if spec.static_shape is not None and any(side % MULTIPLE for side in spec.static_shape):
            raise UsageError(f"a static shape must be a multiple of {MULTIPLE} pixels, got {spec.static_shape}")
        self._core = ov.Core()
        bf16 = computes_bf16(self._core)
        if spec.precision == "bf16" and not bf16:
            raise UsageError("this CPU has no bfloat16 arithmetic, which OpenVINO would imitate: use --precision fp32")
        if spec.precision == "int8":
            refuse_int8_that_saturates()
        self._settings = {
            # What is not in int8 is in bfloat16 where the CPU has it.
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 and spec.precision != "fp32" else "f32",
            "NUM_STREAMS": spec.streams,
            # Pinned threads of several workers would meet on the same cores.
            "ENABLE_CPU_PINNING": False,
            **({"INFERENCE_NUM_THREADS": spec.threads} if spec.threads is not None else {}),
        }
        self._identity = (spec.weights.sha256, spec.weights.spec, spec.precision, sorted(self._settings.items()))
        self._streams = spec.streams
        self._precision = spec.precision
        self._network: ov.Model | None = self._read(spec)
        self._static = spec.precision == "int8" or spec.static_shape is not None
        self._requests: OrderedDict[tuple[int, int] | None, list[Any]] = OrderedDict()
        self.limits = SessionLimits(multiple_of=MULTIPLE, static_shape=spec.static_shape)
        self.device_name = "cpu"
        if not self._static:
            self._requests_for(MULTIPLE, MULTIPLE)

    def restore(self, batch: Pixels) -> Pixels:
        """Return the restored batch in the input's type; see `Session.restore`."""
        return quantise(self.restore_float(batch), batch.dtype)

    def restore_float(self, batch: Pixels) -> Floats:
        """Return the restored batch as float32 0..1; see `Session.restore_float`."""
        check_batch(batch, self.limits)
        try:
            images: Floats = np.divide(batch, np.float32(np.iinfo(batch.dtype).max), dtype=np.float32, order="C")
            requests = self._requests_for(*batch.shape[1:3])
            for start in range(0, len(images), len(requests)):
                self._add_residuals(images[start : start + len(requests)], requests)
        except MemoryError as error:
            raise SessionOutOfMemoryError(f"no memory for a batch of shape {batch.shape}") from error
        except RuntimeError as error:
            # A model that failed to allocate crashes the process in its next call: the next one is compiled anew.
            self._requests.clear()
            text = str(error).strip().splitlines()[-1]
            if "alloc" in str(error):
                raise SessionOutOfMemoryError(text) from error
            raise DeviceFaultError(f"OpenVINO: {text}") from error
        np.clip(images, np.float32(0), np.float32(1), out=images)
        return images

    def close(self) -> None:
        """Drop the compiled models."""
        self._requests.clear()
        self._network = None

    def _add_residuals(self, images: Floats, requests: list[Any]) -> None:
        """Compute as many images at a time as there are requests, in place."""
        running = []
        for image, request in zip(images, requests, strict=False):
            request.set_input_tensor(ov.Tensor(image[np.newaxis], shared_memory=True))
            request.start_async()
            running.append((image, request))
        for image, request in running:
            request.wait()
            residual = request.get_output_tensor().data[0]
            # Clipping would turn an overflow into white or black, and the cast to integers a NaN into anything.
            if not np.isfinite(residual).all():
                raise ImageError(ErrorKind.DEVICE, self._not_finite())
            image += residual

    def _not_finite(self) -> str:
        text = "the network's result holds values that are not finite"
        if self._precision == "fp32":
            return f"{text}, even in fp32: its weights do not suit this image"
        return f"{text}: too large for {self._precision}; start a run with --precision fp32"

    def _requests_for(self, height: int, width: int) -> list[Any]:
        """Return one request for each stream, of the model for this size, compiled now if it was not yet."""
        if self._network is None:
            raise UsageError("this session is closed")
        size = (height, width) if self._static else None
        if size in self._requests:
            self._requests.move_to_end(size)
            return self._requests[size]
        network = self._network
        if size is not None:
            network = network.clone()
            network.reshape([1, height, width, 3])
        with kept("openvino", ov.get_version(), size, *self._identity) as folder:
            settings = self._settings if folder is None else {**self._settings, "CACHE_DIR": str(folder)}
            compiled = self._core.compile_model(network, "CPU", settings)
        if len(self._requests) == _MOST_SHAPES:
            self._requests.popitem(last=False)
        self._requests[size] = [compiled.create_infer_request() for _ in range(self._streams)]
        return self._requests[size]

    def _read(self, spec: SessionSpec) -> ov.Model:
        """Return the network with height and width dynamic, float32 NHWC in and out."""
        assert spec.weights is not None
        graph = build_onnx(spec.weights, batch=1, output="residual", int8=spec.precision == "int8")
        steps = PrePostProcessor(self._core.read_model(graph.SerializeToString()))
        for end in (steps.input(), steps.output()):
            end.tensor().set_layout(ov.Layout("NHWC"))
            end.model().set_layout(ov.Layout("NCHW"))
        return steps.build()
