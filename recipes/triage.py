"""Fit, calibrate and test the predictor of `mimo triage`; write it with its card, and print what docs/triage.md says.

    python recipes/triage.py gains.csv mimo_core/triage/predictor.json --data ../shared/data

`gains.csv` is what recipes/triage_data.py measured.
"""

import argparse
import csv
import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from triage_data import ROOT, Example, examples

from mimo_core.models.shipped import shipped
from mimo_core.triage.features import features
from mimo_core.triage.predictor import Line, Outlook, Predictor, Tested

NOMINAL = 0.9
VISIBLE = 40.0
"""PSNR in dB above which a difference is not seen: no gain is counted beyond it."""
FOLDS = 5
_RIDGE = 30.0
_ENOUGH = 40
_KINDS = ("none", "motion", "defocus")
_FAR = 4.0

_CARD = next(one.card for one in shipped() if one.name == "mimo-unet-lite")
_ABOUT: dict[str, Any] = {
    "title": "Gain in PSNR of mimo-unet-lite with scales auto, from the gradients in up to nine windows",
    "data": (
        "photographs of the weights' recipe, with synthetic camera shake of 1 to 30 pixels, defocus of 1 to 10 and "
        "none, half of them as JPEG of quality 75 to 96",
        "GoPro GOPR0372_07_00 and REDS pairs, averaged frames of cityCC0.mpg and box.mp4, and their sharp frames",
    ),
    "limits": (
        "no gain is counted above a PSNR of 40 dB",
        "most photographs and GoPro frames were seen by the network, too, when it was trained",
        "of real blur there are four sequences only; of others expect less coverage",
        "blur of a small part of a sharp image, and pictures that are no photographs, are not in the data",
    ),
    "weights_sha256": _CARD.sha256,
    "nominal": NOMINAL,
    "tested": {},
}


@dataclass(frozen=True)
class Row:
    """An example with its features and its gain in dB; `fold` those that are held out together."""

    example: Example
    found: Any
    gain: float
    pixels: int
    fold: int


def read(table: Path, data: Path) -> list[Row]:
    """Return the examples that were measured."""
    with table.open(newline="") as file:
        measured = {row["name"]: row for row in csv.DictReader(file)}
    rows = []
    places: dict[str, int] = {}
    wanted = [one for one in examples(data) if one.name in measured]
    totals = {one.scene: 0 for one in wanted}
    for one in wanted:
        totals[one.scene] += 1
    for one in wanted:
        row = measured[one.name]
        found = features(np.asarray(cv2.cvtColor(one.make().blurred, cv2.COLOR_RGB2GRAY)))
        if found is None:
            continue
        before, after = (min(float(row[name]), VISIBLE) for name in ("before", "after"))
        places[one.scene] = places.get(one.scene, -1) + 1
        # Photographs are split by scene, sequences by time: their frames are all of one scene.
        photo = one.group == "photos"
        share = zlib.crc32(one.scene.encode()) % FOLDS if photo else FOLDS * places[one.scene] // totals[one.scene]
        rows.append(Row(one, found, after - before, int(row["pixels"]), share))
    return rows


def lines(rows: list[Row]) -> dict[str, Any]:
    """Fit the lines of a predictor; its quantile is 1, for nothing is calibrated yet."""
    table = np.array([row.found for row in rows])
    means, deviations = table.mean(axis=0), table.std(axis=0) + 1e-9
    places = np.clip((table - means) / deviations, -_FAR, _FAR)

    def line(values: Any, chosen: Any = places) -> Line:
        middle, centre = float(np.mean(values)), chosen.mean(axis=0)
        square = (chosen - centre).T @ (chosen - centre) + _RIDGE * np.eye(chosen.shape[1])
        slopes = np.linalg.solve(square, (chosen - centre).T @ (np.asarray(values) - middle))
        return Line(constant=round(middle - float(centre @ slopes), 6), slopes=tuple(np.round(slopes, 6).tolist()))

    gains = np.array([row.gain for row in rows])
    gain = line(gains)
    misses = np.abs(gains - [gain.at(place) for place in places])
    extents = np.array([row.example.extent for row in rows])
    known = np.isfinite(extents)
    return {
        "means": tuple(np.round(means, 6).tolist()),
        "deviations": tuple(np.round(deviations, 6).tolist()),
        "gain": gain,
        "spread": line(np.log(misses + 0.1)),
        "extent": line(np.log1p(extents[known]), places[known]),
        "kinds": {kind: line([float(row.example.kind == kind) for row in rows]) for kind in _KINDS},
        "images": len(rows),
        "quantile": 1.0,
    }


