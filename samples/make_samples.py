"""Makes the sample images of this folder: blurred photographs with their sharp originals.

    python samples/make_samples.py PHOTOGRAPHS PAIRS

PHOTOGRAPHS holds the photographs of the Debian package lomiri-wallpapers-16.04 (/usr/share/wallpapers), which are
blurred as a camera does it; PAIRS the folders `blur` and `sharp` of a sequence of GoPro, whose blur is real. See
CREDITS.md.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mimo_core.images.pixels import Pixels8
from mimo_core.training.blur import Shake, photograph
from mimo_core.training.sources import read_rgb

HERE = Path(__file__).parent
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


@dataclass(frozen=True)
class Sample:
    """One sample: which part of which photograph, at what size, blurred how."""

    name: str
    photograph: str
    window: tuple[float, float, float]
    """Left, top and width of the part that is kept, as shares of the photograph's width, height and width."""
    size: tuple[int, int]
    """Width and height of the sample in pixels."""
    extent: float
    seed: int


SAMPLES = (
    Sample("brushes.png", "Picture_1A_by_freespace.jpg", (0.29, 0.27, 0.24), (480, 320), 5.0, 1),
    Sample("mountains.jpg", "picosdeeuropa_by_Aitzol_Berasategi.jpg", (0.34, 0.42, 0.13), (480, 320), 4.0, 2),
    Sample("window.png", "friends_by_Aitzol_Berasategi.jpg", (0.25, 0.05, 0.60), (320, 448), 6.0, 3),
    Sample("seeds.jpg", "seeding_by_Clements_Engelhardt.jpg", (0.26, 0.22, 0.10), (480, 320), 4.0, 4),
)

STREET = "GOPR0372_07_00-000117.png"
STREET_PART = np.s_[20:420, 0:640]


def make(sample: Sample, folder: Path) -> tuple[Pixels8, Pixels8]:
    """The blurred and the sharp image of a sample, 8-bit RGB."""
    whole = read_rgb(folder / sample.photograph)
    height, width = whole.shape[:2]
    left, top, share = sample.window
    scale = sample.size[0] / (share * width)
    shake = Shake(sample.extent, sample.extent)
    margin = shake.margin
    # Shrunk a little more than the window needs, so that what moves into view is really there.
    small = cv2.resize(whole, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    x, y = round(left * small.shape[1]) - margin, round(top * small.shape[0]) - margin
    scene = small[max(y, 0) : y + sample.size[1] + 2 * margin, max(x, 0) : x + sample.size[0] + 2 * margin]
    expected = (sample.size[1] + 2 * margin, sample.size[0] + 2 * margin)
    if scene.shape[:2] != expected:
        raise SystemExit(f"{sample.name}: the window with its margin of {margin} pixels leaves the photograph")
    scene = np.ascontiguousarray(scene)
    blurred = photograph(scene, np.random.default_rng(sample.seed), shake)
    inner = np.s_[margin : margin + sample.size[1], margin : margin + sample.size[0]]
    return blurred[inner], scene[inner]


def write(path: Path, image: Pixels8) -> None:
    """Write an RGB image in the format of its name."""
    path.parent.mkdir(exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), JPEG if path.suffix == ".jpg" else []):
        raise SystemExit(f"{path} cannot be written")


def main() -> None:
    """Write `blurred/` and `sharp/` beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("pairs", type=Path)
    arguments = parser.parse_args()
    for sample in SAMPLES:
        for name, image in zip(("blurred", "sharp"), make(sample, arguments.photographs), strict=True):
            write(HERE / name / sample.name, image)
    for name, side in (("blurred", "blur"), ("sharp", "sharp")):
        write(HERE / name / "street.jpg", read_rgb(arguments.pairs / side / STREET)[STREET_PART])


if __name__ == "__main__":
    main()
