"""What restoring an image would gain, predicted from its features by the linear model that comes with the package."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict

from mimo_core.images.pixels import Pixels, as_8bit
from mimo_core.triage.features import Vector, features

Kind = Literal["none", "motion", "defocus"]

_FILE = Path(__file__).with_name("predictor.json")
_FAR = 4.0
"""Standard deviations beyond which a feature is as good as this far away: a line is not to be followed anywhere."""


@dataclass(frozen=True)
class Outlook:
    """What is to be expected of restoring an image.

    Attributes:
        gain: predicted gain in PSNR, dB.
        low, high: nine of ten images like those of the calibration gain between both, dB.
        extent: of the blur in pixels, 0 where there is none.
        kind: of the blur.
    """

    gain: float
    low: float
    high: float
    extent: float
    kind: Kind


class Line(BaseModel):
    """A linear function of the standardised features."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    constant: float
    slopes: tuple[float, ...]

    def at(self, place: Vector) -> float:
        """Return its value for standardised features."""
        return self.constant + float(np.dot(self.slopes, place))


class Tested(BaseModel):
    """How predictions met what images gained that neither fitting nor calibrating saw.

    Attributes:
        images: how many.
        covered: share of them whose gain lay in its interval.
        error: mean distance of prediction and gain, dB.
        gain: mean gain, dB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    covered: float
    error: float
    gain: float


class Predictor(BaseModel):
    """The model, as `recipes/triage.py` fits it, with its card.

    Attributes:
        title, data, limits: the card: what it is, what it was fitted to, what it does not do.
        weights_sha256: of the network whose gain it predicts.
        nominal: share of the images that intervals are to cover.
        images: how many it was fitted and calibrated with.
        tested: by set, each image by a model that was neither fitted nor calibrated with its scene.
        means, deviations: of the features.
        gain: in dB; `spread` the logarithm of how far off it is, in dB; `extent` log(1 + pixels); `kinds` the higher
            one wins.
        quantile: by which the spread is multiplied.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    data: tuple[str, ...]
    limits: tuple[str, ...]
    weights_sha256: str
    nominal: float
    images: int
    tested: dict[str, Tested]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    gain: Line
    spread: Line
    extent: Line
    kinds: dict[Kind, Line]
    quantile: float

    def outlook(self, image: Pixels) -> Outlook | None:
        """Look at an image, None where it is too small to be judged.

        Args:
            image: shape (H, W, 3) RGB or (H, W) gray, uint8 or uint16.
        """
        plain = as_8bit(image)
        found = features(plain if plain.ndim == 2 else np.asarray(cv2.cvtColor(plain, cv2.COLOR_RGB2GRAY)))
        return None if found is None else self.of_features(found)

    def of_features(self, found: Vector) -> Outlook:
        """Return what is to be expected of an image with these features."""
        place = np.clip((found - self.means) / self.deviations, -_FAR, _FAR)
        gain = self.gain.at(place)
        reach = self.quantile * float(np.exp(self.spread.at(place)))
        kind = max(self.kinds, key=lambda one: self.kinds[one].at(place))
        extent = 0.0 if kind == "none" else max(0.0, float(np.expm1(self.extent.at(place))))
        return Outlook(gain, gain - reach, gain + reach, extent, kind)


@cache
def predictor() -> Predictor:
    """Return the model that comes with the package."""
    return Predictor.model_validate_json(_FILE.read_text(encoding="utf-8"))


@cache
def predictor_sha256() -> str:
    """Return the SHA-256 of the model, by which a recipe names it."""
    return hashlib.sha256(_FILE.read_bytes()).hexdigest()
