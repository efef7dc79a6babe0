"""Image files to pixels and back, without losing depth, alpha, orientation or profile, and without trusting a file."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from mimo_core.errors import ErrorKind, ImageError, UsageError
from mimo_core.images.containers import Metadata, embed, inspect, jpeg2000, modern, tiff
from mimo_core.images.containers.base import Header, truncated
from mimo_core.images.containers.opencv import cv_failure
from mimo_core.images.extensions import CONTAINERS
from mimo_core.images.fitting import fit_metadata
from mimo_core.images.orientation import orientation_of, stored, upright
from mimo_core.images.pixels import Pixels, as_8bit
from mimo_core.images.resizing import resize_bilinear

DEFAULT_MAX_PIXELS = 1 << 28
"""Largest image decoded unless told otherwise (268 million pixels, 0.8 GB as 8-bit RGB)."""

DEFAULT_QUALITY = 95
"""JPEG and WebP quality: at 4:4:4 a JPEG of it costs 45 to 52 dB against what was encoded (see `encode`)."""


_MAX_SIDE = {"jpg": 65535, "webp": 16383}
_DEEP = frozenset(("png", "tiff", "pnm", "jp2"))
_TRANSPARENT = frozenset(("png", "tiff", "webp", "bmp", "jp2", *modern.NAMES))
_GRAY_AND_ALPHA = frozenset(("png", "tiff"))
READ_ONLY = frozenset(("gif", "raw"))
"""Containers that are read and not written: what is restored of them is a PNG unless a format is chosen."""


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded image as it is stored: EXIF orientation is kept as metadata, not applied.

    Attributes:
        pixels: HWC, uint8 or uint16, C-contiguous: 1 channel (gray), 3 (RGB) or 4 (RGB and straight alpha).
        metadata: EXIF, ICC profile, XMP, resolution ...; written back by `encode`.
        container: what the file was by its content: `jpg`, `png`, `webp`, `tiff`, `bmp`, `gif`, `pnm`.
        gray: one luminance; true also for gray with alpha, which is held as RGBA with equal colours.
        lossless: whether the container had kept the pixels exactly.
        lost: what else the file held that is not here, in words.
        alpha: a fourth channel is transparency; else a band whose meaning the file does not tell.
        more: further pages of the file (TIFF), each without such of its own.
    """

    pixels: Pixels
    metadata: Metadata
    container: str
    gray: bool
    lossless: bool
    lost: tuple[str, ...] = ()
    alpha: bool = True
    more: tuple[Image, ...] = ()

    def __post_init__(self) -> None:
        """Refuse arrays that are no image (UsageError)."""
        pixels = self.pixels
        if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
            raise UsageError(
                f"an image is HWC uint8 or uint16 with 1, 3 or 4 channels, not {pixels.dtype} {pixels.shape}"
            )
        if pixels.size == 0:
            raise UsageError(f"an image has at least one pixel, not {pixels.shape}")

    @property
    def height(self) -> int:
        """Rows of pixels as stored."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of pixels as stored."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """1, 3 or 4."""
        return int(self.pixels.shape[2])

    @property
    def bit_depth(self) -> int:
        """8 or 16."""
        return 8 * int(self.pixels.dtype.itemsize)

    @property
    def pages(self) -> tuple[Image, ...]:
        """Every page as an image of its own."""
        return (replace(self, more=()), *self.more) if self.more else (self,)

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels of all pages."""
        return sum(page.pixels.nbytes for page in self.pages)


def container_of(key: str) -> str:
    """Return the container that a key's extension names, to which `--format same` encodes.

    Raises:
        UsageError: the extension names none.
    """
    container = CONTAINERS.get(PurePosixPath(key).suffix.lower())
    if container is None:
        raise UsageError(
            f"{key!r} is not named as an image that is written: known extensions are {', '.join(sorted(CONTAINERS))}"
        )
    return container


