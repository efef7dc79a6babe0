"""Crops as coarser passes leave them, and the scores of held-out images that take such passes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mimo_core.models.network import build_network
from mimo_core.models.weights import load_weights
from mimo_core.training.coarse_passes import CHAINS, corrected, draw_chain
from mimo_core.training.sources import read_rgb
from mimo_core.training.train_config import TrainConfig, ValidationData
from mimo_core.training.validation import Validation, restore

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.mark.parametrize("chain", CHAINS)
def test_crops_are_what_restored_images_are_before_the_next_pass(chain: tuple[int, ...]) -> None:
    network = build_network(load_weights("mimo-unet-lite"))
    image = read_rgb(next((SAMPLES / "blurred").iterdir()))[:96, :160]
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2).float() / 255
    crops = corrected(network, tensor, chain)
    assert not crops.requires_grad
    levels = (crops * 255)[0].permute(1, 2, 0).numpy()
    # A run rounds the shrunk image to whole levels too.
    difference = np.abs(levels - restore(network, np.ascontiguousarray(image), chain))
    assert difference.max() <= 2.001
    assert difference.mean() < 0.3
    assert np.abs(levels - image).max() > 3
    np.testing.assert_array_equal(levels.round(), levels.round(3))


def test_crops_that_cannot_be_shrunk_stay(tmp_path: Path) -> None:
    network = build_network(load_weights("mimo-unet-lite"))
    crops = torch.rand(1, 3, 36, 36)
    assert torch.equal(corrected(network, crops, (4, 2)), crops)


def test_the_share_of_corrected_steps_is_as_asked_and_always_the_same() -> None:
    chains = [draw_chain(3, step, 0.3) for step in range(2000)]
    assert chains == [draw_chain(3, step, 0.3) for step in range(2000)]
    assert 0.26 < sum(map(bool, chains)) / len(chains) < 0.34
    assert set(chains) == {(), *CHAINS}
    assert not any(draw_chain(3, step, 0.0) for step in range(100))


def test_sharp_photographs_are_scored_by_the_extent_of_their_blur(tmp_path: Path) -> None:
    for file in sorted((SAMPLES / "sharp").iterdir())[:2]:
        assert cv2.imwrite(str(tmp_path / f"{file.stem}.png"), cv2.imread(str(file)))
    network = build_network(load_weights("mimo-unet-lite"))
    scores = {}
    for scales in ("1", "1/4,1/2"):
        entry = ValidationData(name="shake", folder=tmp_path, extents=(4, 24), crop=192, scales=scales)
        validation = Validation((entry,))
        assert validation.names == ["shake-4", "shake-24"]
        scores[scales] = validation.score(network)
    full, coarse = scores["1"], scores["1/4,1/2"]
    assert full["shake-4"].images == 2
    assert full["shake-4"].input_psnr > full["shake-24"].input_psnr + 3
    assert full["shake-4"].gain > coarse["shake-4"].gain
    assert coarse["shake-24"].gain > full["shake-24"].gain + 0.3


@pytest.mark.parametrize("scales", ["auto", "1,1/2", "half"])
def test_scales_of_held_out_sets_are_named(scales: str) -> None:
    with pytest.raises(ValueError, match="scales"):
        ValidationData(name="x", folder=Path(), scales=scales)


def test_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    sets = [{"name": "own", "folder": str(tmp_path), "extents": [4]}, {"name": "own-4", "folder": str(tmp_path)}]
    with pytest.raises(ValueError, match="same name"):
        TrainConfig.model_validate({"output": "x", "data": ["photos:x"], "steps": 1, "validation": sets})
