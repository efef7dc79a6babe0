"""The session protocol: one opened accelerator with one loaded model, the same for every engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from mimo_core.errors import UsageError

# The names of the engines, which the command line needs, come without NumPy.
if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mimo_core.engines.vacc.compiled import CompiledModel
    from mimo_core.images.pixels import Pixels
    from mimo_core.models.weights import Weights

Precision = Literal["fp32", "bf16", "fp16", "int8"]


@dataclass(frozen=True)
class SessionSpec:
    """What a session is opened from.

    Attributes:
        engine: name in the registry (`mimo_core.engines.registry`).
        device: `cpu`, `cuda` or `cuda:N`, `vacc` or `vacc:N`.
        precision: arithmetic inside the network.
        weights: the model, with its interpolation; None for engines that hold no network (`identity`) or take a
            compiled one.
        threads: CPU threads inside one operation; None leaves the engine's default.
        static_shape: (height, width) that every batch must have, or None.
        streams: images of a batch that are computed at the same time, where the engine shares its threads among them.
        compiled: the model as a vendor's compiler made it.
        vacc_python: interpreter of a child process that holds a VACC die; None holds it in this process.
    """

    engine: str
    device: str
    precision: Precision
    weights: Weights | None
    threads: int | None = None
    static_shape: tuple[int, int] | None = None
    streams: int = 1
    compiled: CompiledModel | None = None
    vacc_python: str | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"a session needs at least one thread, got {self.threads}")
        if self.streams < 1:
            raise UsageError(f"a session computes at least one image at a time, got {self.streams} streams")


@dataclass(frozen=True)
class SessionLimits:
    """What a session accepts.

    Attributes:
        multiple_of: height and width of a batch must be multiples of this (pixels).
        max_batch: most images in one batch, or None.
        max_pixels: most pixels (N x H x W) in one batch, or None.
        static_shape: the only (height, width) accepted, or None for any.
        preferred_tile: (height, width) that the engine computes most cheaply, or None.
        calls: how many calls it takes at once, from any threads; 1: it is used on one thread.
    """

    multiple_of: int = 1
    max_batch: int | None = None
    max_pixels: int | None = None
    static_shape: tuple[int, int] | None = None
    preferred_tile: tuple[int, int] | None = None
    calls: int = 1


@dataclass(frozen=True)
class Telemetry:
    """What a device told of itself in some samples.

    Attributes:
        samples: their number.
        temperature: highest, in degrees Celsius.
        power: mean, in watts.
        memory: most in use, in bytes.
        utilisation: mean, in per cent.
    """

    samples: int
    temperature: float
    power: float
    memory: int
    utilisation: float

    def __add__(self, other: Telemetry) -> Telemetry:
        """Return both together."""
        samples = self.samples + other.samples
        return Telemetry(
            samples,
            max(self.temperature, other.temperature),
            (self.power * self.samples + other.power * other.samples) / samples,
            max(self.memory, other.memory),
            (self.utilisation * self.samples + other.utilisation * other.samples) / samples,
        )


@runtime_checkable
class Monitored(Protocol):
    """A session whose device tells of itself."""

    def take_telemetry(self) -> Telemetry | None:
        """Return what was sampled since the last call, from any thread; None where nothing was."""


class Session(Protocol):
    """One opened accelerator. Open and close it on one thread, and use it there unless `limits.calls` allows more."""

    @property
    def limits(self) -> SessionLimits:
        """What batches the session accepts."""

    @property
    def device_name(self) -> str:
        """The device as people call it, such as `NVIDIA H200` or `cpu`."""

    def restore(self, batch: Pixels) -> Pixels:
        """Return the restored batch, rounded to the input's type.

        Args:
            batch: (N, H, W, 3) RGB, uint8 or uint16, within `limits`.

        Raises:
            UsageError: the batch is not within `limits`.
            SessionOutOfMemoryError: the batch does not fit; the session stays usable.
            ImageError: an image of the batch came out with values that are no numbers; the session stays usable.
            DeviceFaultError: the session is dead.
        """

    def restore_float(self, batch: Pixels) -> npt.NDArray[np.float32]:
        """Return the restored batch as float32 (N, H, W, 3), clipped to 0..1. Raises as `restore` does."""

    def close(self) -> None:
        """Give the accelerator back, for good. Closing twice is allowed."""


def check_batch(batch: Pixels, limits: SessionLimits) -> None:
    """Refuse a batch that a session cannot take.

    Raises:
        UsageError: wrong rank, type, size or number of images; the message names which.
    """
    if batch.ndim != 4 or batch.shape[3] != 3 or batch.shape[0] < 1:
        raise UsageError(f"expected a batch of shape (N, H, W, 3), got {batch.shape}")
    if batch.dtype not in ("uint8", "uint16"):
        raise UsageError(f"expected uint8 or uint16, got {batch.dtype}")
    count, height, width = batch.shape[:3]
    if height % limits.multiple_of or width % limits.multiple_of:
        raise UsageError(f"expected height and width in multiples of {limits.multiple_of}, got {height}x{width}")
    if limits.static_shape is not None and (height, width) != limits.static_shape:
        only = "x".join(map(str, limits.static_shape))
        raise UsageError(f"this session takes {only} pixels only, got {height}x{width}")
    if limits.max_batch is not None and count > limits.max_batch:
        raise UsageError(f"this session takes at most {limits.max_batch} images at once, got {count}")
    if limits.max_pixels is not None and count * height * width > limits.max_pixels:
        raise UsageError(
            f"this session takes at most {limits.max_pixels} pixels at once, got {count} images of {height}x{width}"
        )
