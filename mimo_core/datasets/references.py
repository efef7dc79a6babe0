"""Ground truth paired with images by key, and by the layouts that the data sets have; never by position."""

import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from mimo_core.datasets.key_hashes import KeySet
from mimo_core.datasets.left_aside import is_image_name
from mimo_core.datasets.pairing import (
    REFERENCE_FOLDERS,
    better_of,
    join,
    partners_of,
    role_of,
    shares_its_original,
    sharp_names,
    swaps,
)
from mimo_core.errors import UsageError
from mimo_core.storage import Store, is_key, is_local, redact, safe_key, scheme_of
from mimo_core.storage.names import extension

# Names of so many reference files are kept at a time; folders beyond that are asked for again.
_KEPT_NAMES = 2_000_000
_FIRST_UNUSED = 5
# Files of a place that are looked at for what kind of place it is.
_LOOKED_AT = 1000


@dataclass(frozen=True)
class Unused:
    """References that belong to no image: how many, and the keys of the first few."""

    count: int = 0
    first: tuple[str, ...] = ()

    def __str__(self) -> str:
        """In words, for a person."""
        names = ", ".join(self.first) + (", ..." if self.count > len(self.first) else "")
        return f"{self.count} reference{'s belong' if self.count > 1 else ' belongs'} to no image: {names}"


@dataclass
class _Folder:
    """A listed folder: its files by name and its images by stem, and its folders by name in lower case."""

    files: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)

    def find(self, name: str, *, layouts: bool = True) -> str | None:
        """Return the file of this name, else the first image of its stem; with `layouts` also by names of originals."""
        for one in sharp_names(name) if layouts else [name]:
            found = self.files.get(one) or self.files.get(_stem(one))
            if found is not None:
                return found
        return None


