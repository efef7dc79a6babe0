"""`mimo export WEIGHTS [TARGET]`: the network as an ONNX file, or as a folder for VACC's compiler."""

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import OK
from mimo_core.cli.streams import show
from mimo_core.errors import UsageError
from mimo_core.runs.config import parse_size
from mimo_core.wording import count
from mimo_core.wording import size as size_of_file

if TYPE_CHECKING:
    from mimo_core.models.weights import ModelSpec, Weights

Output = Literal["image", "residual"]

_CHECKED_IMAGES = 4
# What the model zoo's figures are for.
_VACC_SIZE = "360x640"


def _size(text: str) -> str:
    if text != "dynamic":
        parse_size(text)
    return text


def _batch(text: str) -> str:
    if text != "dynamic" and not re.fullmatch("[1-9][0-9]*", text):
        raise ValueError(f"expected dynamic or a number of images of at least 1, found {text!r}")
    return text


class ExportConfig(BaseModel):
    """Write the network as an ONNX file that gives its last output, once it is seen to give the right images.

    With `--for vacc` TARGET is a folder, with all that VACC's compiler and the vacc engine need.
    """

    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "mimo-unet-lite network.onnx --size 360x640",
        "mimo-unet-lite folder --for vacc",
    )

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    POSITIONAL: ClassVar[tuple[str, ...]] = ("target",)

    weights: str = Field(description="shipped name, file or URL")
    target: str | None = Field(None, description="file to write (default: beside the weights, by a name of its own)")
    for_: Literal["vacc"] | None = Field(None, description="write a folder for this compiler (opset 11, batch 1)")
    opset: int = Field(21, description="version of ONNX's operators; 11 is the oldest")
    interpolation: Literal["auto", "nearest", "bilinear"] = Field(
        "auto", description="inner resampling; auto takes it from the weights' metadata, nearest without one"
    )
    size: Annotated[str, AfterValidator(_size)] = Field(
        "dynamic", description="dynamic (multiples of 4), or HxW in pixels; for vacc dynamic means 360x640"
    )
    batch: Annotated[str, AfterValidator(_batch)] = Field("dynamic", description="dynamic, or a number of images")
    output: Output | None = Field(
        None, description="what the network gives; image = input + residual (default: image, for vacc residual)"
    )
    precision: Literal["fp32", "int8"] = Field("fp32", description="int8 for weights that `mimo quantize` made")
    images: str | None = Field(
        None, description="real images to check with (default: the project's samples), for vacc to calibrate with too"
    )


def main(argv: Sequence[str]) -> int:
    """Export one network; see `mimo_core.cli.main.run` for the exit codes."""
    config = parse(ExportConfig, argv, "mimo export")
    from mimo_core.models.weights import load_weights

    weights = load_weights(config.weights, None if config.interpolation == "auto" else config.interpolation)
    target = _target(config, weights.spec)
    if target.exists():
        raise UsageError(f"{target} exists, and an export never replaces anything: name another TARGET")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as folder:
        if config.for_ is not None:
            _export_folder(config, weights, Path(folder) / target.name, target)
        else:
            _export_file(config, weights, Path(folder) / target.name, target)
    return OK


def _export_file(config: ExportConfig, weights: "Weights", file: Path, target: Path) -> None:
    from mimo_core.models.onnx_graph import SIDES, export_onnx

    size = None if config.size == "dynamic" else parse_size(config.size)
    batch = None if config.batch == "dynamic" else int(config.batch)
    output, int8 = config.output or "image", config.precision == "int8"
    export_onnx(weights, file, opset=config.opset, size=size, batch=batch, output=output, int8=int8)
    checked = _check(config, file, weights, size, batch, output)
    try:
        # Unlike a rename, a link replaces nothing that has come there meanwhile.
        os.link(file, target)
    except FileExistsError:
        raise UsageError(f"{target} exists, and an export never replaces anything: name another TARGET") from None
    show(f"{target}: {weights.spec.variant} ({weights.spec.interpolation}), {config.precision}, opset {config.opset}")
    print(f"  batch {config.batch}, size {config.size}, output {output}, {size_of_file(target.stat().st_size)}")
    if size is None:
        print(f"  {SIDES}")
    print(f"  {checked}")


def _export_folder(config: ExportConfig, weights: "Weights", folder: Path, target: Path) -> None:
    from mimo_core.datasets.imagelist import list_images
    from mimo_core.engines.export.vacc_folder import CALIBRATION_IMAGES, ONNX_FILE, write_vacc_folder

    if config.precision != "fp32" or config.batch not in ("dynamic", "1"):
        raise UsageError("--for vacc: VACC's compiler quantises by itself, and takes one image at a time")
    size = parse_size(_VACC_SIZE if config.size == "dynamic" else config.size)
    output = config.output or "residual"
    sources = [entry.source for entry in list_images(config.images)] if config.images is not None else []
    write_vacc_folder(weights, folder, size=size, output=output, calibration_images=sources)
    checked = _check(config, folder / ONNX_FILE, weights, size, 1, output)
    folder.rename(target)
    show(f"{target}: {weights.spec.variant} for VACC's compiler, {size[0]}x{size[1]}, output {output}")
    print(f"  {checked}")
    if not sources:
        print("  for fp16 alone: int8 needs calibration images, --images SOURCE")
    elif len(sources) < CALIBRATION_IMAGES:
        print(f"  int8: calibrated on {count(len(sources), 'image')}, the zoo's is on {CALIBRATION_IMAGES}")


def _check(
    config: ExportConfig,
    file: Path,
    weights: "Weights",
    size: tuple[int, int] | None,
    batch: int | None,
    output: Output,
) -> str:
    """Compare the file with the torch session, and return in words how well they agree."""
    from mimo_core.datasets.samples import sample_images
    from mimo_core.engines.export.check import compare

    images = sample_images(config.images, _CHECKED_IMAGES)
    agreement = compare(file, weights, images, size=size, batch=batch, output=output)
    agreement.require(int8=config.precision == "int8")
    return (
        f"against the torch session on {count(agreement.images, 'image')}: max |diff| {agreement.difference:.2g} of "
        f"0..1, {agreement.psnr:.1f} dB at worst"
    )


def _target(config: ExportConfig, spec: "ModelSpec") -> Path:
    """Return what to write: as asked for, else beside a weights file, else here, with what it is in its name."""
    if config.target is not None:
        if config.for_ is None and not config.target.endswith(".onnx"):
            raise UsageError(f"{config.target}: the target must end in .onnx")
        return Path(config.target)
    source = Path(config.weights).expanduser()
    folder, stem = (source.parent, source.stem) if source.is_file() else (Path(), spec.variant)
    if config.for_ is not None:
        return folder / "-".join([stem, config.for_, _VACC_SIZE if config.size == "dynamic" else config.size])
    parts = [stem, spec.interpolation, config.size, f"batch{config.batch}" if config.batch != "dynamic" else ""]
    parts += [config.precision if config.precision != "fp32" else "", config.output or "", f"opset{config.opset}"]
    return folder / ("-".join(part for part in parts if part) + ".onnx")
