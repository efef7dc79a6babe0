"""Models that a vendor's compiler made for one input size: the folder that holds them, and what describes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, field_validator

from mimo_core.errors import ImageError, WeightsError
from mimo_core.images.scales import FULL, check_scales
from mimo_core.models.architecture import MULTIPLE
from mimo_core.models.weights import ModelSpec
from mimo_core.storage import Store

DESCRIPTION = "vacc.json"
CompiledPrecision = Literal["fp16", "int8"]
_ENDINGS = (".json", ".so", ".params")
# By IimageFormat and ColorCvtCode of the pre-processing operator: whether it takes BGR and swaps it.
_SWAPPED: dict[tuple[Any, Any], bool] = {("RGB_PLANAR", "NO_CHANGE"): False, ("BGR888", "BGR2RGB"): True}


class Description(BaseModel):
    """What `vacc.json` says of the compiled models beside it.

    Attributes:
        model, width, num_res, interpolation, weights, weights_sha256: the network and the weights that were exported.
        scales: the scales that the weights are made for.
        size: (height, width) of the only input, in pixels.
        output: what the model gives: the restored `image`, or the `residual` that the host adds to it.
        vdsp: file of the pre-processing operator.
        compiled: by precision, the path without ending of the files that `vamc` writes; both names are relative.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    model: str
    width: int
    num_res: int
    interpolation: Literal["nearest", "bilinear"]
    weights: str
    weights_sha256: str
    scales: Annotated[str, AfterValidator(check_scales)] = FULL
    size: tuple[int, int]
    output: Literal["image", "residual"]
    vdsp: str
    compiled: dict[CompiledPrecision, str]

    @field_validator("size")
    @classmethod
    def _fits_the_network(cls, size: tuple[int, int]) -> tuple[int, int]:
        if min(size) < 1 or any(side % MULTIPLE for side in size):
            raise ValueError(f"height and width are multiples of {MULTIPLE}, not {size[0]}x{size[1]}")
        return size


@dataclass(frozen=True)
class CompiledModel:
    """One compiled model, its files included, so that workers on other nodes need not see the folder.

    Attributes:
        spec: the network that was compiled.
        sha256: of the weights that were exported, as the description says.
        source: the folder.
        precision: what it computes in.
        size: (height, width) of the only input, in pixels.
        output: what it gives.
        vdsp: the pre-processing operator, as the runtime reads it (JSON).
        files: what the compiler wrote, by ending.
        scales: the scales that the weights are made for.
    """

    spec: ModelSpec
    sha256: str
    source: str
    precision: CompiledPrecision
    size: tuple[int, int]
    output: Literal["image", "residual"]
    vdsp: bytes = field(repr=False)
    files: dict[str, bytes] = field(repr=False)
    scales: str = FULL

    @property
    def compiled_sha256(self) -> str:
        """SHA-256 (hexadecimal) of everything here that can change a byte of an output."""
        digest = hashlib.sha256(f"{self.size} {self.output} {self.precision}".encode())
        for data in (self.vdsp, *(self.files[ending] for ending in _ENDINGS)):
            digest.update(hashlib.sha256(data).digest())
        return digest.hexdigest()

    @property
    def interleaved_bgr(self) -> bool:
        """Whether the operator wants BGR888 (HWC) and swaps it; else it wants RGB_PLANAR (CHW) and swaps nothing.

        Raises:
            WeightsError: it wants something else, or would resize, or scale otherwise than by 1/255: the card would
                do so without an error.
        """
        return _interleaved_bgr(self.vdsp, self.size, self.source)


def is_compiled(name: str) -> bool:
    """Return whether the name is a local folder of compiled models; one elsewhere is not asked."""
    return (Path(name) / DESCRIPTION).is_file()


