"""Names by which data sets tell blurred images from their sharp originals: folders, and beginnings of file names."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["input", "reference"]

# Folders of blurred images, with the names that the folder of their originals goes by, the likeliest first.
_INPUTS: dict[str, tuple[str, ...]] = {
    "blur": ("sharp", "gt", "target"),
    "blurred": ("sharp", "gt", "target"),
    "blurry": ("sharp", "gt", "target"),
    "blur_gamma": ("sharp", "gt", "target"),
    "input": ("target", "gt", "sharp"),
}
REFERENCE_FOLDERS = ("gt", "sharp", "target")
_ENDINGS = {"_blur": ("_sharp", "_gt"), "_input": ("_target", "_gt")}
_REFERENCE_ENDINGS = ("_sharp", "_target", "_gt")
_BEGINNINGS = {"blur_": ("gt_", "sharp_"), "blurry_": ("gt_", "sharp_"), "input_": ("target_", "gt_")}


@dataclass(frozen=True)
class Swap:
    """A folder of a key that may be swapped for that of the originals.

    Attributes:
        parent: the folder around it, empty for the top.
        folder: its own name.
        partners: names of the originals' folder in lower case, the likeliest first.
        rest: what follows it in the key.
    """

    parent: str
    folder: str
    partners: tuple[str, ...]
    rest: str

    def key(self, partner: str) -> str:
        """Return the key with the folder swapped."""
        return join(self.parent, partner, self.rest)


def swaps(key: str) -> list[Swap]:
    """Return the folders of a key that hold blurred images by their names, the innermost first."""
    segments = key.split("/")
    found = []
    for place in range(len(segments) - 2, -1, -1):
        partners = partners_of(segments[place])
        if partners:
            found.append(Swap("/".join(segments[:place]), segments[place], partners, "/".join(segments[place + 1 :])))
    return found


def role_of(key: str) -> Role | None:
    """Return what the innermost telling folder of a key says of the image; None where no folder tells."""
    for segment in reversed(key.split("/")[:-1]):
        if partners_of(segment):
            return "input"
        if segment.lower() in REFERENCE_FOLDERS or segment.lower().endswith(_REFERENCE_ENDINGS):
            return "reference"
    return None


def sharp_names(name: str) -> list[str]:
    """Return names that the original of a blurred file goes by: its own, and `gt_1.png` for `blur_1.png`."""
    names = [name]
    for beginning, others in _BEGINNINGS.items():
        if name.lower().startswith(beginning):
            names += [other + name[len(beginning) :] for other in others]
    return names


def join(*segments: str) -> str:
    """Return the segments that are not empty, as one key."""
    return "/".join(segment for segment in segments if segment)


def partners_of(folder: str) -> tuple[str, ...]:
    """Return the names, in lower case, of the originals' folder for a folder of blurred images; none for others."""
    lower = folder.lower()
    for ending, others in _ENDINGS.items():
        if lower.endswith(ending) and lower != ending:
            return tuple(lower[: -len(ending)] + other for other in others)
    return _INPUTS.get(lower, ())
