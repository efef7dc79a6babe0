"""Measure what the shipped weights gain on images of known blur: what the predictor of `mimo triage` learns from.

    python recipes/triage_data.py gains.csv --data ../shared/data

Photographs with synthetic blur (none, shake of 1 to 30 pixels, defocus), half of them as JPEG; the pairs of GoPro and
REDS; averaged frames of two videos; and sharp originals. Every image is made again from its row by `image_of`.
"""

import argparse
import csv
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import mimo_core
from mimo_core.datasets.pairs import image_files, list_pairs
from mimo_core.images.pixels import Pixels8
from mimo_core.metrics.psnr_ssim import psnr
from mimo_core.training.blur import Shake, add_noise, photograph, to_linear, to_srgb
from mimo_core.training.sources import Pair, average, read_clips, read_rgb, sharp_tiles, shrink

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("name", "group", "scene", "kind", "extent", "before", "after", "gain", "pixels")
PSNR_CAP = 45.0
"""Above this a difference cannot be seen: what is sharp already neither gains nor loses."""
_SHAPES = ((384, 384), (360, 640), (540, 960))
_EXTENTS = ((0.0, 0.0), (1.0, 4.0), (4.0, 9.0), (9.0, 16.0), (16.0, 30.0))
_MIDDLE = (2.0, 12.0)
_DEFOCUS = (1.0, 10.0)


@dataclass(frozen=True)
class Example:
    """One image of known blur.

    Attributes:
        name: unique.
        group: the set that it is of.
        scene: what it shows; images of one scene are never split between fitting and calibrating.
        kind: `none`, `motion` or `defocus`.
        extent: of the blur in pixels; NaN where it is real and nobody knows.
        make: makes it.
    """

    name: str
    group: str
    scene: str
    kind: str
    extent: float
    make: Callable[[], Pair]


def examples(data: Path) -> Iterator[Example]:
    """Yield all examples; the same at every call."""
    for file in image_files(data / "photos"):
        if (photo := _photo(file)) is not None:
            yield from _of_photo(file.name, photo)
    for group in ("gopro", "reds"):
        for blurred, sharp in list_pairs(data / f"{group}_pairs"):
            yield from _both(
                f"{group}/{blurred.stem}", group, lambda b=blurred, s=sharp: Pair(read_rgb(b), read_rgb(s))
            )
            if group == "gopro":
                yield from _both(
                    f"{group}/half/{blurred.stem}", group, lambda b=blurred, s=sharp: Pair(_half(b), _half(s))
                )
    for group, file, every in (("city", "cityCC0.mpg", 6), ("box", "box.mp4", 20)):
        for number, clip in enumerate(read_clips(data / "video" / file)):
            for frames in (3, 7, 13):
                for start in range(0, len(clip) - frames + 1, every):
                    run = clip[start : start + frames]
                    name = f"{group}/{number}/{frames}/{start}"
                    yield from _both(name, group, lambda run=run: Pair(average(run), run[len(run) // 2]))


def _both(name: str, group: str, make: Callable[[], Pair]) -> Iterator[Example]:
    """Yield a pair of real blur, and for every second one its sharp image against itself."""
    yield Example(name, group, group, "motion", float("nan"), make)
    if zlib.crc32(name.encode()) % 2:
        yield Example(f"{name}/sharp", group, group, "none", 0.0, lambda: Pair(make().sharp, make().sharp))


def _half(file: Path) -> Pixels8:
    image: Any = read_rgb(file)
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


@cache
def _photo(file: Path) -> Pixels8 | None:
    image = shrink(read_rgb(file), 1600)
    return image if min(image.shape[:2]) >= 460 and sharp_tiles(image) else None


def _of_photo(name: str, photo: Pixels8) -> Iterator[Example]:
    for number, (low, high) in enumerate((*_EXTENTS, _MIDDLE, _DEFOCUS)):
        rng = np.random.default_rng((zlib.crc32(name.encode()), number))
        extent = float(rng.uniform(low, high))
        kind = "defocus" if (low, high) == _DEFOCUS else "motion" if extent else "none"
        make = lambda number=number, extent=extent, kind=kind: _blurred(name, photo, number, extent, kind)  # noqa: E731
        yield Example(f"photos/{name}/{number}", "photos", name, kind, extent, make)


def _blurred(name: str, photo: Pixels8, number: int, extent: float, kind: str) -> Pair:
    rng = np.random.default_rng((zlib.crc32(name.encode()), number, 1))
    margin = 26
    height, width = _SHAPES[int(rng.integers(len(_SHAPES)))]
    height, width = min(height, photo.shape[0] - 2 * margin), min(width, photo.shape[1] - 2 * margin)
    corners = sharp_tiles(photo)
    top, left = corners[int(rng.integers(len(corners)))]
    y = int(np.clip(top + 128 - height // 2 - margin, 0, photo.shape[0] - height - 2 * margin))
    x = int(np.clip(left + 128 - width // 2 - margin, 0, photo.shape[1] - width - 2 * margin))
    scene = np.ascontiguousarray(photo[y : y + height + 2 * margin, x : x + width + 2 * margin])
    inner = np.s_[margin : margin + height, margin : margin + width]
    if kind == "none":
        sharp = np.ascontiguousarray(scene[inner])
        return Pair(_encoded(sharp, rng), sharp)
    shake = Shake(1.0, 30.0)
    if kind == "defocus":
        blurred = to_srgb(add_noise(_out_of_focus(to_linear(scene), extent), rng, shake))
    else:
        blurred = photograph(scene, rng, shake, extent=extent)
    return Pair(_encoded(np.ascontiguousarray(blurred[inner]), rng), np.ascontiguousarray(scene[inner]))


def _out_of_focus(light: Any, diameter: float) -> Any:
    """Return linear light behind a lens that spreads each point to a disc of this diameter in pixels."""
    fine = 8
    side = (int(np.ceil(diameter)) // 2 * 2 + 3) * fine
    axis = np.arange(side) - (side - 1) / 2
    disc = (np.hypot(*np.meshgrid(axis, axis)) <= diameter * fine / 2).astype(np.float32)
    kernel = cv2.resize(disc, (side // fine, side // fine), interpolation=cv2.INTER_AREA)
    return cv2.filter2D(light, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)


def _encoded(image: Pixels8, rng: np.random.Generator) -> Pixels8:
    """Return half of the images as a JPEG makes them."""
    if rng.uniform() < 0.5:
        return image
    quality = int(rng.integers(75, 97))
    data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(decoded[..., ::-1])


def main() -> None:
    """Write a row for each example, with PSNR before and after and the gain in dB; go on where it stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options = parser.parse_args()
    done = options.table.read_text(encoding="utf-8").splitlines() if options.table.exists() else []
    names = {line.split(",")[0] for line in done}
    with options.table.open("a", newline="") as file, mimo_core.ImageRestorer(device="cpu") as restorer:
        rows = csv.writer(file)
        if not done:
            rows.writerow(COLUMNS)
        for one in examples(options.data):
            if one.name in names:
                continue
            pair = one.make()
            before = min(psnr(pair.blurred, pair.sharp), PSNR_CAP)
            after = min(psnr(restorer.restore(pair.blurred), pair.sharp), PSNR_CAP)
            size = pair.sharp.shape[0] * pair.sharp.shape[1]
            scores = (f"{value:.4f}" for value in (before, after, after - before))
            rows.writerow([one.name, one.group, one.scene, one.kind, one.extent, *scores, size])
            file.flush()


if __name__ == "__main__":
    main()
