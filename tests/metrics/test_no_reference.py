"""Indications without a reference: they order what anybody orders, and stand in the records and on the page."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from finished import finish, make_pairs
from pictures import rgb
from processes import ROOT

from mimo_core.cli.main import main
from mimo_core.metrics.no_reference import piqe, sharpness

SAMPLES = ROOT / "samples"
NAMES = [path.name for path in sorted((SAMPLES / "sharp").iterdir())]


@pytest.mark.parametrize("name", NAMES)
def test_blur_makes_it_less_sharp_and_piqe_worse(name: str) -> None:
    sharp, blurred = (rgb(SAMPLES / side / name) for side in ("sharp", "blurred"))
    assert sharpness(blurred) < sharpness(sharp) - 0.3
    before, after = piqe(sharp), piqe(cv2.GaussianBlur(sharp, (0, 0), 3).astype(np.uint8))
    assert before is not None
    assert after is not None
    assert 0 <= before < after <= 100


def test_sharpness_is_of_the_form_and_not_of_contrast_or_depth() -> None:
    image = rgb(SAMPLES / "sharp" / "street.jpg")
    faint = (image.astype(np.float32) * 0.5 + 60).astype(np.uint8)
    assert sharpness(faint) == pytest.approx(sharpness(image), abs=0.2)
    assert sharpness(image.astype(np.uint16) * np.uint16(257)) == sharpness(image)


def test_blocks_of_compression_are_seen_by_piqe() -> None:
    image = rgb(SAMPLES / "sharp" / "street.jpg")
    packed = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 8])[1], cv2.IMREAD_COLOR)
    before, after = piqe(image), piqe(np.asarray(packed, np.uint8))
    assert before is not None
    assert after is not None
    assert after > before + 10


def test_odd_images_have_finite_values() -> None:
    for odd in (np.zeros((16, 16, 3), np.uint8), np.zeros((1, 1, 3), np.uint8), np.full((40, 17, 3), 255, np.uint8)):
        assert np.isfinite(sharpness(odd))
        score = piqe(odd)
        assert score is None if min(odd.shape[:2]) < 16 else score == 100


def test_they_stand_in_records_report_and_reference_nothing(tmp_path: Path) -> None:
    make_pairs(tmp_path, ["a.png", "b.png"])
    plain = finish(tmp_path, tmp_path / "plain", reference=False)
    done = finish(tmp_path, tmp_path / "run", reference=False, indications=True)
    record = done.records["a.png"]
    assert record.sharpness is not None
    assert record.input_sharpness is not None
    assert record.sharpness > record.input_sharpness
    assert None not in (record.piqe, record.input_piqe)
    assert plain.records["a.png"].sharpness is None
    assert done.output("a.png") == plain.output("a.png")
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Sharpness (indication)" in page
    assert "an indication, no measure of truth" in page
