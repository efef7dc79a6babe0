"""`mimo quantize`: little is lost on pairs that calibration never saw, and the file runs wherever it should."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from mimo_core.cli.main import FAILED, OK, USAGE, main
from mimo_core.datasets.pairs import list_pairs
from mimo_core.datasets.samples import Sample
from mimo_core.engines import SessionSpec, open_session
from mimo_core.engines.quantization.quantize import METHODS, quantise
from mimo_core.errors import UsageError
from mimo_core.hardware import int8_saturates
from mimo_core.metrics.psnr_ssim import psnr
from mimo_core.models.int8 import Quantisation
from mimo_core.models.onnx_graph import export_onnx
from mimo_core.models.weights import Weights, load_weights

# What is lost shows only where the CPU has instructions for int8.
computes_int8 = pytest.mark.skipif(int8_saturates(), reason="this CPU computes no int8 products without overflow")
SAMPLES = Path(__file__).resolve().parents[2] / "samples"
Picture = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def read(path: Path) -> Picture:
    pixels = cv2.imread(str(path))
    assert pixels is not None
    return np.ascontiguousarray(pixels[:, :, ::-1])


def restored(weights: Weights, precision: str, images: Sequence[Picture]) -> list[Picture]:
    session = open_session(SessionSpec("openvino", "cpu", precision, weights, threads=1))  # type: ignore[arg-type]
    return [session.restore(image[np.newaxis])[0] for image in images]


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lite weights, quantised with the samples."""
    target = tmp_path_factory.mktemp("int8") / "int8.safetensors"
    images, sharp = str(SAMPLES / "blurred"), str(SAMPLES / "sharp")
    assert main(["quantize", "mimo-unet-lite", images, str(target), "--reference", sharp, "--crop", "192"]) == OK
    return target


@computes_int8
def test_less_than_a_tenth_of_a_decibel_is_lost_on_pairs_that_calibration_never_saw(
    shared_data: Path, quantised: Path
) -> None:
    """Calibrated on photographs from elsewhere: 90 % of the gain and more are kept."""
    pairs = list_pairs(shared_data / "reds_pairs")[::6]
    blurred, sharp = [read(blur) for blur, _ in pairs], [read(truth) for _, truth in pairs]
    weights = load_weights(str(quantised))
    exact, integer = restored(weights, "fp32", blurred), restored(weights, "int8", blurred)
    before, float32, int8 = (
        float(np.mean([psnr(image, truth) for image, truth in zip(images, sharp, strict=True)]))
        for images in (blurred, exact, integer)
    )
    assert float32 - before > 0.4, "weights that gain nothing would lose nothing"
    assert float32 - int8 < 0.1
    assert int8 - before > 0.9 * (float32 - before)
    assert min(psnr(one, other) for one, other in zip(exact, integer, strict=True)) >= 38


@computes_int8
def test_the_file_holds_the_same_weights_and_runs_in_every_precision(quantised: Path) -> None:
    lite, weights = load_weights("mimo-unet-lite"), load_weights(str(quantised))
    assert weights.metadata["source_sha256"] == lite.sha256
    assert weights.sha256 != lite.sha256
    assert all(bool((weights.state[name] == lite.state[name]).all()) for name in lite.state)
    found = Quantisation.of(weights)
    assert found is not None
    assert found.calibration in ("max", "mse"), "the samples lose least by these"
    image = read(SAMPLES / "blurred" / "brushes.png")[:64, :96]
    assert np.array_equal(restored(weights, "fp32", [image]), restored(lite, "fp32", [image]))


@computes_int8
def test_onnx_runtime_gives_the_image_of_the_exported_file(quantised: Path, tmp_path: Path) -> None:
    assert main(["export", str(quantised), str(tmp_path / "int8.onnx"), "--precision", "int8"]) == OK
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(tmp_path / "int8.onnx"), options, providers=["CPUExecutionProvider"])
    image = read(SAMPLES / "blurred" / "window.png")[:128, :192]
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)[np.newaxis]).astype(np.float32) / np.float32(255)
    found = np.clip(session.run(None, {"input": planes})[0][0].transpose(1, 2, 0), 0, 1)
    (exact,) = restored(load_weights("mimo-unet-lite"), "fp32", [image])
    (by_openvino,) = restored(load_weights(str(quantised)), "int8", [image])
    rounded = np.floor(found * 255 + 0.5).astype(np.uint8)
    assert psnr(rounded, exact) >= 45
    assert psnr(rounded, by_openvino) >= 45
    assert not np.array_equal(rounded, exact), "int8 that changes nothing was not computed"
    with pytest.raises(UsageError, match="opset 11"):
        export_onnx(load_weights(str(quantised)), tmp_path / "old.onnx", opset=11, int8=True)


