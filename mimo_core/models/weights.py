"""Weights: loading them from a name, a file or a URL, checking them, building the network, saving."""

import difflib
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from mimo_core.errors import UsageError, WeightsError
from mimo_core.images.scales import FULL, check_scales
from mimo_core.models.architecture import (
    INTERPOLATIONS,
    Interpolation,
    check_architecture,
    parameter_shapes,
)
from mimo_core.models.shipped import ShippedWeights, shipped
from mimo_core.models.variants import VARIANTS, variant_name
from mimo_core.models.weight_files import Array, Layout, parse

__all__ = [
    "ModelSpec",
    "ShippedWeights",
    "Weights",
    "golden_weights",
    "load_weights",
    "read_weights",
    "save_weights",
    "shipped",
    "spec_of",
    "weights_by_rule",
]

Floats = npt.NDArray[np.float32]

SCALES_KEY = "scales"
"""The entry of a safetensors file's metadata that says what scales the weights are made for."""
_GOLDEN = "golden:"
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://|^[a-z0-9]+::")


@dataclass(frozen=True)
class ModelSpec:
    """Which MIMO-UNet: what must agree between a network and its weights.

    Raises:
        UsageError: no network has this width, depth or interpolation.
    """

    width: int
    num_res: int
    interpolation: Interpolation

    def __post_init__(self) -> None:
        check_architecture(self.width, self.num_res, self.interpolation)

    @property
    def variant(self) -> str:
        """The model's name: the paper's where it has one, else `mimo-unet-w<width>-r<blocks>`."""
        return variant_name(self.width, self.num_res)


@dataclass(frozen=True)
class Weights:
    """Checked weights: exactly the parameters of `spec`'s network, float32, finite."""

    spec: ModelSpec
    state: dict[str, Floats] = field(repr=False)
    sha256: str
    """Of the file's bytes; of names and values for `golden:` weights."""
    source: str
    """The name, path or URL that was asked for; a URL without credentials or query string."""
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def scales(self) -> str:
        """The scales that they are made for: full size alone where the metadata say nothing, as in official files.

        Raises:
            WeightsError: there are no such scales.
        """
        try:
            return check_scales(self.metadata.get(SCALES_KEY, FULL))
        except ValueError as error:
            raise WeightsError(f"{self.source}: its metadata {SCALES_KEY!r} cannot be read: {error}") from error


def load_weights(name_or_path: str, interpolation: str | None = None) -> Weights:
    """Load weights by the name of shipped ones, a local path, or any URL that fsspec opens.

    Args:
        name_or_path: `mimo-unet-lite` and the like (see `shipped`), a .safetensors, .pkl or .pth file, or a URL,
            which is kept in a local cache. `golden:mimo-unet` and `golden:mimo-unet-plus` are weights made by rule,
            for tests and diagnosis: they restore nothing.
        interpolation: `nearest` or `bilinear`; None takes the file's metadata, and `nearest` where it has none, as
            official files are meant.

    Raises:
        WeightsError: nothing is there, or it is not the weights of a MIMO-UNet.
        UsageError: an unknown interpolation.
    """
    if interpolation is not None and interpolation not in INTERPOLATIONS:
        raise UsageError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, not {interpolation!r}")
    if name_or_path.startswith(_GOLDEN):
        return golden_weights(name_or_path[len(_GOLDEN) :], interpolation)
    data, source = read_weights(name_or_path)
    layout = parse(data, source)
    spec = spec_of(layout, source, interpolation)
    return Weights(spec, _as_float32(layout.tensors, source), hashlib.sha256(data).hexdigest(), source, layout.metadata)


def read_weights(name_or_path: str) -> tuple[bytes, str]:
    """Return the bytes of a weights file by shipped name, path or URL, and what to call it in messages.

    Raises:
        WeightsError: there is no such file, or it cannot be read.
    """
    known = {entry.name: entry for entry in shipped()}
    if name_or_path in known:
        entry = known[name_or_path]
        if entry.path is None:
            raise WeightsError(
                f"{name_or_path} is not trained yet, so no weights of that name are shipped. Use official weights by "
                f"their path, or one of: {_trained_names(known)}"
            )
        return entry.path.read_bytes(), name_or_path
    if _URL.match(name_or_path) and not name_or_path.startswith("file://"):
        # Only here: what opens URLs takes long to import.
        from mimo_core.models.download import fetch_cached

        return fetch_cached(name_or_path)
    path = Path(name_or_path.removeprefix("file://")).expanduser()
    try:
        return path.read_bytes(), name_or_path
    except FileNotFoundError as error:
        raise WeightsError(_not_found(name_or_path, known)) from error
    except OSError as error:
        raise WeightsError(f"{name_or_path} cannot be read: {error.strerror}") from error


