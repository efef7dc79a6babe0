"""The table of docs/metrics.md: every metric on all shared pairs against another implementation of it.

`python tests/metrics/test_metrics_table.py ../shared/data` prints it anew, in ten minutes; as a test it takes every
sixth pair and is slow.
"""

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.image.fid import FrechetInceptionDistance

from mimo_core.metrics.definitions import ALL
from mimo_core.metrics.fid.distance import distance, distribution
from mimo_core.metrics.fid.extractor import FeatureExtractor
from mimo_core.metrics.fid.inception import Inception, find_inception
from mimo_core.metrics.scorer import CpuScorer
from mimo_core.metrics.torch_scorer import TorchScorer

# The network exists as TorchScript alone.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")]

Image8 = npt.NDArray[np.uint8]
Real = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Line:
    """A line of the table: a metric's mean over a set, and its largest differences to the other implementation."""

    data: str
    metric: str
    other: str
    mean: float
    difference: float
    torch_difference: float | None = None

    def text(self) -> str:
        last = "" if self.torch_difference is None else f"{self.torch_difference:.0e}"
        return f"| {self.data} | `{self.metric}` | {self.mean:.4f} | {self.other} | {self.difference:.0e} | {last} |"


def read(path: Path) -> Image8:
    return np.asarray(cv2.imread(str(path))[..., ::-1], np.uint8)


def sharpened(image: Image8) -> npt.NDArray[np.float32]:
    """What a network might give: float, not rounded, and outside 0..1 here and there."""
    values = image.astype(np.float32) / np.float32(255)
    return np.asarray(values * 2 - cv2.GaussianBlur(values, (0, 0), 2), np.float32)


def volume_ssim(a: Image8, b: Image8) -> float:
    """MATLAB's ssim of a volume, in float64."""

    def mean(values: Real) -> Real:
        return np.asarray(gaussian_filter(values, 1.5, mode="nearest", radius=5))

    x, y = a.astype(np.float64), b.astype(np.float64)
    mx, my = mean(x), mean(y)
    variances = mean(x * x) - mx * mx + mean(y * y) - my * my
    covariance = mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(np.mean((2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (variances + c2))))


def plain_ssim(a: Image8, b: Image8) -> float:
    options = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 255, "channel_axis": -1}
    return float(structural_similarity(a, b, **options))


def luma_psnr(a: Image8, b: Image8) -> float:
    return float(peak_signal_noise_ratio(rgb2ycbcr(a)[..., 0], rgb2ycbcr(b)[..., 0], data_range=255))


def float_psnr(values: npt.NDArray[np.float32], reference: Image8) -> float:
    return float(peak_signal_noise_ratio(reference / np.float32(255), np.clip(values, 0, 1), data_range=1))


OTHERS: dict[str, tuple[str, Callable[..., float]]] = {
    "psnr": ("scikit-image", lambda a, b: float(peak_signal_noise_ratio(a, b, data_range=255))),
    "ssim": ("scikit-image", plain_ssim),
    "psnr_float": ("scikit-image", float_psnr),
    "psnr_y": ("scikit-image", luma_psnr),
    "ssim_matlab3d": ("scipy, float64", volume_ssim),
}


def score_lines(data: str, pairs: list[tuple[Path, Path]]) -> Iterator[Line]:
    """Score the blurred images, and for `psnr_float` what sharpening makes of them."""
    scorers = CpuScorer(ALL), TorchScorer(ALL, "cpu")
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ALL}
    for blurred, sharp in pairs:
        image, reference = read(blurred), read(sharp)
        values = sharpened(image)
        ours, theirs = (scorer.score(image, image, reference, values) for scorer in scorers)
        for name, (_, other) in OTHERS.items():
            expected = other(values if name == "psnr_float" else image, reference)
            mine, its = ours[name], theirs[name]
            assert mine is not None
            assert its is not None
            found[name].append((mine, mine - expected, its - expected))
    for name, rows in found.items():
        means, apart = np.mean(rows, axis=0), np.abs(rows).max(axis=0)
        yield Line(data, name, OTHERS[name][0], float(means[0]), float(apart[1]), float(apart[2]))


class PillowInception(torch.nn.Module):
    """The same network behind Pillow's resize, as another FID would use it."""

    num_features = 2048

    def __init__(self, inception: Inception) -> None:
        super().__init__()
        self.network = torch.jit.load(io.BytesIO(inception.data)).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = []
        for image in images.numpy():
            planes = [Image.fromarray(plane.astype(np.float32)) for plane in image]
            resized = [np.asarray(plane.resize((299, 299), Image.Resampling.BICUBIC)).clip(0, 255) for plane in planes]
            rows.append(self.network(torch.from_numpy((np.stack(resized) - 128) / 128)[None]))
        # It adds in float64 in any case, and rounds its result to the type that it was given.
        return torch.cat(rows).double()


class Given(torch.nn.Module):
    """Features as they were given."""

    num_features = 2048

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows


def by_torchmetrics(network: torch.nn.Module, first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    metric = FrechetInceptionDistance(feature=network)
    with torch.inference_mode():
        for images, real in ((first, True), (second, False)):
            for image in images:
                metric.update(image, real=real)
        return float(metric.compute())


def fid_lines(data: str, pairs: list[tuple[Path, Path]], inception: Inception) -> Iterator[Line]:
    extractor = FeatureExtractor(inception, threads=2)
    images = [[read(pair[side]) for pair in pairs] for side in (0, 1)]
    first, second = (extractor.features(side) for side in images)
    extractor.close()
    ours = distance(distribution(first), distribution(second))
    rows = [[torch.from_numpy(side).double()] for side in (first, second)]
    given = by_torchmetrics(Given(), rows[0], rows[1])
    yield Line(data, "fid", "torchmetrics, the same features", ours, abs(ours - given))
    planes = [[torch.from_numpy(image.transpose(2, 0, 1).copy())[None] for image in side] for side in images]
    whole = by_torchmetrics(PillowInception(inception), planes[0], planes[1])
    yield Line(data, "fid", "torchmetrics after Pillow's resize", ours, abs(ours - whole))


def lines(shared: Path, inception: Inception, step: int) -> Iterator[Line]:
    for data in ("reds_pairs", "gopro_pairs"):
        folder = shared / data
        pairs = [(path, folder / "sharp" / path.name) for path in sorted((folder / "blur").glob("*.png"))[::step]]
        name = f"{len(pairs)} of {'REDS' if data == 'reds_pairs' else 'GoPro'}"
        yield from score_lines(name, pairs)
        yield from fid_lines(name, pairs, inception)


def test_every_metric_agrees_with_other_implementations(shared_data: Path, inception: Inception) -> None:
    found = list(lines(shared_data, inception, step=6))
    assert len(found) == 2 * (len(ALL) + 2)
    for line in found:
        # The eigenvalues that torchmetrics takes the roots of are mostly rounding errors for sets as small as these.
        assert line.difference < (2e-3 if line.metric == "fid" else 1e-4), line
        assert line.torch_difference is None or line.torch_difference < 1e-4, line


if __name__ == "__main__":
    print("| pairs | metric | mean | against | largest difference | on PyTorch |")
    print("|---|---|---|---|---|---|")
    for made in lines(Path(sys.argv[1]), find_inception(None), step=1):
        print(made.text(), flush=True)
