"""Several processes that train one network: each takes its part of a batch, and their gradients are averaged.

Whoever starts the processes opens torch's process group: `torchrun`, Ray Train, or nobody for a single process.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from mimo_core.training.train_config import TrainConfig


@dataclass(frozen=True)
class Workers:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints and the log, and validates."""
        return self.rank == 0

    @torch.no_grad()
    def average(self, parameters: Iterable[nn.Parameter], *values: float) -> tuple[float, ...]:
        """Replace every gradient by its mean over all workers, and return the means of the given values.

        One exchange carries both, so that all workers agree on loss and time at no further cost.
        """
        if self.world == 1:
            return values
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        extra = torch.tensor(values, dtype=torch.float32, device=gradients[0].device)
        buffer = torch.cat([*(gradient.float().flatten() for gradient in gradients), extra])
        dist.all_reduce(buffer)
        buffer /= self.world
        parts = torch.split(buffer, [*(gradient.numel() for gradient in gradients), len(values)])
        for gradient, part in zip(gradients, parts[:-1], strict=True):
            gradient.copy_(part.view(gradient.shape))
        return tuple(parts[-1].tolist())


def join_workers() -> Workers:
    """Return the process group that is open, or a single worker."""
    if dist.is_available() and dist.is_initialized():
        return Workers(dist.get_rank(), dist.get_world_size())
    return Workers()


def wants_ray(config: TrainConfig) -> bool:
    """Return whether Ray shall start the workers: several are asked for, or there are several GPUs or a cluster.

    Not where torchrun, or whoever sets its variables, has started this process as one of several already.
    """
    if "WORLD_SIZE" in os.environ:
        return False
    if "RAY_ADDRESS" in os.environ or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return True
    if config.workers is not None:
        return config.workers > 1
    return config.device in ("auto", "cuda") and torch.cuda.device_count() > 1


@contextmanager
def open_process_group() -> Iterator[None]:
    """Open torch's process group where torchrun has started this process, for the duration of the block."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group()
    try:
        yield
    finally:
        dist.destroy_process_group()
