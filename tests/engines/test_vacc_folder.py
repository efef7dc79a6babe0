"""The folder for VACC's compiler: complete, true to the contract's layout, and what the engine then runs."""

import csv
import json
import re
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import onnx
import pytest
import yaml
from fixtures_vacc import compiled_folder

from mimo_core.engines import SessionSpec, open_session
from mimo_core.engines.export.vacc_folder import write_vacc_folder
from mimo_core.engines.vacc.compiled import load_compiled
from mimo_core.errors import UsageError
from mimo_core.metrics.psnr_ssim import psnr
from mimo_core.models.weights import load_weights

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "blurred"
IMAGES = [str(path) for path in sorted(SAMPLES.iterdir())]
SIZE = (64, 96)


def test_the_folder_holds_what_the_compiler_reads(tmp_path: Path, colourful_weights: Path) -> None:
    weights = load_weights(str(colourful_weights))
    compiled_folder(weights, tmp_path / "x", SIZE, images=IMAGES, precisions=("fp16", "int8"))
    folder = tmp_path / "x"
    assert {path.name for path in folder.iterdir()} == {
        *("mimo.onnx", "fp16.yaml", "int8.yaml", "vdsp.json", "calibration", "calibration.csv", "vacc.json"),
        *("README.md", "deploy_weights"),
    }
    int8 = yaml.safe_load((folder / "int8.yaml").read_text())
    assert int8 == {
        "name": "mimo_unet_w8_r1_int8",
        "frontend": {
            "type": "onnx",
            "checkpoint": "mimo.onnx",
            "dtype": "fp32",
            "shape": {"input": [1, 3, 64, 96]},
        },
        "backend": {
            "type": "tvm_vacc",
            "dtype": "int8",
            "compile": {"data_transport_mode": 1, "force_tiny_oc_1x1_to_3x3": True},
            "quantize": {"calibrate_mode": "percentile", "quantize_per_channel": True},
        },
        "dataset": {
            "type": "tvm",
            "path": "calibration/",
            "sampler": {"suffix": "png", "get_data_num": 50},
            "process_ops": [
                {"type": "DecodeImage"},
                {"type": "Resize", "size": [64, 96]},
                {"type": "Normalize", "norm_type": None},
                {"type": "ToTensor"},
            ],
        },
        "workspace": {"path": "deploy_weights/"},
    }
    fp16 = yaml.safe_load((folder / "fp16.yaml").read_text())
    assert fp16["backend"] == {"type": "tvm_vacc", "dtype": "fp16", "compile": int8["backend"]["compile"]}
    assert "dataset" not in fp16
    model = onnx.load(str(folder / "mimo.onnx"))
    assert [one.version for one in model.opset_import] == [11]
    vdsp = json.loads((folder / "vdsp.json").read_text())
    assert vdsp["OpType"] == "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR"
    assert (vdsp["OpConfig"]["OimageHeight"], vdsp["OpConfig"]["OimageWidth"]) == SIZE
    text = (folder / "README.md").read_text() + (folder / "int8.yaml").read_text()
    assert "nferred" in text
    assert "Vastai/VastModelZOO@84bf3fb" in text
    assert "ever run on a card" in text
    for precision in ("fp16", "int8"):
        compiled = load_compiled(str(folder), precision)
        assert (compiled.precision, compiled.sha256, compiled.size) == (precision, weights.sha256, SIZE)


def test_calibration_images_are_cut_from_the_users_and_not_resized(tmp_path: Path, colourful_weights: Path) -> None:
    write_vacc_folder(load_weights(str(colourful_weights)), tmp_path, size=SIZE, calibration_images=IMAGES)
    rows = list(csv.DictReader((tmp_path / "calibration.csv").open(newline="")))
    assert len(rows) == 50
    assert {row["source"] for row in rows} == set(IMAGES)
    places = {(row["source"], row["top"], row["left"]) for row in rows}
    assert len(places) == 50
    for row in rows:
        tile = cv2.imread(str(tmp_path / row["file"]))
        top, left = int(row["top"]), int(row["left"])
        whole = cv2.imread(row["source"])[top : top + SIZE[0], left : left + SIZE[1]]
        assert np.array_equal(tile[: whole.shape[0], : whole.shape[1]], whole)


def test_the_operator_is_the_zoos_own_at_its_size(tmp_path: Path, colourful_weights: Path) -> None:
    """Its file at 360x640, field by field."""
    write_vacc_folder(load_weights(str(colourful_weights)), tmp_path, size=(360, 640))
    written = json.loads((tmp_path / "vdsp.json").read_text())
    sizes = {f"{side}image{axis}": pixels for side in "IO" for axis, pixels in (("Width", 640), ("Height", 360))}
    assert written == {
        "OpType": "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR",
        "OpConfig": {
            "IimageFormat": "RGB_PLANAR",
            **sizes,
            "IimageWidthPitch": 640,
            "IimageHeightPitch": 360,
            "Mean": [0, 0, 0],
            "Std": [1, 1, 1],
            "NormaType": "DIV255",
            "ColorCvtCode": "NO_CHANGE",
            "ResizeType": "BILINEAR_CV",
        },
    }


