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
}


IMAGE_EXTENSIONS = frozenset(CONTAINERS)
"""Lower-case file name extensions, with the dot, that are images by name."""
