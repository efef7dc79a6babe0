"""An image's 2048 Inception features, as "clean" FID prepares images for them."""

import hashlib
import io
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch

from mimo_core.errors import ErrorKind, ImageError, UsageError
from mimo_core.hardware import usable_cores
from mimo_core.images.pixels import Pixels, as_8bit
from mimo_core.metrics.fid.inception import REMEDY, Inception
from mimo_core.metrics.fid.threads import open_threads
from mimo_core.metrics.psnr_ssim import check_pixels, check_rgb
from mimo_core.torch_device import find_device, measuring_on

FEATURES = 2048
"""Features of an image: Inception-v3's last pooling layer."""

_SIDE = 299


class FeatureExtractor:
    """The Inception network on one device; usable from any threads at once.

    Images are resized as Parmar et al. (CVPR 2022, "clean" FID) do: to 299x299 by antialiased bicubic interpolation in
    float32, each channel alone, clipped to 0..255 and not rounded; the network takes (x - 128) / 128. They go through
    the network one at a time and on one CPU thread each, so that an image's features depend on nothing but the image,
    the network's file and the kind of device.
    """

    def __init__(self, inception: Inception, device: str = "cpu", threads: int | None = None, *, kept: int = 0) -> None:
        """Load the network.

        Args:
            inception: see `find_inception`.
            device: where the run's network computes: `cuda` or `cuda:N`; beside any other, features come from the CPU.
            threads: images that are computed at the same time, each on one CPU thread; None: as many as cores.
            kept: features of so many images are kept (8 KB each), for images that come again; the longest unused go.

        Raises:
            UsageError: the file is not such a network.
            SystemFailure: the device does not exist or failed.
        """
        if threads is not None and threads < 1:
            raise UsageError(f"features need at least one thread, got {threads}")
        self._device = find_device(device if device.split(":")[0] == "cuda" else "cpu")
        if self._device.type == "cuda":
            # TF32 keeps 10 bits of mantissa, which the distance of two sets shows.
            torch.backends.cudnn.allow_tf32 = False
        self._most = kept
        self._kept: OrderedDict[bytes, npt.NDArray[np.float32]] = OrderedDict()
        self._lock = Lock()
        self._network = _load(inception, self._device)
        self._threads = open_threads(threads or usable_cores())
        try:
            self._check(inception.name)
        except BaseException:
            self.close()
            raise

    def features(self, images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """Return the features of images, (N, 2048) float32.

        Args:
            images: (H, W, 3) RGB of any size, uint8; uint16 counts as the 8 bits that it rounds to.

        Raises:
            UsageError: an array that is no RGB image.
            ImageError: features that are not finite, or too little memory.
            SystemFailure: the device failed.
        """
        for image in images:
            check_pixels(image)
            check_rgb(image, "FID")
        rows = list(self._threads.map(self._kept_or_new, images))
        return np.stack(rows) if rows else np.empty((0, FEATURES), np.float32)

    def close(self) -> None:
        """End the threads and drop the network."""
        self._threads.shutdown()
        if hasattr(self, "_network"):
            del self._network

    def _kept_or_new(self, image: Pixels) -> npt.NDArray[np.float32]:
        if not self._most:
            return self._of_one(image)
        pixels = np.ascontiguousarray(as_8bit(image))
        key = hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).digest()
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        found = self._of_one(image)
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return found

    def _of_one(self, image: Pixels) -> npt.NDArray[np.float32]:
        with measuring_on(self._device), torch.inference_mode():
            found = self._infer(prepared(image))
        if not np.isfinite(found).all():
            raise ImageError(ErrorKind.DEVICE, "the image's Inception features are not finite")
        return found

    def _infer(self, batch: torch.Tensor) -> npt.NDArray[np.float32]:
        # The executor would rewrite the graph after the first images, and so their last digits.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            found: object = self._network(batch.to(self._device))
        if not isinstance(found, torch.Tensor) or found.shape != (1, FEATURES):
            given = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise UsageError(f"it gives {given} for an image, not {FEATURES} features")
        values: npt.NDArray[np.float32] = found[0].to(torch.float32).cpu().numpy()
        return values

    def _check(self, name: str) -> None:
        """Try the network, so that a wrong file is told before the first image."""
        blank = np.zeros((1, 1, 3), np.uint8)
        try:
            self._threads.submit(self._of_one, blank).result()
        except (RuntimeError, UsageError) as error:
            # TorchScript's own errors end with what went wrong.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise UsageError(f"{name} is not an Inception network for FID: {reason}; {REMEDY}") from error


def prepared(image: Pixels) -> torch.Tensor:
    """Return an (H, W, 3) RGB image as the network takes it: (1, 3, 299, 299) float32, -1..127/128."""
    planes = torch.from_numpy(np.ascontiguousarray(as_8bit(image).transpose(2, 0, 1))).to(torch.float32)[None]
    resized = torch.nn.functional.interpolate(planes, (_SIDE, _SIDE), mode="bicubic", antialias=True)
    return resized.clamp_(0, 255).sub_(128).div_(128)


def _load(inception: Inception, device: torch.device) -> torch.jit.ScriptModule:
    try:
        network: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
            io.BytesIO(inception.data), map_location=device
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise UsageError(f"{inception.name} is not a TorchScript file: {REMEDY} for one that suits FID") from error
    return network.eval()
