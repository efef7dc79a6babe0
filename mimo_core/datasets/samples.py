"""A few real images for measuring and checking: those of a source, or the project's own samples."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mimo_core.datasets.imagelist import list_images
from mimo_core.errors import UsageError
from mimo_core.images.codecs import decode, model_input
from mimo_core.images.pixels import Pixels
from mimo_core.storage import read_url

FOLDER = Path(__file__).resolve().parents[2] / "samples" / "blurred"
"""The project's blurred photographs; they lie in its repository, not in an installed package."""


@dataclass(frozen=True)
class Sample:
    """An image to measure on, (H, W, 3) RGB, and its ground truth if there is one."""

    image: Pixels
    reference: Pixels | None = None


def sample_images(source: str | None, limit: int) -> list[Pixels]:
    """Return the first images of a source as the network takes them: (H, W, 3) RGB, uint8 or uint16.

    Args:
        source: what `list_images` takes; None for the project's samples.
        limit: most images.

    Raises:
        UsageError: there are none.
        ImageError: one of them is no image.
    """
    if source is None and not FOLDER.is_dir():
        raise UsageError("the project's sample images are not installed: name some real images with --images")
    return [_read(entry.source) for entry in islice(list_images(source or str(FOLDER)), limit)]


def sample_pairs(source: str, reference: str | None, limit: int, crop: int | None = None) -> list[Sample]:
    """Return images evenly from all of a source, with their references.

    Args:
        source: what `list_images` takes.
        reference: folder or prefix of the sharp originals, paired by key; None for none.
        limit: most images.
        crop: of larger images the middle is taken, at most so many pixels a side.

    Raises:
        UsageError: there are none, or a reference has another size than its image.
        ImageError: one of them is no image, or a reference is not there.
    """
    entries = list(list_images(source, reference=reference))
    number = min(limit, len(entries))
    samples = []
    for entry in (entries[index * len(entries) // number] for index in range(number)):
        image = _read(entry.source)
        truth = _read(entry.reference) if entry.reference is not None else None
        if truth is not None and truth.shape != image.shape:
            raise UsageError(f"{entry.key}: the reference has another size")
        if crop is not None:
            top, left = (max(0, side - crop) // 2 for side in image.shape[:2])
            window = slice(top, top + crop), slice(left, left + crop)
            image, truth = image[window], truth[window] if truth is not None else None
        samples.append(Sample(image, truth))
    return samples


def _read(source: str) -> Pixels:
    return model_input(decode(read_url(source)[0]))
