"""What a training starts from: device, precision, threads, and a network that is fresh, given or resumed."""

import os
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mimo_core.errors import UsageError
from mimo_core.hardware import Hardware
from mimo_core.images.scales import FULL
from mimo_core.models.network import MimoUNet
from mimo_core.models.variants import parse_variant
from mimo_core.models.weights import ModelSpec, Weights, load_weights
from mimo_core.training.train_config import TrainConfig

DEFAULT_MODEL = "mimo-unet-lite"
_BRANCH = 0.2
"""How weak residual branches start."""


@dataclass(frozen=True)
class Means:
    """What this process trains with: every automatic choice of the machine, made."""

    device: str
    precision: Literal["fp32", "bf16"]
    threads: int | None
    loaders: int


def choose_means(config: TrainConfig, hardware: Hardware) -> Means:
    """Make the choices that the configuration leaves to the machine.

    Raises:
        UsageError: the device that is asked for is not there.
    """
    local_rank, local_world = (int(os.environ.get(name, default)) for name, default in _LOCAL)
    device = config.device
    if device == "auto":
        device = "cuda" if hardware.cuda else "cpu"
    if device.startswith("cuda") and not hardware.cuda:
        raise UsageError(f"--device {device}: no CUDA device is visible here; use --device cpu")
    share = max(1, hardware.cores // local_world)
    threads: int | None
    if device == "cpu":
        fast = hardware.cpu_bf16
        threads, loaders = config.threads or share, config.loaders or 1
    else:
        fast = hardware.cuda_bf16
        threads, loaders = config.threads, config.loaders or max(2, share - 1)
        if device == "cuda" and torch.cuda.device_count() > 1:
            device = f"cuda:{local_rank % torch.cuda.device_count()}"
    precision = config.precision if config.precision != "auto" else "bf16" if fast else "fp32"
    return Means(device, precision, threads, loaders)


_LOCAL = (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
"""What torchrun and Ray Train tell every process of its node."""


def open_network(config: TrainConfig) -> tuple[ModelSpec, MimoUNet, str]:
    """Return the network that the configuration starts from, that of `init` or a fresh one, and the scales it is for.

    Raises:
        WeightsError: `init` names no weights.
        UsageError: `init` is of another variant than `model`.
    """
    weights = load_weights(config.init) if config.init is not None else None
    spec = _spec(config, weights)
    torch.manual_seed(config.seed)
    network = MimoUNet(spec.width, spec.num_res, spec.interpolation, config.dropout)
    if weights is not None:
        network.load_state_dict({name: torch.tensor(values) for name, values in weights.state.items()})
    elif config.zero_start:
        initialise(network)
    return spec, network, config.scales or (weights.scales if weights is not None else FULL)


def _spec(config: TrainConfig, weights: Weights | None) -> ModelSpec:
    given = config.interpolation
    if weights is None:
        width, num_res = parse_variant(config.model or DEFAULT_MODEL)
        return ModelSpec(width, num_res, "bilinear" if given == "auto" else given)
    if config.model is not None and weights.spec.variant != config.model:
        raise UsageError(f"--model asks for {config.model}, but {weights.source} holds {weights.spec.variant}")
    interpolation = weights.spec.interpolation if given == "auto" else given
    return ModelSpec(weights.spec.width, weights.spec.num_res, interpolation)


def initialise(network: MimoUNet) -> None:
    """Set weights to start from: layers pass the image on at its strength, and the network returns its input.

    torch's own start weakens the signal by 0.4 at every layer, until deep features are mostly bias. Residual branches
    start weak, so that a chain of them is stable, and the last convolution of each scale starts at zero.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.ConvTranspose2d):
            # Each output value of a 4x4 kernel with stride 2 sums four of its sixteen positions.
            nn.init.normal_(module.weight, std=(2.0 / (module.in_channels * 4)) ** 0.5)
        else:
            continue
        assert module.bias is not None
        nn.init.zeros_(module.bias)
    for stage in (*network.Encoder, *network.Decoder):
        for name, parameter in stage.named_parameters():
            if ".main.1." in name:
                parameter.data.mul_(_BRANCH)
    for output in (network.feat_extract[5], network.ConvsOut[0], network.ConvsOut[1]):
        for parameter in output.parameters():
            nn.init.zeros_(parameter)
