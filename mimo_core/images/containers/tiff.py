"""TIFF: colour model and completeness from its directories, and the metadata tags that OpenCV does not write."""

import zlib

from mimo_core.errors import ImageError
from mimo_core.images.containers.base import MAX_METADATA, Header, Metadata, check_size, truncated, unsupported
from mimo_core.images.containers.directory import (
    DESCRIPTIVE,
    EXIF_POINTER,
    GPS_POINTER,
    Directory,
    Value,
    append_directory,
    build_exif,
    rational,
    read_directories,
    short,
)

NAME = "TIFF"
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _STRIP_BYTES, _X_DPI, _Y_DPI = 273, 274, 277, 279, 282, 283
_PLANAR, _UNIT, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 284, 296, 322, 323, 324, 325
_EXTRA, _FORMAT, _XMP, _ICC = 338, 339, 700, 34675
_ROWS_PER_STRIP = 278

_DEFLATE = {8, 32946}
_PIECE = 1 << 20
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32771, 32773, 32946}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_MODELS = {
    4: "transparency mask",
    5: "CMYK",
    8: "CIE Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "camera raw",
    32844: "LogL",
}
_FORMATS = {2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}


def inspect(data: bytes) -> Header:
    """Header of a whole TIFF with one full-size page."""
    pages = read_directories(data)
    first = pages[0]
    full = [page for page in pages if not page.integer(_SUBFILE, 0) & 0b101]
    if not full or full[0] is not first:
        raise unsupported("a TIFF that begins with a reduced image (camera raw)")
    if len(full) > 1:
        raise unsupported(f"a TIFF of {len(full)} pages", "split it into single pages first")
    width, height = first.integer(_WIDTH, 0), first.integer(_HEIGHT, 0)
    check_size(NAME, width, height)
    samples = first.integer(_SAMPLES, 1)
    bits = _one(first.integers(_BITS) or (1,), "bits per sample")
    photometric = first.integer(_PHOTOMETRIC, _BLACK_IS_ZERO)
    compression = first.integer(_COMPRESSION, 1)
    planar = first.integer(_PLANAR, 1) == 2
    _check_model(first, photometric, samples, bits, compression, planar)
    _check_data(first, data, width, height, samples, bits, compression)
    extra = first.integer(_EXTRA, 0) if samples == 4 else 0
    patches = []
    if first.integer(_ORIENTATION, 1) != 1:
        # The decoder would turn the pixels, while the tag stays in the metadata.
        patches.append(first.patch_short(_ORIENTATION, 1))
    if extra == 2 and bits == 8:
        # The decoder would multiply the colours by an alpha that is declared unassociated.
        patches.append(first.patch_short(_EXTRA, 0))
    return Header(
        "tiff",
        width,
        height,
        photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO),
        compression != 7,
        _metadata(first),
        inverted=photometric == _WHITE_IS_ZERO and bits == 16,
        premultiplied=extra == 1,
        decodable=_patched(data, [patch for patch in patches if patch is not None]),
    )


def _patched(data: bytes, patches: list[tuple[int, bytes]]) -> bytes | None:
    if not patches:
        return None
    patched = bytearray(data)
    for offset, patch in patches:
        patched[offset : offset + len(patch)] = patch
    return bytes(patched)


def _check_model(page: Directory, photometric: int, samples: int, bits: int, compression: int, planar: bool) -> None:
    """Refuse, by name, what the decoder would misread in silence."""
    formats = page.integers(_FORMAT)
    if any(value != 1 for value in formats):
        raise unsupported(f"a TIFF of {_FORMATS.get(max(formats), 'unknown')} {bits}-bit samples")
    if photometric in _MODELS or photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR):
        raise unsupported(f"a {_MODELS.get(photometric, f'photometric {photometric}')} TIFF")
    gray = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    if samples not in ((1,) if gray or photometric == _PALETTE else (3, 4)):
        raise unsupported(f"a {'gray or palette' if samples < 3 or gray else 'colour'} TIFF with {samples} channels")
    allowed = (8,) if photometric in (_PALETTE, _YCBCR) else (1, 8, 16) if gray else (8, 16)
    if bits not in allowed:
        raise unsupported(f"a TIFF of {bits}-bit samples")
    if planar and samples > 1 and (bits != 8 or samples != 3):
        raise unsupported(f"a {bits}-bit TIFF of {samples} channels in separate planes")
    across, down = page.integer(_TILE_WIDTH, 0), page.integer(_TILE_HEIGHT, 0)
    if bits == 8 and across * down % 1024:
        # OpenCV 5.0 fails on them without saying why.
        raise unsupported(f"an 8-bit TIFF in tiles of {across}x{down}", "save it in tiles of 256x256 or in strips")
    if compression not in _COMPRESSIONS:
        raise unsupported(f"a TIFF with compression {compression}")


