"""Local folders to train on: their images, and pairs of a blurred and a sharp one by the rules that runs go by."""

from pathlib import Path

from mimo_core.datasets.left_aside import is_image_name
from mimo_core.datasets.pairing import partners_of, role_of
from mimo_core.datasets.references import References
from mimo_core.errors import UsageError
from mimo_core.storage import Store


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder and its subfolders, by name, in the order of their paths' segments."""
    return [folder / key for key in _image_keys(folder)]


def pair_roots(folder: Path) -> list[Path]:
    """Return the folders in which images and references lie side by side, such as `blur` and `sharp`, sorted.

    These are the folder itself, or else those of its subfolders, as GoPro has one for each sequence; none where it is
    no folder.
    """
    if not folder.is_dir():
        return []
    if _holds_pairs(folder):
        return [folder]
    return [one for one in (folder / name for name in sorted(_folders(folder))) if _holds_pairs(one)]


def list_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Return (blurred, sharp) files of all `pair_roots`, in the order of the blurred ones' paths' segments.

    The sharp one is the reference that a run over the folder would have (`References`).

    Raises:
        UsageError: there are no such folders, or a blurred image has no sharp one.
    """
    roots = pair_roots(folder)
    if not roots:
        raise UsageError(f"{folder} has no folders blur and sharp (or blurred and sharp, or input and target)")
    return [pair for root in roots for pair in _pairs(root)]


def _pairs(root: Path) -> list[tuple[Path, Path]]:
    keys = [key for key in _image_keys(root) if role_of(key) == "input"]
    if not keys:
        return []
    references = References(str(root), str(root))
    place = Store(str(root)).url
    pairs = []
    for key in filter(references.is_input, keys):
        blurred, sharp = root / key, root / Path(Store(references.of(key)).url).relative_to(place)
        if not sharp.is_file():
            raise UsageError(f"{blurred} has no sharp image: {sharp} is not there")
        pairs.append((blurred, sharp))
    return pairs


def _image_keys(folder: Path) -> list[str]:
    # By segments: the bytes of whole keys have `a-b/1` before `a/1`, and what a seed draws depends on the order.
    return sorted((entry.key for entry in Store(str(folder)).list() if is_image_name(entry.key)), key=_segments)


def _segments(key: str) -> list[str]:
    return key.split("/")


def _holds_pairs(folder: Path) -> bool:
    names = {name.lower() for name in _folders(folder)}
    return any(partner in names for name in names for partner in partners_of(name))


def _folders(folder: Path) -> list[str]:
    entries = Store(str(folder)).list(recursive=False, folders=True)
    return [entry.key[:-1] for entry in entries if entry.key.endswith("/")]
