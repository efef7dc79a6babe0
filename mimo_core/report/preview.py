"""A page to choose by before an archive is restored: pieces of a sample, restored in several ways, with sliders."""

from __future__ import annotations

import random
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import cast

import cv2
import numpy as np

from mimo_core.datasets.imagelist import ImageEntry
from mimo_core.errors import ImageError, UsageError
from mimo_core.images import codecs
from mimo_core.images.cache import max_bytes_of
from mimo_core.images.pixels import Pixels8, as_8bit
from mimo_core.inference.python_api import ImageRestorer
from mimo_core.report.content import footer
from mimo_core.report.gallery import PICTURE_BYTES
from mimo_core.report.page import Card, Gallery, Page, Picture, Section, Table, Tile, render
from mimo_core.report.pictures import Layer, Shot, encode_shots
from mimo_core.report.selection import Choice
from mimo_core.storage import read_url
from mimo_core.triage.predictor import Outlook, predictor
from mimo_core.wording import count

_CANDIDATES = 5
"""So many images are looked at for each that is shown."""
_HEIGHT, _WIDTH = 720, 960


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of an image at its full size, where there is most to see, (H, W, 3) RGB, and what is predicted of it."""

    key: str
    pixels: Pixels8
    outlook: Outlook


@dataclass(frozen=True)
class Way:
    """One way to restore: None leaves the choice to the program, as `mimo restore` does."""

    weights: str | None
    scales: str | None

    def label(self, strength: float, names: Sequence[str]) -> str:
        """Return what the pictures call it; `names` are of the options in which ways differ."""
        values = {"weights": self.weights or "default", "scales": self.scales or "default", "strength": f"{strength:g}"}
        return ", ".join(f"{name} {values[name]}" for name in names) or "Restored"

    def command(self, source: str, strength: float) -> str:
        """Return the command that restores all of a source in this way."""
        words = ["mimo", "restore", source, "OUTPUT"]
        words += ["--weights", self.weights] if self.weights is not None else []
        words += ["--scales", self.scales] if self.scales is not None else []
        words += ["--strength", f"{strength:g}"] if strength != 1 else []
        return shlex.join(words)


def sample(
    entries: Iterable[ImageEntry], number: int, seed: int, max_pixels: int, tick: Callable[[str], None]
) -> tuple[list[Piece], int]:
    """Choose images at random and of these some that stand for all: spread evenly over what they would gain.

    Args:
        entries: the images, all of which are listed.
        number: how many are chosen at most.
        seed: of chance; the same one chooses the same images.
        max_pixels: larger images are passed over.
        tick: told what is going on.

    Returns:
        The pieces from the lowest predicted gain to the highest, and how many images there are.

    Raises:
        UsageError: none of those that were looked at can be judged.
    """
    chance = random.Random(seed)
    kept: list[ImageEntry] = []
    total = 0
    for total, entry in enumerate(entries, 1):
        if len(kept) < _CANDIDATES * number:
            kept.append(entry)
        elif (place := chance.randrange(total)) < len(kept):
            kept[place] = entry
        if total % 1000 == 0:
            tick(f"listing: {total:,} images")
    pieces = []
    for done, entry in enumerate(kept, 1):
        tick(f"looking: {done} of {len(kept)} images")
        if (piece := _piece(entry, max_pixels)) is not None:
            pieces.append(piece)
    if not pieces:
        raise UsageError(f"none of {count(len(kept), 'image')} that were looked at can be read and judged")
    pieces.sort(key=lambda one: one.outlook.gain)
    places = np.linspace(0, len(pieces) - 1, min(number, len(pieces))).round().astype(int)
    return [pieces[place] for place in dict.fromkeys(places.tolist())], total


def _piece(entry: ImageEntry, max_pixels: int) -> Piece | None:
    try:
        data, _ = read_url(entry.source, max_bytes=max_bytes_of(max_pixels))
        image = codecs.model_input(codecs.decode(data, max_pixels=max_pixels, pages="first"))
    except ImageError:
        return None
    outlook = predictor().outlook(image)
    return None if outlook is None else Piece(entry.key, most_detailed(as_8bit(image)), outlook)


def most_detailed(image: Pixels8) -> Pixels8:
    """Return the piece of at most 720x960 pixels in which brightness changes most."""
    height, width = min(_HEIGHT, image.shape[0]), min(_WIDTH, image.shape[1])
    if image.shape[:2] == (height, width):
        return image
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    sums = cv2.integral(np.abs(cv2.Laplacian(cv2.GaussianBlur(gray, (0, 0), 3), cv2.CV_32F)))
    rows, columns = (
        range(0, whole - part + 1, 16) for whole, part in ((image.shape[0], height), (image.shape[1], width))
    )
    tops, lefts = np.array(rows)[:, None], np.array(columns)[None]
    inside = (
        sums[tops + height, lefts + width] - sums[tops, lefts + width] - sums[tops + height, lefts] + sums[tops, lefts]
    )
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    top, left = rows[int(row)], columns[int(column)]
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def preview_page(
    source: str,
    pieces: Sequence[Piece],
    total: int,
    ways: Sequence[Way],
    strengths: Sequence[float],
    tick: Callable[[str], None],
) -> str:
    """Restore the pieces in all ways, and return the page.

    Args:
        source: as the commands on the page name it.
        pieces: what `sample` chose.
        total: how many images there are.
        ways: weights and scales.
        strengths: of each way.
        tick: told what is going on.

    Raises:
        UsageError, SystemFailure: as `ImageRestorer`.
    """
    names = _differing(ways, strengths)
    layers: list[list[Layer]] = [[Layer("input", "Input", piece.pixels)] for piece in pieces]
    problems: list[list[str]] = [[] for _ in pieces]
    for number, way in enumerate(ways):
        options = {name: value for name, value in vars(way).items() if value is not None}
        with ImageRestorer(**options) as restorer:
            for place, piece in enumerate(pieces):
                tick(f"restoring: image {place + 1} of {len(pieces)}, way {number + 1} of {len(ways)}")
                try:
                    full = cast(Pixels8, restorer.restore(piece.pixels))
                except ImageError as error:
                    problems[place].append(f"{way.label(1.0, names)}: {error}")
                    continue
                for strength in strengths:
                    label, name = way.label(strength, names), f"way-{number}-{strength:g}"
                    layers[place].append(Layer(name, label, mixed(piece.pixels, full, strength)))
    shots = [
        Shot(Choice((place,)), piece.key, tuple(layers[place]), tuple(problems[place]))
        for place, piece in enumerate(pieces)
    ]
    encoded = encode_shots(shots, PICTURE_BYTES)
    cards = []
    for piece, shot, one in zip(pieces, shots, encoded, strict=True):
        pictures = tuple(Picture(layer.name, layer.label, one.uris[layer.name]) for layer in shot.layers)
        restored = tuple(layer.name for layer in shot.layers[1:])
        # What was asked for last, the strongest, is shown first.
        right = tuple(reversed(restored))
        cards.append(
            Card(piece.key, one.width, one.height, pictures, ("input", *restored), right, _told(piece), shot.problems)
        )
    text = "Pieces at full size, where there is most to see. Drag a picture, or use the arrow keys on it."
    images = Section(
        "images", "Images", text, galleries=(Gallery("From the least predicted gain to the most", tuple(cards)),)
    )
    lines = [way.command(source, strength) for way, strength in product(ways, strengths)]
    commands = Section("commands", "Commands", "Each way as a command for all images:", command="\n".join(lines))
    gains = [piece.outlook.gain for piece in pieces]
    tiles = (
        Tile("Images", f"{total:,}", f"{len(pieces)} of them are shown"),
        Tile("Predicted gain", f"{min(gains):.1f} to {max(gains):.1f} dB", "of those that are shown"),
        Tile("Ways", str(len(lines))),
    )
    return render(
        Page(
            f"Preview of {source}",
            "Nothing was changed or written but this page",
            footer(),
            tiles,
            (),
            (images, commands),
        )
    )


def mixed(before: Pixels8, after: Pixels8, strength: float) -> Pixels8:
    """Return the image with a share of what was changed, as `--strength` does up to half a level."""
    if strength == 1:
        return after
    return cast(Pixels8, cv2.addWeighted(after, strength, before, 1 - strength, 0))


def _differing(ways: Sequence[Way], strengths: Sequence[float]) -> list[str]:
    names = [name for name in ("weights", "scales") if len({getattr(way, name) for way in ways}) > 1]
    return [*names, *(["strength"] if len(strengths) > 1 else [])]


def _told(piece: Piece) -> Table:
    outlook = piece.outlook
    blur = "none" if outlook.kind == "none" else f"{outlook.kind}, about {outlook.extent:.0f} pixels"
    gain = f"{outlook.gain:+.1f} dB ({outlook.low:+.1f} to {outlook.high:+.1f})"
    return Table((), (("Blur", blur), ("Predicted gain", gain)))
