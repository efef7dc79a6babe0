"""Ground truth paired with images by key."""

from collections import OrderedDict

from mimo_core.errors import UsageError
from mimo_core.outputs import extension
from mimo_core.storage import Store, is_key, redact, scheme_of

# Names of so many reference files are kept at a time; folders beyond that are asked for again.
_KEPT_NAMES = 2_000_000


class References:
    """Finds each key's reference in a folder or prefix, by listing every folder of it once rather than by asking for
    every image.
    """

    def __init__(self, url: str) -> None:
        """Refuses what cannot be a folder of references."""
        self._store = Store(url)
        self._listed = scheme_of(url) not in ("http", "https")
        self._folders: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._kept = 0
        if self._store.path is not None and not self._store.path.is_dir():
            raise UsageError(f"the reference {redact(url)} is no folder")
        if self._listed and next(self._store.list(), None) is None:
            raise UsageError(f"there is nothing at the reference {redact(url)}")

    def of(self, key: str) -> str:
        """The path or URL of a key's reference: the same key, else the same stem with another image extension.

        Where there is none, that of the same key, which will be found missing when it is read.
        """
        folder, _, name = key.rpartition("/")
        if self._listed and is_key(key):
            names = self._names(folder)
            if name not in names:
                other = names.get(_stem(name))
                if other is not None:
                    return self._store.url_of(f"{folder}/{other}" if folder else other)
        return self._store.url_of(key)

    def _names(self, folder: str) -> dict[str, str]:
        """Both names and stems of a folder's image files, to the names."""
        from mimo_core.codecs import IMAGE_EXTENSIONS

        known = self._folders.get(folder)
        if known is not None:
            self._folders.move_to_end(folder)
            return known
        names: dict[str, str] = {}
        for entry in self._store.list(folder, recursive=False):
            name = entry.key.rpartition("/")[2]
            names[name] = name
            if extension(name).lower() in IMAGE_EXTENSIONS:
                # Of several candidates the first by name is taken, whatever the storage.
                names.setdefault(_stem(name), name)
        self._folders[folder] = names
        self._kept += len(names)
        while self._kept > _KEPT_NAMES and len(self._folders) > 1:
            self._kept -= len(self._folders.popitem(last=False)[1])
        return names


def _stem(name: str) -> str:
    # A stem is kept apart from names by a slash, which no name holds.
    return "/" + name.removesuffix(extension(name))
