"""A compiled model on one VACC die: images of its only size, some of them under way at once, residual or image back."""

import fcntl
import importlib.util
import os
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mimo_core.engines.base import SessionLimits, SessionSpec, Telemetry, check_batch
from mimo_core.engines.vacc.child import ChildDie
from mimo_core.engines.vacc.compiled import CompiledModel
from mimo_core.engines.vacc.die import Die, DieError
from mimo_core.errors import DeviceFaultError, ErrorKind, ImageError, SystemFailure, UsageError
from mimo_core.images.pixels import Pixels, quantise

_Result = npt.NDArray[np.float16]

# How full the vendor's own scripts keep a stream; what `run_async` does beyond is not documented.
_MOST_IN_FLIGHT = 20
# A worker that is killed gives its die back when the system has cleared it away.
_LOCK_SECONDS = 10.0


class _Device(Protocol):
    name: str

    def submit(self, pixels: npt.NDArray[np.uint8]) -> None: ...
    def collect(self) -> _Result: ...
    def sample(self) -> dict[str, float] | None: ...
    def close(self) -> None: ...


class VaccSession:
    """One die. Any threads may call `restore` and `restore_float` at once, as many as `limits.calls`.

    Each image is handed over without waiting for those before it; one thread collects the results, in order. After the
    first error the session is dead: what the runtime can recover from is not documented.
    """

    def __init__(self, spec: SessionSpec) -> None:
        model = spec.compiled
        if model is None:
            raise UsageError("the vacc engine needs a compiled model: say --weights FOLDER")
        self._model = model
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(_MOST_IN_FLIGHT)
        self._waiting: deque[Future[_Result]] = deque()
        self._arrivals = threading.Semaphore(0)
        self._telemetry: Telemetry | None = None
        self._dead: str | None = None
        self._closed = False
        self.limits = SessionLimits(
            multiple_of=4, max_batch=_MOST_IN_FLIGHT, static_shape=model.size, calls=_MOST_IN_FLIGHT
        )
        index = int(spec.device.partition(":")[2] or 0)
        self._claim = _claim(index)
        self._folder = tempfile.TemporaryDirectory(prefix="mimo-vacc-")
        try:
            self._die = _open(model, index, spec.vacc_python, Path(self._folder.name))
            self.device_name = self._die.name
            self._collector = threading.Thread(target=self._collect_for_ever, name="collect", daemon=True)
            self._collector.start()
            # A model that is too large for the die says so only when it computes.
            self._compute(np.zeros((1, *model.size, 3), np.uint8))
        except (DieError, DeviceFaultError, ImportError) as error:
            self._give_back()
            raise SystemFailure(ErrorKind.DEVICE, self._explain(error)) from error

    def restore(self, batch: Pixels) -> Pixels:
        """Return the restored batch in the input's type; see `Session.restore`."""
        return quantise(self.restore_float(batch), batch.dtype)

    def restore_float(self, batch: Pixels) -> npt.NDArray[np.float32]:
        """Return the restored batch as float32 0..1; see `Session.restore_float`."""
        if self._closed:
            raise UsageError("this session is closed")
        check_batch(batch, self.limits)
        model = self._model
        if batch.dtype == np.uint16 and model.output == "image":
            raise ImageError(
                ErrorKind.UNSUPPORTED,
                "a 16-bit image: the card takes 8 bits, and this compiled model gives the image back, so the others "
                "would be lost; export the model with its residual as output",
            )
        # The nearest of the 256 levels: 65535 is 255 * 257.
        coarse = batch if batch.dtype == np.uint8 else (batch.astype(np.uint32) + 128) // 257
        computed = self._compute(coarse.astype(np.uint8, copy=False))
        if not np.isfinite(computed).all():
            raise ImageError(
                ErrorKind.DEVICE, f"the compiled model's result holds values that are not finite in {model.precision}"
            )
        if model.output == "residual":
            computed += np.divide(batch, np.float32(np.iinfo(batch.dtype).max), dtype=np.float32)
        return np.clip(computed, 0, 1, out=computed)

    def take_telemetry(self) -> Telemetry | None:
        """Return what the die told since the last call; see `Monitored`."""
        with self._lock:
            taken, self._telemetry = self._telemetry, None
        return taken

    def close(self) -> None:
        """End the stream and give the die back; in process the model stays on it until the process ends."""
        if self._closed:
            return
        self._closed = True
        self._arrivals.release()
        if self._dead is None:
            self._collector.join()
        self._give_back()

    def _compute(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return what the model gives for (N, H, W, 3) RGB, as float32 (N, H, W, 3)."""
        results = [self._submit(image) for image in images]
        computed = np.empty(images.shape, np.float32)
        for number, result in enumerate(results):
            computed[number] = result.result().transpose(1, 2, 0)
        return computed

    def _submit(self, image: npt.NDArray[np.uint8]) -> "Future[_Result]":
        result: Future[_Result] = Future()
        self._room.acquire()
        with self._lock:
            self._waiting.append(result)
            try:
                if self._dead is not None:
                    raise DieError(self._dead)
                self._die.submit(image)
            except DieError as error:
                self._fail(error)
        self._arrivals.release()
        return result

    def _collect_for_ever(self) -> None:
        while True:
            self._arrivals.acquire()
            if self._closed or self._dead is not None:
                return
            try:
                # A copy: the die's memory is used again as soon as there is room.
                values = self._die.collect().copy()
                self._note(self._die.sample())
            except DieError as error:
                with self._lock:
                    self._fail(error)
                return
            with self._lock:
                if self._dead is None:
                    self._waiting.popleft().set_result(values)
                    self._room.release()

    def _fail(self, error: DieError) -> None:
        """Note that the session is dead and tell all who wait for a result; with the lock held."""
        self._dead = self._dead or self._explain(error)
        while self._waiting:
            self._waiting.popleft().set_exception(DeviceFaultError(self._dead))
            self._room.release()

    def _note(self, sample: dict[str, float] | None) -> None:
        if sample is None:
            return
        told = Telemetry(1, sample["temperature"], sample["power"], int(sample["memory"]), sample["utilisation"])
        with self._lock:
            self._telemetry = told if self._telemetry is None else self._telemetry + told

    def _explain(self, error: Exception) -> str:
        name = getattr(self, "device_name", "VACC")
        if isinstance(error, DieError) and error.out_of_memory:
            model = self._model
            return (
                f"{name}: the model compiled for {model.size[0]}x{model.size[1]} in {model.precision} does not fit the "
                f"die's memory; compile it in int8 or for a smaller size ({error})"
            )
        return str(error) if isinstance(error, DeviceFaultError) else f"{name}: {error}"

    def _give_back(self) -> None:
        die = getattr(self, "_die", None)
        try:
            # A dead one in this process may not answer any more.
            if isinstance(die, ChildDie) or (die is not None and self._dead is None):
                die.close()
        except DieError:
            # It is given up in any case.
            pass
        finally:
            self._folder.cleanup()
            os.close(self._claim)


def _open(model: CompiledModel, index: int, python: str | None, folder: Path) -> _Device:
    """Open the die with the model's files laid out in a folder."""
    for ending, data in model.files.items():
        (folder / f"mod{ending}").write_bytes(data)
    vdsp = folder / "vdsp.json"
    vdsp.write_bytes(model.vdsp)
    prefix, swapped = str(folder / "mod"), model.interleaved_bgr
    if python is not None:
        return ChildDie(python, index, prefix, str(vdsp), model.size, swapped, _MOST_IN_FLIGHT)
    if importlib.util.find_spec("vaststreamx") is None:
        raise DieError("this Python has no vaststreamx; name one that has it with --vacc-python")
    return Die(index, prefix, str(vdsp), model.size, swapped)


def _claim(index: int) -> int:
    """Return a lock on the die, which ends with this process: two workers on one die would be a mistake.

    Raises:
        SystemFailure: another process of this user's has it.
    """
    path = Path(tempfile.gettempdir()) / f"mimo-vacc-{os.getuid()}-die-{index}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise SystemFailure(
                    ErrorKind.DEVICE,
                    f"VACC die {index} is taken by another process; start the nodes of a cluster with "
                    "RAY_custom_unit_instance_resources=VACC, so that each worker gets a die of its own",
                ) from None
            time.sleep(0.1)