def decode(data: bytes, *, max_pixels: int | None = None, pages: Literal["all", "first"] = "all") -> Image:
    """Decode a whole file held in memory.

    Args:
        data: the file.
        max_pixels: of all pages together, checked against the file's header before anything is allocated; None for
            `DEFAULT_MAX_PIXELS`.
        pages: of a file that has several, all, or the first alone.

    Raises:
        ImageError: empty, not_an_image, truncated (also: damaged), unsupported (naming what), too_large or
            out_of_memory.
    """
    header = inspect(data)
    limit = DEFAULT_MAX_PIXELS if max_pixels is None else max_pixels
    first = _decode_page(header, 0, limit)
    if pages == "first":
        rest = ("all pages but the first",) if header.more else ()
        return replace(first, lost=(*first.lost, *rest))
    more: list[Image] = []
    total = first.width * first.height
    for number, inspect_page in enumerate(header.more, 2):
        try:
            more.append(_decode_page(inspect_page(), total, limit))
        except ImageError as error:
            raise ImageError(error.kind, f"page {number} of {len(header.more) + 1}: {error}") from error
        total += more[-1].width * more[-1].height
    return replace(first, more=tuple(more))


def _decode_page(header: Header, before: int, limit: int) -> Image:
    """Decode a page after others of so many pixels."""
    if before + header.width * header.height > limit:
        others = f", and {before} before them," if before else ""
        raise ImageError(
            ErrorKind.TOO_LARGE,
            f"{header.width}x{header.height} pixels{others} are more than the limit of {limit} pixels",
        )
    try:
        pixels = header.read()
    except MemoryError as error:
        raise ImageError(ErrorKind.OUT_OF_MEMORY, "too little memory to decode it") from error
    if pixels.shape[:2] != (header.height, header.width):
        raise truncated(
            header.container,
            f"decodes to {pixels.shape[1]}x{pixels.shape[0]}, its header says {header.width}x{header.height}",
        )
    gray = header.gray or pixels.shape[2] == 1
    return Image(pixels, header.metadata, header.container, gray, header.lossless, header.lost, header.alpha)


def check_encodable(image: Image, container: str) -> None:
    """Refuse what `encode` would refuse, before any time is spent on restoring the image.

    Raises:
        UsageError: an unknown container.
        ImageError: UNSUPPORTED where it cannot hold the image: any in `gif` (256 colours), an alpha channel that is
            not opaque in `jpg` or `pnm`, a side that is too long.
    """
    if container not in CONTAINERS.values():
        known = ", ".join(sorted(set(CONTAINERS.values())))
        raise UsageError(f"unknown container {container!r}: choose one of {known}")
    if image.more:
        if container != "tiff":
            raise ImageError(
                ErrorKind.UNSUPPORTED,
                f"{container} holds one page of the {len(image.pages)}: choose tiff, or the first (--pages first)",
            )
        for page in image.pages:
            check_encodable(page, container)
        return
    longest = _MAX_SIDE.get(container)
    problem = None
    if container in modern.NAMES:
        modern.prepare(container)
    if container == "gif":
        # OpenCV's best GIFs of photographs have 32 to 36 dB: that would undo the restoration.
        problem = "gif holds 256 colours only: choose --format png"
    elif longest is not None and max(image.width, image.height) > longest:
        problem = f"{container} holds sides of at most {longest} pixels: use png or tiff"
    elif image.channels == 4 and image.alpha and container not in _TRANSPARENT and not _is_opaque(image.pixels):
        problem = f"{container} has no alpha channel: use png, tiff or webp"
    if problem is not None:
        raise ImageError(ErrorKind.UNSUPPORTED, problem)


def check_kept(image: Image) -> None:
    """Refuse an image whose own container, as it is written here, would take from its pixels.

    Raises:
        ImageError: UNSUPPORTED, a lossless JPEG, or a JPEG, AVIF, HEIF or JPEG XL of more than 8 bits.
    """
    name = "JPEG" if image.container == "jpg" else modern.NAMES.get(image.container)
    if name is not None and (image.lossless or image.bit_depth > 8):
        kind = "lossless" if image.lossless else "deep (10- to 16-bit)"
        raise ImageError(ErrorKind.UNSUPPORTED, f"a {kind} {name} is not written as one: choose --format png or tiff")