def spec_of(layout: Layout, source: str, interpolation: str | None = None) -> ModelSpec:
    """Return which network the tensors of a file belong to, told from their shapes.

    Args:
        layout: the file's content.
        source: what messages call it.
        interpolation: as for `load_weights`.

    Raises:
        WeightsError: not a MIMO-UNet's, or not completely; the message says what was found and expected.
    """
    first = layout.tensors.get("feat_extract.0.main.0.weight")
    blocks = [int(match[1]) for key in layout.tensors if (match := re.match(r"Encoder\.0\.layers\.(\d+)\.", key))]
    if first is None or first.ndim != 4 or not blocks:
        some = ", ".join(sorted(layout.tensors)[:4])
        raise WeightsError(
            f"{source} is not a MIMO-UNet: found {len(layout.tensors)} tensors named {some}, ...; expected names such "
            "as feat_extract.0.main.0.weight and Encoder.0.layers.0.main.0.main.0.weight"
        )
    chosen = interpolation or layout.metadata.get("interpolation", "nearest")
    try:
        spec = ModelSpec(int(first.shape[0]), max(blocks) + 1, cast("Interpolation", chosen))
    except UsageError as error:
        raise WeightsError(f"{source} is no MIMO-UNet that can be built: {error}") from error
    problems = _differences(layout.tensors, spec)
    if problems:
        listed = "; ".join(problems[:6]) + (f"; and {len(problems) - 6} more" if len(problems) > 6 else "")
        raise WeightsError(
            f"{source} does not fit {spec.variant} (width {spec.width}, {spec.num_res} residual blocks, told from its "
            f"tensors): {listed}"
        )
    return spec


def golden_weights(variant: str, interpolation: str | None = None) -> Weights:
    """Return weights made by rule, the same everywhere, without a file: for tests and diagnosis, not for restoring.

    With the names sorted, the i-th parameter is standard normal from a generator seeded with i, times 0.01 for a
    bias and times 0.5 / sqrt(fan-in) for a weight.

    Raises:
        WeightsError: a variant without such a rule.
    """
    if variant not in VARIANTS:
        raise WeightsError(f"golden weights exist for {', '.join(VARIANTS)}, not for {variant!r}")
    width, num_res = VARIANTS[variant]
    spec = ModelSpec(width, num_res, cast("Interpolation", interpolation or "nearest"))
    return weights_by_rule(spec, f"{_GOLDEN}{variant}")


def weights_by_rule(spec: ModelSpec, source: str) -> Weights:
    """Return weights of any network by the rule of `golden_weights`."""
    # Its generator is a part of the rule.
    import torch

    state: dict[str, Floats] = {}
    digest = hashlib.sha256()
    for index, (name, shape) in enumerate(sorted(parameter_shapes(spec.width, spec.num_res).items())):
        values = torch.randn(shape, generator=torch.Generator().manual_seed(index))
        fan_in = math.prod(shape[1:])
        state[name] = (values * (0.01 if name.endswith(".bias") else 0.5 / fan_in**0.5)).numpy()
        digest.update(name.encode() + state[name].tobytes())
    return Weights(spec, state, digest.hexdigest(), source, {"trained_on": "nothing"})


def save_weights(
    path: Path,
    spec: ModelSpec,
    state: Mapping[str, Floats],
    *,
    trained_on: str = "",
    source_sha256: str = "",
    half: bool = True,
    scales: str = FULL,
    more: Mapping[str, str] | None = None,
) -> str:
    """Write weights as safetensors with the metadata that loading needs, whole or not at all.

    Args:
        path: the file to write or replace.
        spec: which network they are for.
        state: parameters by name.
        trained_on: what they learned from, in a few words.
        source_sha256: SHA-256 of the file that they were converted from, if any.
        half: store float16 instead of float32.
        scales: the scales that they are made for.
        more: further metadata.

    Returns:
        The SHA-256 of the written bytes.
    """
    from safetensors.numpy import save

    dtype = np.float16 if half else np.float32
    tensors = {name: np.ascontiguousarray(state[name], dtype) for name in sorted(state)}
    metadata = {
        "variant": spec.variant,
        "width": str(spec.width),
        "num_res": str(spec.num_res),
        "interpolation": spec.interpolation,
        "trained_on": trained_on,
        "source_sha256": source_sha256,
        SCALES_KEY: scales,
        **(more or {}),
    }
    data = _canonical(save(tensors, metadata))
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Replace a local file at once: whatever happens, it holds the old bytes or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".weights-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's files are private, but weights are to be read by whoever may read the folder.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # noqa: PTH101 (the temporary file's name is a string)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _canonical(data: bytes) -> bytes:
    """Return the same safetensors file with its header's metadata in order: same weights, same bytes."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _differences(tensors: Mapping[str, Array], spec: ModelSpec) -> list[str]:
    expected = parameter_shapes(spec.width, spec.num_res)
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} was not expected" for name in tensors if name not in expected]
    problems += [
        f"{name} is {_shape(tensors[name].shape)}, expected {_shape(shape)}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    return problems


def _as_float32(tensors: Mapping[str, Array], source: str) -> dict[str, Floats]:
    state: dict[str, Floats] = {}
    for name, values in tensors.items():
        if values.dtype.kind != "f":
            raise WeightsError(f"{source}: {name} holds {values.dtype} values; expected floating-point ones")
        state[name] = np.array(values, np.float32, order="C")
    require_finite(state, source)
    return state


def require_finite(tensors: Mapping[str, Array], source: str) -> None:
    """Refuse weights that no network can be computed with (WeightsError)."""
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise WeightsError(f"{source}: {name} holds values that are not finite; the training that made it diverged")


def _not_found(name: str, known: Mapping[str, ShippedWeights]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]}?" if close else ""
    return (
        f"no weights named {name!r}: it is neither a file nor shipped.{hint} Shipped: {_trained_names(known)}; "
        "`mimo weights list` tells more."
    )


def _trained_names(known: Mapping[str, ShippedWeights]) -> str:
    return ", ".join(name for name, entry in known.items() if entry.trained) or "none"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape)
