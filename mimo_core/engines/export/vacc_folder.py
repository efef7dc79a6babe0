"""A folder from which `vamc` compiles the network for VACC cards as it is, and which the vacc engine then takes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from mimo_core.engines.vacc.compiled import DESCRIPTION, CompiledPrecision, Description, vdsp_operator
from mimo_core.errors import UsageError
from mimo_core.images.codecs import decode, model_input
from mimo_core.images.pixels import as_8bit
from mimo_core.images.tiling import TileGrid
from mimo_core.models.architecture import MULTIPLE
from mimo_core.models.onnx_graph import COMPILER_OPSET, INPUT, Output, export_onnx
from mimo_core.models.weights import Weights
from mimo_core.storage import read_url, redact

ONNX_FILE = "mimo.onnx"
_VDSP, _CALIBRATION, _LIST = "vdsp.json", "calibration", "calibration.csv"
_WORKSPACE = "deploy_weights"
CALIBRATION_IMAGES = 50
"""As many as the zoo's own configuration for this model takes to calibrate int8."""
_CALIBRATION_TILES = CALIBRATION_IMAGES
# Where the zoo's files for this model are.
_ZOO = "Vastai/VastModelZOO@84bf3fb, deblurring_denoising/mimo_unet/vacc_code"
# From this size on the vendor's float16 model does not fit a die's memory, by its own account; the int8 one does.
_TOO_LARGE_FOR_FP16 = 720 * 1280


def write_vacc_folder(
    weights: Weights,
    folder: Path,
    *,
    size: tuple[int, int],
    calibration_images: Sequence[str] = (),
    output: Output = "residual",
) -> None:
    """Write ONNX file, compiler configurations, pre-processing operator, calibration images and a README.

    Args:
        weights: what to export; their interpolation must be bilinear.
        folder: a new or empty folder.
        size: (height, width) of the compiled model, in pixels.
        calibration_images: paths or URLs of images for int8; without any there is no configuration for int8.
        output: what the compiled model gives: the `residual`, which is added to the image in float32 outside, or the
            restored `image`, as the model zoo has it.

    Raises:
        UsageError: the folder holds something, the size cannot be, the weights' interpolation is not bilinear, or there
            is a single calibration image.
        ImageError: a calibration image cannot be read.
    """
    if weights.spec.interpolation != "bilinear":
        raise UsageError(
            "VACC's compiler meets a size limit with nearest interpolation: export with --interpolation bilinear"
        )
    if any(side < MULTIPLE or side % MULTIPLE for side in size):
        raise UsageError(f"size {size[0]}x{size[1]}: height and width must be multiples of {MULTIPLE} pixels")
    if len(calibration_images) == 1:
        raise UsageError(
            f"{redact(calibration_images[0])}: one image tells nothing of the ranges of others; int8 needs at least "
            f"two to calibrate on (the zoo takes {CALIBRATION_IMAGES}), or none for fp16 alone"
        )
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    export_onnx(weights, folder / ONNX_FILE, opset=COMPILER_OPSET, size=size, batch=1, output=output)
    (folder / _VDSP).write_text(json.dumps(vdsp_operator(size), indent=2) + "\n", encoding="utf-8")
    tiles = _write_calibration(folder, size, calibration_images)
    precisions: tuple[CompiledPrecision, ...] = ("fp16", "int8") if tiles else ("fp16",)
    names = {precision: f"{weights.spec.variant.replace('-', '_')}_{precision}" for precision in precisions}
    for precision, name in names.items():
        text = yaml.safe_dump(_configuration(name, precision, size, tiles), sort_keys=False)
        (folder / f"{precision}.yaml").write_text(_YAML_NOTE + text, encoding="utf-8")
    description = Description(
        model=weights.spec.variant,
        width=weights.spec.width,
        num_res=weights.spec.num_res,
        interpolation=weights.spec.interpolation,
        weights=weights.source,
        weights_sha256=weights.sha256,
        scales=weights.scales,
        size=size,
        output=output,
        vdsp=_VDSP,
        compiled={precision: f"{_WORKSPACE}/{name}/mod" for precision, name in names.items()},
    )
    (folder / "README.md").write_text(_readme(description, tiles), encoding="utf-8")
    # Last: a folder that has it is whole.
    (folder / DESCRIPTION).write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")


_YAML_NOTE = f"""\
# For `vamc compile`, run in this folder. Values are those of the zoo's own configuration for this model
# ({_ZOO}/build/config.yaml), which is
# in the layout of an older compiler (`vamc build`). Inferred: the places of its keys in this layout, which is that of
# the vendor's newer configurations, and the paths. Nothing here was ever run on a card.
"""
# As the zoo has it for this model under `engine.common`; its place here, beside the other, is inferred.
_COMPILE = {"data_transport_mode": 1, "force_tiny_oc_1x1_to_3x3": True}