# Vastai/VastModelZOO@84bf3fb, deblurring_denoising/mimo_unet/vacc_code/build/config.yaml: each key and its value.
ZOO = {
    "model.name": "MIMO-UNet",
    "model.inputs.input": [1, 3, 360, 640],
    "model.checkpoint": "weights/MIMO-UNet360_640dynamicbilinear.onnx",
    "engine.type": "vacc",
    "engine.dtype": "int8",
    "engine.common.data_transport_mode": 1,
    "engine.common.force_tiny_oc_1x1_to_3x3": True,
    "engine.add_extra_ops_to_graph.type": None,
    "engine.calibration.calibrate_mode": "percentile",
    "engine.calibration.quantize_per_channel": True,
    "dataset.path": "GoPro/test/input",
    "dataset.sampler.suffix": None,
    "dataset.sampler.get_data_num": 50,
    "dataset.transform_ops[0].type": "DecodeImage",
    "dataset.transform_ops[1].type": "Resize",
    "dataset.transform_ops[1].size": [360, 640],
    "dataset.transform_ops[2].type": "Normalize",
    "dataset.transform_ops[2].norm_type": None,
    "dataset.transform_ops[3].type": "ToTensor",
    "workspace.work_dir": "./deploy_weights/",
    "workspace.enable_ir": True,
    "workspace.save_log": True,
}


def leaves(value: object, name: str = "") -> dict[str, object]:
    """The values of a document by their dotted names; lists of numbers are values."""
    if isinstance(value, dict):
        return {key: one for part, inner in value.items() for key, one in leaves(inner, f"{name}.{part}").items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {key: one for place, inner in enumerate(value) for key, one in leaves(inner, f"{name}[{place}]").items()}
    return {name.removeprefix("."): value}


def test_the_page_has_the_kit_beside_the_zoos_configuration_key_by_key(tmp_path: Path, colourful_weights: Path) -> None:
    write_vacc_folder(load_weights(str(colourful_weights)), tmp_path, size=(360, 640), calibration_images=IMAGES)
    ours = leaves(yaml.safe_load((tmp_path / "int8.yaml").read_text()))
    page = (Path(__file__).resolve().parents[2] / "docs" / "vacc.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in page.partition("| `vacc_code/build/config.yaml`")[2].partition("\n\n")[0].splitlines()[2:]
    ]
    theirs, found = dict[str, object](), dict[str, object]()
    for left, right, told in rows:
        there, here = (
            {
                name: yaml.safe_load(value)
                for name, value in re.findall(r"`([a-z_.]+[\w.\[\]]*): ([^`]+)`", cell)
                if name.count(".") or name == "name"
            }
            for cell in (left, right)
        )
        theirs |= there
        found |= here
        if told.startswith("the same"):
            assert list(there.values()) == list(here.values()) or "workspace" in left, left
    assert theirs == ZOO
    # The network, and how many tiles its images give, are the user's.
    tiles = len(list((tmp_path / "calibration").iterdir()))
    assert found == ours | {"name": "mimo_unet_int8", "dataset.sampler.get_data_num": 50}
    assert ours["dataset.sampler.get_data_num"] == tiles


def test_without_calibration_images_there_is_fp16_alone(tmp_path: Path, colourful_weights: Path) -> None:
    write_vacc_folder(load_weights(str(colourful_weights)), tmp_path, size=SIZE)
    assert not (tmp_path / "int8.yaml").exists()
    assert "no configuration for int8" in (tmp_path / "README.md").read_text()
    assert list(json.loads((tmp_path / "vacc.json").read_text())["compiled"]) == ["fp16"]


def test_a_size_that_does_not_fit_in_fp16_is_told(tmp_path: Path, colourful_weights: Path) -> None:
    write_vacc_folder(load_weights(str(colourful_weights)), tmp_path, size=(720, 1280))
    assert "does not fit a die's memory; int8 does" in (tmp_path / "README.md").read_text()


def test_what_cannot_be_exported_is_refused(tmp_path: Path, colourful_weights: Path) -> None:
    weights = load_weights(str(colourful_weights))
    with pytest.raises(UsageError, match="--interpolation bilinear"):
        write_vacc_folder(load_weights(str(colourful_weights), "nearest"), tmp_path / "x", size=SIZE)
    with pytest.raises(UsageError, match="at least two to calibrate on"):
        write_vacc_folder(weights, tmp_path / "x", size=SIZE, calibration_images=IMAGES[:1])
    with pytest.raises(UsageError, match="multiples of 4 pixels"):
        write_vacc_folder(weights, tmp_path / "x", size=(63, 96))
    assert not (tmp_path / "x").exists()
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty: choose another folder"):
        write_vacc_folder(weights, tmp_path, size=SIZE)


def test_shipped_weights_gain_on_the_double_what_they_gain_in_torch(tmp_path: Path, vaststreamx: ModuleType) -> None:
    weights = load_weights("mimo-unet-lite", "bilinear")
    compiled = load_compiled(compiled_folder(weights, tmp_path / "x", SIZE), "auto")
    blurred, sharp = (
        cv2.cvtColor(cv2.imread(str(SAMPLES.parent / kind / "brushes.png")), cv2.COLOR_BGR2RGB)[200:264, 300:396]
        for kind in ("blurred", "sharp")
    )
    session = open_session(SessionSpec("vacc", "vacc:0", "fp16", None, compiled=compiled))
    try:
        restored = session.restore(blurred[None].copy())[0]
    finally:
        session.close()
    by_torch = open_session(SessionSpec("torch", "cpu", "fp32", weights, threads=1)).restore(blurred[None].copy())[0]
    assert psnr(restored, by_torch) >= 50
    assert psnr(restored, sharp) == pytest.approx(psnr(by_torch, sharp), abs=0.02)
