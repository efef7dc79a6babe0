"""Score weights, with the scales that they are made for, on what their training never saw; print it for the card.

    python recipes/score.py WEIGHTS --data ../shared/data [--scales 1/2,1] [--sets samples,mild,...]

Sets: the samples of the repository; crops of held-out photographs with synthesised blur of 2 to 9 and of 12 to 30
pixels, and the same crops sharp; 60 REDS pairs; the last ten GoPro pairs; averaged frames of two videos. All at native
size, in float32.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import yaml

import mimo_core
from mimo_core.datasets.pairs import image_files, list_pairs
from mimo_core.errors import ImageError
from mimo_core.images.pixels import as_8bit
from mimo_core.inference.open_restorer import OpenRestorer, open_restorer
from mimo_core.metrics.psnr_ssim import psnr, ssim
from mimo_core.models.weights import load_weights
from mimo_core.training.blur import Shake, photograph
from mimo_core.training.sources import Pair, average, read_clips, read_rgb, sharp_tiles, shrink
from mimo_core.training.train_config import PhotoData

ROOT = Path(__file__).resolve().parents[1]
RECIPE = Path(__file__).with_name("mimo-unet-lite.yaml")
SIDE = 384
FRAMES = 7
PSNR_CAP = 60.0
"""Where an image is restored to itself its PSNR has no limit; the mean counts at most this."""


def files(folder: Path, first: int = 0) -> list[Pair]:
    """Return the pairs of a folder, from the first on, by name."""
    return [Pair(read_rgb(blurred), read_rgb(sharp)) for blurred, sharp in list_pairs(folder)[first:]]


def held_out_photographs(folder: Path) -> list[Path]:
    """Return the photographs that the recipe holds out, but for the samples', which are scored on their own."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    photos = PhotoData.model_validate(next(entry for entry in recipe["data"] if entry["kind"] == "photos"))
    samples = {"Picture_1A_by_freespace.jpg", "picosdeeuropa_by_Aitzol_Berasategi.jpg"}
    samples |= {"friends_by_Aitzol_Berasategi.jpg", "seeding_by_Clements_Engelhardt.jpg"}
    wanted = set(photos.exclude) - samples
    return sorted(path for path in image_files(folder) if path.name in wanted)


def shaken(folder: Path, shake: Shake) -> list[Pair]:
    """Return a sharp crop of each held-out photograph, blurred by camera shake; the same at every call."""
    pairs = []
    for index, file in enumerate(held_out_photographs(folder)):
        image = shrink(read_rgb(file), 1600)
        rng = np.random.default_rng((99, index))
        margin = shake.margin
        side = min(SIDE, min(image.shape[:2]) - 2 * margin)
        corners = sharp_tiles(image)
        top, left = corners[int(rng.integers(len(corners)))]
        y, x = (
            int(np.clip(start + 128 - side // 2 - margin, 0, length - side - 2 * margin))
            for start, length in ((top, image.shape[0]), (left, image.shape[1]))
        )
        scene = np.ascontiguousarray(image[y : y + side + 2 * margin, x : x + side + 2 * margin])
        inner = np.s_[margin : margin + side, margin : margin + side]
        pairs.append(Pair(photograph(scene, rng, shake)[inner], scene[inner]))
    return pairs


def averaged_video(file: Path, every: int = 40) -> list[Pair]:
    """Return the mean of seven successive frames against the middle one, at regular places of a video."""
    clips = read_clips(file)
    runs = [clip[start : start + FRAMES] for clip in clips for start in range(0, len(clip) - FRAMES + 1, every)]
    return [Pair(average(run), run[FRAMES // 2]) for run in runs]


def sets_of(data: Path) -> dict[str, tuple[str, Callable[[], list[Pair]]]]:
    """Return what each set is called on a card, and what makes its pairs."""
    mild = Shake(2.0, 9.0)
    return {
        "samples": ("the five sample images of the repository", lambda: files(ROOT / "samples")),
        "mild": (
            "synthetic camera shake of 2 to 9 pixels on held-out photographs",
            lambda: shaken(data / "photos", mild),
        ),
        "strong": (
            "synthetic camera shake of 12 to 30 pixels on held-out photographs",
            lambda: shaken(data / "photos", Shake(12.0, 30.0)),
        ),
        "sharp": (
            "the same held-out photographs, sharp, against themselves",
            lambda: [Pair(pair.sharp, pair.sharp) for pair in shaken(data / "photos", mild)],
        ),
        "reds": ("REDS, one sequence, real frames averaged, never seen", lambda: files(data / "reds_pairs")),
        "gopro": (
            "GoPro GOPR0372_07_00, ten pairs of real frames averaged; the 32 before them were trained on",
            lambda: files(data / "gopro_pairs", first=32),
        ),
        "city": (
            "cityCC0.mpg, means of 7 frames, never seen",
            lambda: averaged_video(data / "video" / "cityCC0.mpg", 10),
        ),
        "box": ("box.mp4, means of 7 frames, never seen", lambda: averaged_video(data / "video" / "box.mp4")),
    }


def score(name: str, title: str, pairs: list[Pair], restorer: OpenRestorer) -> dict[str, object]:
    """Return a set's scores as a card has them: means, the worst image's gain, and the passes that images took."""
    before, after, similarity, taken = [], [], [], Counter[str]()
    for pair in pairs:
        (result,) = restorer.restore([pair.blurred])
        if isinstance(result, ImageError):
            raise result
        restored = as_8bit(result.pixels)
        before.append(min(psnr(pair.blurred, pair.sharp), PSNR_CAP))
        after.append(min(psnr(restored, pair.sharp), PSNR_CAP))
        similarity.append((ssim(pair.blurred, pair.sharp) or 0.0, ssim(restored, pair.sharp) or 0.0))
        taken[result.scales] += 1
    sizes = sorted({f"{pair.sharp.shape[1]}x{pair.sharp.shape[0]}" for pair in pairs})
    entry: dict[str, object] = {"set": title, "images": len(pairs), "size": sizes[0] if len(sizes) == 1 else "native"}
    first, second = np.mean(similarity, axis=0)
    if name != "sharp":
        worst = min(np.subtract(after, before))
        entry |= {"input_psnr": round(float(np.mean(before)), 3), "input_ssim": round(float(first), 4)}
        entry |= {"worst_gain": round(float(worst), 3)}
    entry |= {"psnr": round(float(np.mean(after)), 3), "ssim": round(float(second), 4)}
    return entry | {"scales": dict(taken.most_common())}


def main() -> None:
    """Score the sets and print JSON for the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--sets", default="samples,mild,strong,sharp,reds,gopro,city,box")
    parser.add_argument("--scales", help="as for `mimo restore`")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    available = sets_of(options.data)
    given = {} if options.scales is None else {"scales": options.scales}
    with mimo_core.ImageRestorer(weights=options.weights, device="cpu", precision="fp32", **given) as chosen:
        recipe = chosen.recipe
    with open_restorer(recipe, load_weights(options.weights)) as restorer:
        for name in options.sets.split(","):
            title, make = available[name]
            print(json.dumps(score(name, title, make(), restorer)), flush=True)


if __name__ == "__main__":
    main()
