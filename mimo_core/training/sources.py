"""Where training pairs come from: sharp photographs, folders of pairs, and successive frames to be averaged."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from mimo_core.datasets.pairs import image_files
from mimo_core.errors import ImageError, UsageError
from mimo_core.images.codecs import decode, model_input
from mimo_core.images.pixels import Pixels8, as_8bit
from mimo_core.storage import read_url
from mimo_core.training.blur import Shake, photograph_scene
from mimo_core.training.image_cache import ImageCache

SHARP_TILE = 256
SHARP_VARIANCE = 150.0
"""A tile whose Laplacian varies less than this is soft: out of focus, sky, or blurred already."""

_MAX_PIXELS = 1 << 30
"""Largest image that is read: data to train on are trusted more than an archive, and panoramas may be large."""

_TRIES = 256
"""Photographs without a sharp region that are passed over before it is an error."""

_CUT_LEVELS = 25.0
"""Mean difference of two successive frames, in 8-bit levels, above which the scene was cut."""


@dataclass(frozen=True)
class Pair:
    """A blurred crop and its sharp original, both 8-bit RGB of shape (size, size, 3)."""

    blurred: Pixels8
    sharp: Pixels8


class Source(Protocol):
    """Anything that draws training pairs; the same generator state gives the same pair."""

    def draw(self, rng: np.random.Generator, size: int) -> Pair:
        """Return one pair of crops of `size` x `size`."""


class SharpPhotos:
    """Sharp photographs, blurred on the way as `shake` says.

    Args:
        files: the photographs; regions that are not sharp are left out, and photographs without any.
        shake: the blur to synthesise.
        min_scale: photographs are shrunk by a random factor between this and 1, which sharpens and varies them.
        still: share of the pairs that stay sharp: the network must learn to leave those alone.
        longest: longer photographs are shrunk once to this side: their own pixels are seldom sharp.

    Raises:
        UsageError: no photographs, or none of the first ones has a sharp region.
    """

    def __init__(
        self,
        files: Sequence[Path],
        shake: Shake,
        *,
        min_scale: float = 0.5,
        still: float = 0.0,
        longest: int = 2048,
    ) -> None:
        self.shake, self.min_scale, self.still = shake, min_scale, still
        self._photos = ImageCache(
            files, lambda file: _Photo.of(shrink(read_rgb(file), longest)), lambda photo: photo.pixels.nbytes
        )
        if not any(self._photos[number].corners for number in range(min(len(files), _TRIES))):
            raise UsageError(
                f"none of {len(files)} photographs has a {SHARP_TILE}x{SHARP_TILE} tile with a Laplacian variance "
                f"of at least {SHARP_VARIANCE:g}"
            )

    def __len__(self) -> int:
        return len(self._photos)

    def draw(self, rng: np.random.Generator, size: int) -> Pair:
        """Return one crop around a sharp tile, at a random scale, and its blurred version.

        Raises:
            UsageError: a photograph cannot be read, or hardly any has a sharp region.
        """
        photo = self._choose(rng)
        image = photo.pixels
        still = rng.uniform() < self.still
        margin = 0 if still else self.shake.margin
        around = size + 2 * margin
        top, left = photo.corners[int(rng.integers(len(photo.corners)))]
        height, width = image.shape[:2]
        smallest = max(self.min_scale, around / min(height, width))
        scale = float(rng.uniform(min(smallest, 1.0), 1.0))
        side = min(round(around / scale), height, width)
        # The tile's middle, moved at random by what keeps a part of the tile in view.
        jitter = rng.integers(-SHARP_TILE // 4, SHARP_TILE // 4 + 1, 2)
        y = int(np.clip(top + SHARP_TILE // 2 + jitter[0] - side // 2, 0, height - side))
        x = int(np.clip(left + SHARP_TILE // 2 + jitter[1] - side // 2, 0, width - side))
        scene = resize(image[y : y + side, x : x + side], around)
        if still:
            return Pair(scene, scene)
        inner = slice(margin, margin + size)
        blurred, sharp = photograph_scene(scene, rng, self.shake)
        return Pair(blurred[inner, inner], sharp[inner, inner])

    def _choose(self, rng: np.random.Generator) -> "_Photo":
        for _ in range(_TRIES):
            photo = self._photos[int(rng.integers(len(self._photos)))]
            if photo.corners:
                return photo
        raise UsageError(f"hardly any of the {len(self)} photographs is sharp anywhere: choose sharper ones")


@dataclass(frozen=True)
class _Photo:
    """A photograph and the corners of its sharp tiles."""

    pixels: Pixels8
    corners: list[tuple[int, int]]

    @classmethod
    def of(cls, pixels: Pixels8) -> "_Photo":
        return cls(pixels, sharp_tiles(pixels))


class ImagePairs:
    """Pairs of a blurred and a sharp image.

    Args:
        files: (blurred, sharp) paths of equal size each.
        min_scale: pairs are shrunk together by a random factor from this on: milder blur of the same kind.
        max_scale: up to this one; below 1, crops look as the images of coarse passes do.

    Raises:
        UsageError: no pair at all, or the two images of the first pair differ in size.
    """

    def __init__(self, files: Sequence[tuple[Path, Path]], *, min_scale: float = 1.0, max_scale: float = 1.0) -> None:
        if not files:
            raise UsageError("no image pairs to train on")
        self.min_scale, self.max_scale = min_scale, max_scale
        self._pairs = ImageCache(files, lambda both: _read_pair(*both), lambda pair: pair.blurred.nbytes * 2)
        self._pairs[0]

    def __len__(self) -> int:
        return len(self._pairs)

    def draw(self, rng: np.random.Generator, size: int) -> Pair:
        """Return the same random window of both images, at a random scale.

        Raises:
            UsageError: an image cannot be read, or the two of a pair differ in size.
        """
        pair = self._pairs[int(rng.integers(len(self._pairs)))]
        return _window(pair, rng, size, self.min_scale, self.max_scale)


class AveragedFrames:
    """Successive sharp frames, whose mean is the blurred image and whose middle one is the sharp image.

    Args:
        clips: runs of frames without cuts, each (n, H, W, 3) RGB; shorter runs than needed are left out.
        counts: how many frames may be averaged; odd, so that there is a middle one.
        min_scale: as for ImagePairs.

    Raises:
        UsageError: a count is even, or no clip is long enough.
    """

    def __init__(self, clips: Iterable[Sequence[Pixels8]], *, counts: Sequence[int], min_scale: float = 1.0) -> None:
        if not counts or any(count < 3 or count % 2 == 0 for count in counts):
            raise UsageError(f"frames to average must be odd and at least 3, not {list(counts)}")
        self.counts, self.min_scale = tuple(counts), min_scale
        self._clips = [clip for clip in clips if len(clip) >= max(counts)]
        if not self._clips:
            raise UsageError(f"no clip has {max(counts)} successive frames")
        self._starts = np.cumsum([len(clip) - max(counts) + 1 for clip in self._clips])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def draw(self, rng: np.random.Generator, size: int) -> Pair:
        """Return the same random window of the mean and of the middle of a random run of frames."""
        position = int(rng.integers(len(self)))
        which = int(np.searchsorted(self._starts, position, side="right"))
        start = position - (int(self._starts[which - 1]) if which else 0)
        count = self.counts[int(rng.integers(len(self.counts)))]
        frames = self._clips[which][start : start + count]
        y, x, side = _place(frames[0].shape[0], frames[0].shape[1], rng, size, self.min_scale)
        cut = [frame[y : y + side, x : x + side] for frame in frames]
        return Pair(resize(average(cut), size), resize(cut[count // 2], size))


def average(frames: Sequence[Pixels8]) -> Pixels8:
    """Return the mean of equally large 8-bit frames, rounded: the blur of the GoPro set, in the camera's own values."""
    total = np.zeros(frames[0].shape, dtype=np.float32)
    for frame in frames:
        cv2.accumulate(frame, total)
    return np.asarray(np.rint(total / np.float32(len(frames))), dtype=np.uint8)


