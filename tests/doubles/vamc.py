"""A double of the compiler: an exported folder's YAML and ONNX file become what the runtime's double loads."""

import json
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import numpy_helper

KEYS = {"name", "frontend", "backend", "workspace"}


def compile_model(configuration: Path) -> Path:
    """Do what `vamc compile FILE.yaml` does in the file's folder; return the prefix of what was written."""
    folder = configuration.parent
    asked = yaml.safe_load(configuration.read_text())
    dtype = asked["backend"]["dtype"]
    assert set(asked) == KEYS | ({"dataset"} if dtype == "int8" else set())
    assert asked["frontend"]["type"] == "onnx"
    assert asked["frontend"]["dtype"] == "fp32"
    assert asked["backend"]["type"] == "tvm_vacc"
    # The zoo's values for this model; that the compiler wants the second here, too, is inferred.
    assert asked["backend"]["compile"] == {"data_transport_mode": 1, "force_tiny_oc_1x1_to_3x3": True}
    if dtype == "int8":
        _check_calibration(asked, folder)
    else:
        assert "quantize" not in asked["backend"]
    model = onnx.load(str(folder / asked["frontend"]["checkpoint"]))
    onnx.checker.check_model(model, full_check=True)
    assert [one.version for one in model.opset_import] == [11]
    assert [one.name for one in model.graph.output] == ["output"]
    (input_name,) = [one.name for one in model.graph.input]
    shape = [one.dim_value for one in model.graph.input[0].type.tensor_type.shape.dim]
    assert asked["frontend"]["shape"] == {input_name: shape}
    parameters = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    modes = {
        attribute.s.decode()
        for node in model.graph.node
        if node.op_type == "Resize"
        for attribute in node.attribute
        if attribute.name == "mode"
    }
    assert modes == {"linear"}, "nearest meets a limit of the compiler's"
    last = next(node for node in model.graph.node if "output" in node.output)
    about = {
        "input_shape": shape,
        "dtype": dtype,
        "blocks": sum(name.startswith("Encoder.0.") for name in parameters) // 4,
        "interpolation": "bilinear",
        "residual": input_name not in last.input,
    }
    prefix = folder / asked["workspace"]["path"] / asked["name"] / "mod"
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name("mod.json").write_text(json.dumps(about))
    prefix.with_name("mod.so").write_bytes(b"machine code")
    with prefix.with_name("mod.params").open("wb") as file:
        np.savez(file, **{name: values for name, values in parameters.items() if ".main." in name})
    return prefix


def _check_calibration(asked: dict, folder: Path) -> None:
    assert asked["backend"]["quantize"] == {"calibrate_mode": "percentile", "quantize_per_channel": True}
    dataset = asked["dataset"]
    assert dataset["type"] == "tvm"
    images = list((folder / dataset["path"]).glob(f"*.{dataset['sampler']['suffix']}"))
    assert len(images) >= dataset["sampler"]["get_data_num"] > 0
    assert [one["type"] for one in dataset["process_ops"]] == ["DecodeImage", "Resize", "Normalize", "ToTensor"]
