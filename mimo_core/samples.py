"""A few real images for measuring and checking: those of a source, or the project's own samples."""

from itertools import islice
from pathlib import Path

from mimo_core.codecs import decode, model_input
from mimo_core.errors import UsageError
from mimo_core.imagelist import list_images
from mimo_core.sessions.base import Pixels
from mimo_core.storage import read_url

FOLDER = Path(__file__).resolve().parents[1] / "samples" / "blurred"
"""The project's blurred photographs; they lie in its repository, not in an installed package."""


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
    entries = islice(list_images(source or str(FOLDER)), limit)
    return [model_input(decode(read_url(entry.source)[0])) for entry in entries]
