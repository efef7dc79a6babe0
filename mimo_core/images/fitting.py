"""What of an image a container can hold, and what is lost on the way there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mimo_core.errors import ImageError
from mimo_core.images.containers import Metadata, jpeg, modern
from mimo_core.images.containers.base import icc_space
from mimo_core.images.containers.directory import Directory, append_directory, read_directories

_EXIF = _ICC = _XMP = frozenset(("jpg", "png", "webp", "tiff", "jp2", *modern.NAMES))
_RESOLUTION = frozenset(("jpg", "png", "tiff", "bmp"))
_PHOTOSHOP = frozenset(("jpg", "tiff"))
_LEFT_OUT_OF_EXIF = (60_000, 4096, 512, 128)


def holds_xmp(container: str) -> bool:
    """Return whether files of this container have a place for XMP."""
    return container in _XMP


def fit_metadata(metadata: Metadata, container: str, *, gray: bool) -> tuple[Metadata, tuple[str, ...]]:
    """Return the metadata that a container holds, and the names of what it cannot.

    Args:
        metadata: of the image.
        container: what is written.
        gray: the pixels are one luminance, so that a gray profile fits.
    """
    lost: list[str] = []
    exif, icc, xmp, photoshop = metadata.exif, metadata.icc, metadata.xmp, metadata.photoshop
    if icc and (container not in _ICC or icc_space(icc) not in (("GRAY", "RGB") if gray else ("RGB",))):
        icc = b""
        lost.append("colour profile")
    if exif and container not in _EXIF:
        exif = b""
        lost.append("EXIF")
    if xmp and (container not in _XMP or (container == "jpg" and not jpeg.fits(xmp))):
        xmp = b""
        lost.append("XMP")
    if exif and container == "jpg" and not jpeg.fits(exif):
        exif = _shortened(exif)
        lost.append("large EXIF fields")
    if photoshop and container not in _PHOTOSHOP:
        photoshop = b""
        lost.append("IPTC")
    dpi = metadata.dpi
    if dpi is not None and container not in _RESOLUTION:
        dpi = None
        lost.append("resolution")
    chunks, segments, fields = metadata.png_chunks, metadata.jpeg_segments, metadata.tiff_fields
    if container != "png":
        lost += _names({kind.decode("ascii", "replace"): kind for kind, _ in chunks}, _CHUNKS)
        chunks = ()
    if container != "jpg":
        lost += ["comment" if marker == 0xFE else "application segments" for marker, _ in segments]
        segments = ()
    if container != "tiff":
        lost += [_TAGS.get(tag, f"TIFF tag {tag}") for tag, _ in fields]
        fields = ()
    kept = replace(
        metadata,
        exif=exif,
        icc=icc,
        xmp=xmp,
        photoshop=photoshop,
        dpi=dpi,
        png_chunks=chunks,
        jpeg_segments=segments,
        tiff_fields=fields,
    )
    return kept, tuple(dict.fromkeys(lost))


_CHUNKS = {"tEXt": "text", "zTXt": "text", "iTXt": "text", "tIME": "time", "sRGB": ""}
_TAGS = {33723: "IPTC", 269: "document name", 285: "page name"} | dict.fromkeys(
    (33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113), "GeoTIFF"
)


def _names(found: Mapping[str, object], words: Mapping[str, str]) -> list[str]:
    return [name for kind in found if (name := words.get(kind, f"the chunk {kind}"))]


def _shortened(exif: bytes) -> bytes:
    """Return EXIF that fits into a JPEG's segment: its largest fields are left out, its orientation never."""
    try:
        page = read_directories(exif)[0]
    except ImageError:
        return b""
    for longest in _LEFT_OUT_OF_EXIF:
        small = {tag: value for tag, value in page.values.items() if len(value.raw) <= longest}
        nested = {
            pointer: Directory(
                {tag: value for tag, value in below.values.items() if len(value.raw) <= longest}, {}, False
            )
            for pointer, below in page.nested.items()
        }
        short = append_directory(b"II*\0\0\0\0\0", Directory({}, {}, False), small, nested)
        if jpeg.fits(short):
            return short
    return b""
