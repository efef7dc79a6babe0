"""Evaluation in this process: nothing is written, scores are those of a restoration, what has none says why."""

import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from inprocess import LITE, InProcessRun, run
from skimage.metrics import peak_signal_noise_ratio

from mimo_core.engines import SessionSpec, open_session
from mimo_core.images.pixels import pad_to_multiple, quantise
from mimo_core.images.tiling import TilePolicy
from mimo_core.inference.ensemble import EnsembleRestorer
from mimo_core.inference.restorer import Restoration, Restorer
from mimo_core.metrics.definitions import ALL
from mimo_core.models.weights import load_weights
from mimo_core.runs.statistics import Statistics
from mimo_core.training.blur import Shake
from mimo_core.training.blur import photograph as shaken

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
KEYS = ("a.png", "b/c.png", "d.png")


def photograph(side: str, name: str = "window.png") -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(SAMPLES / side / name)), np.uint8)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for number, key in enumerate(KEYS):
        for side in ("blurred", "sharp"):
            path = folder / side / key
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), photograph(side)[40 * number : 40 * number + 90, 30:151])
    return folder


def evaluate(pairs: Path, output: Path, **choices: object) -> InProcessRun:
    options: dict[str, object] = {"evaluates": True, "saves_images": False, "metrics": ALL, **choices}
    return run(pairs / "blurred", output, weights=LITE, reference=pairs / "sharp", **options)


def unrounded_psnr(pairs: Path, key: str) -> float:
    """What scikit-image says of the network's output before it is rounded."""
    session = open_session(SessionSpec("torch", "cpu", "fp32", load_weights(LITE), threads=1))
    blurred, sharp = (
        cv2.cvtColor(cv2.imread(str(pairs / side / key)), cv2.COLOR_BGR2RGB) for side in ("blurred", "sharp")
    )
    values = session.restore_float(pad_to_multiple(blurred, 4)[np.newaxis])[0][: len(blurred), : blurred.shape[1]]
    session.close()
    return float(peak_signal_noise_ratio(sharp.astype(np.float64) / 255, values.clip(0, 1), data_range=1))


def test_scores_are_those_of_a_restoration_and_nothing_is_written(pairs: Path, tmp_path: Path) -> None:
    restored = run(pairs / "blurred", tmp_path / "restored", weights=LITE, reference=pairs / "sharp")
    evaluated = evaluate(pairs, tmp_path / "evaluated")
    assert not (tmp_path / "evaluated" / "images").exists()
    assert set(evaluated.records) == set(KEYS)
    for key, record in evaluated.records.items():
        other = restored.records[key]
        assert (record.status, record.output, record.output_sha256, record.bytes_out) == ("restored", None, None, None)
        assert (record.psnr, record.ssim) == (other.psnr, other.ssim)
        assert (record.input_psnr, record.input_ssim) == (other.input_psnr, other.input_ssim)
        assert other.psnr_float is None
        assert record.psnr_float == pytest.approx(unrounded_psnr(pairs, key), abs=1e-4)
        assert record.psnr_float != record.psnr
        assert None not in (record.psnr_y, record.input_psnr_y, record.ssim_matlab3d, record.input_ssim_matlab3d)


