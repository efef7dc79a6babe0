"""The pictures of a report: input, outputs, reference and difference of the chosen images, shrunk to fit a page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import cv2
import numpy as np

from mimo_core.errors import MimoError, UsageError
from mimo_core.images import codecs
from mimo_core.images.containers import Metadata
from mimo_core.images.pixels import Pixels, Pixels8, as_8bit
from mimo_core.images.resizing import resize_bilinear
from mimo_core.report.rerun import Rerun
from mimo_core.report.run_data import RunData
from mimo_core.report.selection import Choice
from mimo_core.storage import read_url

DIFFERENCE_LEVELS = 40
"""Levels (of 255) at which a difference map is brightest."""

_THREADS = 4
# Side in pixels and quality, tried in turn until all pictures together fit.
_STEPS = ((960, 85), (960, 75), (800, 70), (640, 70), (480, 65), (360, 60), (240, 50))

Shown = Pixels8


@dataclass(frozen=True, eq=False)
class Layer:
    """One picture of an image: its name within the page, what people call it, and (H, W, 3) RGB."""

    name: str
    label: str
    pixels: Shown


@dataclass(frozen=True, eq=False)
class Shot:
    """An image with its pictures; `problems` says which are not there, and why."""

    choice: Choice
    key: str
    layers: tuple[Layer, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Encoded:
    """The pictures of a shot as data URIs by the layers' names, and their size in pixels."""

    uris: dict[str, str]
    width: int
    height: int


def load_shots(
    runs: Sequence[RunData], labels: Sequence[str], choices: Sequence[Choice], tick: Callable[[], None]
) -> list[Shot]:
    """Read the pictures of the chosen images, and restore again those of runs that kept no outputs.

    Args:
        runs: the runs.
        labels: what the pictures call them, where there are several.
        choices: what to show of them.
        tick: called after every image.

    A picture that cannot be had is a problem of its shot, never an error.
    """
    columns = [
        {name: run.texts(name) for name in ("key", "source", "reference", "output", "output_sha256", "suspect")}
        for run in runs
    ]
    reruns = [Rerun(run.recipe) for run in runs]
    given = [_given(run, {str(run.table["key"][one.rows[place]]) for one in choices}) for place, run in enumerate(runs)]

    def load(choice: Choice) -> Shot:
        rows = [
            {name: column[row] for name, column in one.items()} for one, row in zip(columns, choice.rows, strict=True)
        ]
        shot = _Loader(runs, labels, reruns, given, choice, rows).load()
        tick()
        return shot

    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(load, choices))
    finally:
        for one in reruns:
            one.close()


def _given(run: RunData, keys: set[str]) -> dict[str, str]:
    """Return where images lie that another tool restored, by key; their records do not say it, but the plan does."""
    if not run.recipe.given or run.status.plan is None:
        return {}
    return {row.key: row.restored for row in run.status.plan.rows() if row.key in keys and row.restored is not None}


