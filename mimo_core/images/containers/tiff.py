"""TIFF: pixels by tifffile and imagecodecs, completeness and metadata from its directories."""

import io
import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import simplejpeg

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.containers import colour
from mimo_core.images.containers.base import (
    MAX_METADATA,
    Header,
    Metadata,
    Value,
    check_size,
    truncated,
    unsupported,
)
from mimo_core.images.containers.directory import (
    DESCRIPTIVE,
    EXIF_POINTER,
    GPS_POINTER,
    Directory,
    append_directory,
    beginning_with,
    build_exif,
    chain,
    rational,
    read_directories,
    short,
)
from mimo_core.images.containers.opencv import read_with_opencv

NAME = "TIFF"
# It reports every damaged file on stderr; here each is an ImageError instead.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _STRIP_BYTES, _X_DPI, _Y_DPI = 273, 274, 277, 279, 282, 283
_PLANAR, _UNIT, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 284, 296, 322, 323, 324, 325
_COLOUR_MAP, _EXTRA, _FORMAT, _XMP, _ICC, _PHOTOSHOP, _LAYERS = 320, 338, 339, 700, 34675, 34377, 37724
_ROWS_PER_STRIP, _SUB_DIRECTORIES, _DNG_VERSION, _SENSOR = 278, 330, 50706, 32803
# What says how pixels are stored, which is written anew; a page that is restored is no longer of a chain.
_STORAGE = frozenset(
    [
        *(*range(254, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 301, *range(317, 331)),
        *(*range(332, 335), *range(336, 348), 351, *range(512, 522), *range(529, 533)),
        *(_XMP, _ICC, _PHOTOSHOP, _LAYERS, EXIF_POINTER, GPS_POINTER),
    ]
)
_MAX_FIELD = 1 << 20

_NONE, _OLD_JPEG, _JPEG = 1, 6, 7
_FAX = {2, 3, 4}
_DEFLATE = {8, 32946}
_LOSSY = {_OLD_JPEG, _JPEG, 34892}
_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946, 33003, 33005, 34712, 34925, 34926, 34927, 50000, 50001}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _LAB: 3}
_MODELS = {4: "transparency mask", 9: "ICC Lab", 10: "ITU Lab", 32803: "camera raw", 32844: "LogL", 34892: "raw"}
_FORMATS = {2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}


def is_raw(data: bytes) -> bool:
    """Return whether a TIFF holds the data of a camera's sensor (DNG, NEF, ARW ...) rather than a picture.

    Raises:
        ImageError: TRUNCATED where its directories are damaged.
    """
    first = read_directories(data)[0]
    return (
        _DNG_VERSION in first.values
        or first.integer(_PHOTOMETRIC, 1) == _SENSOR
        or bool(first.integer(_SUBFILE, 0) & 1 and _SUB_DIRECTORIES in first.values)
    )


def inspect(data: bytes) -> Header:
    """Header of a whole TIFF: of its first page, and of its other full-size pages on demand."""
    pages = read_directories(data)
    full = [page for page in pages if not page.integer(_SUBFILE, 0) & 0b101]
    if not full or full[0] is not pages[0]:
        raise unsupported("a TIFF that begins with a reduced image (camera raw)")
    header = _inspect_page(data, full[0])
    lost = ("a reduced image",) if len(pages) > len(full) else ()
    more = tuple(partial(_inspect_page, data, page) for page in full[1:])
    return replace(header, lost=(*header.lost, *lost), more=more)


def _inspect_page(data: bytes, page: Directory) -> Header:
    width, height = page.integer(_WIDTH, 0), page.integer(_HEIGHT, 0)
    check_size(NAME, width, height)
    samples = page.integer(_SAMPLES, 1)
    bits = _one(page.integers(_BITS) or (1,), "bits per sample")
    photometric = page.integer(_PHOTOMETRIC, _BLACK_IS_ZERO)
    compression = page.integer(_COMPRESSION, _NONE)
    _check_model(page, photometric, samples, bits, compression)
    _check_data(page, data, width, height, samples, bits, compression)
    extra = page.integer(_EXTRA, 0)
    metadata, lost = _metadata(page)
    profile = metadata.icc
    if photometric in (_CMYK, _LAB):
        lost = (*lost, "CMYK colours" if photometric == _CMYK else "Lab colours")
        metadata = Metadata(metadata.exif, b"", metadata.xmp, metadata.dpi, tiff_fields=metadata.tiff_fields)
    read: Callable[[], Any]
    if (photometric == _YCBCR and compression not in _LOSSY) or (compression in _FAX and samples == 1):
        read = partial(_read_with_libtiff, data, page)
    else:
        read = partial(_read, data, page, bits, photometric, extra, profile)
    gray = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    # A page of a gray and another band is a picture and its transparency, unless its writer says otherwise.
    alpha = samples == _COLOURS[photometric] or extra in (1, 2)
    return Header("tiff", width, height, gray, compression not in _LOSSY, read, metadata, lost, alpha=alpha)


