"""The learning rate and the size of the crops as functions of how much of the training is done."""

import math

from mimo_core.training.train_config import TrainConfig


def learning_rate(config: TrainConfig, progress: float) -> float:
    """Return the rate at `progress` (0..1, clipped): a linear rise over the warm-up, then the configured decay."""
    done = min(max(progress, 0.0), 1.0)
    if done < config.warmup:
        return config.highest_rate * max(done / config.warmup, 1e-3)
    after = (done - config.warmup) / (1.0 - config.warmup)
    if config.schedule == "cosine":
        swing = 0.5 * (1.0 + math.cos(math.pi * after))
        return config.final_rate + (config.highest_rate - config.final_rate) * swing
    if config.schedule == "trapezoid":
        fall = max(done - (1.0 - config.decay), 0.0) / config.decay
        return config.highest_rate + (config.final_rate - config.highest_rate) * fall
    if config.schedule == "halving":
        return config.highest_rate * 0.5 ** min(int(after * (config.halvings + 1)), config.halvings)
    return config.highest_rate


def progress_of(config: TrainConfig, steps_done: int, seconds_done: float) -> float:
    """Return how much of the training is done, 0..1, by whichever length the configuration gives."""
    if config.steps is not None:
        return min(steps_done / config.steps, 1.0)
    assert config.minutes is not None
    return min(seconds_done / (60.0 * config.minutes), 1.0)


def crop_of(config: TrainConfig, progress: float) -> int:
    """Side of the crops at `progress`, in pixels."""
    if config.final_crop is not None and progress >= config.final_from:
        return config.final_crop
    return config.crop
