"""MIMO-UNet once more, as plain function calls written from the paper and the checkpoint's names, for comparison."""

from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

# The processors are shared: threads that wait for each other are slower than none.
torch.set_num_threads(1)


def network(
    weights: Mapping[str, npt.NDArray[np.float32]], x: Tensor, interpolation: str = "nearest"
) -> tuple[Tensor, Tensor, Tensor]:
    """The outputs at 1/4, 1/2 and full scale of one NCHW batch, float32."""
    state = {name: torch.tensor(values) for name, values in weights.items()}

    def conv(name: str, y: Tensor, *, stride: int = 1, relu: bool = True) -> Tensor:
        weight = state[f"{name}.main.0.weight"]
        y = F.conv2d(y, weight, state[f"{name}.main.0.bias"], stride=stride, padding=weight.shape[2] // 2)
        return F.relu(y) if relu else y

    def up(name: str, y: Tensor) -> Tensor:
        weight, bias = state[f"{name}.main.0.weight"], state[f"{name}.main.0.bias"]
        return F.relu(F.conv_transpose2d(y, weight, bias, stride=2, padding=1))

    def blocks(name: str, y: Tensor) -> Tensor:
        for index in range(sum(key.startswith(f"{name}.layers.") for key in state) // 4):
            block = f"{name}.layers.{index}.main"
            y = y + conv(f"{block}.1", conv(f"{block}.0", y), relu=False)
        return y

    def scale(y: Tensor, factor: float) -> Tensor:
        corners = {} if interpolation == "nearest" else {"align_corners": False}
        return F.interpolate(y, scale_factor=factor, mode=interpolation, **corners)

    def scm(name: str, y: Tensor) -> Tensor:
        z = y
        for index in range(4):
            z = conv(f"{name}.main.{index}", z)
        return conv(f"{name}.conv", torch.cat([y, z], 1), relu=False)

    def aff(name: str, *features: Tensor) -> Tensor:
        return conv(f"{name}.conv.1", conv(f"{name}.conv.0", torch.cat(features, 1)), relu=False)

    x2 = scale(x, 0.5)
    x4 = scale(x2, 0.5)
    res1 = blocks("Encoder.0", conv("feat_extract.0", x))
    z = conv("feat_extract.1", res1, stride=2)
    res2 = blocks("Encoder.1", z + conv("FAM2.merge", z * scm("SCM2", x2), relu=False))
    z = conv("feat_extract.2", res2, stride=2)
    z = blocks("Encoder.2", z + conv("FAM1.merge", z * scm("SCM1", x4), relu=False))
    z12 = scale(z, 2)
    fused2 = aff("AFFs.1", scale(res1, 0.5), res2, z12)
    fused1 = aff("AFFs.0", res1, scale(res2, 2), scale(z12, 2))
    z = blocks("Decoder.0", z)
    quarter = conv("ConvsOut.0", z, relu=False) + x4
    z = blocks("Decoder.1", conv("Convs.0", torch.cat([up("feat_extract.3", z), fused2], 1)))
    half = conv("ConvsOut.1", z, relu=False) + x2
    z = blocks("Decoder.2", conv("Convs.1", torch.cat([up("feat_extract.4", z), fused1], 1)))
    return quarter, half, conv("feat_extract.5", z, relu=False) + x


def restore(
    weights: Mapping[str, npt.NDArray[np.float32]], rgb: npt.NDArray[np.uint8], interpolation: str = "nearest"
) -> npt.NDArray:
    """The zoo's path for one RGB image, height and width multiples of 4: pre-process, network, post-process."""
    image = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), cv2.COLOR_BGR2RGB)
    x = np.expand_dims(np.ascontiguousarray(np.transpose(image, (2, 0, 1))).astype("float32") / 255.0, 0)
    with torch.inference_mode():
        output = network(weights, torch.from_numpy(x), interpolation)[2].numpy()
    output = np.clip(np.squeeze(output), 0, 1)
    output += 0.5 / 255
    return np.transpose(np.clip(output * 255, 0, 255), (1, 2, 0)).astype(np.uint8)