def _read(data: bytes, page: Directory, bits: int, photometric: int, extra: int, profile: bytes) -> Any:
    samples = _samples(data, page)
    colours = _COLOURS[photometric]
    if photometric == _PALETTE:
        pixels = _palette(page, bits)[np.minimum(samples[:, :, 0], (1 << bits) - 1)]
        rest = colour.widened(samples[:, :, 1:], bits)
        if rest.shape[2] and pixels.dtype != rest.dtype:
            rest = rest.astype(pixels.dtype)
    else:
        wide = colour.widened(samples, bits)
        pixels, rest = wide[:, :, :colours], wide[:, :, colours:]
    if photometric == _WHITE_IS_ZERO:
        pixels = np.subtract(np.iinfo(pixels.dtype).max, pixels)
    elif photometric == _CMYK:
        pixels = colour.inks_to_rgb(pixels, profile)
    elif photometric == _LAB:
        pixels = _lab(pixels)
    if rest.shape[2]:
        if pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        pixels = np.concatenate([pixels, rest], axis=2)
        if extra == 1:
            pixels = colour.straight(pixels)
    return np.ascontiguousarray(pixels)


def _samples(data: bytes, page: Directory) -> Any:
    """Return the stored samples, (H, W, samples) of any unsigned type, of which every strip or tile is whole."""
    import tifffile

    compression = page.integer(_COMPRESSION, _NONE)
    if compression == _JPEG:
        _check_jpeg(data, page)
    data = beginning_with(data, page)
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            first: Any = file.pages[0]
            samples: Any = first.asarray(maxworkers=1)
            planes = first.planarconfig == 2
    except MemoryError as error:
        raise ImageError(ErrorKind.OUT_OF_MEMORY, "too little memory to decode it") from error
    except Exception as error:
        # A damaged file leads tifffile and its codecs to errors of any kind.
        if compression in _DEFLATE and (whole := _more_than_its_strips(data, page)) is not None:
            return whole
        raise truncated(NAME, " ".join(str(error).split())[:200] or type(error).__name__) from error
    expected = (page.integer(_HEIGHT, 0), page.integer(_WIDTH, 0), page.integer(_SAMPLES, 1))
    if planes and samples.ndim == 3:
        samples = np.moveaxis(samples, 0, 2)
    if samples.size != np.prod(expected):
        raise truncated(NAME, f"decodes to {'x'.join(map(str, samples.shape))}")
    return samples.reshape(expected)


def _more_than_its_strips(data: bytes, page: Directory) -> Any:
    """Pixels of a file whose strips inflate to more than they need, each whole by its checksum; else None."""
    for offset, count in _parts(page):
        machine = zlib.decompressobj()
        compressed: bytes | memoryview = memoryview(data)[offset : offset + count]
        try:
            while compressed and not machine.eof:
                machine.decompress(compressed, 1 << 20)
                compressed = machine.unconsumed_tail
        except zlib.error:
            return None
        if not machine.eof:
            return None
    if page.integer(_BITS, 1) not in (8, 16):
        return None
    found = read_with_opencv(data, NAME)
    return found if found.shape[2] == page.integer(_SAMPLES, 1) else None


def _check_jpeg(data: bytes, page: Directory) -> None:
    """Refuse strips or tiles of JPEG at which a strict decoder complains: tifffile takes what it can get."""
    tables = page.raw(347)
    for offset, count in _parts(page):
        part = data[offset : offset + count]
        if tables.startswith(b"\xff\xd8") and part.startswith(b"\xff\xd8"):
            part = tables[:-2] + part[2:]
        try:
            simplejpeg.decode_jpeg(part, colorspace="GRAY", strict=True)
        except ValueError as error:
            # Only baseline and progressive JPEG of 8 bits go through it; a complaint is about damage.
            if page.integer(_BITS, 8) == 8 and "color" not in str(error).lower():
                raise truncated(NAME, f"the JPEG data at byte {offset}: {error}") from error


