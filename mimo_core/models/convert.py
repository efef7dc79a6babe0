"""What `mimo weights inspect` and `mimo weights convert` do: describe a weights file, and rewrite it."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimo_core.errors import UsageError
from mimo_core.models.architecture import count_parameters, gflops
from mimo_core.models.weight_files import METADATA_KEY, parse
from mimo_core.models.weights import (
    SCALES_KEY,
    ModelSpec,
    load_weights,
    read_weights,
    require_finite,
    save_weights,
    spec_of,
    write_whole,
)

OFFICIAL_OBJECTS = {"576346030a9862cdd0a7dfdfc44858880c3d8a76": "MIMO-UNet.pkl"}
"""Git object names (`git hash-object FILE`) of checkpoints that are taken for the official ones."""

_GFLOPS_AT = (360, 640)
# What a checkpoint in the official layout keeps of the metadata; the rest can be told from its tensors.
_KEPT = ("interpolation", SCALES_KEY, "trained_on")


@dataclass(frozen=True)
class Inspection:
    """What a weights file is and holds."""

    source: str
    bytes: int
    sha256: str
    git_object: str
    """What `git hash-object` prints for the file."""
    official: str | None
    """Name of the official file that this is taken for; None says nothing."""
    format: str
    nested_in: str | None
    prefixed: bool
    other_keys: tuple[str, ...]
    metadata: dict[str, str]
    spec: ModelSpec
    interpolation_from: str
    """`metadata`, or `assumed` where the file does not say and `nearest` is meant."""
    dtypes: tuple[str, ...]
    parameters: int
    gflops_360x640: float
    largest: float
    """Largest magnitude of all values: beyond 65504 the file cannot become float16."""


@dataclass(frozen=True)
class Conversion:
    """A file that was written: where, what, and its hash."""

    target: Path
    spec: ModelSpec
    scales: str
    sha256: str
    bytes: int
    largest_error: float
    """Largest difference between a value before and after, which rounding to float16 makes."""


def inspect_weights(name_or_path: str) -> Inspection:
    """Describe a weights file by shipped name, path or URL.

    Raises:
        WeightsError: as for `load_weights`.
    """
    data, source = read_weights(name_or_path)
    layout = parse(data, source)
    spec = spec_of(layout, source)
    require_finite(layout.tensors, source)
    git_object = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return Inspection(
        source=source,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        git_object=git_object,
        official=OFFICIAL_OBJECTS.get(git_object),
        format=layout.format,
        nested_in=layout.nested_in,
        prefixed=layout.prefixed,
        other_keys=layout.others,
        metadata=layout.metadata,
        spec=spec,
        interpolation_from="metadata" if "interpolation" in layout.metadata else "assumed",
        dtypes=layout.dtypes,
        parameters=count_parameters(spec.width, spec.num_res),
        gflops_360x640=gflops(spec.width, spec.num_res, *_GFLOPS_AT),
        largest=max(float(np.abs(values).max()) for values in layout.tensors.values()),
    )


def convert_weights(
    name_or_path: str, target: Path, *, interpolation: str | None = None, half: bool | None = None
) -> Conversion:
    """Rewrite weights as .safetensors, or as .pkl/.pth in the official layout (`model` holds the state dict).

    Args:
        name_or_path: what to convert: shipped name, path or URL.
        target: the file to write, by its extension; an existing one is refused.
        interpolation: what the metadata shall say; None keeps what the source says.
        half: float16 (True) or float32; None means float32 for .pkl/.pth, which others load strictly, and float16
            for .safetensors where that loses less than 1e-3 of the largest value, as it nearly always does.

    Raises:
        UsageError: the target exists, or its extension is unknown.
        WeightsError: as for `load_weights`.
    """
    suffix = target.suffix.lower()
    if suffix not in {".safetensors", ".pkl", ".pth"}:
        raise UsageError(f"{target}: the target must end in .safetensors, .pkl or .pth")
    if target.exists():
        raise UsageError(f"{target} exists; weights are never overwritten")
    weights = load_weights(name_or_path, interpolation)
    # What float16 cannot hold becomes infinite, and is refused below.
    with np.errstate(over="ignore", invalid="ignore"):
        errors = [float(np.abs(values.astype(np.float16) - values).max()) for values in weights.state.values()]
    largest = max(float(np.abs(values).max()) for values in weights.state.values())
    if half is None:
        half = suffix == ".safetensors" and max(errors) <= 1e-3 * largest
    if half and largest > float(np.finfo(np.float16).max):
        raise UsageError(f"{name_or_path} holds values up to {largest:.3g}, which float16 cannot; convert to float32")
    if suffix == ".safetensors":
        trained_on = weights.metadata.get("trained_on", "")
        save_weights(
            target,
            weights.spec,
            weights.state,
            trained_on=trained_on,
            source_sha256=weights.sha256,
            half=half,
            scales=weights.scales,
        )
    else:
        import torch

        dtype = torch.float16 if half else torch.float32
        buffer = io.BytesIO()
        # Other programs read `model` alone; without the rest, this one would assume another interpolation and scales.
        known = {**weights.metadata, "interpolation": weights.spec.interpolation, SCALES_KEY: weights.scales}
        kept = {name: value for name, value in known.items() if value and name in _KEPT}
        state = {name: torch.from_numpy(values).to(dtype) for name, values in weights.state.items()}
        torch.save({"model": state, METADATA_KEY: kept}, buffer)
        write_whole(target, buffer.getvalue())
    written = target.read_bytes()
    digest, error = hashlib.sha256(written).hexdigest(), max(errors) if half else 0.0
    return Conversion(target, weights.spec, weights.scales, digest, len(written), error)