@pytest.mark.slow
@computes_int8
def test_a_whole_run_in_int8(quantised: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ["--weights", str(quantised), "--engine", "openvino", "--precision", "int8", "--tile", "192x192"]
    source = str(SAMPLES / "blurred" / "brushes.png")
    assert main(["restore", source, str(output), *options, "--workers", "1"]) == OK
    written = read(output / "images" / "brushes.png")
    (exact,) = restored(load_weights("mimo-unet-lite"), "fp32", [read(SAMPLES / "blurred" / "brushes.png")])
    assert psnr(written, exact) >= 45
    # The same weights without ranges are another recipe.
    options[1] = "mimo-unet-lite"
    assert main(["restore", source, str(output), *options, "--workers", "1"]) == USAGE


@pytest.mark.slow
@computes_int8
def test_layers_that_hurt_stay_in_float_until_little_is_lost() -> None:
    """A percentile that clips much of the signal: int8 alone loses more than is allowed."""
    images = [read(path)[96:160, 96:192] for path in sorted((SAMPLES / "blurred").iterdir())]
    said: list[str] = []
    done = quantise(
        load_weights("mimo-unet-lite"),
        images[:3],
        [Sample(images[3], None)],
        method="percentile",
        percentile=99,
        max_drop=0.15,
        say=said.append,
    )
    assert done.chosen.drop <= 0.15
    first = next(trial for trial in done.trials if trial.name == "int8 percentile 99")
    assert first.drop > 0.15
    assert done.kept
    assert not set(done.kept) & set(done.quantisation.ranges)
    assert any("finding the layers that hurt" in line for line in said)


@pytest.mark.slow
@computes_int8
def test_the_report_compares_every_calibration_and_says_what_is_lost_without_references() -> None:
    images = [read(path)[96:160, 96:192] for path in sorted((SAMPLES / "blurred").iterdir())]
    done = quantise(
        load_weights("mimo-unet-lite"),
        images[:3],
        [Sample(images[3])],
        method="mse",
        percentile=99.9,
        max_drop=3.0,
        say=lambda _: None,
    )
    names = [trial.name for trial in done.trials]
    assert names[0] == "fp32"
    assert {"int8 percentile 99.9", "int8 max", "int8 mse", "int8 entropy"} <= set(names)
    assert len(names) == len(METHODS) + (2 if "bf16" in names else 1)
    assert done.quantisation.calibration == "mse"
    for trial in done.trials:
        assert trial.psnr is None
        assert trial.drop >= 0
        assert trial.milliseconds > 0
    assert done.trials[0].drop == 0


def test_a_cpu_whose_int8_overflows_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pretend_cpu: Callable[[str], None]
) -> None:
    pretend_cpu("avx2")
    target = tmp_path / "int8.safetensors"
    options = ["--limit", "2", "--crop", "64"]
    assert main(["quantize", "mimo-unet-lite", str(SAMPLES / "blurred"), str(target), *options]) == USAGE
    said = capsys.readouterr()
    assert "int8 products overflow (it has no VNNI): quantise on a machine that has it" in said.err
    assert "calibrating" not in said.out, "that is known before the minutes that calibration takes"
    assert not target.exists()


def test_wrong_use_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pretend_cpu: Callable[[str], None]
) -> None:
    pretend_cpu("avx512_vnni")
    images = str(SAMPLES / "blurred")
    there = tmp_path / "there.safetensors"
    there.write_bytes(b"precious")
    assert main(["quantize", "mimo-unet-lite", images, str(there)]) == USAGE
    assert there.read_bytes() == b"precious"
    assert main(["quantize", "mimo-unet-lite", images, str(tmp_path / "x.onnx")]) == USAGE
    assert main(["quantize", "mimo-unet-lite", f"{images}/seeds.jpg", str(tmp_path / "x.safetensors")]) == USAGE
    text = capsys.readouterr().err
    for words in ("never overwritten", "must end in .safetensors", "at least two images"):
        assert words in text
    assert main(["quantize", "mimo-unet-lite", images, str(tmp_path / "x.safetensors"), "--calibration", "x"]) in (
        USAGE,
        FAILED,
    )