def _read_with_libtiff(data: bytes, page: Directory) -> Any:
    """Pixels of luma and chroma that are not a JPEG, and of faxes, which tifffile reads in part or wrongly."""
    data = beginning_with(data, page)
    patch = page.patch_short(_ORIENTATION, 1)
    if patch is not None:
        # The decoder would turn the pixels, while the tag stays in the metadata.
        data = data[: patch[0]] + patch[1] + data[patch[0] + len(patch[1]) :]
    return read_with_opencv(data, NAME)


def _palette(page: Directory, bits: int) -> Any:
    """Return the colour map as (2 ** bits, 3) uint8."""
    stored = np.array(page.integers(_COLOUR_MAP), dtype=np.uint32)
    if len(stored) < 3 << bits:
        raise truncated(NAME, "its palette is missing")
    table = stored[: 3 << bits].reshape(3, -1).T
    # Some writers give 8 bits where the specification asks for 16.
    return (table if table.max() < 256 else table >> 8).astype(np.uint8)


def _lab(pixels: Any) -> Any:
    bits = 8 * pixels.dtype.itemsize
    signed = pixels[:, :, 1:].view(f"i{bits // 8}").astype(np.float32) / (1 if bits == 8 else 256)
    lightness = pixels[:, :, :1].astype(np.float32) * (100 / np.iinfo(pixels.dtype).max)
    return colour.lab_to_rgb(np.concatenate([lightness, signed], axis=2), pixels.dtype)


def _check_model(page: Directory, photometric: int, samples: int, bits: int, compression: int) -> None:
    """Refuse by name what has no meaning as a photograph or is not read."""
    formats = page.integers(_FORMAT)
    if any(value != 1 for value in formats):
        raise unsupported(f"a TIFF of {_FORMATS.get(max(formats), 'unknown')} {bits}-bit samples")
    if photometric not in _COLOURS:
        raise unsupported(f"a {_MODELS.get(photometric, f'photometric {photometric}')} TIFF")
    colours = _COLOURS[photometric]
    if samples not in (colours, colours + 1) or (photometric in (_YCBCR, _LAB, _CMYK) and samples != colours):
        raise unsupported(f"a {'gray or palette' if colours == 1 else 'colour'} TIFF with {samples} channels")
    allowed: tuple[int, ...] = tuple(range(1, 17))
    if photometric == _PALETTE:
        allowed = (1, 2, 4, 8)
    elif photometric in (_YCBCR, _LAB, _CMYK):
        allowed = (8, 12, 16) if photometric == _CMYK else (8, 16) if photometric == _LAB else (8,)
    if bits not in allowed:
        raise unsupported(f"a TIFF of {bits}-bit samples")
    if compression not in _COMPRESSIONS:
        raise unsupported(f"a TIFF with compression {compression}")