def test_records_and_totals_say_which_scales_images_took(pairs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    for side in ("blurred", "sharp"):
        (folder / side).mkdir(parents=True)
        (folder / side / "mild.png").write_bytes((pairs / side / KEYS[0]).read_bytes())
    sharp = photograph("sharp", "mountains.jpg")
    top, left = ((side - 192) // 2 for side in sharp.shape[:2])
    sharp = np.ascontiguousarray(sharp[top : top + 192, left : left + 192])
    assert cv2.imwrite(str(folder / "sharp" / "strong.png"), sharp)
    strong = shaken(sharp, np.random.default_rng(1), Shake(0, 24), extent=24.0)
    assert cv2.imwrite(str(folder / "blurred" / "strong.png"), strong)
    options = {"weights": "mimo-unet-lite", "reference": folder / "sharp", "evaluates": True, "metrics": ALL}
    auto = run(folder / "blurred", tmp_path / "auto", scales="auto", **options).records
    full = run(folder / "blurred", tmp_path / "full", **options).records
    assert auto["mild.png"].scales == full["mild.png"].scales == full["strong.png"].scales == "1"
    assert auto["mild.png"].psnr_float == full["mild.png"].psnr_float
    assert auto["strong.png"].scales in ("1/2", "1/4,1/2")
    assert float(auto["strong.png"].psnr or 0) > float(full["strong.png"].psnr or 0) + 0.3
    totals = Statistics.of(auto.values())
    assert totals.merge(totals).scales == {"1": 2, str(auto["strong.png"].scales): 2}
    assert Statistics.from_json(totals.to_json()) == totals
    assert "1 image at 1" in totals.scales_taken()


def test_saved_images_are_those_of_a_restoration_to_the_byte(pairs: Path, tmp_path: Path) -> None:
    restored = run(
        pairs / "blurred",
        tmp_path / "restored",
        weights=LITE,
        reference=pairs / "sharp",
        tile=(64, 64),
        overlap=16,
        call_pixels=None,
    )
    evaluated = evaluate(pairs, tmp_path / "evaluated", saves_images=True, tile=(64, 64), overlap=16, call_pixels=None)
    for key in KEYS:
        assert evaluated.output(key) == restored.output(key)
        assert evaluated.records[key].output_sha256 == restored.records[key].output_sha256


def test_images_without_a_reference_are_left_out_and_others_sizes_fail(pairs: Path, tmp_path: Path) -> None:
    sharp = tmp_path / "sharp"
    sharp.mkdir()
    (sharp / "a.png").write_bytes((pairs / "sharp" / "a.png").read_bytes())
    cv2.imwrite(str(sharp / "d.png"), photograph("sharp")[:50, :60])
    blurred = pairs / "blurred"
    options = {"evaluates": True, "saves_images": False, "metrics": ALL}
    records = run(blurred, tmp_path / "out", weights=LITE, reference=sharp, **options).records
    assert records["a.png"].status == "restored"
    left_out, failed = records["b/c.png"], records["d.png"]
    assert (left_out.status, left_out.error_kind) == ("skipped", "reference_missing")
    assert "sharp/b/c.png" in str(left_out.error)
    assert (failed.status, failed.error_kind, failed.psnr) == ("failed", "reference_size", None)
    assert "60x50" in str(failed.error)
    assert "121x90" in str(failed.error)
    resized = run(blurred, tmp_path / "resized", weights=LITE, reference=sharp, size=(48, 64), **options).records
    assert resized["d.png"].status == "restored"


def test_what_another_tool_made_is_scored_as_it_is(pairs: Path, tmp_path: Path) -> None:
    restored = run(pairs / "blurred", tmp_path / "restored", weights=LITE, reference=pairs / "sharp")
    made = tmp_path / "restored" / "images"
    (made / "d.png").unlink()
    scored = evaluate(pairs, tmp_path / "scored", model="given", engine="identity", restored=made).records
    for key in KEYS[:2]:
        assert scored[key].psnr == restored.records[key].psnr
        assert scored[key].ssim == restored.records[key].ssim
        assert scored[key].psnr_float == pytest.approx(restored.records[key].psnr, abs=1e-4)
    assert (scored["d.png"].status, scored["d.png"].error_kind) == ("failed", "not_found")


def test_an_image_with_neither_reference_nor_result_is_left_out(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "sharp").mkdir()
    (tmp_path / "sharp" / "a.png").write_bytes((pairs / "sharp" / "a.png").read_bytes())
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "b").mkdir()
    options = {"evaluates": True, "saves_images": False, "metrics": ALL, "model": "given", "engine": "identity"}
    records = run(
        pairs / "blurred",
        tmp_path / "out",
        weights=LITE,
        reference=tmp_path / "sharp",
        restored=tmp_path / "made",
        **options,
    ).records
    assert (records["a.png"].status, records["a.png"].error_kind) == ("failed", "not_found")
    assert (records["d.png"].status, records["d.png"].error_kind) == ("skipped", "reference_missing")


def test_what_another_tool_made_in_colour_of_a_gray_image_is_scored_in_colour(pairs: Path, tmp_path: Path) -> None:
    sharp = photograph("sharp")[:60, :80]
    for name, image in (
        ("blurred", cv2.cvtColor(photograph("blurred")[:60, :80], cv2.COLOR_BGR2GRAY)),
        ("sharp", sharp),
    ):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "1.png"), image)
    made = {"model": "given", "engine": "identity", "restored": tmp_path / "sharp"}
    record = evaluate(tmp_path, tmp_path / "scored", **made).records["1.png"]
    assert (record.channels, record.psnr, record.psnr_float, record.ssim) == (1, math.inf, math.inf, 1.0)


# Values before rounding, and the ensemble


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_kept_values_round_to_the_same_pixels(engine: str, kind: type) -> None:
    session = open_session(SessionSpec(engine, "cpu", "fp32", load_weights(LITE), threads=1))
    picture = (photograph("blurred")[:90, :121].astype(np.float64) * (257 if kind == np.uint16 else 1)).astype(kind)
    for policy in (TilePolicy(None, 16, None, 1), TilePolicy((64, 64), 16, None, 2)):
        (plain,) = Restorer(session, policy).restore([picture])
        (kept,) = Restorer(session, policy, keep_values=True).restore([picture])
        assert isinstance(plain, Restoration)
        assert isinstance(kept, Restoration)
        assert plain.values is None
        assert kept.values is not None
        assert kept.values.dtype == np.float32
        assert np.array_equal(kept.pixels, plain.pixels)
        assert np.array_equal(quantise(kept.values, kind), plain.pixels)
        assert kept.tiles == plain.tiles
    session.close()


@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_the_ensemble_is_the_mean_over_four_rotations(tile: tuple[int, int] | None) -> None:
    session = open_session(SessionSpec("torch", "cpu", "fp32", load_weights(LITE), threads=1))
    single = Restorer(session, TilePolicy(tile, 16, None, 1), keep_values=True)
    pictures = [photograph("blurred")[:90, :121], photograph("blurred")[30:120, 50:171]]
    for picture, result in zip(pictures, EnsembleRestorer(single).restore(pictures), strict=True):
        assert isinstance(result, Restoration)
        turned = []
        for turn in range(4):
            (one,) = single.restore([np.ascontiguousarray(np.rot90(picture, turn))])
            assert isinstance(one, Restoration)
            assert one.values is not None
            turned.append(np.rot90(one.values, 4 - turn).astype(np.float64))
        expected = np.mean(turned, axis=0)
        assert result.values is not None
        np.testing.assert_allclose(result.values, expected, atol=1e-6)
        assert np.abs(expected - turned[0]).max() > 1e-4
        assert np.array_equal(result.pixels, quantise(result.values, np.uint8))
        assert result.pixels.shape == picture.shape
    session.close()


def test_the_pipeline_takes_the_ensemble_where_the_recipe_says_so(pairs: Path, tmp_path: Path) -> None:
    once, four = evaluate(pairs, tmp_path / "once"), evaluate(pairs, tmp_path / "four", ensemble=4)
    assert [one.psnr for one in once.records.values()] != [one.psnr for one in four.records.values()]
    assert {one.tiles for one in four.records.values()} == {4}
