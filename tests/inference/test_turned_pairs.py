"""Data sets whose images are stored turned, or in other colours: scored, restored and shown as the upright ones are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from fixtures_runs import Runs
from inprocess import LITE, InProcessRun, run
from pictures import exif, opened, profile, wide_profile
from PIL import Image as Pillow
from PIL import ImageOps

from mimo_core.images.orientation import stored
from mimo_core.inference.python_api import ImageRestorer, score
from mimo_core.metrics.definitions import ALL
from mimo_core.runs.record import Record
from mimo_core.runs.records import from_table, read_all
from mimo_core.runs.statistics import SCORES, Statistics
from mimo_core.storage import Store

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
Image8 = npt.NDArray[np.uint8]
# Where the blurred and the sharp image of a pair lie.
LAYOUTS = {
    "two folders": ("blurred/{n}.png", "sharp/{n}.png"),
    "GoPro": ("test/G_0{n}/blur/000047.png", "test/G_0{n}/sharp/000047.png"),
    "NAFNet": ("val/input_crops/{n}.png", "val/target_crops/{n}.png"),
    "RealBlur": ("scene00{n}/blur/blur_7.png", "scene00{n}/gt/gt_7.png"),
    "REDS": ("val_blur/val/val_blur/00{n}/00000000.png", "val_sharp/val/val_sharp/00{n}/00000000.png"),
}
NUMBERS = range(2, 9)
# The orientations of the blurred and of the sharp image of pair n.
TURNS: dict[str, Callable[[int], tuple[int, int]]] = {
    "blurred": lambda n: (n, 1),
    "sharp": lambda n: (1, n),
    "both": lambda n: (n, 10 - n),
}


def piece(side: str, number: int) -> Image8:
    """Part of a sample, wider than high, another one for each number."""
    name = ("window.png", "brushes.png", "street.jpg")[number % 3]
    pixels = cv2.imread(str(SAMPLES / side / name))[10 * number : 10 * number + 72, 30:134, ::-1]
    return np.ascontiguousarray(pixels, np.uint8)


def write(path: Path, pixels: Image8, orientation: int, icc: bytes = b"") -> None:
    """Store pixels so that a viewer shows them under this orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"exif": exif(orientation)} if orientation != 1 else {}
    if icc:
        options["icc_profile"] = icc
    Pillow.fromarray(stored(pixels, orientation)).save(path, **options)


def data_set(root: Path, layout: str, turns: Callable[[int], tuple[int, int]] = lambda n: (1, 1)) -> Path:
    for number in NUMBERS:
        for side, name, turn in zip(("blurred", "sharp"), LAYOUTS[layout], turns(number), strict=True):
            write(root / name.format(n=number), piece(side, number), turn)
    return root


def evaluate(root: Path, output: Path, **options: Any) -> InProcessRun:
    return run(root, output, reference=root, evaluates=True, **{"weights": LITE, "metrics": ALL, **options})


def scores(done: InProcessRun) -> dict[str, dict[str, float]]:
    for record in done.records.values():
        assert (record.status, record.error_kind, record.error) == ("restored", None, None), record
    return {key: scores_of(record) for key, record in done.records.items()}


def scores_of(record: Record) -> dict[str, float]:
    """The scores that a record has."""
    found = {name: getattr(record, name) for name in SCORES}
    return {name: value for name, value in found.items() if value is not None}


def assert_same(found: dict[str, dict[str, float]], expected: dict[str, dict[str, float]]) -> None:
    assert list(found) == list(expected)
    for key, values in expected.items():
        assert values
        assert found[key] == pytest.approx(values, rel=0, abs=1e-9), key


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_turned_data_set_has_the_scores_of_the_upright_one(tmp_path: Path, layout: str) -> None:
    upright = scores(evaluate(data_set(tmp_path / "upright", layout), tmp_path / "out", saves_images=False))
    assert len(upright) == len(NUMBERS)
    for name, turns in TURNS.items():
        root = data_set(tmp_path / name, layout, turns)
        assert_same(scores(evaluate(root, tmp_path / f"out-{name}", saves_images=False)), upright)


@pytest.mark.parametrize("turned", TURNS)
def test_what_is_restored_of_a_turned_image_is_what_is_restored_of_the_upright_one(tmp_path: Path, turned: str) -> None:
    """Its file is turned as its source is."""
    upright = evaluate(data_set(tmp_path / "upright", "GoPro"), tmp_path / "out")
    done = evaluate(data_set(tmp_path / turned, "GoPro", TURNS[turned]), tmp_path / "out-turned")
    for key, number in zip(upright.records, NUMBERS, strict=True):
        shown = np.asarray(ImageOps.exif_transpose(opened(done.output(key))))
        assert np.array_equal(shown, np.asarray(opened(upright.output(key))))
        source, output = (opened(data) for data in ((tmp_path / turned / key).read_bytes(), done.output(key)))
        assert (output.size, output.getexif()[0x112] if turned != "sharp" else 1) == (
            source.size,
            TURNS[turned](number)[0],
        )


