"""The weights that come with the package, each with a card: what it learned from, how, and how well it restores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mimo_core.images.scales import FULL

FOLDER = Path(__file__).parent


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CardScore(_Frozen):
    """Means over one set of pairs that training never saw; PSNR in dB.

    Attributes:
        worst_gain: decibels gained by the image that gains least.
        scales: how many images took which passes.
    """

    set: str
    images: int
    size: str
    input_psnr: float | None = None
    psnr: float
    input_ssim: float | None = None
    ssim: float | None = None
    worst_gain: float | None = None
    scales: dict[str, int] = {}

    @property
    def gain(self) -> float | None:
        """Decibels gained over the blurred input; None where the input was sharp already."""
        return None if self.input_psnr is None else self.psnr - self.input_psnr


class Card(_Frozen):
    """What there is to know of one set of weights."""

    name: str
    title: str
    variant: str
    width: int
    num_res: int
    interpolation: Literal["nearest", "bilinear"]
    scales: str = FULL
    trained: bool
    licence: str = ""
    sha256: str = ""
    data: tuple[str, ...] = ()
    credits: tuple[str, ...] = ()
    recipe: str = ""
    command: str = ""
    time: str = ""
    hardware: str = ""
    scores: tuple[CardScore, ...] = ()
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShippedWeights:
    """One entry of the list of weights; `path` is None where they are not trained yet."""

    name: str
    path: Path | None
    card: Card
    trained: bool


def shipped() -> list[ShippedWeights]:
    """Return all weights that have a card, trained ones first, then by name."""
    entries = []
    for file in sorted(FOLDER.glob("*.json")):
        card = Card.model_validate_json(file.read_text(encoding="utf-8"))
        path = file.with_suffix(".safetensors")
        entries.append(ShippedWeights(card.name, path if card.trained else None, card, card.trained))
    return sorted(entries, key=lambda entry: (not entry.trained, entry.name))
