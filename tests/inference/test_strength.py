"""A share of the change: 0 leaves images as they are, 1 restores them, and what lies between is between."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from inprocess import run

import mimo_core

SAMPLES = Path(__file__).parents[2] / "samples"
LITE = "mimo-unet-lite"


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("scales", ["1", "1/2"])
def test_the_change_is_scaled(depth: type, scales: str) -> None:
    image = cv2.imread(str(SAMPLES / "blurred" / "window.png"))[100:228, 60:252]
    image = image.astype(depth) * depth(1 if depth is np.uint8 else 257)
    options = {"weights": LITE, "engine": "torch", "scales": scales}
    whole = mimo_core.restore(image, **options).astype(float)
    assert np.abs(whole - image).mean() > 0.5
    assert np.array_equal(mimo_core.restore(image, **options, strength=0), image)
    half = mimo_core.restore(image, **options, strength=0.5)
    assert np.abs(half - (image + whole) / 2).max() <= 1
    assert half.dtype == depth


def test_it_is_a_part_of_the_recipe_and_of_what_is_scored(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.png").write_bytes((SAMPLES / "blurred" / "window.png").read_bytes())
    sharp = tmp_path / "sharp"
    sharp.mkdir()
    (sharp / "a.png").write_bytes((SAMPLES / "sharp" / "window.png").read_bytes())
    scores = []
    for strength in (0.0, 0.5, 1.0):
        done = run(source, tmp_path / str(strength), weights=LITE, engine="torch", reference=sharp, strength=strength)
        record = done.records["a.png"]
        assert record.source_sha256 == hashlib.sha256((source / "a.png").read_bytes()).hexdigest()
        scores.append((record.input_psnr, record.psnr))
        assert (", strength 0.5" in done.recipe.method) == (strength == 0.5)
    assert scores[0][0] == scores[0][1]
    assert scores[0][1] < scores[1][1] < scores[2][1]  # type: ignore[operator]
