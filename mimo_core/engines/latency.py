"""How long a session takes under load: requests kept waiting, one after another through the session's own thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import numpy as np

from mimo_core.engines import Monitored, Session, SessionSpec, open_session
from mimo_core.errors import UsageError
from mimo_core.hardware import peak_memory
from mimo_core.images.pixels import Pixels

_WARM_UP = 2
_MATRIX_SIDE = {"cpu": 1024, "cuda": 8192}
_LEAST_PRODUCTS = 3


@dataclass(frozen=True)
class Load:
    """How a session is used: images in each request, requests that are under way at any time, and for how long.

    Attributes:
        batch: images in a request.
        depth: requests under way: one is computed, the others wait.
        seconds: wall time to measure for; `requests` at least are measured.
        requests: least number of requests.
    """

    batch: int
    depth: int
    seconds: float
    requests: int = 5

    def __post_init__(self) -> None:
        if self.batch < 1 or self.depth < 1 or self.seconds <= 0 or self.requests < 1:
            raise UsageError(f"a load has at least one image, one request and some time, got {self}")


@dataclass(frozen=True)
class Measurement:
    """What was measured under one load.

    Attributes:
        load: the load.
        images: images that were computed.
        seconds: wall time that they took.
        latencies: seconds from the request to its answer, in rising order.
        utilisation: share of the device that was busy, 0..1; None where the device does not tell.
        power: watts; None where the device does not tell.
        memory: bytes in use at the most; None where the device does not tell.
    """

    load: Load
    images: int
    seconds: float
    latencies: tuple[float, ...]
    utilisation: float | None
    power: float | None
    memory: int | None

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds

    @property
    def mean(self) -> float:
        """Mean latency in seconds."""
        return sum(self.latencies) / len(self.latencies)

    def percentile(self, percent: float) -> float:
        """Return the latency in seconds within which that share of the requests was answered (nearest rank)."""
        return float(np.percentile(self.latencies, percent, method="inverted_cdf"))


def measure_loads(spec: SessionSpec, image: Pixels, loads: Sequence[Load]) -> list[Measurement]:
    """Open a session and measure it under one load after another.

    Args:
        spec: the session to open.
        image: (H, W, 3) RGB, of a size that the session takes; every request holds copies of it.
        loads: in the order in which they are measured.
    """
    with ThreadPoolExecutor(1) as owner:
        session = owner.submit(open_session, spec).result()
        # Sessions that take several calls at once take them from any threads.
        with nullcontext(owner) if session.limits.calls == 1 else ThreadPoolExecutor(session.limits.calls) as threads:
            try:
                return [_measure(threads, session, spec, image, load) for load in loads]
            finally:
                owner.submit(session.close).result()


def matrix_rate(spec: SessionSpec, seconds: float = 1.0) -> float | None:
    """Return the operations a second of square matrix products with the session's precision, device and threads.

    This is about what a network of convolutions can reach at best. None where PyTorch computes no such products: int8,
    and devices that it does not know. On a CPU this sets the threads of PyTorch in this process.
    """
    dtypes = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    if spec.precision not in dtypes or spec.device.split(":")[0] not in ("cpu", "cuda"):
        return None
    import torch

    if spec.threads is not None and spec.device == "cpu":
        torch.set_num_threads(spec.threads)
    side = _MATRIX_SIDE[spec.device.split(":")[0]]
    matrix = torch.ones(side, side, dtype=getattr(torch, dtypes[spec.precision]), device=spec.device)
    torch.matmul(matrix, matrix)[0, 0].item()
    begun, products = time.perf_counter(), 0
    while products < _LEAST_PRODUCTS or time.perf_counter() - begun < seconds:
        # Reading a value waits for the device.
        torch.matmul(matrix, matrix)[0, 0].item()
        products += 1
    return 2.0 * side**3 * products / (time.perf_counter() - begun)


def _measure(threads: Executor, session: Session, spec: SessionSpec, image: Pixels, load: Load) -> Measurement:
    batch = cast(Pixels, np.repeat(image[np.newaxis], load.batch, axis=0))
    for _ in range(_WARM_UP):
        threads.submit(session.restore, batch).result()
    device = _Device(session, spec)
    latencies: list[float] = []
    waiting: deque[tuple[float, Future[float]]] = deque()
    begun = time.perf_counter()

    def request() -> float:
        session.restore(batch)
        return time.perf_counter()

    while True:
        while len(waiting) < load.depth and not _enough(load, len(latencies) + len(waiting), begun):
            waiting.append((time.perf_counter(), threads.submit(request)))
        if not waiting:
            break
        asked, answer = waiting.popleft()
        latencies.append(answer.result() - asked)
    seconds = time.perf_counter() - begun
    return Measurement(load, len(latencies) * load.batch, seconds, tuple(sorted(latencies)), *device.told(seconds))


def _enough(load: Load, requests: int, begun: float) -> bool:
    return requests >= load.requests and time.perf_counter() - begun >= load.seconds


class _Device:
    """What the device tells of itself between two moments."""

    def __init__(self, session: Session, spec: SessionSpec) -> None:
        self._monitored = session if isinstance(session, Monitored) else None
        self._cuda = spec.device if spec.device.startswith("cuda") else None
        self._threads = spec.threads or 1
        self._busy = time.process_time()
        if self._monitored is not None:
            self._monitored.take_telemetry()
        if self._cuda is not None:
            import torch

            torch.cuda.reset_peak_memory_stats(self._cuda)

    def told(self, seconds: float) -> tuple[float | None, float | None, int | None]:
        """Return utilisation (0..1), power in watts and memory in bytes."""
        if self._monitored is not None:
            told = self._monitored.take_telemetry()
            return (told.utilisation / 100, told.power, told.memory) if told is not None else (None, None, None)
        if self._cuda is None:
            # Of the threads that the session has; the process's memory is the session's, nearly.
            return min(1.0, (time.process_time() - self._busy) / seconds / self._threads), None, peak_memory()
        import torch

        memory = int(torch.cuda.max_memory_allocated(self._cuda))
        try:
            return torch.cuda.utilization(self._cuda) / 100, torch.cuda.power_draw(self._cuda) / 1000, memory
        except (ModuleNotFoundError, RuntimeError):
            # NVIDIA's management library is a package of its own.
            return None, None, memory
