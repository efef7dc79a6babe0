"""The configuration of a training: everything that decides what weights come out of it."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mimo_core.network import Interpolation


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PhotoData(_Frozen):
    """Sharp photographs, from which motion blur is synthesised."""

    kind: Literal["photos"] = "photos"
    folders: tuple[Path, ...]
    exclude: tuple[str, ...] = ()
    """File names (without folders) that are held out; patterns of `fnmatch` work."""
    min_extent: float = 0.0
    max_extent: float = 12.0
    rotation: float = 0.3
    bend: float = 0.5
    moving: float = Field(default=0.0, ge=0.0, le=1.0)
    encoded: float = Field(default=0.0, ge=0.0, le=1.0)
    still: float = Field(default=0.08, ge=0.0, le=1.0)
    min_scale: float = Field(default=0.5, gt=0.0, le=1.0)
    share: float = Field(default=1.0, gt=0.0)


class PairData(_Frozen):
    """A folder of blurred and sharp images: `blur`/`sharp`, `blurred`/`sharp` or `input`/`target` in it."""

    kind: Literal["pairs"] = "pairs"
    folder: Path
    first: int = 0
    last: int | None = None
    """Pairs [first, last) in the order of their names."""
    min_scale: float = Field(default=1.0, gt=0.0, le=1.0)
    share: float = Field(default=1.0, gt=0.0)


class VideoData(_Frozen):
    """A video, or a folder of frames, whose successive frames are averaged."""

    kind: Literal["video"] = "video"
    path: Path
    counts: tuple[int, ...] = (7, 9, 11, 13)
    min_scale: float = Field(default=1.0, gt=0.0, le=1.0)
    share: float = Field(default=1.0, gt=0.0)


Data = PhotoData | PairData | VideoData


class ValidationData(_Frozen):
    """Held-out pairs on which PSNR and SSIM are followed; `name` heads their columns in the log."""

    name: str
    folder: Path
    first: int = 0
    last: int | None = None
    crop: int | None = None
    """Side of the middle square that is scored, to save time; None scores whole images."""


class TrainConfig(_Frozen):
    """What is trained, on what, and how. The defaults are the recipe of the shipped lite weights."""

    width: int = 16
    num_res: int = 4
    interpolation: Interpolation = "bilinear"
    dropout: float = 0.0

    data: tuple[Data, ...]
    validation: tuple[ValidationData, ...] = ()
    crop: int = Field(default=128, ge=32)
    final_crop: int | None = Field(default=None, ge=32)
    """Crops of the last part, where few steps remain and context counts more than their number; None keeps `crop`."""
    final_from: float = Field(default=0.6, ge=0.0, le=1.0)
    """Share of the length after which `final_crop` holds."""
    batch: int = Field(default=4, ge=1)
    repeats: int = Field(default=1, ge=1)
    """How often a crop is used, turned differently, before the next is prepared: for slow processors."""
    seed: int = 0

    steps: int | None = Field(default=None, ge=1)
    """Length in optimiser steps: the schedule is exact and repeatable."""
    minutes: float | None = Field(default=None, gt=0.0)
    """Length in minutes of training, earlier parts included: the decay ends in time on any machine."""
    optimizer: Literal["adam", "muon"] = "adam"
    """`adam` is the paper's; `muon` makes the steps of inner convolutions orthogonal and learns faster from few."""
    learning_rate: float = Field(default=6e-4, gt=0.0)
    final_rate: float = Field(default=1e-6, ge=0.0)
    schedule: Literal["cosine", "halving", "trapezoid", "constant"] = "cosine"
    decay: float = Field(default=0.25, gt=0.0, le=1.0)
    """Share of the length over which `trapezoid` falls to the final rate; before, a training can still be prolonged."""
    halvings: int = Field(default=5, ge=1)
    """How often `halving` halves the rate over the whole length."""
    warmup: float = Field(default=0.01, ge=0.0, lt=1.0)
    """Share of the length over which the rate rises from nothing."""
    loss: Literal["paper", "decibel"] = "paper"
    """`paper`: absolute differences of pixels and spectra; `decibel`: the logarithm of each crop's square error."""
    frequency_weight: float = Field(default=0.1, ge=0.0)
    clip_norm: float | None = Field(default=None, gt=0.0)
    """Gradients longer than this are shortened to it; the norm before that is in the log."""
    zero_start: bool = True
    """Begin as the identity, with layers of even strength; else as torch does. Ignored with initial weights."""
    ema: float = Field(default=0.999, ge=0.0, lt=1.0)
    """Decay of the moving average of the weights, which is what is validated and exported; 0 averages nothing."""

    precision: Literal["fp32", "bf16"] = "bf16"
    device: str = "cpu"
    threads: int | None = Field(default=None, ge=1)
    loaders: int = Field(default=1, ge=1)
    """Threads that prepare crops."""
    log_every: int = Field(default=50, ge=1)
    validate_minutes: float = Field(default=10.0, gt=0.0)
    checkpoint_minutes: float = Field(default=5.0, gt=0.0)

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes, not both and not neither")
        for side in (self.crop, self.final_crop or self.crop):
            if side % 4:
                raise ValueError(f"crops must be multiples of 4, not {side}")
        if not self.data:
            raise ValueError("no training data given")
        return self
