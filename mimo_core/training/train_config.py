"""The configuration of a training: everything that decides what weights come out of it."""

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mimo_core.images.scales import FULL, check_scales, format_scales, parse_scales
from mimo_core.models.variants import parse_variant

VIDEO_SUFFIXES = frozenset({".mp4", ".mpg", ".mpeg", ".avi", ".mov", ".mkv", ".webm"})
_DATA = re.compile(r"(?:(photos|pairs|video):)?(.*?)(?:\[(\d*):(\d*)\])?")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PhotoData(_Frozen):
    """Sharp photographs, from which motion blur is synthesised; see `mimo_core.training.blur.Shake`."""

    kind: Literal["photos"] = "photos"
    folders: tuple[Path, ...]
    exclude: tuple[str, ...] = ()
    """File names (without folders) that are held out; patterns of `fnmatch` work."""
    min_extent: float = 1.0
    max_extent: float = 12.0
    rotation: float = 0.3
    bend: float = 0.5
    moving: float = Field(default=0.2, ge=0.0, le=1.0)
    encoded: float = Field(default=0.35, ge=0.0, le=1.0)
    still: float = Field(default=0.08, ge=0.0, le=1.0)
    """Share of the crops that stay sharp, so that the network learns to leave sharp images alone."""
    min_scale: float = Field(default=0.5, gt=0.0, le=1.0)
    share: float = Field(default=1.0, gt=0.0)


class PairData(_Frozen):
    """Blurred and sharp images, `blur`/`sharp`, `input`/`target` and so on, in a folder or each of its subfolders."""

    kind: Literal["pairs"] = "pairs"
    folder: Path
    first: int = 0
    last: int | None = None
    """Pairs [first, last) in the order of their names."""
    min_scale: float = Field(default=1.0, gt=0.0, le=1.0)
    max_scale: float = Field(default=1.0, gt=0.0, le=1.0)
    share: float = Field(default=1.0, gt=0.0)

    @model_validator(mode="after")
    def _ordered(self) -> "PairData":
        if self.min_scale > self.max_scale:
            raise ValueError(f"min_scale {self.min_scale:g} is above max_scale {self.max_scale:g}")
        return self


class VideoData(_Frozen):
    """A video, or a folder of frames, whose successive frames are averaged."""

    kind: Literal["video"] = "video"
    path: Path
    counts: tuple[int, ...] = (7, 9, 11, 13)
    min_scale: float = Field(default=1.0, gt=0.0, le=1.0)
    share: float = Field(default=1.0, gt=0.0)


def _named_scales(text: str) -> str:
    return format_scales(parse_scales(text))


class ValidationData(_Frozen):
    """Held-out pairs on which PSNR and SSIM are followed; `name` heads their columns in the log."""

    name: str
    folder: Path
    first: int = 0
    last: int | None = None
    crop: int | None = None
    """Side of the middle square that is scored, to save time; None scores whole images."""
    scales: Annotated[str, AfterValidator(_named_scales)] = FULL
    """The passes that images take, such as `1/4,1/2`."""
    extents: tuple[float, ...] = ()
    """Where given, FOLDER holds sharp photographs, and each extent of shake in pixels is a set of its own,
    `NAME-EXTENT`."""

    @property
    def set_names(self) -> tuple[str, ...]:
        """The names of the sets that it makes."""
        return tuple(f"{self.name}-{extent:g}" for extent in self.extents) or (self.name,)


def _read_data(value: Any) -> Any:
    """Return what a path on the command line stands for: pairs, a video or photographs, told from what is there."""
    if not isinstance(value, str):
        return value
    # What reads folders, `--help` need not load.
    from mimo_core.datasets.pairs import pair_roots

    match = _DATA.fullmatch(value)
    assert match is not None
    kind, path, bounds = match[1], Path(match[2]), _bounds(match)
    if kind is None:
        if not path.exists():
            raise ValueError(f"{path} does not exist")
        if pair_roots(path):
            kind = "pairs"
        elif path.is_dir():
            kind = "photos"
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            kind = "video"
        else:
            raise ValueError(f"{path} is neither a folder nor a video ({', '.join(sorted(VIDEO_SUFFIXES))})")
    if kind == "pairs":
        return {"kind": kind, "folder": path, **bounds}
    if bounds:
        raise ValueError(f"{value}: only pairs can be counted off with [FIRST:LAST]")
    return {"kind": kind, "path": path} if kind == "video" else {"kind": kind, "folders": (path,)}


