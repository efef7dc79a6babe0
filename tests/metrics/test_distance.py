"""The distance of two sets of features against scipy, against closed forms, and against itself on other threads."""

import math
from collections.abc import Iterator

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance

from mimo_core.errors import UsageError
from mimo_core.metrics.fid.distance import distance, distribution

Rows = npt.NDArray[np.float32]


def frechet_distance(first, second):  # type: ignore[no-untyped-def]
    return distance(distribution(first), distribution(second))


def by_definition(first: Rows, second: Rows) -> float:
    """The formula of the paper with scipy's matrix square root."""
    one, two = first.astype(np.float64), second.astype(np.float64)
    c1, c2 = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    apart = float(np.sum((one.mean(0) - two.mean(0)) ** 2))
    return apart + float(np.trace(c1) + np.trace(c2) - 2 * np.trace(sqrtm(c1 @ c2)).real)


def features(count: int, length: int, seed: int) -> Rows:
    """Features as Inception's are: not negative, correlated."""
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(count, length)) @ generator.normal(size=(length, length)) / math.sqrt(length)
    return np.maximum(mixed + 0.3, 0).astype(np.float32)


@settings(deadline=None, max_examples=30)
@given(
    length=st.integers(2, 12),
    first=st.integers(30, 200),
    second=st.integers(30, 200),
    seed=st.integers(0, 2**32 - 2),
)
def test_equal_to_the_matrix_square_root_where_that_is_exact(length: int, first: int, second: int, seed: int) -> None:
    a, b = features(first, length, seed), features(second, length, seed + 1)
    assert frechet_distance(a, b) == pytest.approx(by_definition(a, b), rel=1e-7, abs=1e-7)


@settings(deadline=None, max_examples=30)
@given(count=st.integers(2, 40), scale=st.floats(0, 3, width=16), seed=st.integers(0, 2**32 - 1))
def test_exact_where_the_covariance_is_singular(count: int, scale: float, seed: int) -> None:
    a = features(count, 64, seed)
    wide = a.astype(np.float64)
    # A scaled set commutes with the set: the trace of the root is known without computing one.
    expected = (scale - 1) ** 2 * float(np.sum(wide.mean(0) ** 2) + np.sum(wide.var(0, ddof=1)))
    scaled = (wide * scale).astype(np.float32)
    assert frechet_distance(a, scaled) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_equal_to_arithmetic_in_forty_digits() -> None:
    # Far fewer images than features: the usual square root of a matrix is mostly rounding errors here.
    a, b = features(16, 256, 11), features(16, 256, 12)
    with mpmath.workdps(40):
        means, centred = [], []
        for rows in (a, b):
            wide = mpmath.matrix(rows.tolist())
            mean = [mpmath.fsum(wide[:, column]) / wide.rows for column in range(wide.cols)]
            means.append(mpmath.matrix(mean))
            centred.append(wide - mpmath.matrix([mean] * wide.rows))
        products = [part * part.T / 15 for part in centred]
        between = centred[0] * centred[1].T / 15
        roots = [mpmath.sqrt(abs(value)) for value in mpmath.eigsy(between * between.T, eigvals_only=True)]
        spread = mpmath.fsum(product[row, row] for product in products for row in range(16))
        expected = mpmath.norm(means[0] - means[1]) ** 2 + spread - 2 * mpmath.fsum(roots)
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-12)


def test_equal_to_torchmetrics_where_covariances_are_regular() -> None:
    class Given(torch.nn.Module):
        num_features = 64

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows

    a, b = features(500, 64, 13), features(400, 64, 14)
    metric = FrechetInceptionDistance(feature=Given())
    metric.update(torch.from_numpy(a).double(), real=True)
    metric.update(torch.from_numpy(b).double(), real=False)
    assert frechet_distance(a, b) == pytest.approx(float(metric.compute()), rel=1e-9)


def test_many_images_are_streamed_with_the_same_result() -> None:
    a, b = features(5000, 24, 1), features(4500, 24, 2)
    assert frechet_distance(a, b) == pytest.approx(by_definition(a, b), rel=1e-9)
    # One set of each kind: rows themselves, and the root of their covariance.
    assert frechet_distance(a, b[:300]) == pytest.approx(by_definition(a, b[:300]), rel=1e-9)


@pytest.mark.parametrize("count", [10, 90, 2047, 2048, 2049, 4500])
def test_how_rows_are_cut_changes_no_digit(count: int) -> None:
    a, b = features(count, 16, 3), features(count, 16, 4)

    def cut(rows: Rows, seed: int) -> Iterator[Rows]:
        generator, begin = np.random.default_rng(seed), 0
        while begin < len(rows):
            size = int(generator.integers(0, 3000))
            yield rows[begin : begin + size]
            begin += size

    whole = frechet_distance(a, b)
    assert [frechet_distance(cut(a, seed), cut(b, seed + 9)) for seed in range(4)] == [whole] * 4


@pytest.mark.parametrize("count", [200, 2500])
def test_threads_change_no_digit(count: int) -> None:
    a, b = features(count, 256, 5), features(count, 256, 6)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(frechet_distance(a, b))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(set(found)) == 1


def test_a_distribution_is_computed_once_for_several_distances() -> None:
    reference, output, given = (features(60, 32, seed) for seed in (7, 8, 9))
    shared = distribution(reference)
    assert distance(distribution(output), shared) == frechet_distance(output, reference)
    assert distance(distribution(given), shared) == frechet_distance(given, reference)
    assert shared.count == 60


def test_no_distance_between_a_set_and_itself() -> None:
    for count in (50, 2100):
        a = features(count, 20, 10)
        assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
        assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-9)
        assert frechet_distance(a, a + np.float32(0.5)) == pytest.approx(20 * 0.25, rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "at least two images, not of 0"),
        ([np.zeros((1, 4), np.float32)], "at least two images, not of 1"),
        ([np.zeros((3, 4), np.float32), np.zeros((3, 5), np.float32)], "rows of 4 and of 5 features"),
        ([np.zeros(4, np.float32)], r"rows \(N, F\), not in the shape \(4,\)"),
        ([np.full((3, 4), np.nan, np.float32)], "not finite"),
    ],
)
def test_what_is_no_set_is_refused(rows: list[Rows], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        distribution(rows)


def test_sets_of_other_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="sets of 4 and of 5 features"):
        frechet_distance(features(9, 4, 0), features(9, 5, 0))
