"""Checkpoints in files small enough to carry: whole ones continue a training exactly, slim ones start it warm.

    OUTPUT/checkpoint/step-00004685/state.json                       step, time, configuration, the files' hashes
                                   /network-00001-of-00002.safetensors   weights, float32
                                   /average-00001-of-00002.safetensors   their moving average, float32
                                   /exact.pt                         optimiser and state of chance

Without `exact.pt`, which is as large as the rest, a training goes on with a fresh optimiser that warms up anew.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from mimo_core.errors import UsageError

FORMAT = 2
SHARD_BYTES = 14 << 20
"""Most bytes of tensors in one file of weights."""
_FOLDER, _STATE, _EXACT = "checkpoint", "state.json", "exact.pt"


@dataclass(frozen=True)
class Exact:
    """What only an exact continuation needs."""

    optimizer: dict[str, Any]
    random_state: Tensor


@dataclass(frozen=True)
class Checkpoint:
    """All that a training's future depends on. The data position is the step: sample i follows from seed and i.

    Attributes:
        step: optimiser steps so far.
        seconds: seconds of training so far.
        model: variant and interpolation.
        config: the configuration as JSON.
        network: weights by name, float32.
        average: their moving average.
        average_steps: steps that the average has seen.
        exact: None after a slim checkpoint.
    """

    step: int
    seconds: float
    model: dict[str, str]
    config: dict[str, Any]
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    average_steps: int
    exact: Exact | None


def save(checkpoint: Checkpoint, output: Path) -> None:
    """Write the checkpoint and remove the one before: whatever happens meanwhile, a whole one is there."""
    folder = output / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for left_behind in folder.glob(".step-*"):
        shutil.rmtree(left_behind)
    target = folder / f"step-{checkpoint.step:08d}"
    with tempfile.TemporaryDirectory(dir=folder, prefix=".step-") as temporary:
        new = Path(temporary) / target.name
        new.mkdir()
        files = {}
        for name, tensors in (("network", checkpoint.network), ("average", checkpoint.average)):
            for file, data in _shards(name, tensors):
                files[file] = _write(new / file, data)
        if checkpoint.exact is not None:
            with (new / _EXACT).open("wb") as exact:
                torch.save(asdict(checkpoint.exact), exact)
                exact.flush()
                os.fsync(exact.fileno())
        state = {
            "format": FORMAT,
            "step": checkpoint.step,
            "seconds": checkpoint.seconds,
            "model": checkpoint.model,
            "average_steps": checkpoint.average_steps,
            "files": files,
            "config": checkpoint.config,
        }
        _write(new / _STATE, json.dumps(state, indent=2).encode())
        before = _steps(folder)
        if target in before:
            # The same step once more, after a resume that trained nothing.
            return
        new.rename(target)
    for old in before:
        shutil.rmtree(old)


def exists(output: Path) -> bool:
    """Return whether a training has left a checkpoint in its folder."""
    return bool(_steps(output / _FOLDER))


def load(output: Path) -> Checkpoint:
    """Read the newest checkpoint onto the CPU.

    Raises:
        UsageError: a file of it is missing or damaged, or it is of another format.
    """
    folder = _steps(output / _FOLDER)[-1]
    try:
        state = json.loads((folder / _STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / _STATE} cannot be read: {error}") from error
    if state.pop("format", None) != FORMAT:
        raise UsageError(f"{folder} is not a checkpoint of format {FORMAT}; go on with the version that wrote it")
    tensors: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}}
    for name, digest in state.pop("files").items():
        try:
            data = (folder / name).read_bytes()
        except OSError as error:
            raise UsageError(f"the checkpoint {folder} is not whole: {name}: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise UsageError(f"the checkpoint {folder} is damaged: {name} is not what was written")
        tensors[name.split("-")[0]] |= safetensors.torch.load(data)
    exact = None
    if (folder / _EXACT).exists():
        exact = Exact(**torch.load(folder / _EXACT, map_location="cpu", weights_only=True))
    return Checkpoint(**state, network=tensors["network"], average=tensors["average"], exact=exact)


def _steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _shards(name: str, tensors: Mapping[str, Tensor]) -> list[tuple[str, bytes]]:
    """File names and contents, each with as many tensors, in the order of their names, as fit."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for key in sorted(tensors):
        tensor = tensors[key].detach().to("cpu", torch.float32).contiguous()
        if parts[-1] and size + tensor.nbytes > SHARD_BYTES:
            parts.append({})
            size = 0
        parts[-1][key] = tensor
        size += tensor.nbytes
    return [
        (f"{name}-{number:05d}-of-{len(parts):05d}.safetensors", safetensors.torch.save(part))
        for number, part in enumerate(parts, 1)
    ]


def _write(path: Path, data: bytes) -> str:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()
