"""Which files of a folder are images by name, which are leftovers of a system, and a count of the others."""

from collections import Counter
from collections.abc import Mapping

from mimo_core.images.extensions import IMAGE_EXTENSIONS
from mimo_core.storage.names import extension
from mimo_core.wording import count, most_first

LEFTOVER_FOLDERS = frozenset(
    ("@eaDir", ".thumbnails", ".Trashes", ".Trash", "$RECYCLE.BIN", "__MACOSX", ".Spotlight-V100", ".git")
)
"""Folders in which systems keep thumbnails, deleted files and the like beside photographs; nothing in them is taken."""

LEFTOVER_FILES = frozenset(("Thumbs.db", ".DS_Store", "desktop.ini", ".nomedia"))
"""Files that systems leave in folders of photographs, beside macOS' sidecars (`._x.jpg`)."""

_MOST_KINDS = 100
_OTHERS = "others"
_NONE = "without extension"


def is_leftover(key: str) -> bool:
    """Return whether a system left the file there, by its name or a folder's."""
    *folders, name = key.split("/")
    return name.startswith("._") or name in LEFTOVER_FILES or not LEFTOVER_FOLDERS.isdisjoint(folders)


def is_image_name(key: str) -> bool:
    """Return whether a file is an image by its name, and no leftover."""
    return extension(key).lower() in IMAGE_EXTENSIONS and not is_leftover(key)


class LeftAside:
    """Counts what a listing leaves aside, by extension; at most a hundred kinds are told apart."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    def add(self, key: str) -> None:
        """Count one more file; leftovers are not worth a word."""
        if is_leftover(key):
            return
        kind = extension(key).lower() or _NONE
        self.counted[kind if kind in self.counted or len(self.counted) < _MOST_KINDS else _OTHERS] += 1


def describe(counted: Mapping[str, int]) -> str:
    """Return a count in words, the most frequent first: `12 .mov, 3 .txt`."""
    ordered = most_first(counted)
    shown = [f"{number:,} {kind}" for kind, number in ordered[:8]]
    if rest := sum(number for _, number in ordered[8:]):
        shown.append(f"{rest:,} of other kinds")
    return f"{count(sum(counted.values()), 'file')} left aside, not images by name: {', '.join(shown)}"
