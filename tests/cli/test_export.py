"""`mimo export`: files that are checked before they are kept, and never in another one's place."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from mimo_core.cli.main import OK, USAGE, main
from mimo_core.datasets.samples import sample_images
from mimo_core.engines.export.check import Agreement, compare
from mimo_core.errors import SystemFailure
from mimo_core.models.onnx_graph import export_onnx
from mimo_core.models.weights import load_weights, save_weights


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    lite = load_weights("mimo-unet-lite")
    save_weights(tmp_path / "mine.safetensors", lite.spec, lite.state)
    return tmp_path / "mine.safetensors"


def shape_of(file: Path) -> list[int | str]:
    sides = onnx.load(file).graph.input[0].type.tensor_type.shape.dim
    return [side.dim_value or side.dim_param for side in sides]


def test_the_file_lies_beside_its_checkpoint_and_says_what_it_is(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hashlib.sha256(checkpoint.read_bytes()).digest()
    options = ["--opset", "11", "--interpolation", "bilinear", "--size", "64x96", "--batch", "1"]
    assert main(["export", str(checkpoint), *options]) == OK
    file = checkpoint.parent / "mine-bilinear-64x96-batch1-opset11.onnx"
    assert {one.name for one in checkpoint.parent.iterdir()} == {checkpoint.name, file.name}
    assert shape_of(file) == [1, 3, 64, 96]
    assert hashlib.sha256(checkpoint.read_bytes()).digest() == before
    text = capsys.readouterr().out
    assert "max |diff|" in text
    assert "4 images" in text


def test_an_existing_file_stays(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = checkpoint.parent / "there.onnx"
    target.write_bytes(b"precious")
    assert main(["export", str(checkpoint), str(target)]) == USAGE
    assert target.read_bytes() == b"precious"
    assert "never replaces anything" in capsys.readouterr().err


def test_a_target_of_another_kind_is_refused(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(checkpoint), str(checkpoint)]) == USAGE
    assert "must end in .onnx" in capsys.readouterr().err


def test_a_dynamic_residual_is_checked_too_and_says_which_sizes_it_takes(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, images = checkpoint.parent / "r.onnx", checkpoint.parent / "images"
    images.mkdir()
    assert cv2.imwrite(str(images / "odd.png"), sample_images(None, 1)[0][:90, :130, ::-1])
    assert main(["export", str(checkpoint), str(file), "--output", "residual", "--images", str(images)]) == OK
    assert shape_of(file) == ["batch", 3, "height", "width"]
    assert "height and width must be multiples of 4" in capsys.readouterr().out
    assert "height and width must be multiples of 4" in onnx.load(file).graph.doc_string


def test_a_file_of_other_weights_does_not_pass_the_check(tmp_path: Path) -> None:
    export_onnx(load_weights("mimo-unet-lite", "bilinear"), tmp_path / "other.onnx")
    images = [image[:64, :96] for image in sample_images(None, 1)]
    nearest = load_weights("mimo-unet-lite", "nearest")
    agreement = compare(tmp_path / "other.onnx", nearest, images, size=None, batch=None, output="image")
    assert agreement.difference > 1e-3
    with pytest.raises(SystemFailure, match="nothing was kept"):
        agreement.require(int8=False)


def test_what_counts_as_agreement() -> None:
    Agreement(1, 1e-5, 100.0).require(int8=False)
    Agreement(1, 0.05, 45.0).require(int8=True)
    with pytest.raises(SystemFailure):
        Agreement(1, 0.05, 30.0).require(int8=True)
    with pytest.raises(SystemFailure):
        Agreement(1, float(np.nextafter(1e-4, 1)), 90.0).require(int8=False)


def test_a_folder_for_vaccs_compiler_is_checked_too(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = checkpoint.parent / "card"
    images = str(Path(__file__).resolve().parents[2] / "samples" / "blurred")
    options = ["--for", "vacc", "--size", "96x128", "--interpolation", "bilinear", "--images", images]
    assert main(["export", str(checkpoint), str(target), *options]) == OK
    assert shape_of(target / "mimo.onnx") == [1, 3, 96, 128]
    assert {"fp16.yaml", "int8.yaml", "vdsp.json", "vacc.json", "README.md"} <= {file.name for file in target.iterdir()}
    text = capsys.readouterr().out
    assert "max |diff|" in text
    assert "int8: calibrated on 5 images, the zoo's is on 50" in text
    assert main(["export", str(checkpoint), str(target), *options]) == USAGE
    assert main(["export", str(checkpoint), *options[:2], "--precision", "int8"]) == USAGE
    text = capsys.readouterr().err
    assert "never replaces anything" in text
    assert "quantises by itself" in text
    assert {one.name for one in checkpoint.parent.iterdir()} == {checkpoint.name, "card"}
