"""Scores shipped or other weights on what their training never saw, and prints them as a card wants them.

    python recipes/score.py WEIGHTS --data ../shared/data [--sets samples,mild,...]

Sets: the samples of the repository; crops of held-out photographs with synthesised blur of 2 to 9 pixels, and the same
crops sharp; 60 REDS pairs; the last ten GoPro pairs; averaged frames of two videos. All at native size, in float32.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml

from mimo_core.datasets.pairs import image_files, list_pairs
from mimo_core.models.weights import build_network, load_weights
from mimo_core.training.blur import Shake, photograph
from mimo_core.training.sources import Pair, average, read_clips, read_rgb, sharp_tiles, shrink
from mimo_core.training.train_config import PhotoData
from mimo_core.training.validation import restore, score_pairs

ROOT = Path(__file__).resolve().parents[1]
RECIPE = Path(__file__).with_name("mimo-unet-lite.yaml")
SIDE = 384
FRAMES = 7


def files(folder: Path, first: int = 0) -> list[Pair]:
    """Pairs of a folder, from the first on, by name."""
    return [Pair(read_rgb(blurred), read_rgb(sharp)) for blurred, sharp in list_pairs(folder)[first:]]


def held_out_photographs(folder: Path) -> list[Path]:
    """The photographs that the recipe holds out, but for the samples', which are scored on their own."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    photos = PhotoData.model_validate(next(entry for entry in recipe["data"] if entry["kind"] == "photos"))
    samples = {"Picture_1A_by_freespace.jpg", "picosdeeuropa_by_Aitzol_Berasategi.jpg"}
    samples |= {"friends_by_Aitzol_Berasategi.jpg", "seeding_by_Clements_Engelhardt.jpg"}
    wanted = set(photos.exclude) - samples
    return sorted(path for path in image_files(folder) if path.name in wanted)


def mild_blur(folder: Path) -> list[Pair]:
    """A sharp crop of each held-out photograph, blurred by 2 to 9 pixels; the same at every call."""
    pairs = []
    for index, file in enumerate(held_out_photographs(folder)):
        image = shrink(read_rgb(file), 1600)
        rng, shake = np.random.default_rng((99, index)), Shake(2.0, 9.0)
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
    """The mean of seven successive frames against the middle one, at regular places of a video."""
    clips = read_clips(file)
    runs = [clip[start : start + FRAMES] for clip in clips for start in range(0, len(clip) - FRAMES + 1, every)]
    return [Pair(average(run), run[FRAMES // 2]) for run in runs]


def sets_of(data: Path) -> dict[str, tuple[str, Callable[[], list[Pair]]]]:
    """What each set is called on a card, and what makes its pairs."""
    return {
        "samples": ("the four sample images of the repository", lambda: files(ROOT / "samples")),
        "mild": (
            "synthetic camera shake of 2 to 9 pixels on held-out photographs",
            lambda: mild_blur(data / "photos"),
        ),
        "sharp": (
            "the same held-out photographs, sharp, against themselves",
            lambda: [Pair(pair.sharp, pair.sharp) for pair in mild_blur(data / "photos")],
        ),
        "reds": ("REDS, one sequence, real frames averaged, never seen", lambda: files(data / "reds_pairs")),
        "gopro": (
            "GoPro GOPR0372_07_00, the last ten pairs, real frames averaged, never seen",
            lambda: files(data / "gopro_pairs", first=32),
        ),
        "city": (
            "cityCC0.mpg, means of 7 frames, never seen",
            lambda: averaged_video(data / "video" / "cityCC0.mpg", 10),
        ),
        "box": ("box.mp4, means of 7 frames, never seen", lambda: averaged_video(data / "video" / "box.mp4")),
    }


def main() -> None:
    """Score the sets and print JSON for the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--sets", default="samples,mild,sharp,reds,gopro,city,box")
    options = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    cv2.setNumThreads(1)
    network = build_network(load_weights(options.weights)).to(memory_format=torch.channels_last)
    available = sets_of(options.data)
    scores = []
    for name in options.sets.split(","):
        title, make = available[name]
        pairs = make()
        sizes = sorted({f"{pair.sharp.shape[1]}x{pair.sharp.shape[0]}" for pair in pairs})
        score = score_pairs(pairs, lambda image: restore(network, image))
        entry: dict[str, object] = {
            "set": title,
            "images": score.images,
            "size": sizes[0] if len(sizes) == 1 else "native",
        }
        if name != "sharp":
            entry |= {"input_psnr": round(score.input_psnr, 3), "input_ssim": round(score.input_ssim, 4)}
        scores.append(entry | {"psnr": round(score.psnr, 3), "ssim": round(score.ssim, 4)})
        print(json.dumps(scores[-1]), flush=True)


if __name__ == "__main__":
    main()