def _configuration(
    name: str, precision: CompiledPrecision, size: tuple[int, int], calibration_tiles: int
) -> dict[str, Any]:
    """Return the document that `vamc compile` reads."""
    backend: dict[str, Any] = {"type": "tvm_vacc", "dtype": precision, "compile": dict(_COMPILE)}
    document: dict[str, Any] = {
        "name": name,
        "frontend": {"type": "onnx", "checkpoint": ONNX_FILE, "dtype": "fp32", "shape": {INPUT: [1, 3, *size]}},
        "backend": backend,
    }
    if precision == "int8":
        backend["quantize"] = {"calibrate_mode": "percentile", "quantize_per_channel": True}
        document["dataset"] = {
            "type": "tvm",
            "path": f"{_CALIBRATION}/",
            "sampler": {"suffix": "png", "get_data_num": calibration_tiles},
            "process_ops": [
                {"type": "DecodeImage"},
                {"type": "Resize", "size": list(size)},
                {"type": "Normalize", "norm_type": None},
                {"type": "ToTensor"},
            ],
        }
    document["workspace"] = {"path": f"{_WORKSPACE}/"}
    return document


def _write_calibration(folder: Path, size: tuple[int, int], images: Sequence[str]) -> int:
    """Write tiles of the images as the engine will cut them, so that nothing is resized; return their number."""
    if not images:
        return 0
    (folder / _CALIBRATION).mkdir()
    lines = io.StringIO()
    listing = csv.writer(lines, lineterminator="\n")
    listing.writerow(["file", "source", "top", "left"])
    number = 0
    for source, top, left, pixels in _tiles(size, images):
        name = f"{_CALIBRATION}/{number:04d}.png"
        data = cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, ::-1]))[1]
        (folder / name).write_bytes(data.tobytes())
        listing.writerow([name, redact(source), top, left])
        number += 1
    (folder / _LIST).write_text(lines.getvalue(), encoding="utf-8")
    return number


def _tiles(size: tuple[int, int], images: Sequence[str]) -> Iterator[tuple[str, int, int, npt.NDArray[np.uint8]]]:
    """Yield tiles (source, top, left, pixels) spread evenly over the images and within each, not more than needed."""
    chosen = _spread(images, _CALIBRATION_TILES)
    share = -(-_CALIBRATION_TILES // len(chosen))
    left = _CALIBRATION_TILES
    for source in chosen:
        image = as_8bit(model_input(decode(read_url(source)[0])))
        grid = TileGrid(image.shape[0], image.shape[1], size[0], size[1], 0, MULTIPLE)
        tiles = _spread(list(grid.tiles()), min(share, left))
        for tile, pixels in zip(tiles, grid.cut(image, tiles), strict=True):
            yield source, tile.y, tile.x, pixels
        left -= len(tiles)
        if not left:
            return


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many of the items, evenly spread."""
    number = min(most, len(items))
    return [items[(2 * index + 1) * len(items) // (2 * number)] for index in range(number)]


def _readme(description: Description, tiles: int) -> str:
    height, width = description.size
    gives = "what is added to the image" if description.output == "residual" else "the restored image"
    lines = [
        f"# {description.model} for VACC cards, {height}x{width}\n",
        f"Exported from {description.weights} (SHA-256 {description.weights_sha256}).\n",
        "```console",
        "$ vamc compile fp16.yaml",
        *(["$ vamc compile int8.yaml"] if tiles else []),
        "$ mimo restore SOURCE OUTPUT --engine vacc --weights .",
        "```\n",
        "Run them in this folder, `mimo` where the cards are. `--precision int8` takes that model; without it float16 "
        "is taken where it is compiled.\n",
        "| file | what |",
        "|---|---|",
        f"| `{ONNX_FILE}` | the network, opset {COMPILER_OPSET}, input `input` 1x3x{height}x{width} (RGB, 0..1), "
        f"output `output`: {gives} |",
        "| `fp16.yaml`" + (", `int8.yaml`" if tiles else "") + " | configurations of `vamc compile`; the result lies "
        f"in `{_WORKSPACE}/` |",
        f"| `{_VDSP}` | the card's pre-processing: RGB planes, divided by 255, as the zoo has it |",
        f"| `{DESCRIPTION}` | what the engine has to know of all this |",
    ]
    if tiles:
        lines.append(
            f"| `{_CALIBRATION}/`, `{_LIST}` | {tiles} images for the percentiles of int8, and their sources |"
        )
    lines += [
        "",
        f"The values are those of the zoo's own files for this model ({_ZOO}: `build/config.yaml` and "
        "`vdsp_params/official-mimo_unet-vdsp_params.json`). Inferred, not known: where its keys, "
        "`force_tiny_oc_1x1_to_3x3` above all, stand in the layout of `vamc compile`; the operator for other sizes "
        "than 360x640; and that paths are relative to where `vamc` runs. Nothing was ever run on a card.",
    ]
    if not tiles:
        lines.append("There are no calibration images, so there is no configuration for int8.")
    if height * width >= _TOO_LARGE_FOR_FP16:
        lines.append("By the vendor's account a float16 model of this size does not fit a die's memory; int8 does.")
    return "\n".join(lines) + "\n"