def encode(image: Image, container: str, *, quality: int | None = None) -> bytes:
    """Encode to `jpg`, `png`, `webp`, `tiff`, `bmp` or `pnm`, with the metadata that the container can hold.

    An image of several pages becomes a TIFF of as many.

    JPEG keeps full colour resolution (4:4:4): on photographs 1 to 2 dB at the same quality for a fifth more bytes, and
    restored edges keep their colour. A WebP that was lossless stays so unless a quality is given. 16-bit images become
    8-bit in containers without 16 bits.

    Args:
        image: the image.
        container: its name.
        quality: 1 to 100, of `jpg` and `webp`; None for 95.

    Raises:
        UsageError: an unknown container or quality.
        ImageError: UNSUPPORTED, as `check_encodable` does.
    """
    check_encodable(image, container)
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"quality is 1 to 100, not {quality}")
    if image.more:
        return tiff.join([encode(page, container) for page in image.pages])
    pixels: Pixels = image.pixels if container in _DEEP else as_8bit(image.pixels)
    if image.channels == 4 and not _holds_fourth(image, container):
        opaque: Any = np.ascontiguousarray(pixels[:, :, :3])
        pixels = opaque
    metadata, _ = fit_metadata(image.metadata, container, gray=image.gray and pixels.shape[2] != 3)
    if image.gray and pixels.shape[2] == 4 and container in _GRAY_AND_ALPHA:
        return _encode_gray_and_alpha(pixels, container, metadata)
    if container == "jp2":
        return jpeg2000.encode(pixels, metadata)
    if container in modern.NAMES:
        return modern.encode(container, pixels, metadata, quality)
    extension, parameters = _parameters(container, image, quality)
    try:
        done, buffer = cv2.imencode(extension, _to_bgr(pixels), parameters)
    except cv2.error as error:
        raise cv_failure(error, ErrorKind.INTERNAL, f"cannot be encoded as {container}") from error
    if not done:
        raise ImageError(ErrorKind.INTERNAL, f"OpenCV cannot encode {image.width}x{image.height} as {container}")
    return embed(container, buffer.tobytes(), metadata, alpha=image.alpha)


def losses(image: Image, container: str) -> tuple[str, ...]:
    """Return what of a file is not in what `encode` makes of its image, in words, without repetition."""
    if image.more:
        return tuple(dict.fromkeys(name for page in image.pages for name in losses(page, container)))
    lost = list(image.lost)
    if image.bit_depth == 16 and container not in _DEEP:
        lost.append("16-bit depth")
    if image.channels == 4 and not image.alpha and not _holds_fourth(image, container):
        lost.append("the fourth band")
    gray = image.gray and (image.channels == 1 or container in _GRAY_AND_ALPHA)
    lost += fit_metadata(image.metadata, container, gray=gray)[1]
    return tuple(dict.fromkeys(lost))


def _holds_fourth(image: Image, container: str) -> bool:
    return container in _TRANSPARENT if image.alpha else container == "tiff"


def _encode_gray_and_alpha(pixels: Pixels, container: str, metadata: Metadata) -> bytes:
    """Encode two channels, which OpenCV does not write."""
    pair = np.ascontiguousarray(pixels[:, :, 2:])
    if container == "png":
        import imagecodecs

        return embed("png", bytes(imagecodecs.png_encode(pair, level=1)), metadata)
    import tifffile

    out = io.BytesIO()
    tifffile.imwrite(
        out,
        pair,
        photometric="minisblack",
        extrasamples=["unassalpha"],
        planarconfig="contig",
        compression="lzw",
        predictor=True,
        metadata=None,
        software="",
        byteorder="<",
    )
    return embed("tiff", out.getvalue(), metadata)


