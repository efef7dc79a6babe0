"""Scenes in which something moves, and exposures that are means of encoded values."""

import cv2
import numpy as np
import pytest

from mimo_core.errors import UsageError
from mimo_core.training.blur import Shake, draw_object, expose, photograph_scene, resample, to_linear, trajectory


def texture(seed: int = 0, side: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize(("moving", "encoded"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_the_same_state_gives_the_same_pair(moving: float, encoded: float) -> None:
    shake = Shake(2.0, 8.0, moving=moving, encoded=encoded)
    first, second = (photograph_scene(texture(), np.random.default_rng(7), shake) for _ in range(2))
    assert all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))
    assert not np.array_equal(*first)


def test_a_still_scene_is_its_own_sharp_image() -> None:
    scene = texture()
    _, sharp = photograph_scene(scene, np.random.default_rng(1), Shake(2.0, 8.0))
    assert sharp is scene


def test_what_moves_is_in_the_sharp_image_and_covers_a_part_of_it() -> None:
    shares = []
    for seed in range(20):
        _, sharp = photograph_scene(texture(seed), np.random.default_rng(seed), Shake(2.0, 8.0, moving=1.0))
        shares.append(float(np.mean(np.any(sharp != texture(seed), axis=2))))
    assert min(shares) > 0.05
    assert max(shares) < 0.75


def test_only_what_moves_is_blurred_by_its_own_path() -> None:
    scene = to_linear(texture())
    moving_object = draw_object(scene, np.random.default_rng(3), Shake(6.0, 8.0))
    exposed = expose(scene, np.random.default_rng(4), Shake(0.0, 0.0), moving_object=moving_object)
    covered = np.zeros(scene.shape[:2], dtype=np.float32)
    for shift in np.rint(moving_object.path).astype(int):
        covered = np.maximum(covered, np.roll(moving_object.cutout[..., 3], shift[::-1], axis=(0, 1)))
    # Some pixels more, for what lies between two instants, and none at the border, where the scene is mirrored.
    inside = (cv2.dilate(covered, np.ones((7, 7))) < 1e-6)[12:-12, 12:-12]
    assert inside.any()
    assert np.abs(exposed - scene)[12:-12, 12:-12][inside].max() < 1e-5
    solid = moving_object.cutout[..., 3] > 0.999
    assert np.abs(exposed - moving_object.over(scene))[solid].mean() > 0.05


def test_encoded_exposures_are_darker_in_contrasts_than_light() -> None:
    # A bright bar on black: its light spreads further in encoded values when it is averaged as light.
    scene = np.zeros((64, 64, 3), dtype=np.uint8)
    scene[:, 30:34] = 255
    light, encoded = (
        photograph_scene(
            scene, np.random.default_rng(5), Shake(8.0, 8.0, 0.0, read_noise=0.0, shot_noise=0.0, encoded=e)
        )
        for e in (0.0, 1.0)
    )
    assert light[0].mean() > 1.2 * encoded[0].mean()


def test_a_path_keeps_its_ends_at_another_number_of_instants() -> None:
    path = trajectory(np.random.default_rng(2), 9.0)
    longer = resample(path, 3 * len(path))
    assert longer.shape == (3 * len(path), 2)
    assert np.array_equal(longer[[0, -1]], path[[0, -1]])


def test_shares_outside_zero_to_one_are_refused() -> None:
    with pytest.raises(UsageError, match="shares from 0 to 1"):
        Shake(moving=1.5)
