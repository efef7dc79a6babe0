"""What training minimises: the loss of the paper, or the error in decibels, over all three scales."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def pyramid(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the image at 1/4, 1/2 and full scale, halved by means of four pixels; shapes as the network's outputs."""
    half = F.avg_pool2d(image, 2)
    return F.avg_pool2d(half, 2), half, image


def multi_scale_loss(outputs: tuple[Tensor, Tensor, Tensor], sharp: Tensor, frequency_weight: float) -> Tensor:
    """Return the sum over the scales of mean |output - sharp| + frequency_weight x mean |F(output) - F(sharp)|.

    Args:
        outputs: the network's three outputs.
        sharp: the sharp image at full scale, float32.
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


_FLOOR = 3e-5
"""Mean square error (45 dB) around which it no longer pays to improve an image that is nearly right."""


def decibel_loss(outputs: tuple[Tensor, Tensor, Tensor], sharp: Tensor) -> Tensor:
    """Return the mean over crops and scales of log(mean square error + floor): what mean PSNR measures.

    Every crop counts by the decibels it gains, however strong its blur or contrast, and within a crop the large
    errors lead. With few steps to spend this gains more than absolute differences, whose sign in flat areas is noise.

    Args:
        outputs: the network's three outputs.
        sharp: the sharp image at full scale, float32.

    Returns:
        A float32 scalar, in units of 4.34 dB.
    """
    total = sharp.new_zeros(())
    for output, target in zip(outputs, pyramid(sharp), strict=True):
        squares = (output.float() - target).square().mean(dim=(1, 2, 3))
        total = total + (squares + _FLOOR).log().mean()
    return total / len(outputs)