def test_protocols_and_sizes_are_of_what_a_viewer_shows(tmp_path: Path) -> None:
    """Resized as stored, an image that lies on its side would be squeezed."""
    upright, turned = data_set(tmp_path / "upright", "GoPro"), data_set(tmp_path / "turned", "GoPro", TURNS["both"])
    for number, options in enumerate(
        (
            {"size": (48, 64), "metrics": ("psnr", "psnr_zoo", "ssim_zoo")},
            {"metrics": ("psnr_float", "psnr_realblur", "ssim_realblur"), "engine": "identity", "weights": None},
        )
    ):
        expected, found = (
            scores(evaluate(root, tmp_path / f"{root.name}-{number}", saves_images=False, **options))
            for root in (upright, turned)
        )
        assert_same(found, expected)


def test_what_another_tool_made_upright_is_scored_beside_turned_images(tmp_path: Path) -> None:
    root, plain = data_set(tmp_path / "turned", "GoPro", TURNS["blurred"]), tmp_path / "plain"
    made = {"model": "given", "engine": "identity", "weights": None, "saves_images": False}
    for number in NUMBERS:
        write(plain / LAYOUTS["GoPro"][0].format(n=number), piece("sharp", number), 1)
    done = evaluate(root, tmp_path / "out", restored=plain, **made)
    assert {record.psnr for record in done.records.values()} == {float("inf")}
    assert {record.error for record in done.records.values()} == {None}


def test_sizes_that_differ_upright_are_still_told(tmp_path: Path) -> None:
    """Both are stored with the same sides, and show other ones."""
    write(tmp_path / "blur" / "1.png", piece("blurred", 2), 1)
    write(tmp_path / "sharp" / "1.png", np.ascontiguousarray(np.rot90(piece("sharp", 2))), 6)
    done = evaluate(tmp_path, tmp_path / "out", saves_images=False)
    (record,) = done.records.values()
    assert (record.status, record.error_kind) == ("failed", "reference_size")
    assert "the reference is 72x104, the image 104x72" in str(record.error)


@pytest.mark.parametrize("first", ["", "Display P3", "Adobe RGB (1998)"])
@pytest.mark.parametrize("second", ["", "sRGB", "Display P3", "Adobe RGB (1998)"])
def test_profiles_that_differ_are_told_and_change_no_score(tmp_path: Path, first: str, second: str) -> None:
    options = {"saves_images": False, "engine": "identity", "weights": None, "metrics": ("psnr", "ssim")}
    plain = scores(evaluate(data_set(tmp_path / "plain", "GoPro"), tmp_path / "out", **options))
    profiles = [wide_profile(name) if name not in ("", "sRGB") else b"" for name in (first, second)]
    if second == "sRGB":
        profiles[1] = profile()
    for number in NUMBERS:
        for side, name, turn, icc in zip(
            ("blurred", "sharp"), LAYOUTS["GoPro"], TURNS["both"](number), profiles, strict=True
        ):
            write(tmp_path / "wide" / name.format(n=number), piece(side, number), turn, icc)
    done = evaluate(tmp_path / "wide", tmp_path / "out-wide", **options)
    differ = (first or "sRGB") != (second or "sRGB")
    for record in done.records.values():
        assert record.status == "restored"
        assert record.error_kind == ("reference_colours" if differ else None)
        if differ:
            assert f"the image's colours are {first or 'sRGB'}, the reference's {second or 'sRGB'};" in str(
                record.error
            )
        assert scores_of(record) == pytest.approx(plain[record.key], rel=0, abs=1e-9)
    notes = Statistics.of(done.records.values()).notes
    assert notes == ({"reference_colours": len(NUMBERS)} if differ else {})


def test_python_sees_files_as_a_run_does(tmp_path: Path) -> None:
    blurred, sharp = piece("blurred", 2), piece("sharp", 2)
    write(tmp_path / "upright.png", blurred, 1)
    write(tmp_path / "turned.png", blurred, 6)
    write(tmp_path / "sharp.png", sharp, 8)
    expected = score(blurred, sharp)
    assert score(tmp_path / "turned.png", tmp_path / "sharp.png") == expected
    with ImageRestorer(weights=LITE, engine="torch", precision="fp32", cpus_per_worker=1) as restorer:
        restored = restorer.restore(tmp_path / "upright.png")
        assert np.array_equal(restorer.restore(tmp_path / "turned.png"), stored(restored, 6))
        restorer.restore_file(tmp_path / "turned.png", tmp_path / "out.png")
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(opened((tmp_path / "out.png").read_bytes()))), restored)


@pytest.mark.ray
@pytest.mark.slow
def test_the_command_scores_a_turned_data_set_as_the_upright_one(
    runs: Runs, tiny_weights: Path, tmp_path: Path, inception: object
) -> None:
    found, distances = [], []
    for name, turns in (("upright", lambda n: (1, 1)), ("turned", TURNS["both"])):
        root, output = data_set(tmp_path / name, "GoPro", turns), tmp_path / f"out-{name}"
        finished = runs.finish(
            *(root, root, output, "--weights", tiny_weights, "--engine", "torch", "--precision", "fp32"),
            *("--protocol", "zoo", "--fid", "--workers", 1),
            job="evaluate",
        )
        assert finished.code == 0, finished.text
        assert "--size" not in finished.text
        records = from_table(read_all(Store(str(output))))
        assert {(record.status, record.error) for record in records} == {("restored", None)}
        found.append({record.key: scores_of(record) for record in records})
        distances.append(json.loads((output / "summary.json").read_text())["fid"])
    assert len(found[0]) == len(NUMBERS)
    assert_same(found[1], found[0])
    assert distances[0] == distances[1]
