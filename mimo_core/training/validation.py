"""PSNR and SSIM of the restored images of held-out pairs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from mimo_core.datasets.pairs import image_files, list_pairs
from mimo_core.images.pixels import Pixels8
from mimo_core.images.pyramid import add_enlarged, shrink
from mimo_core.images.scales import parse_scales
from mimo_core.metrics.psnr_ssim import psnr, ssim
from mimo_core.models.architecture import MULTIPLE
from mimo_core.models.network import MimoUNet
from mimo_core.training.blur import Shake, photograph
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
        self._sets: dict[str, tuple[list[Pair], tuple[int, ...]]] = {}
        for entry in sets:
            for name, pairs in _load(entry):
                self._sets[name] = pairs, parse_scales(entry.scales)

    @property
    def names(self) -> list[str]:
        """The names of the sets."""
        return list(self._sets)

    def score(self, network: MimoUNet) -> dict[str, Score]:
        """Return the scores of every set by its name."""
        return {
            name: score_pairs(pairs, partial(restore, network, factors=factors))
            for name, (pairs, factors) in self._sets.items()
        }


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


def restore(network: MimoUNet, image: Pixels8, factors: Sequence[int] = (1,)) -> Pixels8:
    """Restore one 8-bit RGB image (H, W, 3) of any size with the network in float32, rounded to 8 bits.

    Args:
        network: in evaluation mode.
        image: the image.
        factors: by how much it is shrunk for each pass, the coarsest first.
    """
    for factor in factors:
        small = shrink(image, factor)
        restored = np.empty_like(image)
        add_enlarged(image, _residual(network, small), factor, restored)
        image = restored
    return image


@torch.inference_mode()
def _residual(network: MimoUNet, image: Pixels8) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)), mode="edge")
    device = next(network.parameters()).device
    tensor = torch.from_numpy(padded)[None].permute(0, 3, 1, 2).to(device).float() / 255.0
    residual = network.residual(tensor)[0, :, :height, :width]
    return np.ascontiguousarray(residual.permute(1, 2, 0).float().cpu().numpy())


def _load(entry: ValidationData) -> Iterator[tuple[str, list[Pair]]]:
    """Yield the sets of an entry by name."""
    if not entry.extents:
        files = list_pairs(entry.folder)[entry.first : entry.last]
        yield entry.name, [_cropped(Pair(*(read_rgb(file) for file in pair)), entry.crop) for pair in files]
        return
    photographs = [read_rgb(file) for file in image_files(entry.folder)[entry.first : entry.last]]
    for name, extent in zip(entry.set_names, entry.extents, strict=True):
        shake = Shake(0.0, extent)
        pairs = [
            Pair(photograph(sharp, np.random.default_rng(number), shake, extent=extent), sharp)
            for number, sharp in enumerate(photographs)
        ]
        yield name, [_cropped(pair, entry.crop) for pair in pairs]


def _cropped(pair: Pair, side: int | None) -> Pair:
    return pair if side is None else Pair(_middle(pair.blurred, side), _middle(pair.sharp, side))


def _middle(image: Pixels8, side: int) -> Pixels8:
    top, left = max(image.shape[0] - side, 0) // 2, max(image.shape[1] - side, 0) // 2
    return np.ascontiguousarray(image[top : top + side, left : left + side])
