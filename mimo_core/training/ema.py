"""The moving average of the weights, which restores better than the last step's."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MovingAverage:
    """Exponential moving average of a network's parameters, in float32.

    Args:
        network: the network that is trained.
        decay: what stays of the average at each step. It starts lower, so that the first steps are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.state: dict[str, Tensor] = {
            name: parameter.detach().clone().float() for name, parameter in network.named_parameters()
        }

    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Take up a state that was saved, in whatever order, on this average's device."""
        self.state = {name: state[name].to(mine.device) for name, mine in self.state.items()}
        self.steps = steps

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after one more step."""
        self.steps += 1
        decay = min(self.decay, (1.0 + self.steps) / (10.0 + self.steps))
        parameters = [parameter.detach().float() for parameter in network.parameters()]
        torch._foreach_lerp_(list(self.state.values()), parameters, 1.0 - decay)
