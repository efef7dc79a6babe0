"""An image between the stages of a worker's pipeline, and what its record says of it."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images import codecs
from mimo_core.images.cache import Fetched
from mimo_core.images.containers.base import profile_name
from mimo_core.images.pixels import Pixels
from mimo_core.inference.restorer import Restoration
from mimo_core.storage import is_local


@dataclass(frozen=True)
class Problem:
    """Why a restored image has no scores."""

    kind: ErrorKind
    message: str


class LeftOutError(ImageError):
    """An image is not restored because it would gain little.

    Attributes:
        columns: what its record says of it.
    """

    def __init__(self, message: str, columns: dict[str, Any]) -> None:
        super().__init__(ErrorKind.LITTLE_TO_GAIN, message)
        self.columns = columns


@dataclass(frozen=True, eq=False)
class Loaded:
    """An image that is ready to be inferred.

    Attributes:
        image: as decoded.
        pixels: what the network takes, (H, W, 3) RGB, upright, resized if the recipe says so.
        reference: the ground truth at the same size, if there is one.
        more: what the network takes of further pages.
        given: what another tool made of it, at the same size and with the same type, where that is to be scored.
        problem: why there is none although one was expected, or what is to be said of it.
        bytes_in: size of the source file.
        sha256: of the source file, where outputs are written.
        modified_ns: when it was modified last, where it lies on a local disk.
        predicted_gain: in dB, where images that would gain little are left out.
        read_ms, decode_ms: time taken for source and reference together.
    """

    image: codecs.Image
    pixels: Pixels
    more: tuple[Pixels, ...]
    reference: Pixels | None
    given: Pixels | None
    problem: Problem | None
    bytes_in: int
    sha256: str | None
    modified_ns: int | None
    read_ms: float
    decode_ms: float
    predicted_gain: float | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of pixels that the image holds while it is in the pipeline, its output included."""
        return (
            self.image.nbytes
            + 2 * (self.pixels.nbytes + sum(page.nbytes for page in self.more))
            + (self.given.nbytes if self.given is not None else 0)
            + (self.reference.nbytes if self.reference is not None else 0)
        )

    def like(self, other: "Loaded") -> bool:
        """Return whether both can be in one batch; images of several pages go alone."""
        return (
            not (self.more or other.more)
            and self.pixels.shape == other.pixels.shape
            and self.pixels.dtype == other.pixels.dtype
        )


def modified_ns(source: str, file: Fetched) -> int | None:
    """Return the time of modification, which is what the version of a local file is."""
    version = file.entry.version
    return int(version) if version is not None and is_local(source) else None


def differing_colours(image: codecs.Image, truth: codecs.Image) -> Problem | None:
    """Tell of colour profiles that differ: scores compare the values as they are stored."""
    names = [profile_name(one.metadata.icc) for one in (image, truth)]
    # Profiles without a name are equal where their bytes are.
    if image.metadata.icc == truth.metadata.icc or (names[0] and names[0] == names[1]):
        return None
    return Problem(
        ErrorKind.REFERENCE_COLOURS,
        f"the image's colours are {names[0] or 'of another profile'}, the reference's "
        f"{names[1] or 'of another profile'}; scored as the values stand",
    )


def shape_columns(image: codecs.Image) -> dict[str, Any]:
    """Return what a record says of an image's shape."""
    return {
        "width": image.width,
        "height": image.height,
        "channels": image.channels,
        "bit_depth": image.bit_depth,
        "pages": len(image.pages),
    }


def of_pages(pages: Sequence[Restoration | ImageError]) -> Restoration | ImageError:
    """Return the restorations of an image's pages as one; where a page has failed, its error."""
    done: list[Restoration] = []
    for number, page in enumerate(pages, 1):
        if isinstance(page, ImageError):
            return ImageError(page.kind, f"page {number} of {len(pages)}: {page}")
        done.append(page)
    return replace(done[0], more=tuple(done[1:]))


def size_of(pixels: Pixels) -> str:
    """Return width and height in words."""
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def described_fault(error: Exception) -> str:
    """Return an unexpected error with the place that raised it: it is a defect of this program, to be reported."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (at {PurePosixPath(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
