"""Crops as coarser passes of the same network leave them: what a finer pass gets to see when images are restored."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody knows it by)
from torch import Tensor

from mimo_core.models.architecture import MULTIPLE
from mimo_core.models.network import MimoUNet

CHAINS: tuple[tuple[int, ...], ...] = ((2,), (4, 2))
"""Passes before the one that is trained, by how many times smaller their images are."""
_RNG_STREAM = 2


def draw_chain(seed: int, step: int, share: float) -> tuple[int, ...]:
    """Return the coarser passes that come before a step's own: none but in a `share` of the steps, always the same."""
    rng = np.random.default_rng((seed, step, _RNG_STREAM))
    if rng.uniform() >= share:
        return ()
    return CHAINS[int(rng.integers(len(CHAINS)))]


@torch.no_grad()
def corrected(network: MimoUNet, blurred: Tensor, chain: Sequence[int]) -> Tensor:
    """Return the crops after coarser passes, rounded to 8 bits as images between two passes are.

    Args:
        network: restores the shrunk crops.
        blurred: float RGB 0..1, (N, 3, H, W); what no whole number of network cells covers when shrunk is passed over.
        chain: how many times smaller the images of each pass are.
    """
    for factor in chain:
        if blurred.shape[2] % (factor * MULTIPLE) or blurred.shape[3] % (factor * MULTIPLE):
            continue
        small = F.avg_pool2d(blurred, factor)
        residual = network.residual(small).float()
        enlarged = F.interpolate(residual, scale_factor=factor, mode="bicubic", align_corners=False)
        blurred = (blurred + enlarged).clamp_(0.0, 1.0).mul_(255.0).round_().div_(255.0)
    return blurred
