"""Measuring a training's two halves apart: how fast crops are prepared, and how fast the network takes them."""

import time

from mimo_core.training.loader import Loader, Mixture
from mimo_core.training.train_config import TrainConfig
from mimo_core.training.trainer import Trainer


def loading_rate(mixture: Mixture, config: TrainConfig, crop: int, threads: int, seconds: float) -> float:
    """Return how many crops of `crop` pixels `threads` prepare in a second, over `seconds` after a batch to warm up."""
    loader = Loader(mixture, config.batch, lambda _: crop, threads=threads)
    try:
        next(loader)
        batches, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            next(loader)
            batches += 1
        return batches * config.batch / (time.perf_counter() - begun)
    finally:
        loader.close()


def network_rate(trainer: Trainer, mixture: Mixture, crop: int, seconds: float) -> float:
    """Return crops of `crop` pixels that the network learns from in a second, of a batch in memory, after two steps."""
    batch = mixture.batch(0, trainer.config.batch, crop)
    for _ in range(2):
        trainer.train_on(batch, rate=0.0)
    steps, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        trainer.train_on(batch, rate=0.0)
        steps += 1
    return steps * trainer.config.batch / (time.perf_counter() - begun)
