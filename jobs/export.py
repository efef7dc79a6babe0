"""`mimo export WEIGHTS [TARGET]`: the network as an ONNX file for other runtimes and compilers."""

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from jobs.arguments import parse
from jobs.display import size as size_of_file
from jobs.main import OK, entry
from mimo_core.config import parse_size
from mimo_core.errors import UsageError

_CHECKED_IMAGES = 4


def _size(text: str) -> str:
    if text != "dynamic":
        parse_size(text)
    return text


def _batch(text: str) -> str:
    if text != "dynamic" and not re.fullmatch("[1-9][0-9]*", text):
        raise ValueError(f"expected dynamic or a number of images of at least 1, found {text!r}")
    return text


class ExportConfig(BaseModel):
    """Write the network as an ONNX file that gives its last output, once it is seen to give the right images."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    POSITIONAL: ClassVar[tuple[str, ...]] = ("target",)

    weights: str = Field(description="shipped name, file or URL")
    target: str | None = Field(None, description="file to write (default: beside the weights, by a name of its own)")
    opset: int = Field(21, description="version of ONNX's operators; 11 for VACC's compiler")
    interpolation: Literal["auto", "nearest", "bilinear"] = Field(
        "auto", description="inner resampling; auto takes it from the weights' metadata, nearest without one"
    )
    size: Annotated[str, AfterValidator(_size)] = Field("dynamic", description="dynamic, or HxW in pixels")
    batch: Annotated[str, AfterValidator(_batch)] = Field("dynamic", description="dynamic, or a number of images")
    output: Literal["image", "residual"] = Field("image", description="what the file gives; image = input + residual")
    precision: Literal["fp32", "int8"] = Field("fp32", description="int8 for weights that `mimo quantize` made")
    images: str | None = Field(None, description="real images to check it with (default: the project's samples)")


def main(argv: Sequence[str]) -> int:
    """Export one network; see `jobs.main.run` for the exit codes."""
    config = parse(ExportConfig, argv, "mimo export")
    from mimo_core.export.check import compare
    from mimo_core.export.onnx_graph import export_onnx
    from mimo_core.samples import sample_images
    from mimo_core.weights import load_weights

    weights = load_weights(config.weights, None if config.interpolation == "auto" else config.interpolation)
    target = _target(config, weights.spec.variant, weights.spec.interpolation)
    if target.exists():
        raise UsageError(f"{target} exists, and an export never replaces a file: name another TARGET")
    size = None if config.size == "dynamic" else parse_size(config.size)
    batch = None if config.batch == "dynamic" else int(config.batch)
    int8 = config.precision == "int8"
    images = sample_images(config.images, _CHECKED_IMAGES)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as folder:
        file = Path(folder) / target.name
        export_onnx(weights, file, opset=config.opset, size=size, batch=batch, output=config.output, int8=int8)
        agreement = compare(file, weights, images, size=size, batch=batch, output=config.output)
        agreement.require(int8=int8)
        try:
            # Unlike a rename, a link replaces nothing that has come there meanwhile.
            os.link(file, target)
        except FileExistsError:
            raise UsageError(f"{target} exists, and an export never replaces a file: name another TARGET") from None
    shape = f"{config.batch}x3x{config.size if size is not None else 'dynamic'}"
    print(f"{target}: {weights.spec.variant} ({weights.spec.interpolation}), {config.precision}, opset {config.opset}")
    print(f"  input {shape}, output {config.output}, {size_of_file(target.stat().st_size)}")
    print(
        f"  against the torch session on {agreement.images} images: max |diff| {agreement.difference:.2g} of 0..1, "
        f"{agreement.psnr:.1f} dB at worst"
    )
    return OK


def _target(config: ExportConfig, variant: str, interpolation: str) -> Path:
    """Return the file to write: as asked for, else beside a weights file, else here, with what it is in its name."""
    if config.target is not None:
        if not config.target.endswith(".onnx"):
            raise UsageError(f"{config.target}: the target must end in .onnx")
        return Path(config.target)
    source = Path(config.weights).expanduser()
    folder, stem = (source.parent, source.stem) if source.is_file() else (Path(), variant)
    parts = [stem, interpolation, config.size, f"batch{config.batch}" if config.batch != "dynamic" else ""]
    parts += [config.precision if config.precision != "fp32" else "", config.output if config.output != "image" else ""]
    return folder / ("-".join([part for part in parts if part] + [f"opset{config.opset}"]) + ".onnx")


if __name__ == "__main__":
    entry("export", sys.argv[1:])
