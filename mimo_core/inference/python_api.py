"""What a Python program calls: restore arrays and files, score pairs, and read the records of runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, TypedDict, cast

import numpy as np
from pydantic import ValidationError

from mimo_core.errors import ImageError, UsageError
from mimo_core.images.codecs import Image, check_encodable, container_of, decode, encode, model_input, with_restored
from mimo_core.images.containers import Metadata
from mimo_core.images.pixels import Pixels, as_8bit
from mimo_core.inference.shown import Comparison, RestoredFile, RestoredFolder
from mimo_core.metrics.definitions import ALL, Scores
from mimo_core.metrics.scorer import score_pair
from mimo_core.runs.config import PrecisionName, RestoreConfig
from mimo_core.storage import Store, info_url, read_url, redact, write_url
from mimo_core.wording import invalid_option, option

if TYPE_CHECKING:
    from types import TracebackType

    import pyarrow as pa
    from typing_extensions import Unpack

    from mimo_core.runs.recipe import Recipe
    from mimo_core.runs.record import Record

Location = str | os.PathLike[str]
"""A path or a URL."""


class RestorerOptions(TypedDict, total=False):
    """The options of a restorer: names, values and defaults are those of `mimo restore`.

    `cpus_per_worker`, the CPU threads of the session, is the exception: by default all cores, for there is one worker.
    """

    weights: Location
    model: str
    interpolation: Literal["auto", "nearest", "bilinear"]
    engine: str
    device: str
    precision: PrecisionName
    ensemble: int
    strength: float
    scales: str
    vacc_python: str
    tile: str
    overlap: int
    batch: int | str
    max_pixels: int
    cpus_per_worker: int


class ImageRestorer:
    """A network that is loaded once and restores any number of images; a context manager.

    Usable from any threads, which take turns.

    Attributes:
        recipe: every choice that was made, by the same rules as for a run.
        device_name: the device as its vendor names it, or `cpu`.
    """

    def __init__(self, **options: Unpack[RestorerOptions]) -> None:
        """Choose what the options leave open, load the weights and open the session.

        Raises:
            UsageError: an option or the weights are wrong, or nothing here computes what is asked for.
            SystemFailure: the device does not work.
        """
        # Only here: PyTorch takes seconds to import, and scores and records need none.
        from mimo_core.hardware import Hardware
        from mimo_core.inference.choices import choose, choose_weights, default_weights, device_type_of
        from mimo_core.inference.open_restorer import open_restorer
        from mimo_core.inference.tuning import tune

        config, hardware = _config(options), Hardware.here()
        given: dict[str, object] = {"cpus_per_worker": config.cpus_per_worker or hardware.cores}
        if config.weights is None:
            given["weights"] = default_weights(device_type_of(config, hardware, None))
        config = config.model_copy(update=given)
        weights = choose_weights(config, None)
        self.recipe: Recipe = choose(config, weights, hardware, None, tune)
        device = config.device if config.device != "auto" else None
        self._restorer = open_restorer(self.recipe, weights, device, config.vacc_python)
        self.device_name = self._restorer.device_name

    def __enter__(self) -> ImageRestorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def restore(self, image: Pixels | Location) -> Pixels:
        """Return the restored image.

        Args:
            image: (H, W) or (H, W, 1) gray, (H, W, 3) RGB or (H, W, 4) RGB with alpha, uint8 or uint16; or the path or
                URL of a file: its first page, which the network sees as its EXIF orientation turns it.

        Returns:
            An array of the input's shape and type; for a file (H, W, C) as it is stored. Alpha is that of the input.

        Raises:
            ImageError: the file is no image that can be read, or it cannot be restored.
            UsageError: the array is no image, or the restorer is closed.
            SystemFailure: storage or device fails.
        """
        source = replace(_image(image, self.recipe.max_pixels), more=())
        restored = self._restored(source).pixels
        flat = isinstance(image, np.ndarray) and image.ndim == 2
        return restored[:, :, 0] if flat else restored

    def restore_file(self, source: Location, output: Location, *, quality: int | None = None) -> RestoredFile:
        """Restore an image file, every page of it, and write it with its metadata: EXIF, ICC profile, XMP, resolution.

        What is returned names both files; a notebook shows them beside each other.

        Args:
            source: path or URL of the image.
            output: path or URL to write; its extension decides the container. Readers see the old file or the new one,
                never a part.
            quality: of JPEG and WebP, 1 to 100; by default 95, and a lossless WebP stays lossless.

        Raises:
            ImageError: the source cannot be read, restored, or held by the container of the output.
            UsageError: the extension names no container, the quality is none, or the output is the source.
            SystemFailure: storage or device fails.
        """
        target = os.fspath(output)
        container = container_of(target)
        if _same_place(os.fspath(source), target):
            raise UsageError(f"{redact(target)} is the source: write to another file")
        image = _image(source, self.recipe.max_pixels)
        check_encodable(image, container)
        write_url(target, encode(self._restored(image), container, quality=quality))
        return RestoredFile(os.fspath(source), target)

    def restore_folder(self, source: Location, output: Location, *, quality: int | None = None) -> RestoredFolder:
        """Restore every image of a folder, one after another, into another folder under the same relative paths.

        An image that cannot be restored does not stop the others. Nothing is resumed: of what is there already each
        image is written anew. For archives there is `mimo restore`.

        Args:
            source: what SOURCE of `mimo restore` may be: a folder or prefix, a glob, or a list.
            output: folder or prefix to write into; formats that are read and never written (GIF, camera raw) become
                PNG: `a.gif` gives `a.gif.png`.
            quality: as of `restore_file`.

        Raises:
            UsageError: there is nothing that is an image, or the output is the source.
            SystemFailure: storage or device fails.
        """
        from mimo_core.datasets.imagelist import list_images
        from mimo_core.runs.outputs import FOLDER, OutputNames

        place, target = os.fspath(source), Store(os.fspath(output))
        if _same_place(place, target.url):
            raise UsageError(f"{redact(target.url)} is the source: write into another folder")
        names, files, failed = OutputNames(), dict[str, RestoredFile](), dict[str, ImageError]()
        # Listed whole at first: OUTPUT may lie within the source.
        for entry in list(list_images(place)):
            name = names.preferred(entry.key).removeprefix(f"{FOLDER}/")
            try:
                files[entry.key] = self.restore_file(entry.source, f"{target.url}/{name}", quality=quality)
            except ImageError as error:
                failed[entry.key] = error
        return RestoredFolder(place, os.fspath(output), files, failed)

    def close(self) -> None:
        """Close the session. Closing twice is allowed."""
        self._restorer.close()

    def _restored(self, image: Image) -> Image:
        return with_restored(image, *(self._restorer.restore_one(model_input(page)) for page in image.pages))


def restore(image: Pixels | Location, **options: Unpack[RestorerOptions]) -> Pixels:
    """Return one restored image; see `ImageRestorer.restore`.

    The network is loaded for this image alone: for several, open one `ImageRestorer`.

    Args:
        image: an array, or the path or URL of a file.
        **options: see `RestorerOptions`.

    Raises:
        ImageError, UsageError, SystemFailure: see `ImageRestorer`.
    """
    with ImageRestorer(**options) as restorer:
        return restorer.restore(image)


def restore_file(
    source: Location, output: Location, *, quality: int | None = None, **options: Unpack[RestorerOptions]
) -> RestoredFile:
    """Restore one image file and write the result with its metadata; see `ImageRestorer.restore_file`.

    Args:
        source: path or URL of the image.
        output: path or URL to write.
        quality: of JPEG and WebP.
        **options: see `RestorerOptions`.

    Raises:
        ImageError, UsageError, SystemFailure: see `ImageRestorer`.
    """
    with ImageRestorer(**options) as restorer:
        return restorer.restore_file(source, output, quality=quality)


def restore_folder(
    source: Location, output: Location, *, quality: int | None = None, **options: Unpack[RestorerOptions]
) -> RestoredFolder:
    """Restore every image of a folder in this process; see `ImageRestorer.restore_folder`.

    Args:
        source: folder, prefix, glob or list.
        output: folder or prefix to write into.
        quality: of JPEG and WebP.
        **options: see `RestorerOptions`.

    Raises:
        UsageError, SystemFailure: see `ImageRestorer`.
    """
    with ImageRestorer(**options) as restorer:
        return restorer.restore_folder(source, output, quality=quality)


def compare(before: Pixels | Location, after: Pixels | Location) -> Comparison:
    """Return two images of one size, arrays or files, as what a notebook shows beside each other.

    Raises:
        ImageError: a file is no image that can be read.
        UsageError: the sizes differ, or an array is no image.
    """
    return Comparison(*(as_8bit(model_input(_image(one))) for one in (before, after)))


def score(
    image: Pixels | Location, reference: Pixels | Location, metrics: str | Sequence[str] = ("psnr", "ssim")
) -> Scores:
    """Return the scores of an image against its ground truth, by the definitions of `mimo evaluate`.

    Gray counts as RGB of equal values, alpha does not count, and 16 bits are scored as the 8 bits that they round to.

    Args:
        image: an array or file, as for `ImageRestorer.restore`; a file counts as a viewer shows it.
        reference: likewise, of the same size.
        metrics: names of metrics, also as one text joined by commas, or `all`.

    Returns:
        By metric: dB (infinity where nothing differs) or SSIM, which is None for images below 11 pixels.

    Raises:
        ImageError: a file is no image that can be read.
        UsageError: an unknown metric, images of different sizes, or an array that is no image.
    """
    if isinstance(metrics, str):
        metrics = ALL if metrics == "all" else [name.strip() for name in metrics.split(",")]
    pixels, truth = (model_input(_image(one)) for one in (image, reference))
    return score_pair(metrics, pixels, truth)


def read_records(output: Location) -> list[Record]:
    """Return the records of a run, one for each image that is done, in the order of its plan.

    Args:
        output: the run's folder: the OUTPUT of `mimo restore` or `mimo evaluate`, a path or URL.

    Raises:
        UsageError: there are no records.
        SystemFailure: the storage fails, or a part of the records is damaged.
    """
    from mimo_core.runs.records import from_table

    return from_table(read_records_table(output))


def read_records_table(output: Location) -> pa.Table:
    """Return the records of a run as a table with a column for each field of `Record`; see `read_records`."""
    # Only here: arrays are restored without PyArrow.
    from mimo_core.runs.records import read_all

    return read_all(Store(os.fspath(output)))


def _config(options: RestorerOptions) -> RestoreConfig:
    known = RestorerOptions.__annotations__
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UsageError(f"a restorer has no option {name}; {hint}")
    values = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in options.items()}
    try:
        return RestoreConfig.model_validate({"source": "", "output": "", **values})
    except ValidationError as error:
        raise UsageError(
            "; ".join(invalid_option(one, option(str(one["loc"][0])) if one["loc"] else "") for one in error.errors())
        ) from error


def _image(image: Pixels | Location, max_pixels: int | None = None) -> Image:
    if not isinstance(image, np.ndarray):
        if not isinstance(image, str | os.PathLike):
            raise UsageError(f"an image is a NumPy array, a path or a URL, not {type(image).__name__}")
        return decode(read_url(os.fspath(image))[0], max_pixels=max_pixels)
    if image.dtype not in (np.uint8, np.uint16):
        raise UsageError(
            f"an image is uint8 or uint16, not {image.dtype}: scale values of 0..1 by 255, round, and convert them"
        )
    pixels = image[:, :, np.newaxis] if image.ndim == 2 else image
    gray = pixels.ndim == 3 and pixels.shape[2] == 1
    return Image(cast(Pixels, np.ascontiguousarray(pixels)), Metadata(), "png", gray=gray, lossless=True)


def _same_place(source: str, output: str) -> bool:
    """Return whether both name one file; links and the case of names are seen through where both are local."""
    first, second = (Store(one) for one in (source, output))
    if first == second:
        return True
    if first.path is None or second.path is None or info_url(output) is None:
        return False
    return first.path.exists() and first.path.samefile(second.path)