def _read_validation(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _DATA.fullmatch(value)
    assert match is not None
    folder = Path(match[2])
    return {"name": folder.resolve().name, "folder": folder, **_bounds(match)}


def _bounds(match: re.Match[str]) -> dict[str, int]:
    return {name: int(text) for name, text in (("first", match[3]), ("last", match[4])) if text}


def _variant(name: str) -> str:
    parse_variant(name)
    return name


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise ValueError(f"expected auto, cpu, cuda or cuda:N, found {text!r}")
    return text


Data = Annotated[PhotoData | PairData | VideoData, Field(discriminator="kind")]


class TrainConfig(_Frozen):
    """Train weights into OUTPUT, or fine-tune some; the same command goes on with what OUTPUT holds."""

    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "out/mine --data photographs --minutes 600",
        "out/fine --init mimo-unet-lite --data GoPro/train --validation GoPro/test --steps 20000",
    )

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "data": ("data", "validation"),
        "network": ("model", "interpolation", "scales", "init", "dropout", "zero_start"),
        "length": ("minutes", "steps"),
        "crops": ("crop", "final_crop", "final_from", "batch", "repeats", "corrected", "seed"),
        "optimisation": (
            *("optimizer", "learning_rate", "final_rate", "schedule", "decay", "halvings", "warmup"),
            *("loss", "frequency_weight", "clip_norm", "ema"),
        ),
        "machine": ("workers", "device", "precision", "threads", "loaders"),
        "log": ("log_every", "validate_minutes", "checkpoint_minutes"),
    }

    output: Path = Field(description="folder of the training: log, checkpoint, weights; resumed where it holds one")

    data: tuple[Annotated[Data, BeforeValidator(_read_data)], ...] = Field(
        (),
        description="folder of sharp photographs, folder with blur/ and sharp/, or video (repeatable); "
        "PAIRS[0:28] takes a part of the pairs; --config takes settings in the place of a path",
    )
    validation: tuple[Annotated[ValidationData, BeforeValidator(_read_validation)], ...] = Field(
        (), description="folder with held-out blur/ and sharp/ to score now and then (repeatable), also PAIRS[28:]"
    )

    model: Annotated[str, AfterValidator(_variant)] | None = Field(
        None, description="variant to train (default: that of --init, else mimo-unet-lite)"
    )
    interpolation: Literal["auto", "nearest", "bilinear"] = Field(
        "auto", description="inner resampling; auto is that of --init, else bilinear"
    )
    scales: Annotated[str, AfterValidator(check_scales)] | None = Field(
        None,
        description="passes that runs with these weights take unless told otherwise, such as auto or 1/2,1; kept in "
        "them (default: those of --init, else 1)",
    )
    init: str | None = Field(None, description="weights to start from (fine-tuning): shipped name, file or URL")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="dropout inside residual blocks")
    zero_start: bool = Field(True, description="begin as the identity with layers of even strength, not as torch does")

    minutes: float | None = Field(None, gt=0.0, description="length in minutes of training, earlier parts included")
    steps: int | None = Field(None, ge=1, description="length in optimiser steps: exact and repeatable")

    crop: int = Field(128, ge=32, description="side of the crops in pixels")
    final_crop: int | None = Field(
        None, ge=32, description="side of the crops of the last part, where context counts more than their number"
    )
    final_from: float = Field(0.6, ge=0.0, le=1.0, description="share of the length after which --final-crop holds")
    batch: int = Field(16, ge=1, description="crops in a step, over all workers")
    repeats: int = Field(1, ge=1, description="uses of a crop, each turned differently: for slow processors")
    corrected: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="share of the steps on crops that coarser passes (1/2, or 1/4 and 1/2) have restored first",
    )
    seed: int = Field(0, description="another seed draws other crops")

    optimizer: Literal["adam", "muon"] = Field(
        "muon", description="adam is the paper's; muon learns faster from few steps"
    )
    learning_rate: float | None = Field(None, gt=0.0, description="highest rate (default: 1e-3; 3e-4 with --init)")
    final_rate: float = Field(1e-6, ge=0.0, description="rate in the end")
    schedule: Literal["cosine", "halving", "trapezoid", "constant"] = Field(
        "trapezoid", description="course of the rate; a trapezoid can be prolonged until it falls"
    )
    decay: float = Field(0.25, gt=0.0, le=1.0, description="share of the length over which a trapezoid falls")
    halvings: int = Field(5, ge=1, description="how many times the schedule halving halves the rate")
    warmup: float = Field(0.01, ge=0.0, lt=1.0, description="share of the length over which the rate rises")
    loss: Literal["paper", "decibel"] = Field(
        "paper", description="paper: differences of pixels and spectra; decibel: the logarithm of the square error"
    )
    frequency_weight: float = Field(0.1, ge=0.0, description="weight of the differences of spectra")
    clip_norm: float | None = Field(1.0, gt=0.0, description="longer gradients are shortened to this")
    ema: float = Field(0.998, ge=0.0, lt=1.0, description="decay of the averaged weights, which are validated and kept")

    workers: int | None = Field(
        None, ge=1, description="processes that train together, started by Ray (default: one, or one for each GPU)"
    )
    device: Annotated[str, AfterValidator(_device)] = Field("auto", description="auto, cpu, cuda or cuda:N")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="arithmetic of the network; auto is bf16 where the hardware has it"
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of a worker (default: its share of the cores)")
    loaders: int | None = Field(None, ge=1, description="threads that prepare crops (default: as many as it takes)")
    log_every: int = Field(50, ge=1, description="steps between lines of the log")
    validate_minutes: float = Field(10.0, gt=0.0, description="minutes between validations")
    checkpoint_minutes: float = Field(5.0, gt=0.0, description="minutes between checkpoints")

    @model_validator(mode="after")
    def _possible(self) -> "TrainConfig":
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("say how long to train: either --minutes or --steps")
        for side in (self.crop, self.final_crop or self.crop):
            if side % 4:
                raise ValueError(f"crops must be multiples of 4, not {side}")
        if not self.data:
            raise ValueError("no training data given: name photographs, pairs or videos with --data")
        names = [name for entry in self.validation for name in entry.set_names]
        if len(set(names)) < len(names):
            raise ValueError("two validation sets have the same name; name them in --config")
        return self

    @property
    def highest_rate(self) -> float:
        """The rate after the warm-up: as configured, else one that suits training from nothing or fine-tuning."""
        return self.learning_rate or (1e-3 if self.init is None else 3e-4)
