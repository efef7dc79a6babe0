"""The network's parameters and arithmetic by its width and depth: what needs no PyTorch."""

import math
from collections.abc import Iterator
from typing import Literal, get_args

from mimo_core.errors import UsageError

Interpolation = Literal["nearest", "bilinear"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)

MULTIPLE = 4
"""Heights and widths must be multiples of this: the encoder halves twice."""

# How many full-scale pixels one pixel stands for that a module computes: a transposed convolution costs by its input's.
_REDUCTION = {
    "Encoder.0": 1, "Encoder.1": 4, "Encoder.2": 16, "Decoder.0": 16, "Decoder.1": 4, "Decoder.2": 1,
    "feat_extract.0": 1, "feat_extract.1": 4, "feat_extract.2": 16, "feat_extract.3": 16, "feat_extract.4": 4,
    "feat_extract.5": 1, "Convs.0": 4, "Convs.1": 1, "ConvsOut.0": 16, "ConvsOut.1": 4,
    "AFFs.0": 1, "AFFs.1": 4, "FAM1": 16, "SCM1": 16, "FAM2": 4, "SCM2": 4,
}  # fmt: skip


def check_architecture(width: int, num_res: int, interpolation: str) -> None:
    """Refuse what no network can be.

    Raises:
        UsageError: a width that is no multiple of 4 from 8 on, no residual block, or an unknown interpolation.
    """
    if width < 8 or width % 4:
        raise UsageError(f"width must be a multiple of 4 and at least 8, not {width}")
    if num_res < 1:
        raise UsageError(f"num_res must be at least 1, not {num_res}")
    if interpolation not in INTERPOLATIONS:
        raise UsageError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, not {interpolation!r}")


def parameter_shapes(width: int, num_res: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by its name in official checkpoints.

    A convolution's weight is (outputs, inputs, rows, columns), a transposed one's (inputs, outputs, rows, columns).
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, inputs, outputs, kernel in _convolutions(width, num_res):
        transposed = name in ("feat_extract.3", "feat_extract.4")
        channels = (inputs, outputs) if transposed else (outputs, inputs)
        shapes[f"{name}.main.0.weight"] = (*channels, kernel, kernel)
        shapes[f"{name}.main.0.bias"] = (outputs,)
    return shapes


def count_parameters(width: int, num_res: int) -> int:
    """Return the number of values in all parameters."""
    return sum(math.prod(shape) for shape in parameter_shapes(width, num_res).values())


def gflops(width: int, num_res: int, rows: int, columns: int) -> float:
    """Return the arithmetic of one image in 10^9 operations: convolutions alone, 2 per multiply-add, all three outputs.

    Args:
        width: channels of the network at full scale.
        num_res: residual blocks of each stage.
        rows: height of the image, rounded up to a multiple of 4.
        columns: its width, likewise.
    """
    pixels = math.prod(MULTIPLE * math.ceil(side / MULTIPLE) for side in (rows, columns))
    total = 0.0
    for name, inputs, outputs, kernel in _convolutions(width, num_res):
        parts = name.split(".")
        reduction = _REDUCTION.get(".".join(parts[:2])) or _REDUCTION[parts[0]]
        total += 2.0 * inputs * outputs * kernel**2 * pixels / reduction
    return total / 1e9


def _convolutions(width: int, num_res: int) -> Iterator[tuple[str, int, int, int]]:
    """Yield (name, inputs, outputs, kernel) of every convolution."""
    w1, w2, w4 = width, 2 * width, 4 * width
    for group, stages in (("Encoder", (w1, w2, w4)), ("Decoder", (w4, w2, w1))):
        for stage, channels in enumerate(stages):
            for block in range(num_res):
                for half in (0, 1):
                    yield f"{group}.{stage}.layers.{block}.main.{half}", channels, channels, 3
    kernels = (3, 3, 3, 4, 4, 3)
    ends = (3, w1, w2, w4, w2, w1), (w1, w2, w4, w2, w1, 3)
    for index, (inputs, outputs, kernel) in enumerate(zip(*ends, kernels, strict=True)):
        yield f"feat_extract.{index}", inputs, outputs, kernel
    yield from (("Convs.0", w4, w2, 1), ("Convs.1", w2, w1, 1), ("ConvsOut.0", w4, 3, 3), ("ConvsOut.1", w2, 3, 3))
    for index, outputs in enumerate((w1, w2)):
        yield f"AFFs.{index}.conv.0", w1 + w2 + w4, outputs, 1
        yield f"AFFs.{index}.conv.1", outputs, outputs, 3
    for index, channels in ((1, w4), (2, w2)):
        yield f"FAM{index}.merge", channels, channels, 3
        yield f"SCM{index}.main.0", 3, channels // 4, 3
        yield f"SCM{index}.main.1", channels // 4, channels // 2, 1
        yield f"SCM{index}.main.2", channels // 2, channels // 2, 3
        yield f"SCM{index}.main.3", channels // 2, channels - 3, 1
        yield f"SCM{index}.conv", channels, channels, 1
