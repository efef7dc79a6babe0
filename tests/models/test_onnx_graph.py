"""ONNX files: ONNX's own checker takes them, and ONNX Runtime gives the image that the network gives."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch

from mimo_core.errors import UsageError
from mimo_core.models.network import build_network
from mimo_core.models.onnx_graph import export_onnx
from mimo_core.models.weights import Weights, golden_weights, load_weights

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "blurred"


def photograph(height: int, width: int) -> npt.NDArray[np.float32]:
    """The middle of a real blurred photograph, (1, 3, height, width) in 0..1."""
    pixels = cv2.imread(str(SAMPLES / "brushes.png"))
    assert pixels is not None
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    rgb = pixels[top : top + height, left : left + width, ::-1]
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def run(path: Path, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": images})[0]


def by_torch(weights: Weights, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        return build_network(weights)(torch.from_numpy(images))[2].numpy()


@pytest.mark.parametrize(
    ("name", "interpolation", "opset"),
    [
        ("mimo-unet-lite", "nearest", 11),
        ("mimo-unet-lite", "bilinear", 21),
        ("golden:mimo-unet", "nearest", 21),
        ("golden:mimo-unet", "bilinear", 11),
        ("golden:mimo-unet-plus", "bilinear", 11),
    ],
)
def test_an_exported_file_gives_the_networks_image(tmp_path: Path, name: str, interpolation: str, opset: int) -> None:
    weights = load_weights(name, interpolation)
    path = tmp_path / "model.onnx"
    export_onnx(weights, path, opset=opset)
    onnx.checker.check_model(str(path), full_check=True)
    images = photograph(48, 64)
    assert np.abs(run(path, images) - by_torch(weights, images)).max() <= 1e-4


def test_a_dynamic_file_takes_any_batch_and_size(tmp_path: Path) -> None:
    weights = load_weights("mimo-unet-lite")
    export_onnx(weights, tmp_path / "model.onnx")
    for images in (photograph(64, 64), np.repeat(photograph(100, 76), 3, axis=0)):
        assert np.abs(run(tmp_path / "model.onnx", images) - by_torch(weights, images)).max() <= 1e-4


def test_a_fixed_file_states_every_shape_and_reads_one_input(tmp_path: Path) -> None:
    export_onnx(load_weights("mimo-unet-lite", "bilinear"), tmp_path / "m.onnx", opset=11, size=(64, 96), batch=2)
    model = onnx.load(tmp_path / "m.onnx")
    (source,), (result,) = model.graph.input, model.graph.output
    assert (source.name, result.name) == ("input", "output")
    for value in (source, result, *model.graph.value_info):
        assert all(side.dim_value for side in value.type.tensor_type.shape.dim), value.name
    assert model.opset_import[0].version == 11
    assert model.ir_version == 6
    modes = {a.s for node in model.graph.node if node.op_type == "Resize" for a in node.attribute if a.name == "mode"}
    assert modes == {b"linear"}


def test_only_what_the_last_output_needs_is_in_the_file(tmp_path: Path) -> None:
    weights = golden_weights("mimo-unet")
    export_onnx(weights, tmp_path / "m.onnx")
    held = {constant.name for constant in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert set(weights.state) - held == {name for name in weights.state if name.startswith("ConvsOut.")}


def test_the_residual_plus_the_input_is_the_image(tmp_path: Path) -> None:
    weights = load_weights("mimo-unet-lite")
    export_onnx(weights, tmp_path / "residual.onnx", output="residual")
    images = photograph(64, 96)
    assert np.abs(run(tmp_path / "residual.onnx", images) + images - by_torch(weights, images)).max() <= 1e-5


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"opset": 10}, "opset 10"),
        ({"opset": 999}, "opset 999"),
        ({"size": (62, 64)}, "62x64"),
        ({"batch": 0}, "at least one image"),
        ({"output": "middle"}, "'middle'"),
    ],
)
def test_what_cannot_be_exported_is_refused_by_name(tmp_path: Path, arguments: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        export_onnx(load_weights("mimo-unet-lite"), tmp_path / "model.onnx", **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
