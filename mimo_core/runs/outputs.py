"""Names of outputs: `images/` and the key, whose extension changes with the format, or gains one that is written."""

from dataclasses import dataclass

from mimo_core.errors import UsageError
from mimo_core.images.extensions import IMAGE_EXTENSIONS, RAW_EXTENSIONS
from mimo_core.storage.names import extension

FOLDER = "images"
REPORT = "report.html"

# The extensions that a format goes by; the first one is given to files that change to it.
EXTENSIONS: dict[str, tuple[str, ...]] = {
    "png": (".png",),
    "jpg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "webp": (".webp",),
    "tiff": (".tiff", ".tif"),
}

READ_ONLY = frozenset((".gif",)) | RAW_EXTENSIONS
"""Extensions of formats that are read and not written: what is restored of them is a PNG."""
LOSSLESS = ".png"


@dataclass(frozen=True)
class OutputNames:
    """The policy that names outputs for a format: `same`, `png`, `jpg`, `webp` or `tiff`."""

    output_format: str = "same"

    def __post_init__(self) -> None:
        """Refuse formats that are not written."""
        if self.output_format != "same" and self.output_format not in EXTENSIONS:
            raise UsageError(f"unknown output format {self.output_format!r}: same, {', '.join(EXTENSIONS)}")

    @property
    def settles(self) -> bool:
        """Whether keys that want the same output get `distinct` names; else they are refused."""
        return self.output_format != "same"

    def may_meet(self, output: str) -> bool:
        """Return whether two distinct keys may want this output."""
        return self.settles or (
            output.endswith(LOSSLESS) and extension(output.removesuffix(LOSSLESS)).lower() in READ_ONLY
        )

    def changes(self, key: str) -> bool:
        """Return whether the output's extension differs from the key's."""
        if not self.settles:
            return extension(key).lower() in READ_ONLY
        return extension(key).lower() not in EXTENSIONS[self.output_format]

    def preferred(self, key: str) -> str:
        """Return the output of a key that shares its stem with no other: `a.jpg` gives `images/a.png`.

        The format `same` keeps the key, and adds `.png` to what is read and never written: `a.gif` gives
        `images/a.gif.png`.
        """
        if not self.changes(key):
            return f"{FOLDER}/{key}"
        if not self.settles:
            return f"{FOLDER}/{key}{LOSSLESS}"
        old = extension(key)
        # Only what is known to be an image's extension gives way: of `scan.2024` nothing is taken.
        stem = key[: len(key) - len(old)] if old.lower() in IMAGE_EXTENSIONS else key
        return f"{FOLDER}/{stem}{EXTENSIONS[self.output_format][0]}"

    def distinct(self, key: str) -> str:
        """Return the output of a key whose preferred one another has: `a.jpg` gives `images/a.jpg.png`."""
        return f"{FOLDER}/{key}{EXTENSIONS[self.output_format][0]}"