@dataclass
class _Loader:
    runs: Sequence[RunData]
    labels: Sequence[str]
    reruns: Sequence[Rerun]
    given: Sequence[dict[str, str]]
    choice: Choice
    rows: Sequence[dict[str, str | None]]
    layers: list[Layer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def load(self) -> Shot:
        first = self.rows[0]
        image = self._attempt("the input", lambda: self._decode(str(first["source"])))
        before = self._sized(image, 0) if image is not None else None
        self._add("input", "Input", before)
        truth = None
        if first["reference"] is not None:
            found = self._attempt("the reference", lambda: self._decode(str(first["reference"])))
            truth = self._sized(found, 0) if found is not None else None
            if truth is not None and before is not None and truth.shape != before.shape:
                self.problems.append("the reference has another size than the input")
                truth = None
        several = len(self.runs) > 1
        for place, label in enumerate(self.labels):
            if (suspect := self.rows[place]["suspect"]) is not None:
                self.problems.append(f"{label}: {suspect}" if several else suspect)
            what = f"the output of {label}" if several else "the output"
            after = self._attempt(what, lambda place=place: self._output(place, image))  # type: ignore[misc]
            if after is None:
                continue
            self._add(f"output-{place}", label if several else "Restored", after)
            other = truth if truth is not None else before
            if other is not None and other.shape == after.shape:
                name = "Error" if truth is not None else "Change"
                self._add(f"difference-{place}", f"{name}, {label}" if several else name, difference(after, other))
        self._add("reference", "Reference", truth)
        return Shot(self.choice, str(first["key"]), tuple(self.layers), tuple(self.problems))

    def _attempt(self, what: str, get: Callable[[], Any]) -> Any:
        try:
            return get()
        except MimoError as error:
            self.problems.append(f"{what} cannot be shown: {error}")
            return None

    def _decode(self, source: str) -> codecs.Image:
        limit = self.runs[0].recipe.max_pixels
        return codecs.decode(read_url(source)[0], max_pixels=limit, pages="first")

    def _sized(self, image: codecs.Image, place: int) -> Pixels:
        pixels = codecs.model_input(image)
        size = self.runs[place].recipe.size
        return pixels if size is None else resize_bilinear(pixels, size)

    def _output(self, place: int, image: codecs.Image | None) -> Pixels:
        row, run = self.rows[place], self.runs[place]
        if row["output"] is not None:
            data = run.store.read(row["output"])
            if row["output_sha256"] not in (None, hashlib.sha256(data).hexdigest()):
                raise UsageError(
                    f"{run.store.show(row['output'])} is not the file that the run wrote (SHA-256 differs)"
                )
            return codecs.model_input(codecs.decode(data, max_pixels=run.recipe.max_pixels, pages="first"))
        if run.recipe.given:
            made = self.given[place].get(str(row["key"]))
            if made is None:
                raise UsageError("the plan of the run, which says where it lies, is not there any more")
            return self._sized(self._decode(made), place)
        if row["source"] != self.rows[0]["source"]:
            image = self._decode(str(row["source"]))
        if image is None:
            raise UsageError("the run kept no outputs, and without the input it cannot be restored again")
        restored = self.reruns[place].restore(self._sized(image, place))
        return codecs.model_input(codecs.with_restored(image, restored))

    def _add(self, name: str, label: str, pixels: Pixels | None) -> None:
        if pixels is not None:
            self.layers.append(Layer(name, label, shrink(as_8bit(pixels), _STEPS[0][0])))


def difference(image: Pixels, other: Pixels) -> Shown:
    """Return where two images of one shape differ, (H, W, 3) RGB: black for equal, brightest from 40 levels on.

    A pixel shows the largest difference of its three values.
    """
    distance = cv2.absdiff(as_8bit(image), as_8bit(other)).max(axis=2)
    scaled = np.minimum(distance.astype(np.uint16) * 255 // DIFFERENCE_LEVELS, 255).astype(np.uint8)
    coloured = cv2.applyColorMap(scaled, cv2.COLORMAP_INFERNO)
    return cast(Shown, np.ascontiguousarray(coloured[:, :, ::-1]))


def shrink(image: Shown, side: int) -> Shown:
    """Return the image with no side longer than this, by the mean over the area of each pixel."""
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest <= side:
        return image
    size = max(1, round(width * side / longest)), max(1, round(height * side / longest))
    return cast(Shown, cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def encode_shots(shots: Sequence[Shot], budget: int) -> list[Encoded]:
    """Encode all pictures as WebP, at the first step of size and quality at which they fit.

    Args:
        shots: the images.
        budget: bytes that all data URIs together may take; the last step is taken even where it is too large.
    """
    encoded: list[Encoded] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for side, quality in _STEPS:
            encoded = list(pool.map(lambda shot: _encode(shot, side, quality), shots))  # noqa: B023 - used at once
            if sum(len(uri) for one in encoded for uri in one.uris.values()) <= budget:
                break
    return encoded


def _encode(shot: Shot, side: int, quality: int) -> Encoded:
    uris = {}
    height = width = 1
    for layer in shot.layers:
        pixels = np.ascontiguousarray(shrink(layer.pixels, side))
        height, width = pixels.shape[:2]
        data = codecs.encode(codecs.Image(pixels, Metadata(), "webp", False, False), "webp", quality=quality)
        uris[layer.name] = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
    return Encoded(uris, width, height)
