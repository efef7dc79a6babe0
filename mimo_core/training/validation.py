"""PSNR and SSIM of the restored images of held-out pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mimo_core.datasets.pairs import list_pairs
from mimo_core.images.pixels import Pixels8
from mimo_core.metrics.psnr_ssim import psnr, ssim
from mimo_core.models.network import MULTIPLE, MimoUNet
from mimo_core.training.sources import Pair, read_rgb
from mimo_core.training.train_config import ValidationData

SELF_PSNR_CAP = 60.0
"""Where an image is restored to itself its PSNR has no limit; the mean counts at most this."""


@dataclass(frozen=True)
class Score:
    """Means over one held-out set, before and after restoration; PSNR in dB, each at most SELF_PSNR_CAP."""

    images: int
    input_psnr: float
    psnr: float
    input_ssim: float
    ssim: float

    @property
    def gain(self) -> float:
        """Decibels that restoration gained over the blurred input."""
        return self.psnr - self.input_psnr


class Validation:
    """Held-out sets, loaded once."""

    def __init__(self, sets: tuple[ValidationData, ...]) -> None:
        self._sets = {entry.name: [_load(entry, *files) for files in _files(entry)] for entry in sets}

    def score(self, network: MimoUNet) -> dict[str, Score]:
        """Return the scores of every set by its name."""
        return {name: score_pairs(pairs, lambda image: restore(network, image)) for name, pairs in self._sets.items()}


def score_pairs(pairs: list[Pair], restored_by: Callable[[Pixels8], Pixels8]) -> Score:
    """Return mean PSNR and SSIM of `restored_by(blurred)` and of the blurred images, against the sharp ones."""
    rows = []
    for pair in pairs:
        output = restored_by(pair.blurred)
        rows.append(
            (
                min(psnr(pair.blurred, pair.sharp), SELF_PSNR_CAP),
                min(psnr(output, pair.sharp), SELF_PSNR_CAP),
                ssim(pair.blurred, pair.sharp) or 0.0,
                ssim(output, pair.sharp) or 0.0,
            )
        )
    means = np.mean(rows, axis=0)
    return Score(len(rows), *(float(value) for value in means))


@torch.inference_mode()
def restore(network: MimoUNet, image: Pixels8) -> Pixels8:
    """Restore one 8-bit RGB image (H, W, 3) of any size with the network in float32, rounded to 8 bits."""
    height, width = image.shape[:2]
    pad_y, pad_x = -height % MULTIPLE, -width % MULTIPLE
    padded = np.pad(image, ((0, pad_y), (0, pad_x), (0, 0)), mode="edge")
    device = next(network.parameters()).device
    tensor = torch.from_numpy(padded)[None].permute(0, 3, 1, 2).to(device).float() / 255.0
    output = (tensor + network.residual(tensor))[0, :, :height, :width]
    return _to_pixels(output)


def _to_pixels(output: Tensor) -> Pixels8:
    rounded = output.clamp(0.0, 1.0).mul(255.0).add(0.5).to(torch.uint8)
    return np.ascontiguousarray(rounded.permute(1, 2, 0).cpu().numpy())


def _files(entry: ValidationData) -> list[tuple[Path, Path]]:
    return list_pairs(entry.folder)[entry.first : entry.last]


def _load(entry: ValidationData, blurred: Path, sharp: Path) -> Pair:
    images = [read_rgb(path) for path in (blurred, sharp)]
    if entry.crop is not None:
        images = [_middle(image, entry.crop) for image in images]
    return Pair(images[0], images[1])


def _middle(image: Pixels8, side: int) -> Pixels8:
    top, left = max(image.shape[0] - side, 0) // 2, max(image.shape[1] - side, 0) // 2
    return np.ascontiguousarray(image[top : top + side, left : left + side])
