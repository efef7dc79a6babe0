"""Optimisers: Adam as in the paper, and Muon, which learns more from few steps."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

_REACH = 4.0
"""Spectral norm of an orthogonal step in units of the rate, chosen so that one rate suits Muon and Adam."""
_DECAY = 0.5
"""Weights shrink by this share of a step's spectral norm: without normalising layers they would grow until they burst.
Their own norm stays below its inverse."""
_ITERATIONS = 5
# Coefficients of the quintic Newton-Schulz iteration that pushes singular values towards 1 (K. Jordan, Muon, 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal, for the weights of convolutions seen as (outputs, rest) matrices.

    Every direction of such a matrix moves equally far, however small its gradient; Adam's steps are of low rank.

    Args:
        parameters: weights with at least two dimensions. Those of equal shape are computed together.
        lr: rate, on the scale of Adam's.
        momentum: decay of the running mean of gradients; the step looks one ahead (Nesterov).
        dtype: what `orthogonalise` computes in.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients at hand; a closure is not supported."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            alike: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for parameters in alike.values():
                self._step_together(parameters, group["lr"], group["momentum"])

    def _step_together(self, parameters: list[nn.Parameter], rate: float, momentum: float) -> None:
        gradients: list[Tensor] = [parameter.grad for parameter in parameters if parameter.grad is not None]
        means = [self._mean(parameter) for parameter in parameters]
        torch._foreach_lerp_(means, gradients, 1.0 - momentum)
        ahead = torch._foreach_lerp(gradients, means, momentum)
        matrices = orthogonalise(torch.stack([update.reshape(update.shape[0], -1) for update in ahead]), self._dtype)
        step = rate * _REACH
        torch._foreach_mul_(list[Tensor](parameters), 1.0 - step * _DECAY)
        for parameter, matrix in zip(parameters, matrices, strict=True):
            parameter.add_(matrix.reshape(parameter.shape), alpha=-step)

    def _mean(self, parameter: nn.Parameter) -> Tensor:
        state: dict[str, Any] = self.state[parameter]
        if "mean" not in state:
            state["mean"] = torch.zeros_like(parameter)
        mean: Tensor = state["mean"]
        return mean


def orthogonalise(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the nearest (semi-)orthogonal matrices, roughly: singular values end between 0.7 and 1.2.

    Args:
        matrices: float, shape (n, rows, columns).
        dtype: what to compute in; bfloat16 suffices, and is faster where the processor has it.

    Returns:
        float32, same shape.
    """
    x = matrices.float()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.to(dtype)
    for _ in range(_ITERATIONS):
        square = torch.bmm(x, x.mT)
        quartic = torch.baddbmm(square, square, square, beta=_B, alpha=_C)
        x = torch.baddbmm(x, quartic, x, beta=_A)
    orthogonal: Tensor = (x.mT if tall else x).float()
    return orthogonal


def split_parameters(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return those for Muon, weights of inner convolutions, and those for Adam, biases and outer convolutions."""
    inner: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    for parameter in network.parameters():
        reads_or_writes_image = parameter.ndim < 2 or min(parameter.shape[:2]) <= 3
        (outer if reads_or_writes_image else inner).append(parameter)
    return inner, outer


class Optimizer(Protocol):
    """What the training loop needs of an optimiser."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of parameters, whose `lr` is set from outside."""

    def step(self) -> object:
        """Take one step with the gradients at hand."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""


class MuonWithAdam:
    """Muon for the inner convolutions and Adam for the rest, as one optimiser; see `Optimizer`."""

    def __init__(self, network: nn.Module, lr: float, dtype: torch.dtype = torch.float32) -> None:
        inner, outer = split_parameters(network)
        self._muon = Muon(inner, lr, dtype=dtype)
        self._adam = torch.optim.Adam(outer, lr=lr, fused=True)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both."""
        return [*self._muon.param_groups, *self._adam.param_groups]

    def step(self) -> None:
        """Take one step of both."""
        self._muon.step()
        self._adam.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of both."""
        self._muon.zero_grad(set_to_none)
        self._adam.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both."""
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the states of both."""
        self._muon.load_state_dict(state_dict["muon"])
        self._adam.load_state_dict(state_dict["adam"])


def make_optimizer(name: Literal["adam", "muon"], network: nn.Module, lr: float, dtype: torch.dtype) -> Optimizer:
    """Return the optimiser of a configuration; `dtype` is what Muon computes in."""
    if name == "muon":
        return MuonWithAdam(network, lr, dtype)
    return torch.optim.Adam(network.parameters(), lr=lr, fused=True)
