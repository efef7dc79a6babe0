"""The file name extensions that are images, and the container that each stands for; nothing is imported for it."""

CONTAINERS = {
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".jpe": "jpg",
    ".jfif": "jpg",
    ".png": "png",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".bmp": "bmp",
    ".dib": "bmp",
    ".gif": "gif",
    ".ppm": "pnm",
    ".pgm": "pnm",
    ".pbm": "pnm",
    ".pnm": "pnm",
    ".jp2": "jp2",
    ".j2k": "jp2",
    ".j2c": "jp2",
    ".jxl": "jxl",
    ".avif": "avif",
    ".heic": "heif",
    ".heif": "heif",
    ".hif": "heif",
}

_RAW = "dng cr2 cr3 crw nef nrw arw sr2 raf orf rw2 pef srw 3fr iiq erf mef mos mrw kdc dcr rwl"
RAW_EXTENSIONS = frozenset(f".{name}" for name in _RAW.split())
"""Camera raw: read, never written."""


IMAGE_EXTENSIONS = frozenset(CONTAINERS) | RAW_EXTENSIONS
"""Lower-case file name extensions, with the dot, that are images by name."""