def read_rgb(file: Path) -> Pixels8:
    """Return an image file as the network takes it, in 8 bits: (H, W, 3) RGB, as stored, without EXIF's rotation.

    Raises:
        UsageError: it is missing or no image that can be read.
        SystemFailure: storage fails.
    """
    try:
        return as_8bit(model_input(decode(read_url(str(file))[0], max_pixels=_MAX_PIXELS)))
    except ImageError as error:
        raise UsageError(f"{file} cannot be read: {error}") from error


def shrink(image: Pixels8, longest: int) -> Pixels8:
    """Return the image, made smaller if need be so that its longer side is at most `longest`."""
    factor = longest / max(image.shape[:2])
    if factor >= 1.0:
        return image
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def resize(image: Pixels8, side: int) -> Pixels8:
    """Return a square image at another size: by area when shrinking, so that nothing aliases."""
    if image.shape[0] == side:
        return image
    method = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (side, side), interpolation=method), dtype=np.uint8)


def sharp_tiles(image: Pixels8, *, tile: int = SHARP_TILE, variance: float = SHARP_VARIANCE) -> list[tuple[int, int]]:
    """Return corners (top, left) of the tiles, half a tile apart, whose Laplacian variance reaches `variance`."""
    edges = cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F)
    total, squares = cv2.integral2(edges, sdepth=cv2.CV_64F, sqdepth=cv2.CV_64F)
    corners = []
    for top in range(0, image.shape[0] - tile + 1, tile // 2):
        for left in range(0, image.shape[1] - tile + 1, tile // 2):
            mean, square = (
                (table[top + tile, left + tile] - table[top, left + tile] - table[top + tile, left] + table[top, left])
                / tile**2
                for table in (total, squares)
            )
            if square - mean**2 >= variance:
                corners.append((top, left))
    return corners


def read_clips(file: Path) -> list[list[Pixels8]]:
    """Return the frames of a video, or of a folder of frames sorted by name, split where the scene is cut.

    Raises:
        UsageError: there is no frame in it.
    """
    clips: list[list[Pixels8]] = [[]]
    for frame in _frames(file):
        if clips[-1] and float(cv2.absdiff(frame, clips[-1][-1]).mean()) > _CUT_LEVELS:
            clips.append([])
        clips[-1].append(frame)
    if not clips[-1]:
        raise UsageError(f"{file} has no frames that can be read")
    return clips


def _frames(file: Path) -> Iterable[Pixels8]:
    if file.is_dir():
        for path in image_files(file):
            yield read_rgb(path)
        return
    video = cv2.VideoCapture(str(file))
    try:
        while True:
            found, frame = video.read()
            if not found:
                return
            yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    finally:
        video.release()


def _read_pair(blurred: Path, sharp: Path) -> Pair:
    pair = Pair(read_rgb(blurred), read_rgb(sharp))
    if pair.blurred.shape != pair.sharp.shape:
        raise UsageError(
            f"{blurred} is {pair.blurred.shape[1]}x{pair.blurred.shape[0]}, "
            f"but {sharp} is {pair.sharp.shape[1]}x{pair.sharp.shape[0]}"
        )
    return pair


def _window(pair: Pair, rng: np.random.Generator, size: int, min_scale: float, max_scale: float) -> Pair:
    y, x, side = _place(pair.sharp.shape[0], pair.sharp.shape[1], rng, size, min_scale, max_scale)
    window = np.s_[y : y + side, x : x + side]
    return Pair(resize(pair.blurred[window], size), resize(pair.sharp[window], size))


def _place(
    height: int, width: int, rng: np.random.Generator, size: int, min_scale: float, max_scale: float = 1.0
) -> tuple[int, int, int]:
    """Return a random square window (top, left, side) that becomes `size` at a random scale."""
    lowest = max(min_scale, size / min(height, width))
    highest = max(max_scale, min(lowest, 1.0))
    scale = float(rng.uniform(min(lowest, highest), highest))
    side = min(round(size / scale), height, width)
    return int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1)), side
