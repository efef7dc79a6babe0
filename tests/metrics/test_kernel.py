"""The kernel distance against another implementation, and that it is the same however rows are cut."""

import numpy as np
import pytest
import torch

from mimo_core.errors import UsageError
from mimo_core.metrics.fid.kernel import kernel_distance


def rows(seed: int, count: int, length: int = 64, shift: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(seed).random((count, length)) + shift).astype(np.float32)


def test_it_is_what_torchmetrics_computes() -> None:
    kid = pytest.importorskip("torchmetrics.image.kid")
    first, second = rows(1, 500), rows(2, 500, shift=0.1)
    expected = float(kid.poly_mmd(torch.from_numpy(first).double(), torch.from_numpy(second).double()))
    assert kernel_distance([first], [second], 500) == pytest.approx(expected, rel=1e-9)
    assert kernel_distance([first], [second], 500) > 0.01


def test_sets_of_one_distribution_are_nothing_apart_on_average() -> None:
    found = [kernel_distance([rows(seed, 40)], [rows(seed + 100, 40)], 40) for seed in range(30)]
    assert min(found) < 0 < max(found)
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_blocks_change_no_digit_and_many_are_taken_in_subsets() -> None:
    first, second = rows(1, 2500, 16), rows(2, 2500, 16, 0.05)
    whole = kernel_distance([first], [second], 2500)
    assert kernel_distance([first[:7], first[7:]], [second[:999], second[999:]], 2500) == whole
    parts = [kernel_distance([first[start::3]], [second[start::3]], len(first[start::3])) for start in range(3)]
    assert whole == np.mean(parts)


def test_too_few_and_unequal_sets_are_refused() -> None:
    for one, other in ((1, 1), (5, 6), (6, 5)):
        with pytest.raises(UsageError, match="KID compares sets"):
            kernel_distance([rows(1, one)], [rows(2, other)], one)


def test_of_very_many_images_every_nth_is_held_however_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimo_core.metrics.fid.kernel._MOST", 500)
    first, second = rows(1, 2400, 16), rows(2, 2400, 16, 0.05)
    expected = kernel_distance([first[::5]], [second[::5]], 480)
    for cut in (1, 3, 7, 64, 2400):
        blocks = [[every[start : start + cut] for start in range(0, 2400, cut)] for every in (first, second)]
        assert kernel_distance(*blocks, 2400) == expected