def load_compiled(folder: str, precision: str) -> CompiledModel:
    """Load a compiled model from the folder that `mimo export --for vacc` wrote and `vamc` compiled in.

    Args:
        folder: path or URL.
        precision: `fp16`, `int8`, or `auto` for the first of these that is compiled.

    Raises:
        WeightsError: the folder, a file of it or the precision is not there, or not what it should be.
    """
    store = Store(folder)
    try:
        description = Description.model_validate_json(store.read(DESCRIPTION))
    except ImageError as error:
        raise WeightsError(
            f"{store} holds no {DESCRIPTION} ({error}): the vacc engine takes the folder that `mimo export WEIGHTS "
            "FOLDER --for vacc` writes, once `vamc` has compiled in it"
        ) from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise WeightsError(f"{store.show(DESCRIPTION)}: {problems}") from error
    described = description.compiled
    candidates = [name for name in get_args(CompiledPrecision) if name in described and precision in ("auto", name)]
    if not candidates:
        raise WeightsError(
            f"--precision {precision}: {store} describes {' and '.join(described) or 'nothing'}; leave --precision out"
        )
    there = (name for name in candidates if store.exists(f"{described[name]}.json"))
    name = next(there, candidates[0])
    return _load(store, description, name, described[name])


def _load(store: Store, description: Description, precision: CompiledPrecision, prefix: str) -> CompiledModel:
    try:
        compiled = CompiledModel(
            spec=ModelSpec(description.width, description.num_res, description.interpolation),
            sha256=description.weights_sha256,
            source=str(store),
            precision=precision,
            size=description.size,
            output=description.output,
            vdsp=store.read(description.vdsp),
            files={ending: store.read(prefix + ending) for ending in _ENDINGS},
            scales=description.scales,
        )
    except ImageError as error:
        raise WeightsError(f"{error}: run `vamc compile {precision}.yaml` in {store} first") from error
    # Refuses an operator that does not fit before any work begins.
    _ = compiled.interleaved_bgr
    return compiled


def vdsp_operator(size: tuple[int, int]) -> dict[str, Any]:
    """Return the pre-processing operator for a model of this (height, width): RGB planes in, 1/255, no resizing.

    At 360x640 it is the zoo's own for this model, field by field (Vastai/VastModelZOO@84bf3fb,
    deblurring_denoising/mimo_unet/vacc_code/vdsp_params); that other sizes change its sizes alone is inferred.
    """
    height, width = size
    return {
        "OpType": "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR",
        "OpConfig": {
            "IimageFormat": "RGB_PLANAR",
            "IimageWidth": width,
            "IimageHeight": height,
            "OimageWidth": width,
            "OimageHeight": height,
            "IimageWidthPitch": width,
            "IimageHeightPitch": height,
            "Mean": [0.0, 0.0, 0.0],
            "Std": [1.0, 1.0, 1.0],
            "NormaType": "DIV255",
            "ColorCvtCode": "NO_CHANGE",
            "ResizeType": "BILINEAR_CV",
        },
    }


def _interleaved_bgr(vdsp: bytes, size: tuple[int, int], source: str) -> bool:
    try:
        document = json.loads(vdsp)
        # Inferred: whether the file may hold a list of operators is not documented, one is enough here.
        operator = document[0] if isinstance(document, list) and len(document) == 1 else document
        fields: dict[str, Any] = dict(operator["OpConfig"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise WeightsError(f"{source}: the VDSP file is not one operator in JSON ({error})") from error
    order = fields.get("IimageFormat"), fields.get("ColorCvtCode")
    if order not in _SWAPPED:
        raise WeightsError(
            f"{source}: the VDSP operator takes IimageFormat {order[0]} with ColorCvtCode {order[1]}; use RGB_PLANAR "
            "with NO_CHANGE, or BGR888 with BGR2RGB"
        )
    for name, value in vdsp_operator(size)["OpConfig"].items():
        if name not in ("IimageFormat", "ColorCvtCode") and fields.get(name) != value:
            raise WeightsError(f"{source}: the VDSP operator has {name} {fields.get(name)}, this model needs {value}")
    return _SWAPPED[order]
