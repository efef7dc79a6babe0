"""Scores compare what a viewer shows: images and references the same way up; differing profiles are told."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from inprocess import run
from pictures import exif, opened, profile, scene
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps

from mimo_core.images.orientation import stored, upright
from mimo_core.runs.statistics import Statistics


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_as_pillow_turns_them(orientation: int) -> None:
    out = io.BytesIO()
    Pillow.fromarray(scene()).save(out, "PNG", exif=exif(orientation))
    seen = np.asarray(ImageOps.exif_transpose(opened(out.getvalue())))
    assert np.array_equal(upright(scene(), orientation), seen)
    assert np.array_equal(stored(seen, orientation), scene())


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_an_image_that_is_stored_turned_is_scored_beside_an_upright_reference(tmp_path: Path, orientation: int) -> None:
    blurred = np.clip(scene().astype(int) + 5, 0, 255).astype(np.uint8)
    for folder in ("turned", "upright", "sharp"):
        (tmp_path / folder).mkdir()
    Pillow.fromarray(scene()).save(tmp_path / "sharp" / "a.png")
    Pillow.fromarray(blurred).save(tmp_path / "upright" / "a.png")
    Pillow.fromarray(stored(blurred, orientation)).save(tmp_path / "turned" / "a.png", exif=exif(orientation))
    scores = []
    for folder in ("upright", "turned"):
        done = run(tmp_path / folder, tmp_path / f"of-{folder}", engine="identity", reference=tmp_path / "sharp")
        (record,) = done.records.values()
        assert record.status == "restored", record
        assert record.error_kind is None, record.error
        scores.append((record.input_psnr, record.psnr, record.ssim))
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)


def test_colour_profiles_that_differ_are_told_and_scored(tmp_path: Path) -> None:
    wide = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    other = bytearray(wide)
    other[16:20] = b"RGB "
    for folder, icc in (("blurred", bytes(other)), ("sharp", None)):
        (tmp_path / folder).mkdir()
        Pillow.fromarray(scene()).save(tmp_path / folder / "a.png", **({"icc_profile": icc} if icc else {}))
        Pillow.fromarray(scene()).save(tmp_path / folder / "b.png", icc_profile=profile())
    done = run(tmp_path / "blurred", tmp_path / "out", engine="identity", reference=tmp_path / "sharp")
    record = done.records["a.png"]
    assert record.psnr == float("inf")
    assert record.error_kind == "reference_colours"
    assert "the reference's sRGB" in (record.error or "")
    assert done.records["b.png"].error_kind is None
    assert Statistics.of(done.records.values()).notes == {"reference_colours": 1}


def test_a_restored_file_has_the_time_of_its_source(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Pillow.fromarray(scene()).save(tmp_path / "in" / "a.png")
    os.utime(tmp_path / "in" / "a.png", ns=(10**18, 10**18))
    run(tmp_path / "in", tmp_path / "out", engine="identity")
    assert (tmp_path / "out" / "images" / "a.png").stat().st_mtime_ns == 10**18
