"""A PyTorch device by its name, and what its failures mean to a run."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mimo_core.errors import DeviceFaultError, ErrorKind, ImageError, SystemFailure


def find_device(name: str) -> torch.device:
    """Return the device of this name: `cpu`, `cuda` or `cuda:N`.

    Raises:
        SystemFailure: this machine does not have it.
    """
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise SystemFailure(
                ErrorKind.DEVICE,
                "no CUDA device is usable here: check the driver and the PyTorch build, or say --device cpu",
            )
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise SystemFailure(
                ErrorKind.DEVICE, f"{name} does not exist: {torch.cuda.device_count()} CUDA devices are here"
            )
    return device


@contextmanager
def measuring_on(device: torch.device) -> Iterator[None]:
    """Turn PyTorch's errors while an image is measured on the device into the program's own.

    Raises:
        ImageError: too little memory for this image.
        DeviceFaultError: the device failed.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise ImageError(
            ErrorKind.OUT_OF_MEMORY, f"too little memory on {device} to score the image: {_first_line(error)}"
        ) from error
    except RuntimeError as error:
        if device.type == "cuda":
            raise DeviceFaultError(f"{device} failed while it scored: {_first_line(error)}") from error
        raise


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
