"""Measuring sessions: the plain loop, the bare session of a recipe, and several bare sessions side by side."""

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.images.pixels import Pixels, crop_to, pad_to_multiple, quantise
from mimo_core.inference.open_restorer import open_restorer
from mimo_core.models.network import build_network
from mimo_core.models.weights import Weights
from mimo_core.runs.recipe import Recipe

_MULTIPLE = 4


@dataclass(frozen=True)
class Timing:
    """Images and the wall seconds that they took."""

    images: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


def plain_loop(weights: Weights, images: Sequence[Pixels], threads: int) -> tuple[Timing, list[npt.NDArray[np.uint8]]]:
    """Restore one image at a time as a plain script does: float32, NCHW, eager; after one image to warm up."""
    torch.set_num_threads(threads)
    network = build_network(weights)

    def restore(image: Pixels) -> npt.NDArray[np.uint8]:
        padded = pad_to_multiple(image, _MULTIPLE)
        planes = np.ascontiguousarray(padded.transpose(2, 0, 1)).astype(np.float32) / 255
        with torch.inference_mode():
            output = network(torch.from_numpy(planes)[None])[-1][0].numpy().transpose(1, 2, 0)
        return cast("npt.NDArray[np.uint8]", crop_to(quantise(output, np.uint8), *image.shape[:2]))

    restore(images[0])
    begun = time.perf_counter()
    outputs = [restore(image) for image in images]
    return Timing(len(images), time.perf_counter() - begun), outputs


def bare_session(
    recipe: Recipe, weights: Weights | None, images: Sequence[Pixels], threads: int | None
) -> tuple[Timing, list[Pixels]]:
    """Restore images from memory to memory with the recipe's session; after one image to warm up."""
    with open_restorer(recipe.model_copy(update={"threads": threads}), weights) as restorer:
        restorer.restore_one(images[0])
        begun = time.perf_counter()
        outputs = [restorer.restore_one(image) for image in images]
        return Timing(len(images), time.perf_counter() - begun), outputs


def bare_sessions(recipe: Recipe, weights: Weights | None, images: Sequence[Pixels], number: int) -> Timing:
    """Let so many processes restore all images at the same time, each with a session of its own.

    This is what the accelerators can do if nothing but the network is computed.
    """
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(number + 1), context.Queue()
    processes = [
        context.Process(target=_work, args=(recipe, weights, list(images), barrier, results)) for _ in range(number)
    ]
    for process in processes:
        process.start()
    barrier.wait(timeout=300)
    begun = time.perf_counter()
    for _ in processes:
        results.get(timeout=3600)
    seconds = time.perf_counter() - begun
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemFailure(ErrorKind.DEVICE, f"a session of the benchmark ended with exit code {process.exitcode}")
    return Timing(number * len(images), seconds)


def _work(
    recipe: Recipe, weights: Weights | None, images: list[Pixels], barrier: Barrier, results: "Queue[int]"
) -> None:
    with open_restorer(recipe, weights) as restorer:
        restorer.restore_one(images[0])
        barrier.wait(timeout=300)
        for image in images:
            restorer.restore_one(image)
        results.put(len(images))
