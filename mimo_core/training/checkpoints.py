"""Checkpoints that resume a training exactly where it was, written so that a kill never leaves half of one."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mimo_core.errors import UsageError

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """All that a training's future depends on. The data position is the step: sample i follows from seed and i."""

    step: int
    seconds: float
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    average_steps: int
    optimizer: dict[str, Any]
    random_state: Tensor
    config: dict[str, Any]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Replace the file at once: it holds the old state or the new one, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".checkpoint-")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"format": FORMAT, **vars(checkpoint)}, file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        UsageError: The file is no checkpoint of a training of this program.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise UsageError(f"{path} is not a training checkpoint of format {FORMAT}")
    return Checkpoint(**content)
