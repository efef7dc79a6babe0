"""A fast look at images: what it says of sharp and blurred ones, and the list that `mimo triage` makes."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from processes import ROOT

from mimo_core.cli.main import main
from mimo_core.datasets.imagelist import list_images
from mimo_core.images.pixels import Pixels8
from mimo_core.training.blur import Shake, photograph
from mimo_core.triage.predictor import predictor

SAMPLES = ROOT / "samples"
NAMES = [path.name for path in sorted((SAMPLES / "sharp").iterdir())]


def rgb(path: Path) -> Pixels8:
    image = cv2.imread(str(path))
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_the_blurred_one_of_two_is_expected_to_gain_more(name: str) -> None:
    sharp, blurred = (predictor().outlook(rgb(SAMPLES / side / name)) for side in ("sharp", "blurred"))
    assert sharp is not None
    assert blurred is not None
    assert blurred.gain > sharp.gain + 0.5
    assert blurred.kind == "motion"
    assert blurred.low < blurred.gain < blurred.high


def test_the_extent_grows_with_the_blur() -> None:
    sharp = rgb(SAMPLES / "sharp" / "street.jpg")
    extents = []
    for extent in (3.0, 8.0, 20.0):
        shaken = photograph(sharp, np.random.default_rng(5), Shake(), extent=extent)
        outlook = predictor().outlook(shaken)
        assert outlook is not None
        extents.append(outlook.extent)
    assert extents == sorted(extents)
    assert 0.5 < extents[0] < 6
    assert 10 < extents[2] < 40


def test_depth_and_size_hardly_matter_and_odd_images_are_borne() -> None:
    image = rgb(SAMPLES / "blurred" / "street.jpg")
    eight, sixteen = (predictor().outlook(one) for one in (image, image.astype(np.uint16) * np.uint16(257)))
    assert eight == sixteen
    assert predictor().outlook(image[:63]) is None
    for odd in (np.zeros((64, 900, 3), np.uint8), np.full((3000, 70, 3), 255, np.uint8)):
        outlook = predictor().outlook(odd)
        assert outlook is not None
        assert np.isfinite([outlook.gain, outlook.low, outlook.high, outlook.extent]).all()
    noise = predictor().outlook(np.random.default_rng(1).integers(0, 256, (200, 300, 3), np.uint8))
    assert noise is not None
    assert noise.extent < 100


def test_the_list_of_a_triage_is_a_list_to_restore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    for side in ("blurred", "sharp"):
        (source / side).mkdir(parents=True)
        (source / side / "street.jpg").write_bytes((SAMPLES / side / "street.jpg").read_bytes())
    (source / "bad.png").write_bytes(b"no image")
    cv2.imwrite(str(source / "tiny.png"), np.zeros((9, 9, 3), np.uint8))
    assert main(["triage", str(source), str(tmp_path / "list.parquet")]) == 3
    told = capsys.readouterr().out
    assert told.startswith("4 images in ")
    assert "1 could not be looked at" in told
    assert "1 are too small" in told
    rows = {row["key"]: row for row in pq.read_table(tmp_path / "list.parquet").to_pylist()}
    assert rows["blurred/street.jpg"]["gain"] > 1 > rows["sharp/street.jpg"]["gain"]
    assert (rows["blurred/street.jpg"]["blur"], rows["sharp/street.jpg"]["blur"]) == ("motion", "none")
    assert rows["bad.png"]["error"].startswith("not_an_image: ")
    assert rows["tiny.png"]["gain"] is rows["tiny.png"]["error"] is None
    listed = list(list_images(str(tmp_path / "list.parquet")))
    assert {(one.key, one.source) for one in listed} == {(key, str(source / key)) for key in rows}


def test_an_output_that_is_no_parquet_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triage", str(tmp_path), str(tmp_path / "list.csv")]) == 2
    assert "expected a file named .parquet" in capsys.readouterr().err