class References:
    """Finds each key's reference in a folder or prefix, by listing every folder of it once rather than by asking for
    every image.

    An image's reference is the first that is there of: the same key; the same stem with another image extension, or
    with another beginning (`gt_1.png` for `blur_1.png`); the same with a folder swapped (`blur` for `sharp`, `gt` or
    `target`, `input` for `target`, `train_blur` for `train_sharp`), or all such folders; the same name in a folder of
    references without subfolders, where no other image has that name. No image is its own reference.
    """

    def __init__(
        self, url: str, source: str | None = None, *, layouts: bool = True, called: str = "the reference"
    ) -> None:
        """Refuse what cannot be a folder of references.

        Args:
            url: the folder or prefix.
            source: the folder or prefix that keys are relative to, None where there is none.
            layouts: whether more than the same key and the same stem counts.
            called: what messages call the folder.
        """
        self._store = Store(url)
        self._layouts = layouts
        self._listed = scheme_of(url) not in ("http", "https")
        self._folders: OrderedDict[str, _Folder] = OrderedDict()
        self._kept = 0
        self._used = KeySet()
        self._claims: dict[str, str] = {}
        self._mixed = self._told = False
        if self._store.path is not None and not self._store.path.is_dir():
            raise UsageError(f"{called} {redact(url)} is no folder")
        if self._listed and next(self._store.list(), None) is None:
            raise UsageError(f"there is nothing at {called} {redact(url)}")
        if self._listed:
            refuse_lmdb(self._store, f"{called} {redact(url)}")
        root = None if source is None else Store(source)
        # Where the images lie below the references, and the references below the images; None where they do not.
        self._images = _below(self._store, root)
        self._inside = _below(root, self._store) if self._images is None else None

    def is_input(self, key: str) -> bool:
        """Return whether an image is to be restored: of a place that holds both, references are not.

        Nor is what there is a second time in a better folder beside it, as GoPro's `blur_gamma` beside `blur`.
        """
        if self._inside is not None:
            return not key.startswith(self._inside + "/")
        if self._images is None:
            return True
        if role_of(key) in ("reference", "neither"):
            return False
        if not _listable(key):
            return True
        return not any(
            better_of(swap.folder) in self._list(join(self._images, swap.parent)).folders for swap in swaps(key)
        )

    @property
    def told_nothing(self) -> bool:
        """Whether images lie among the references, and so far no folder has told which are which."""
        return self._mixed and not self._told

    def of(self, key: str, source: str | None = None) -> str:
        """Return the path or URL of a key's reference, or the one that it should have; see `find`."""
        return self.find(key, source)[0]

    def find(self, key: str, source: str | None = None) -> tuple[str, bool | None]:
        """Return the path or URL of a key's reference, and whether it is there; None where that cannot be told.

        Where there is none, it is that which the image should have, which will be found missing when it is read.

        Args:
            key: of the image, as the storage has it, if it is no list's.
            source: its path or URL.

        Raises:
            UsageError: two images of different folders would have one reference, by their names alone.
        """
        itself = self._images == "" or self._store.url_of(key) == source
        self._mixed = self._mixed or itself or self._images is not None
        if not self._listed:
            return self._store.url_of(_expected_beside(key) if itself else key), None
        if not _listable(key):
            self._used.add(key)
            # In a place that holds both, the same key would be the image itself.
            return self._store.url_of(key if self._images is None else safe_key(key)), None
        if not self._layouts:
            same = self._same(key)
            return self._store.url_of(same or key), same is not None
        found = None if itself else self._same(key)
        expected = None
        for one in dict.fromkeys([key] if self._images is None else [key, join(self._images, key)]):
            if found is None:
                found, likely = self._by_folder(one)
                expected = likely or expected
        if found is None and expected is None and self._images is not None:
            found, expected = self._beside(join(self._images, key))
        if found is None and not itself and "/" in key:
            found = self._by_name(key, "")
        found, expected = (None if self._is(one, key, source) else one for one in (found, expected))
        self._told = self._told or (found or expected) is not None
        if found is not None:
            self._used.add(found)
            return self._store.url_of(found), True
        return self._store.url_of(expected or (_expected_beside(key) if itself else key)), False

    def _is(self, candidate: str | None, key: str, source: str | None) -> bool:
        """Return whether a reference would be the image itself, as where SOURCE is the folder of originals."""
        if candidate is None:
            return False
        beside = None if self._images is None else join(self._images, key)
        return candidate == beside or self._store.url_of(candidate) == source

    def note_given(self, reference: str) -> None:
        """Know of a reference that an image has by a list's own word."""
        self._used.add(reference.removeprefix(self._store.url.rstrip("/") + "/"))

    def unused(self) -> Unused:
        """Return the references that no image has, by listing them all once more; to be asked last."""
        self._used.freeze()
        count = 0
        first: list[str] = []
        for key in self._every():
            if key not in self._used:
                count += 1
                if len(first) < _FIRST_UNUSED:
                    first.append(safe_key(key))
        return Unused(count, tuple(first))

    def _every(self) -> Iterator[str]:
        if not self._listed:
            return
        for entry in self._store.list():
            role = role_of(entry.key)
            wanted = role == "reference" if self._images is not None else role in ("reference", None)
            if wanted and is_image_name(entry.key):
                yield entry.key

    def _same(self, key: str) -> str | None:
        folder, _, name = key.rpartition("/")
        found = self._list(folder).find(name, layouts=self._layouts)
        return None if found is None else join(folder, found)

    def _by_folder(self, key: str) -> tuple[str | None, str | None]:
        """Return the reference with a folder of the key swapped, and where it should be if it is not there."""
        expected = None
        for swap in swaps(key):
            folders = self._list(swap.parent).folders
            there = [folders[name] for name in swap.partners if name in folders]
            for partner in there:
                found = self._same(swap.key(partner))
                if found is not None:
                    return found, None
            expected = expected or swap.key((there or swap.partners)[0])
        return self._by_every_folder(key), expected

    def _by_every_folder(self, key: str) -> str | None:
        """Return the reference with all telling folders swapped, as where REDS' files unpack into a folder each."""
        if len(swaps(key)) < 2:
            return None
        *segments, name = key.split("/")
        folder = ""
        for segment in segments:
            folders = self._list(folder).folders
            partners = partners_of(segment)
            swapped = next((folders[partner] for partner in partners if partner in folders), None)
            if partners and swapped is None:
                return None
            folder = join(folder, swapped or segment)
        return self._same(join(folder, name))

    def _beside(self, key: str) -> tuple[str | None, str | None]:
        """Return the same from a folder of references beside those of the images, as HIDE has it."""
        parent = key
        while parent:
            parent = parent.rpartition("/")[0]
            folders = self._list(parent).folders
            for folder in (folders[name] for name in REFERENCE_FOLDERS if name in folders):
                flat = join(parent, folder)
                return self._by_name(key, flat), join(flat, key.rpartition("/")[2])
        return None, None

    def _by_name(self, key: str, folder: str) -> str | None:
        """Return the reference of the same name in a folder without subfolders."""
        listed = self._list(folder)
        name = None if listed.folders else listed.find(key.rpartition("/")[2])
        if name is None:
            return None
        found = join(folder, name)
        other = key if shares_its_original(key.rpartition("/")[2]) else self._claims.setdefault(found, key)
        if other != key:
            raise UsageError(
                f"{other!r} and {key!r} would both be compared with {self._store.show(found)}, for they have the same "
                "name; use a list with a column `reference`"
            )
        return found

    def _list(self, folder: str) -> _Folder:
        known = self._folders.get(folder)
        if known is not None:
            self._folders.move_to_end(folder)
            return known
        listed = _Folder()
        for entry in self._store.list(folder, recursive=False, folders=True):
            if entry.key.endswith("/"):
                name = entry.key[:-1].rpartition("/")[2]
                listed.folders.setdefault(name.lower(), name)
                continue
            name = entry.key.rpartition("/")[2]
            listed.files[name] = name
            if is_image_name(name):
                # Of several candidates the first by name is taken, whatever the storage.
                listed.files.setdefault(_stem(name), name)
        self._folders[folder] = listed
        self._kept += _weight(listed)
        while self._kept > _KEPT_NAMES and len(self._folders) > 1:
            self._kept -= _weight(self._folders.popitem(last=False)[1])
        return listed