def _check_data(
    page: Directory, data: bytes, width: int, height: int, samples: int, bits: int, compression: int
) -> None:
    """Refuse a file whose strips or tiles are not all inside it."""
    size = len(data)
    tiled = _TILE_OFFSETS in page.values
    offsets = page.integers(_TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    counts = page.integers(_TILE_BYTES if tiled else _STRIP_BYTES)
    if tiled:
        across, down = page.integer(_TILE_WIDTH, 0), page.integer(_TILE_HEIGHT, 0)
        if across < 1 or down < 1:
            raise truncated(NAME, "its tiles have no size")
        needed = -(-width // across) * -(-height // down)
    else:
        needed = -(-height // min(height, page.integer(_ROWS_PER_STRIP, height) or height))
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
    if compression in _DEFLATE:
        limit = _part_limit(page, tiled, width, height, samples, bits)
        for offset, count in zip(offsets[:needed], counts[:needed], strict=False):
            _check_deflated(data, offset, count, limit)
    if compression == 1 and not tiled and _STRIP_BYTES in page.values:
        stored = -(-width * samples * bits // 8) * height
        if page.integer(_PLANAR, 1) != 2 and sum(counts[:needed]) < stored:
            raise truncated(NAME, f"{sum(counts[:needed])} of {stored} bytes of image data")


def _part_limit(page: Directory, tiled: bool, width: int, height: int, samples: int, bits: int) -> int:
    """Most bytes that one strip or tile inflates to."""
    if tiled:
        width, rows = page.integer(_TILE_WIDTH, width), page.integer(_TILE_HEIGHT, height)
    else:
        rows = min(height, page.integer(_ROWS_PER_STRIP, height) or height)
    return (width * samples * bits // 8 + 1) * rows


def _check_deflated(data: bytes, offset: int, count: int, limit: int) -> None:
    """Refuse a part whose checksum is wrong: the decoder would fill it with what it has, in silence."""
    machine = zlib.decompressobj()
    compressed: bytes | memoryview = memoryview(data)[offset : offset + count]
    left = limit
    try:
        # A piece at a time: nothing of it is kept.
        while compressed and not machine.eof and left > 0:
            left -= len(machine.decompress(compressed, min(left, _PIECE)))
            compressed = machine.unconsumed_tail
        whole = machine.eof or left <= 0
    except zlib.error:
        whole = False
    if not whole:
        raise truncated(NAME, f"the compressed data at byte {offset} is damaged")


def _one(values: tuple[int, ...], what: str) -> int:
    if len(set(values)) > 1:
        raise unsupported(f"a TIFF with differing {what} ({', '.join(map(str, values))})")
    return values[0]


def _metadata(page: Directory) -> Metadata:
    raws = (page.raw(tag) for tag in (_ICC, _XMP))
    icc, xmp = (raw if len(raw) <= MAX_METADATA else b"" for raw in raws)
    x, y = page.rational(_X_DPI), page.rational(_Y_DPI)
    unit = page.integer(_UNIT, 2)
    scale = {2: 1.0, 3: 2.54}.get(unit)
    dpi = (x * scale, y * scale) if x and y and scale else None
    return Metadata(build_exif(page), icc, xmp, dpi)


def embed(data: bytes, metadata: Metadata) -> bytes:
    """Return the file (as OpenCV writes it) with a larger directory at its end, which has the metadata's tags."""
    new: dict[int, Value] = {}
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
    page = read_directories(data)[0]
    if page.integer(_SAMPLES, 1) == 4:
        new[_EXTRA] = short(2)
    return append_directory(data, page, new, nested)
