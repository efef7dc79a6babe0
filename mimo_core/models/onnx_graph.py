"""MIMO-UNet as an ONNX graph, built from the weights: any opset from 11 on, exact names, no tracing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mimo_core.errors import UsageError
from mimo_core.models.architecture import MULTIPLE
from mimo_core.models.int8 import Quantisation, Steps, activation_steps, weight_steps
from mimo_core.models.weights import Weights, write_whole

Output = Literal["image", "residual"]

COMPILER_OPSET = 11
"""The opset that VACC's compiler reads, and the oldest whose `Resize` means what the network does."""
INT8_OPSET = 13
"""The oldest in which integers have a scale for each channel."""
CURRENT_OPSET = 21
"""For runtimes of today; newer ones change nothing in the operators used here."""
INPUT, OUTPUT = "input", "output"
SIDES = f"height and width must be multiples of {MULTIPLE}: pad the image at the bottom and the right, crop the output"
"""What a graph of free sizes says in its `doc_string`: halves and doubles only meet again for such sides."""


def export_onnx(
    weights: Weights,
    path: Path,
    *,
    opset: int = CURRENT_OPSET,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    output: Output = "image",
    int8: bool = False,
) -> None:
    """Write the network as an ONNX file, whole or not at all; an existing file is replaced.

    The graph takes `input`, float32 RGB (batch, 3, height, width) in 0..1, and gives `output` of the same shape: the
    restored image at full scale, not clipped. Interpolation and variant are those of the weights.

    Args:
        weights: what to export.
        path: the file to write.
        opset: version of ONNX's operators, 11 or later.
        size: (height, width) in pixels, multiples of 4; None leaves both dynamic, but multiples of 4 all the same.
        batch: number of images; None leaves it dynamic.
        output: `image`, or `residual`, what the network adds to its input, for who adds that at a higher precision.
        int8: convolutions in integers, as pairs of QuantizeLinear and DequantizeLinear, for weights that hold ranges.

    Raises:
        UsageError: an opset, size or batch that cannot be, or int8 of weights that hold no ranges.
    """
    model = build_onnx(weights, opset=opset, size=size, batch=batch, output=output, int8=int8)
    write_whole(path, model.SerializeToString())


def build_onnx(
    weights: Weights,
    *,
    opset: int = CURRENT_OPSET,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    output: Output = "image",
    int8: bool = False,
) -> onnx.ModelProto:
    """Build and check what `export_onnx` writes; same arguments and errors."""
    newest = onnx.defs.onnx_opset_version()
    if not COMPILER_OPSET <= opset <= newest:
        raise UsageError(f"opset {opset}: expected {COMPILER_OPSET} to {newest}")
    if size is not None and any(side < MULTIPLE or side % MULTIPLE for side in size):
        raise UsageError(f"size {size[0]}x{size[1]}: height and width must be multiples of {MULTIPLE} pixels")
    if batch is not None and batch < 1:
        raise UsageError(f"a batch holds at least one image, not {batch}")
    if output not in get_args(Output):
        raise UsageError(f"the output is one of {', '.join(get_args(Output))}, not {output!r}")
    quantisation = Quantisation.of(weights) if int8 else None
    if int8 and quantisation is None:
        raise UsageError(f"{weights.source} holds no ranges for int8: make a file that does with `mimo quantize`")
    if int8 and opset < INT8_OPSET:
        raise UsageError(f"opset {opset}: int8 with a scale for each channel needs {INT8_OPSET} or later")

    graph = _Graph(
        dict(weights.state),
        opset,
        weights.spec.interpolation,
        quantisation.ranges if quantisation is not None else {},
    )
    _network(graph, weights.spec.num_res, output)
    shape = [batch or "batch", 3, *(size or ("height", "width"))]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            weights.spec.variant,
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape)],
            list(graph.constants.values()),
            doc_string=SIDES if size is None else "",
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        producer_name="mimo-restore",
    )
    # Compilers of old opsets refuse files of newer formats than theirs.
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    helper.set_model_props(
        model,
        {
            "variant": weights.spec.variant,
            "interpolation": weights.spec.interpolation,
            "output": output,
            "precision": "int8" if int8 else "fp32",
            "weights_sha256": weights.sha256,
        },
    )
    # Dynamic sizes are told apart by name only, so that strict inference cannot see that two of them are equal.
    model = onnx.shape_inference.infer_shapes(model, strict_mode=size is not None)
    onnx.checker.check_model(model, full_check=size is not None)
    return model