def fit(rows: list[Row]) -> Predictor:
    """Return a predictor that is calibrated on what models of the other folds say of each fold."""
    scores: dict[str, list[float]] = {}
    for fold in {row.fold for row in rows}:
        model = Predictor(**_ABOUT, **lines([row for row in rows if row.fold != fold]))
        for row in rows:
            if row.fold == fold:
                outlook = model.of_features(row.found)
                score = abs(row.gain - outlook.gain) / (outlook.high - outlook.gain)
                scores.setdefault(row.example.group, []).append(score)
    # Conformal prediction: of one more image like these the score is below this with the nominal probability; of any
    # set that is large enough to tell.
    quantiles = [
        float(np.sort(some)[min(int(np.ceil((len(some) + 1) * NOMINAL)), len(some)) - 1])
        for some in scores.values()
        if len(some) >= _ENOUGH
    ]
    return Predictor(**_ABOUT, **{**lines(rows), "quantile": round(max(quantiles), 6)})


Told = list[tuple[Row, Outlook]]


def tested(told: Told) -> Tested:
    """Return how predictions meet gains."""
    inside = [one.low <= row.gain <= one.high for row, one in told]
    error = np.mean([abs(one.gain - row.gain) for row, one in told])
    gain = np.mean([row.gain for row, _ in told])
    figures = (round(float(value), 3) for value in (np.mean(inside), error, gain))
    return Tested(images=len(told), **dict(zip(("covered", "error", "gain"), figures, strict=True)))


def say(*words: object) -> None:
    """Print to standard error."""
    print(*words, file=sys.stderr)


def tell(told: Told) -> None:
    """Print what the blur's estimate is worth, and what leaving images out saves and costs."""
    say("kind right:", round(float(np.mean([one.kind == row.example.kind for row, one in told])), 3))
    ratios = [one.extent / row.example.extent for row, one in told if row.example.extent > 0 and one.kind != "none"]
    say("extent / truth, tenths 1, 5, 9:", np.quantile(ratios, (0.1, 0.5, 0.9)).round(2))
    say("width of intervals, the same:", np.quantile([one.high - one.low for _, one in told], (0.1, 0.5, 0.9)).round(2))
    gains, pixels = (np.array([getattr(row, name) for row, _ in told], float) for name in ("gain", "pixels"))
    predicted = np.array([one.gain for _, one in told])
    sharp = np.array([row.example.kind == "none" for row, _ in told])
    choices = {f"--minimum-gain {least}": predicted < least for least in (0.25, 0.5, 0.75, 1.0)}
    choices["--skip-sharp"] = np.array([one.kind == "none" for _, one in told])
    for name, out in choices.items():
        say(
            f"{name}: {out.mean():.3f} of the images, {pixels[out].sum() / pixels.sum():.3f} of the pixels left out "
            f"({out[sharp].mean():.3f} of the sharp, {out[~sharp].mean():.3f} of the blurred), "
            f"{gains[out].sum() / len(told):+.4f} of {gains.mean():.4f} dB an image forgone"
        )


def main() -> None:
    """Fit, test and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gains", type=Path)
    parser.add_argument("predictor", type=Path)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options = parser.parse_args()
    rows = read(options.gains, options.data)
    told: Told = []
    for fold in range(FOLDS):
        # Nothing of the fold is fitted or calibrated with.
        model = fit([row for row in rows if row.fold != fold])
        told += [(row, model.of_features(row.found)) for row in rows if row.fold == fold]
    groups = sorted({row.example.group for row in rows})
    by_set = {"all": tested(told)}
    by_set |= {group: tested([one for one in told if one[0].example.group == group]) for group in groups}
    predictor = fit(rows).model_copy(update={"tested": by_set})
    options.predictor.write_text(json.dumps(predictor.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    for name, figures in by_set.items():
        say(name, figures)
    tell(told)
    for group in groups:
        model = fit([row for row in rows if row.example.group != group])
        say(
            "left out:",
            group,
            tested([(row, model.of_features(row.found)) for row in rows if row.example.group == group]),
        )


if __name__ == "__main__":
    main()
