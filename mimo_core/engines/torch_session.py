"""MIMO-UNet by PyTorch, on the CPU or a CUDA device, in float32, bfloat16 or float16."""

from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from mimo_core.engines.base import SessionLimits, SessionSpec, check_batch
from mimo_core.errors import DeviceFaultError, ErrorKind, ImageError, SessionOutOfMemoryError, UsageError
from mimo_core.images.pixels import Pixels
from mimo_core.models.architecture import MULTIPLE
from mimo_core.models.network import build_network
from mimo_core.torch_device import find_device

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchSession:
    """The network in channels-last layout; only its residual is computed in the lower precisions.

    The input is added in float32 outside, so that no precision rounds the image itself (bfloat16 would cost it two
    8-bit levels).
    """

    def __init__(self, spec: SessionSpec) -> None:
        if spec.weights is None:
            raise UsageError("the torch engine needs weights")
        if spec.precision not in _DTYPES:
            raise UsageError(f"the torch engine computes in {', '.join(_DTYPES)}, not in {spec.precision}")
        if spec.static_shape is not None and any(side % MULTIPLE for side in spec.static_shape):
            raise UsageError(f"a static shape must be a multiple of {MULTIPLE} pixels, got {spec.static_shape}")
        self._device = find_device(spec.device)
        self._dtype = _DTYPES[spec.precision]
        if spec.threads is not None and self._device.type == "cpu":
            torch.set_num_threads(spec.threads)
        if self._device.type == "cuda":
            # TF32 keeps 10 bits of mantissa; float32 was asked for.
            torch.backends.cudnn.allow_tf32 = False
        network = build_network(spec.weights).eval().requires_grad_(False)
        network = network.to(device=self._device, dtype=self._dtype)
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.limits = SessionLimits(multiple_of=MULTIPLE, static_shape=spec.static_shape)
        self.device_name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"

    def restore(self, batch: Pixels) -> Pixels:
        """Return the restored batch in the input's type; see `Session.restore`."""
        levels = int(np.iinfo(batch.dtype).max)
        with torch.inference_mode():
            restored = self._forward(batch)
            # The zoo's rounding: a half step of 8 bits (or of 16), then the truncating cast.
            scaled = restored.add_(0.5 / levels).mul_(levels).clamp_(0, levels)
            if levels == 255:
                return cast(Pixels, _to_numpy(scaled.to(torch.uint8)))
            return cast(Pixels, _to_numpy(scaled.to(torch.int32)).astype(np.uint16))

    def restore_float(self, batch: Pixels) -> npt.NDArray[np.float32]:
        """Return the restored batch as float32 0..1; see `Session.restore_float`."""
        with torch.inference_mode():
            return cast("npt.NDArray[np.float32]", _to_numpy(self._forward(batch)))

    def close(self) -> None:
        """Drop the network and give cached device memory back."""
        if hasattr(self, "_network"):
            del self._network
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _not_finite(self) -> str:
        text = "the network's result holds values that are not finite"
        if self._dtype == torch.float32:
            return f"{text}, even in fp32: its weights do not suit this image"
        precision = next(name for name, dtype in _DTYPES.items() if dtype == self._dtype)
        return f"{text}: too large for {precision}; start a run with --precision fp32"

    def _forward(self, batch: Pixels) -> torch.Tensor:
        """Return the restored batch, float32 (N, 3, H, W) in 0..1 on the device."""
        if not hasattr(self, "_network"):
            raise UsageError("this session is closed")
        check_batch(batch, self.limits)
        levels = int(np.iinfo(batch.dtype).max)
        try:
            integers = torch.from_numpy(batch if levels == 255 else batch.astype(np.int32))
            image = integers.to(self._device).permute(0, 3, 1, 2).to(torch.float32).div_(levels)
            residual = self._network.residual(image.to(self._dtype))
            # Clipping would turn an overflow into white or black, and the cast to integers a NaN into anything.
            if not bool(torch.isfinite(residual).all()):
                raise ImageError(ErrorKind.DEVICE, self._not_finite())
            return image.add_(residual.to(torch.float32)).clamp_(0, 1)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise SessionOutOfMemoryError(str(error).splitlines()[0]) from error
        except RuntimeError as error:
            text = str(error)
            if "allocate memory" in text:
                raise SessionOutOfMemoryError(text.splitlines()[0]) from error
            if self._device.type == "cuda":
                raise DeviceFaultError(f"{self.device_name}: {text.splitlines()[0]}") from error
            raise


def _to_numpy(tensor: torch.Tensor) -> npt.NDArray[np.generic]:
    """Return a channels-last (N, 3, H, W) tensor as a contiguous (N, H, W, 3) array."""
    return cast("npt.NDArray[np.generic]", tensor.permute(0, 2, 3, 1).contiguous().cpu().numpy())