def model_input(image: Image) -> Pixels:
    """Return an image as the network takes it, and as it is scored: what a viewer shows.

    It is HWC RGB, C-contiguous, depth kept, gray replicated, alpha left out, and turned as its EXIF orientation says.
    """
    pixels = image.pixels
    if image.channels != 3:
        code = cv2.COLOR_GRAY2RGB if image.channels == 1 else cv2.COLOR_RGBA2RGB
        converted: Any = cv2.cvtColor(pixels, code)
        pixels = converted
    return upright(pixels, orientation_of(image.metadata))


def with_restored(image: Image, restored: Pixels, *more: Pixels) -> Image:
    """Return the image with restored colours, HWC RGB of either depth: gray is one channel again, alpha re-attached.

    Each page takes an array of its own. The colours are turned like `model_input` and are stored as the image is. The
    alpha is unchanged; where the size or depth differs (`--size`, 8-bit output) it is resized or converted.
    """
    if image.more:
        first, *rest = (with_restored(*both) for both in zip(image.pages, (restored, *more), strict=True))
        return replace(first, more=tuple(rest))
    if restored.ndim != 3 or restored.shape[2] != 3:
        raise UsageError(f"a restored image is HWC RGB, not {restored.shape}")
    restored = stored(restored, orientation_of(image.metadata))
    colours: Any = restored
    if image.gray:
        luma: Any = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
        colours = luma[:, :, np.newaxis]
    if image.channels == 4:
        alpha: Any = np.ascontiguousarray(image.pixels[:, :, 3:])
        if alpha.shape[:2] != restored.shape[:2]:
            alpha = resize_bilinear(alpha, (restored.shape[0], restored.shape[1]))
        if alpha.dtype != restored.dtype:
            alpha = as_8bit(alpha) if restored.dtype == np.uint8 else alpha.astype(np.uint16) * np.uint16(257)
        planes = [colours] * 3 if image.gray else [colours]
        colours = np.concatenate([*planes, alpha], axis=2)
    return replace(image, pixels=colours)


def _to_bgr(pixels: Pixels) -> Any:
    if pixels.shape[2] == 1:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)


def _is_opaque(pixels: npt.NDArray[Any]) -> bool:
    return bool(np.all(pixels[:, :, 3] == np.iinfo(pixels.dtype).max))


def _parameters(container: str, image: Image, quality: int | None) -> tuple[str, list[int]]:
    """Return OpenCV's extension and options, all stated so that its versions give the same bytes."""
    if container == "jpg":
        sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        return ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality or DEFAULT_QUALITY, *sampling]
    if container == "webp":
        lossless = quality is None and image.container == "webp" and image.lossless
        if not lossless:
            return ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality or DEFAULT_QUALITY]
        # Newer versions can also keep the colours below transparent pixels; above 100 means lossless to all.
        mode = getattr(cv2, "IMWRITE_WEBP_LOSSLESS_MODE", None)
        exact = [] if mode is None else [mode, cv2.IMWRITE_WEBP_LOSSLESS_PRESERVE_COLOR]
        return ".webp", [cv2.IMWRITE_WEBP_QUALITY, 101, *exact]
    if container == "png":
        # At 1280x720 26 ms, against 40 to 190 ms at zlib's levels 1 to 6 for files 2 to 15 % smaller (photographs).
        strategy = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
        row_filter = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]
        return ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1, *strategy, *row_filter]
    if container == "tiff":
        # LZW with differences: read everywhere, as fast as PNG, and 16-bit images keep their depth.
        compression = [cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_LZW]
        return ".tiff", [*compression, cv2.IMWRITE_TIFF_PREDICTOR, cv2.IMWRITE_TIFF_PREDICTOR_HORIZONTAL]
    if container == "pnm":
        return (".pgm" if image.channels == 1 else ".ppm"), [cv2.IMWRITE_PXM_BINARY, 1]
    return f".{container}", []