@dataclass
class _Graph:
    """Nodes and constants so far. Every method adds one operation and returns the name of its result."""

    state: dict[str, np.ndarray[Any, Any]]
    opset: int
    interpolation: str
    ranges: dict[str, tuple[float, float]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: np.ndarray[Any, Any]) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def conv(self, x: str, name: str, *, stride: int = 1, relu: bool = True) -> str:
        weight = self.state[f"{name}.main.0.weight"]
        side = weight.shape[2]
        result = self.add(
            "Conv",
            self._operands(x, name, channels=0),
            f"{name}.conv" if relu else name,
            kernel_shape=[side, side],
            strides=[stride, stride],
            pads=[side // 2] * 4,
        )
        return self.add("Relu", [result], name) if relu else result

    def up(self, x: str, name: str) -> str:
        result = self.add(
            "ConvTranspose",
            self._operands(x, name, channels=1),
            f"{name}.conv",
            kernel_shape=[4, 4],
            strides=[2, 2],
            pads=[1] * 4,
        )
        return self.add("Relu", [result], name)

    def concat(self, inputs: list[str], name: str) -> str:
        return self.add("Concat", inputs, name, axis=1)

    def half(self, x: str, name: str) -> str:
        return self._resize(x, name, "half", 0.5)

    def double(self, x: str, name: str) -> str:
        return self._resize(x, name, "double", 2.0)

    def _resize(self, x: str, name: str, what: str, factor: float) -> str:
        scales = self.constant(f"scales.{what}", np.array([1, 1, factor, factor], np.float32))
        # Opset 11 demands the region that only cropping reads.
        region = "" if self.opset >= 13 else self.constant("no_region", np.zeros(0, np.float32))
        if self.interpolation == "nearest":
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        else:
            how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return self.add("Resize", [x, region, scales], name, **how)

    def _operands(self, x: str, name: str, *, channels: int) -> list[str]:
        """Input, weights (whose output channels are on that axis) and bias; the first two through int8 if it has one.

        The bias stays in float32: engines fold it into their integer sums by themselves.
        """
        key = f"{name}.main.0.weight"
        weight, bias = self.state[key], self.constant(f"{name}.main.0.bias", self.state[f"{name}.main.0.bias"])
        if name not in self.ranges:
            return [x, self.constant(key, weight), bias]
        # OpenVINO computes transposed convolutions in integers only where 0 is 0.
        steps = activation_steps(*self.ranges[name], symmetric=channels == 1)
        scale, zero = self._map(f"{name}.range", steps)
        integers = self.add("QuantizeLinear", [x, scale, zero], f"{name}.int8")
        x = self.add("DequantizeLinear", [integers, scale, zero], f"{name}.rounded")
        values, steps = weight_steps(weight, channels)
        inputs = [self.constant(key, values), *self._map(key, steps)]
        return [x, self.add("DequantizeLinear", inputs, f"{key}.float", axis=channels), bias]

    def _map(self, name: str, steps: Steps) -> list[str]:
        return [self.constant(f"{name}.scale", steps.scale), self.constant(f"{name}.zero", steps.zero)]


def _network(graph: _Graph, blocks: int, output: Output) -> None:
    """Add the whole network, as `MimoUNet.residual` computes it, and the input where the image is wanted."""
    x2 = graph.half(INPUT, "x2")
    x4 = graph.half(x2, "x4")
    res1 = _stage(graph, graph.conv(INPUT, "feat_extract.0"), "Encoder.0", blocks)
    below = graph.conv(res1, "feat_extract.1", stride=2)
    res2 = _stage(graph, _attention(graph, below, _shallow(graph, x2, "SCM2"), "FAM2"), "Encoder.1", blocks)
    below = graph.conv(res2, "feat_extract.2", stride=2)
    z = _stage(graph, _attention(graph, below, _shallow(graph, x4, "SCM1"), "FAM1"), "Encoder.2", blocks)

    z_half = graph.double(z, "z.double")
    fused2 = _fusion(graph, [graph.half(res1, "res1.half"), res2, z_half], "AFFs.1")
    fused1 = _fusion(graph, [res1, graph.double(res2, "res2.double"), graph.double(z_half, "z.quadruple")], "AFFs.0")

    low = _stage(graph, z, "Decoder.0", blocks)
    joined = graph.concat([graph.up(low, "feat_extract.3"), fused2], "Convs.0.input")
    middle = _stage(graph, graph.conv(joined, "Convs.0"), "Decoder.1", blocks)
    joined = graph.concat([graph.up(middle, "feat_extract.4"), fused1], "Convs.1.input")
    high = _stage(graph, graph.conv(joined, "Convs.1"), "Decoder.2", blocks)

    residual = graph.conv(high, "feat_extract.5", relu=False)
    if output == "image":
        graph.add("Add", [residual, INPUT], OUTPUT)
    else:
        graph.nodes[-1].output[0] = OUTPUT


def _stage(graph: _Graph, x: str, name: str, blocks: int) -> str:
    for index in range(blocks):
        block = f"{name}.layers.{index}"
        inner = graph.conv(graph.conv(x, f"{block}.main.0"), f"{block}.main.1", relu=False)
        x = graph.add("Add", [inner, x], block)
    return x


def _shallow(graph: _Graph, image: str, name: str) -> str:
    features = image
    for index in range(4):
        features = graph.conv(features, f"{name}.main.{index}")
    return graph.conv(graph.concat([image, features], f"{name}.input"), f"{name}.conv", relu=False)


def _attention(graph: _Graph, above: str, shallow: str, name: str) -> str:
    product = graph.add("Mul", [above, shallow], f"{name}.product")
    return graph.add("Add", [above, graph.conv(product, f"{name}.merge", relu=False)], name)


def _fusion(graph: _Graph, features: list[str], name: str) -> str:
    joined = graph.concat(features, f"{name}.input")
    return graph.conv(graph.conv(joined, f"{name}.conv.0"), f"{name}.conv.1", relu=False)
