"""The loss of the paper: L1 of the pixels and of their Fourier transforms, over all three scales."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def pyramid(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The image at 1/4, 1/2 and full scale, each halved by the mean of four pixels; shapes as the network's outputs."""
    half = F.avg_pool2d(image, 2)
    return F.avg_pool2d(half, 2), half, image


def multi_scale_loss(outputs: tuple[Tensor, Tensor, Tensor], sharp: Tensor, frequency_weight: float) -> Tensor:
    """Sum over the scales of mean |output - sharp| + frequency_weight x mean |F(output) - F(sharp)|.

    Args:
        outputs: The network's three outputs.
        sharp: The sharp image at full scale, float32.
        frequency_weight: 0.1 in the paper. F is the unnormalised real transform of each channel, its real and
            imaginary parts counted as two values.

    Returns:
        A float32 scalar.
    """
    total = sharp.new_zeros(())
    for output, target in zip(outputs, pyramid(sharp), strict=True):
        difference = output.float() - target
        total = total + difference.abs().mean()
        if frequency_weight:
            # The transform is linear, so one of the difference serves for both.
            spectrum = torch.view_as_real(torch.fft.rfft2(difference.contiguous()))
            total = total + frequency_weight * spectrum.abs().mean()
    return total
