"""The recipe: everything that can change a byte of an output or a score, decided once and frozen for the run."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from mimo_core.images.scales import AUTO, FULL, check_scales, parse_scales
from mimo_core.images.tiling import TilePolicy
from mimo_core.runs.config import RestoreConfig, RunConfig, parse_size

GIVEN = "given"
"""The model of images that another tool restored."""


class Recipe(BaseModel):
    """The resolved choices behind a run's outputs. Equal recipes and sources give equal bytes.

    Raises:
        UsageError: the overlap leaves nothing of the tiles.
        ValidationError: a value that cannot be, such as scales from fine to coarse.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    weights: str
    weights_sha256: str
    compiled_sha256: str = ""
    interpolation: str
    engine: str
    device_type: str
    precision: Literal["fp32", "bf16", "fp16", "int8"]
    size: tuple[int, int] | None
    tile: tuple[int, int] | None
    overlap: int
    call_pixels: int | None
    batch: int
    threads: int | None
    max_pixels: int
    format: str
    quality: int | None
    ensemble: int = 1
    scales: Annotated[str, AfterValidator(check_scales)] = FULL
    pages: Literal["all", "first"] = "all"
    strength: float = 1.0
    guard: Literal["report", "keep-original", "off"] = "report"
    mark: bool = False
    minimum_gain: float | None = None
    skip_sharp: bool = False
    others: Literal["omit", "copy"] = "omit"
    predictor_sha256: str = ""
    indications: bool = False
    evaluates: bool = False
    saves_images: bool = True
    metrics: tuple[str, ...] = ("psnr", "ssim")
    fid_sha256: str = ""

    @model_validator(mode="after")
    def _tiles_are_larger_than_their_overlap(self) -> "Recipe":
        _ = self.tile_policy
        return self

    @property
    def model_name(self) -> str:
        """The variant, with the weights where these go by another name."""
        if self.given:
            return "images that another tool made"
        return self.model if self.weights in (self.model, "none") else f"{self.model} ({self.weights})"

    @property
    def method(self) -> str:
        """The model's name, and scales and self-ensemble where there are any."""
        scales = f", scales {self.scales}" if self.scales != FULL else ""
        rotations = f", mean of {self.ensemble} rotations" if self.ensemble > 1 else ""
        strength = f", strength {self.strength:g}" if self.strength != 1 else ""
        return self.model_name + scales + rotations + strength

    def described(self, device: str = "") -> str:
        """Return what restored the images, as in `mimo-unet-lite, openvino bf16 on cpu`; `device` as people call it."""
        if self.given:
            return self.model_name
        return f"{self.method}, {self.engine} {self.precision} on {device or self.device_type}"

    @property
    def leaves_out(self) -> bool:
        """Whether each image is looked at before, and those that would gain little are left out."""
        return self.minimum_gain is not None or self.skip_sharp

    @property
    def given(self) -> bool:
        """Whether nothing is restored, because the images to score are there already."""
        return self.model == GIVEN

    @property
    def tile_policy(self) -> TilePolicy:
        """When its images are cut into tiles."""
        return TilePolicy(self.tile, self.overlap, self.call_pixels, self.batch)

    @property
    def factors(self) -> tuple[int, ...] | None:
        """By how much an image is shrunk for each pass over it, (1,) at full size alone; None decides by image."""
        return None if self.scales == AUTO else parse_scales(self.scales)

    @property
    def streams(self) -> int:
        """Images of a batch that a session of the CPU computes at the same time: one for each of its threads."""
        return max(1, min(self.batch, self.threads or 1))

    @property
    def session(self) -> tuple[object, ...]:
        """What a session is opened for: recipes that are equal in it can share one."""
        weights = self.weights_sha256, self.compiled_sha256, self.interpolation
        return (*weights, self.engine, self.device_type, self.precision, self.threads, self.streams)

    def columns(self) -> dict[str, Any]:
        """Return what the record of every image says of the recipe."""
        return {
            "model": self.model,
            "weights_sha256": self.weights_sha256 or None,
            "engine": self.engine,
            "precision": self.precision,
        }

    def fingerprint(self) -> str:
        """Return the SHA-256 (hexadecimal) of the recipe; the weights count by content, not by name."""
        # What runs that began before there was a choice did is left out: they keep their fingerprint.
        former = {"scales": FULL, "pages": "all", "strength": 1.0, "mark": False}
        former |= {
            "minimum_gain": None,
            "skip_sharp": False,
            "others": "omit",
            "predictor_sha256": "",
            "indications": False,
        }
        omitted = {"weights", *(name for name, value in former.items() if getattr(self, name) == value)}
        if self.guard != "keep-original":
            # It only speaks.
            omitted.add("guard")
        values = self.model_dump(mode="json", exclude=omitted)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def differences(self, other: "Recipe", *, ignore: frozenset[str] = frozenset()) -> list[str]:
        """Return one line for each choice in which `other` differs from this recipe, such as `batch: was 4, now 8`."""
        lines = []
        for name in type(self).model_fields:
            mine, theirs = getattr(self, name), getattr(other, name)
            if name != "weights" and name not in ignore and mine != theirs:
                lines.append(f"{name}: was {show_choice(name, mine)}, now {show_choice(name, theirs)}")
        return lines


def given_fields(config: RunConfig) -> dict[str, Any]:
    """Return the fields of a recipe that need no choosing, for they are what the user says."""
    return {
        **(_left_out(config) if isinstance(config, RestoreConfig) else {}),
        "size": None if config.size == "native" else parse_size(config.size),
        "overlap": config.overlap,
        "max_pixels": config.max_pixels,
        "pages": config.pages,
        "format": config.format,
        "quality": config.quality,
        "ensemble": config.ensemble,
        "strength": config.strength,
        "guard": config.guard,
        "mark": config.mark,
        "indications": config.indications,
        "evaluates": config.evaluates,
        "saves_images": config.saves_images,
        "metrics": config.chosen_metrics,
    }


def _left_out(config: RestoreConfig) -> dict[str, Any]:
    if config.minimum_gain is None and not config.skip_sharp:
        return {}
    # OpenCV, which a run that leaves nothing out loads later.
    from mimo_core.triage.predictor import predictor_sha256

    fields = {name: getattr(config, name) for name in ("minimum_gain", "skip_sharp", "others")}
    return {**fields, "predictor_sha256": predictor_sha256()}


def show_choice(name: str, value: object) -> str:
    """Return the value of a recipe's field as a person reads it, such as `360x640`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ("," if name == "metrics" else "x").join(map(str, value))
    if value is None or value == "":
        # As the option of that name is written.
        return {"size": "native", "quality": "default"}.get(name, "none")
    return str(value)
