"""Synthesised blur is what a shaken camera makes: linear light, the asked extent, no shift, repeatable."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_core.errors import UsageError
from mimo_core.training.blur import Shake, add_noise, expose, photograph, to_linear, to_srgb, trajectory

QUIET = Shake(read_noise=0.0, shot_noise=0.0)


def extent_of(path: np.ndarray) -> float:
    return float(np.linalg.norm(path[:, None] - path[None], axis=-1).max())


def test_linear_light_and_back_is_exact() -> None:
    values = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_srgb(to_linear(values)), values)


def test_srgb_is_the_standard_curve_to_a_rounding() -> None:
    light = np.linspace(0.0, 1.0, 10_001, dtype=np.float32)
    exact = 255.0 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light.astype(np.float64) ** (1 / 2.4) - 0.055)
    assert np.abs(to_srgb(light).astype(np.float64) - exact).max() < 0.65
    assert to_srgb(np.array([-1.0, 2.0], dtype=np.float32)).tolist() == [0, 255]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 30.0), st.floats(0.0, 2.0))
def test_a_trajectory_has_its_extent_and_no_shift(seed: int, extent: float, bend: float) -> None:
    path = trajectory(np.random.default_rng(seed), extent, bend)
    assert np.abs(path.mean(axis=0)).max() < 1e-9
    # The instants lie inside the exposure, so that they reach its ends but for half a step each.
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert extent_of(path) <= extent + 1e-6
    assert extent_of(path) >= extent - 1.5 * max(steps.max(), 0.5)
    assert steps.max() <= max(1.0, extent / 2)


def test_without_bend_the_trajectory_is_a_line() -> None:
    path = trajectory(np.random.default_rng(3), 12.0, 0.0)
    assert np.linalg.svd(path, compute_uv=False)[1] < 1e-9


def test_the_mean_is_taken_in_linear_light() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    shake = Shake(8.0, 8.0, 0.0, bend=0.0, read_noise=0.0, shot_noise=0.0)
    means = [photograph(stripes, np.random.default_rng(seed), shake)[16:48, 16:48].mean() for seed in range(8)]
    # Half of the light is 188 in sRGB; a mean of the stored values would be 128.
    assert np.median(means) == pytest.approx(188, abs=6)


def test_no_extent_and_no_noise_change_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert np.array_equal(photograph(image, np.random.default_rng(1), QUIET, extent=0.0), image)


def test_the_same_state_gives_the_same_photograph() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    first, second, other = (photograph(image, np.random.default_rng(seed), Shake()) for seed in (5, 5, 6))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_blur_does_not_move_a_point_of_light() -> None:
    spot = np.exp(-((np.arange(65) - 32.0) ** 2) / 8.0)
    scene = np.repeat(np.outer(spot, spot)[..., None], 3, axis=2).astype(np.float32)
    for seed in range(5):
        light = expose(scene, np.random.default_rng(seed), Shake(6.0, 10.0, 0.0))[..., 0].astype(np.float64)
        rows, columns = np.indices(light.shape)
        assert (light * rows).sum() / light.sum() == pytest.approx(32, abs=0.1)
        assert (light * columns).sum() / light.sum() == pytest.approx(32, abs=0.1)
        assert light.sum() == pytest.approx(scene[..., 0].sum(), rel=0.01)


def test_the_margin_covers_what_blur_looks_at() -> None:
    rng = np.random.default_rng(0)
    shake = Shake(4.0, 9.0, read_noise=0.0, shot_noise=0.0)
    scene = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    changed = scene.copy()
    changed[0], changed[-1], changed[:, 0], changed[:, -1] = 0, 0, 0, 0
    inner = slice(shake.margin, -shake.margin)
    for seed in range(5):
        one, two = (photograph(image, np.random.default_rng(seed), shake)[inner, inner] for image in (scene, changed))
        assert np.array_equal(one, two)


def test_noise_grows_with_light() -> None:
    shake = Shake(read_noise=1e-3, shot_noise=1e-3)
    dark, bright = (np.full((200, 200, 3), level, dtype=np.float32) for level in (0.01, 0.8))
    spreads = [float(np.std(add_noise(image, np.random.default_rng(2), shake) - image)) for image in (dark, bright)]
    assert 0.0 < spreads[0] < spreads[1] < 0.05


@pytest.mark.parametrize("arguments", [{"min_extent": 5.0, "max_extent": 3.0}, {"min_extent": -1.0}, {"bend": -0.1}])
def test_shakes_that_cannot_be_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Shake(**arguments)
