"""The scorers give the columns of the chosen metrics, the same ones on the CPU and in PyTorch."""

import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_core.errors import SystemFailure, UsageError
from mimo_core.metrics import psnr_ssim as metrics
from mimo_core.metrics import torch_scorer as torch_scoring
from mimo_core.metrics.definitions import ALL, METRICS, Scores
from mimo_core.metrics.scorer import CpuScorer, Scorer, open_scorer
from mimo_core.metrics.torch_scorer import TorchScorer

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def scorers(names: tuple[str, ...] = ALL) -> list[Scorer]:
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return [CpuScorer(names), *(TorchScorer(names, device) for device in devices)]


def alike(found: Scores, expected: Scores) -> bool:
    """Whether two scorers agree as far as scores are compared: 1e-4."""
    return list(found) == list(expected) and found == pytest.approx(expected, abs=1e-4, nan_ok=False)


def pair(number: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    path = sorted((SAMPLES / "blurred").iterdir())[number]
    (sharp,) = (SAMPLES / "sharp").glob(f"{path.stem}.*")
    blurred, reference = (np.asarray(cv2.imread(str(file))[..., ::-1], np.uint8) for file in (path, sharp))
    return blurred, reference


def test_every_metric_has_a_name_a_definition_and_columns() -> None:
    assert ALL == ("psnr", "ssim", "psnr_float", "psnr_y", "ssim_matlab3d")
    assert METRICS["psnr_y"].columns == ("input_psnr_y", "psnr_y")
    assert METRICS["psnr_float"].columns == ("psnr_float",)
    assert all(name == metric.name and metric.definition for name, metric in METRICS.items())


def test_the_page_says_what_the_code_says() -> None:
    rows = [line.strip("| ").split(" | ") for line in (ROOT / "docs" / "metrics.md").read_text().splitlines()]
    for metric in METRICS.values():
        assert [f"`{metric.name}`", metric.definition, "yes" if metric.of_input else "no"] in rows


def test_scores_of_a_photograph() -> None:
    before, reference = pair(0)
    values = (cv2.GaussianBlur(reference, (3, 3), 0.6) / np.float32(255)).astype(np.float32)
    values[0, :9] = 1.7
    after = (values.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    expected = {
        "input_psnr": metrics.psnr(before, reference),
        "psnr": metrics.psnr(after, reference),
        "input_ssim": metrics.ssim(before, reference),
        "ssim": metrics.ssim(after, reference),
        "psnr_float": metrics.psnr_float(values, reference),
        "input_psnr_y": metrics.psnr_y(before, reference),
        "psnr_y": metrics.psnr_y(after, reference),
        "input_ssim_matlab3d": metrics.ssim_matlab3d(before, reference),
        "ssim_matlab3d": metrics.ssim_matlab3d(after, reference),
    }
    for scorer in scorers():
        assert alike(scorer.score(before, after, reference, values), expected)
    assert CpuScorer(ALL).score(before, after, reference, values) == expected


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    deep=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    noise=st.integers(0, 255),
    seed=st.integers(0, 2**32 - 1),
)
def test_pytorch_scores_as_the_cpu_does(
    height: int, width: int, deep: tuple[bool, bool, bool], noise: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    base = generator.integers(0, 256, (height, width, 3))
    images: list[Pixels] = []
    for sixteen in deep:
        noisy = np.clip(base + generator.integers(-noise, noise + 1, base.shape), 0, 255)
        images.append((noisy * 257).astype(np.uint16) if sixteen else noisy.astype(np.uint8))
    values = generator.normal(0.5, 0.4, base.shape).astype(np.float32)
    cpu, *others = scorers()
    expected = cpu.score(images[0], images[1], images[2], values)
    for other in others:
        assert alike(other.score(images[0], images[1], images[2], values), expected)


def test_flat_images_keep_their_precision() -> None:
    before = np.full((40, 40, 3), 255, np.uint8)
    after = before.copy()
    after[::2, ::3] -= 1
    cpu, *others = scorers()
    for other in others:
        assert alike(other.score(before, after, before, None), cpu.score(before, after, before, None))


def test_images_scored_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    before, reference = pair(1)
    expected = TorchScorer(ALL, "cpu").score(before, before, reference, None)
    monkeypatch.setattr(torch_scoring, "_STRIP_VALUES", before.shape[1] * 3 * 7)
    assert alike(TorchScorer(ALL, "cpu").score(before, before, reference, None), expected)


@pytest.mark.parametrize("deep", [False, True])
def test_an_output_without_floats_is_scored_as_it_was_rounded(deep: bool) -> None:
    before, reference = pair(2)
    after = before.astype(np.uint16) * np.uint16(257) if deep else before
    for scorer in scorers(("psnr_float",)):
        (found,) = scorer.score(before, after, reference, None).values()
        assert found == pytest.approx(metrics.psnr(before, reference), abs=1e-5)


def test_perfect_and_tiny_images() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 30, 3), dtype=np.uint8)
    for scorer in scorers():
        found = scorer.score(image, image, image, None)
        assert {name for name, value in found.items() if value == math.inf} == {
            *("input_psnr", "psnr", "psnr_float", "input_psnr_y", "psnr_y")
        }
        assert {name for name, value in found.items() if value is None} == {
            *("input_ssim", "ssim", "input_ssim_matlab3d", "ssim_matlab3d")
        }


def test_only_what_was_chosen_is_scored_and_in_the_order_of_columns() -> None:
    image = np.zeros((12, 12, 3), np.uint8)
    for scorer in scorers(("ssim_matlab3d", "psnr", "psnr")):
        assert list(scorer.score(image, image, image, None)) == [
            *("input_psnr", "psnr", "input_ssim_matlab3d", "ssim_matlab3d")
        ]


def test_scored_where_the_network_ran() -> None:
    assert isinstance(open_scorer(ALL, "cpu"), CpuScorer)
    assert isinstance(open_scorer(ALL, "vacc"), CpuScorer)
    if torch.cuda.is_available():
        assert isinstance(open_scorer(ALL, "cuda"), TorchScorer)
    else:
        with pytest.raises(SystemFailure, match="no CUDA device"):
            open_scorer(ALL, "cuda")


def test_unknown_metrics_are_refused_with_the_known_ones() -> None:
    for wrong in (("lpips",), ("psnr", "lpips")):
        with pytest.raises(UsageError, match=r"no metric 'lpips'; known are psnr, ssim, psnr_float"):
            open_scorer(wrong, "cpu")


def test_images_of_two_sizes_are_refused() -> None:
    small, large = np.zeros((12, 12, 3), np.uint8), np.zeros((12, 13, 3), np.uint8)
    for scorer in scorers():
        with pytest.raises(UsageError, match=r"\(12, 12, 3\) with \(12, 13, 3\)"):
            scorer.score(small, small, large, None)