def _parts(page: Directory) -> list[tuple[int, int]]:
    """Return (offset, bytes) of every strip or tile."""
    tiled = _TILE_OFFSETS in page.values
    offsets = page.integers(_TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    counts = page.integers(_TILE_BYTES if tiled else _STRIP_BYTES)
    return list(zip(offsets, counts, strict=False))


def _check_data(
    page: Directory, data: bytes, width: int, height: int, samples: int, bits: int, compression: int
) -> None:
    """Refuse a file whose strips or tiles are not all inside it."""
    size = len(data)
    tiled = _TILE_OFFSETS in page.values
    offsets = page.integers(_TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    counts = page.integers(_TILE_BYTES if tiled else _STRIP_BYTES)
    if compression == _OLD_JPEG:
        # Its one stream may lie outside of the strips; the decoder tells whether it is whole.
        return
    if tiled:
        across, down = page.integer(_TILE_WIDTH, 0), page.integer(_TILE_HEIGHT, 0)
        if across < 1 or down < 1:
            raise truncated(NAME, "its tiles have no size")
        needed = -(-width // across) * -(-height // down)
    else:
        needed = -(-height // min(height, page.integer(_ROWS_PER_STRIP, height) or height))
    planes = samples if page.integer(_PLANAR, 1) == 2 else 1
    needed *= planes
    if len(offsets) < needed:
        raise truncated(NAME, f"{len(offsets)} of {needed} {'tiles' if tiled else 'strips'}")
    if counts and len(counts) < needed:
        raise truncated(NAME, "it does not state the size of all its data")
    if not counts:
        # Some old files leave the counts out.
        counts = (1,) * len(offsets)
    for offset, count in zip(offsets, counts, strict=False):
        if offset + count > size:
            raise truncated(NAME, f"its image data reaches byte {offset + count} of {size}")
        if offset == 0 or count == 0:
            raise truncated(NAME, "a part of its image data is missing")
    if compression == _NONE and not tiled and _STRIP_BYTES in page.values:
        stored = -(-width * (samples // planes) * bits // 8) * height * planes
        if sum(counts[:needed]) < stored and page.integer(_PHOTOMETRIC, 1) != _YCBCR:
            raise truncated(NAME, f"{sum(counts[:needed])} of {stored} bytes of image data")


def _one(values: tuple[int, ...], what: str) -> int:
    if len(set(values)) > 1:
        raise unsupported(f"a TIFF with differing {what} ({', '.join(map(str, values))})")
    return values[0]


def _metadata(page: Directory) -> tuple[Metadata, tuple[str, ...]]:
    lost: list[str] = []
    icc, xmp, photoshop = (page.raw(tag) for tag in (_ICC, _XMP, _PHOTOSHOP))
    if max(len(icc), len(xmp), len(photoshop)) > MAX_METADATA:
        icc, xmp, photoshop = (raw if len(raw) <= MAX_METADATA else b"" for raw in (icc, xmp, photoshop))
        lost.append("a large profile or packet")
    x, y = page.rational(_X_DPI), page.rational(_Y_DPI)
    unit = page.integer(_UNIT, 2)
    scale = {2: 1.0, 3: 2.54}.get(unit)
    dpi = (x * scale, y * scale) if x and y and scale else None
    fields = []
    for tag, value in page.values.items():
        if tag in _STORAGE or tag in DESCRIPTIVE:
            continue
        if value.kind >= 16 or len(value.raw) > _MAX_FIELD:
            lost.append(f"TIFF tag {tag}")
        else:
            fields.append((tag, value))
    if _LAYERS in page.values:
        lost.append("Photoshop layers")
    return Metadata(build_exif(page), icc, xmp, dpi, photoshop=photoshop, tiff_fields=tuple(fields)), tuple(lost)


def join(pages: Sequence[bytes]) -> bytes:
    """Return one TIFF of the pages that `embed` returned, in their order.

    Raises:
        ImageError: UNSUPPORTED where it would be larger than 4 GiB.
    """
    return chain(pages, {_STRIP_OFFSETS: _STRIP_BYTES, _TILE_OFFSETS: _TILE_BYTES})


def embed(data: bytes, metadata: Metadata, *, alpha: bool = True) -> bytes:
    """Return the file (as OpenCV writes it) with a larger directory at its end, which has the metadata's tags.

    Args:
        data: a TIFF of one page.
        metadata: what goes with it.
        alpha: whether a fourth channel is transparency.
    """
    new: dict[int, Value] = dict(metadata.tiff_fields)
    if metadata.dpi is not None:
        new[_X_DPI], new[_Y_DPI] = rational(metadata.dpi[0]), rational(metadata.dpi[1])
        new[_UNIT] = short(2)
    nested: dict[int, Directory] = {}
    if metadata.exif:
        try:
            exif = read_directories(metadata.exif)[0]
        except ImageError:
            # Metadata of a damaged file is no reason to lose the image.
            exif = None
        if exif is not None:
            new |= {tag: value for tag, value in exif.values.items() if tag in DESCRIPTIVE}
            nested = {tag: exif.nested[tag] for tag in (EXIF_POINTER, GPS_POINTER) if tag in exif.nested}
    if metadata.icc:
        new[_ICC] = Value(7, len(metadata.icc), metadata.icc)
    if metadata.xmp:
        new[_XMP] = Value(1, len(metadata.xmp), metadata.xmp)
    if metadata.photoshop:
        new[_PHOTOSHOP] = Value(1, len(metadata.photoshop), metadata.photoshop)
    page = read_directories(data)[0]
    if page.integer(_SAMPLES, 1) in (2, 4):
        new[_EXTRA] = short(2 if alpha else 0)
    if not new and not nested:
        return data
    return append_directory(data, page, new, nested)
