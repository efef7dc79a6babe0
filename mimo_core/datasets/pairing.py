"""Names by which data sets tell blurred images from their sharp originals: folders, and beginnings of file names."""

import re
from dataclasses import dataclass
from typing import Literal

Role = Literal["input", "reference", "neither"]

# Folders of blurred images, with the names that the folder of their originals goes by, the likeliest first.
_INPUTS: dict[str, tuple[str, ...]] = {
    "blur": ("sharp", "gt", "target"),
    "blurred": ("sharp", "gt", "target"),
    "blurry": ("sharp", "gt", "target"),
    "blur_gamma": ("sharp", "gt", "target"),
    "input": ("target", "gt", "sharp"),
    "real_blur": ("gt", "sharp"),
}
REFERENCE_FOLDERS = ("gt", "sharp", "target", "ground_truth", "groundtruth")
# REDS' compressed frames (`train_blur_jpeg`) have the originals of the others.
_ENDINGS = {
    "_blur": ("_sharp", "_gt"),
    "_input": ("_target", "_gt"),
    "_blur_jpeg": ("_sharp",),
    "_blur_comp": ("_sharp",),
}
_REFERENCE_ENDINGS = ("_sharp", "_target", "_gt")
_BEGINNINGS = {"blur_": ("gt_", "sharp_"), "blurry_": ("gt_", "sharp_"), "input_": ("target_", "gt_")}
# RSBlur has one image in each folder, of these names.
_WHOLE_NAMES = {"real_blur": "gt_sharp", "avg_blur": "gt_sharp"}
# What is cut out of the images of a folder, or chosen from them, is named after it: `blur_crops`, `sharp_300`.
_TAIL = re.compile(r"_(?:crops?|\d+)$")
_AVERAGED = re.compile(r"(?:.*_)?avg\w*_img")
_MASK = re.compile(r"(?:.*_)?avg\w*_mask\w*")
# Lai's images have one original for all their blurs.
_SHARED = re.compile(r"((?:manmade|natural|people|saturated|text)_\d+)_(?:kernel|gyro)_\d+", re.IGNORECASE)
_KOHLER = re.compile(r"blurry[1-4]_\d+", re.IGNORECASE)


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
    """Return what the innermost telling folder of a key says of the image; None where no folder tells.

    RSBlur's masks of what is saturated are neither input nor reference.
    """
    for segment in reversed(key.lower().split("/")[:-1]):
        if partners_of(segment):
            return "input"
        plain = _TAIL.sub("", segment)
        if plain in REFERENCE_FOLDERS or plain.endswith(_REFERENCE_ENDINGS):
            return "reference"
        if _MASK.fullmatch(segment):
            return "neither"
    return None


def better_of(folder: str) -> str | None:
    """Return the folder, in lower case, that is taken instead of this one where it lies beside it; None for others.

    GoPro has each blurred frame a second time in `blur_gamma`, REDS in `train_blur_jpeg`, RSBlur as an average of
    sharp ones.
    """
    lower = folder.lower()
    if lower == "blur_gamma":
        return "blur"
    if _AVERAGED.fullmatch(lower):
        return "real_blur"
    plain = re.sub(r"_blur_(?:jpeg|comp)$", "_blur", lower)
    return plain if plain != lower else None


def sharp_names(name: str) -> list[str]:
    """Return names that the original of a blurred file goes by: its own, and `gt_1.png` for `blur_1.png`."""
    names = [name]
    lower = name.lower()
    for beginning, others in _BEGINNINGS.items():
        if lower.startswith(beginning):
            names += [other + name[len(beginning) :] for other in others]
    stem, dot, ending = name.rpartition(".")
    if stem.lower() in _WHOLE_NAMES:
        names.append(_WHOLE_NAMES[stem.lower()] + dot + ending)
    if (shared := _SHARED.fullmatch(stem)) is not None:
        names.append(shared[1] + dot + ending)
    return names


def shares_its_original(name: str) -> bool:
    """Return whether a blurred file has its original in common with others by its name, as Lai's have."""
    return _SHARED.fullmatch(name.rpartition(".")[0]) is not None


def has_many_originals(name: str) -> bool:
    """Return whether a file is one of Koehler's by its name (`Blurry1_1.png`): each has about 200 originals."""
    return _KOHLER.fullmatch(name.rpartition(".")[0]) is not None


def join(*segments: str) -> str:
    """Return the segments that are not empty, as one key."""
    return "/".join(segment for segment in segments if segment)


def partners_of(folder: str) -> tuple[str, ...]:
    """Return the names, in lower case, of the originals' folder for a folder of blurred images; none for others."""
    lower = folder.lower()
    if _AVERAGED.fullmatch(lower):
        return ("gt",)
    tail = found[0] if (found := _TAIL.search(lower)) is not None else ""
    plain = lower.removesuffix(tail)
    if plain in _INPUTS:
        return tuple(other + tail for other in _INPUTS[plain])
    for ending, others in _ENDINGS.items():
        if plain.endswith(ending) and plain != ending:
            return tuple(plain[: -len(ending)] + other + tail for other in others)
    return ()