def refuse_lmdb(store: Store, name: str) -> None:
    """Refuse a place that holds LMDB databases and no images, as BasicSR's scripts make of their data sets.

    Raises:
        UsageError: it is one; messages call it `name`.
    """
    keys = [entry.key for entry in islice(store.list(), _LOOKED_AT)]
    databases = [key for key in keys if key == "data.mdb" or key.endswith("/data.mdb")]
    if databases and not any(is_image_name(key) for key in keys):
        raise UsageError(
            f"{name} holds images in LMDB databases ({databases[0]}), which are not read: write them out as files first"
        )


def _expected_beside(key: str) -> str:
    """Return where the reference of an image would be found whose folder says nothing; nothing is there."""
    folder, _, name = key.rpartition("/")
    return join(folder, "sharp", name)


def _listable(key: str) -> bool:
    """Return whether a key's folder can be listed: not where it is no Unicode, or the key leads out of the place."""
    folder = key.rpartition("/")[0]
    return not folder or is_key(folder)


def _weight(listed: _Folder) -> int:
    return 1 + len(listed.files) + len(listed.folders)


def _stem(name: str) -> str:
    # A stem is kept apart from names by a slash, which no name holds.
    return "/" + name.removesuffix(extension(name))


def _below(outer: Store | None, inner: Store | None) -> str | None:
    """Return the relative path from one folder to another within it, empty for itself; None where it lies elsewhere."""
    if outer is None or inner is None or outer.is_local != inner.is_local:
        return None
    around, within = (os.path.realpath(one.url) if is_local(one.url) else one.url for one in (outer, inner))
    if around == within:
        return ""
    around = around.rstrip("/") + "/"
    return within[len(around) :] if within.startswith(around) else None
