"""The image list: what SOURCE names (folder, glob, image, list file, tar or zip), one entry an image, streaming."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mimo_core.datasets.containers import CONTAINER_EXTENSIONS, is_container, list_members
from mimo_core.datasets.globs import Glob, has_magic, matches_any
from mimo_core.datasets.left_aside import LeftAside, is_image_name
from mimo_core.datasets.list_files import LIST_EXTENSIONS, list_extension, read_list
from mimo_core.datasets.pairing import has_many_originals
from mimo_core.datasets.references import References, refuse_lmdb
from mimo_core.errors import UsageError
from mimo_core.storage import Entry, Store, info_url, is_local, redact, safe_key, scheme_of

_COMMON = ".jpg, .png, .tif, .webp, .heic, .dng"
_WEB = ("http", "https")
_NO_UNICODE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class ImageEntry:
    """One image of a list.

    Attributes:
        key: relative path with `/`, the name of the image in the run.
        source: absolute path or URL, exactly as it is to be read.
        reference: path or URL of the ground truth, None where none is asked for. It need not exist: then the image's
            record will say so.
        restored: path or URL of what another tool made of it, None where it is to be restored.
        paired: whether the reference was seen to be there; None where there is none, or nobody looked.
        size: bytes, and
        version: modification time in ns or etag, as the listing knew them; None for rows of list files, web addresses
            and what is no regular file.
    """

    key: str
    source: str
    reference: str | None = None
    size: int | None = None
    version: str | None = None
    restored: str | None = None
    paired: bool | None = None


def list_images(
    source: str,
    *,
    include: tuple[str, ...] = (),
    reference: str | None = None,
    limit: int | None = None,
    note: Callable[[str], None] | None = None,
    aside: LeftAside | None = None,
) -> Iterator[ImageEntry]:
    """List the images of a folder or prefix (recursively), a glob, a single image, or a list file.

    A tar or zip gives its members, with their names as keys; a glob such as `shards/*.tar` those of all that match,
    with the container's name before theirs. Nothing is unpacked: each member has an address of its own.

    Folders and globs give what is an image by name, whatever it is (a FIFO or a dangling link named `.png` becomes a
    failed record later, not a silent gap), in the order of their keys' bytes. `include` adds what matches these globs:
    without `/` against the name, with `/` against the whole key. What systems leave in folders is skipped
    (`left_aside.LEFTOVER_FOLDERS`), and `aside` counts whatever else is not taken. Rows of a list file come in its
    order, all of them.

    `reference` is a folder or prefix where each image's ground truth lies under its key, or as the layouts of the data
    sets have it (`References`); a list's own column `reference` comes first. It may be the source itself: what it holds
    of references is not listed then. `note` is told in the end, in a line, which references belong to no image.

    With `limit` so many images are taken, and `note` is told nothing, for the others' references are not amiss.

    The nature of SOURCE is checked at once; listing itself streams while the iterator is used.

    Raises:
        UsageError: nothing there, or nothing that is an image; while listing, two images that would have one reference,
            or, in the end, no image of a place that holds both has any.
        SystemFailure: a folder that cannot be listed, missing credentials, no such bucket.
    """
    aside = LeftAside() if aside is None else aside
    root, found = _choose(source, include, aside)
    if reference is not None:
        pairing = References(reference, root)
        found = islice(_some(_inputs(found, pairing), source, root, include), limit)
        found = _paired(found, pairing, reference, note if limit is None else None)
    else:
        found = islice(_some(found, source, root, include), limit)
    # Pairs are found by the names that the storage has.
    if root is None:
        return found
    store = Store(root)
    return (_safely_named(entry, store) for entry in found)


def _choose(source: str, include: tuple[str, ...], aside: LeftAside) -> tuple[str | None, Iterator[ImageEntry]]:
    """Return the folder or prefix that keys are relative to, None where there is none, and the images."""
    if scheme_of(source) in _WEB:
        return None, _web(source)
    path = Store(source).url
    if is_local(source):
        if Path(path).is_dir():
            return path, _folder(path, include, aside)
        if os.path.lexists(path):
            return None, _members(path, "", include, aside) if is_container(path) else _single(path, True)
    elif not source.endswith("/") and "/" in path.partition("://")[2]:
        if _named_as_file(path) and info_url(path) is not None:
            return None, _members(path, "", include, aside) if is_container(path) else _single(path, True)
        if next(Store(path).list(), None) is not None:
            return path, _folder(path, include, aside)
    elif next(Store(path).list(), None) is not None:
        return path, _folder(path, include, aside)
    if has_magic(path):
        return Glob(path).root, _glob(path, include, aside)
    raise UsageError(f"there is nothing at {redact(source)}")


def _named_as_file(path: str) -> bool:
    return list_extension(path) is not None or is_image_name(path) or is_container(path)


def _some(
    entries: Iterator[ImageEntry], source: str, root: str | None, include: tuple[str, ...]
) -> Iterator[ImageEntry]:
    first = next(entries, None)
    if first is None:
        if root is not None:
            refuse_lmdb(Store(root), redact(source))
        also = f" and nothing matches {', '.join(include)}" if include else "; --include widens the choice"
        raise UsageError(f"no images in {redact(source)}: nothing is named {_COMMON} or the like{also}")
    yield first
    yield from entries


def _folder(path: str, include: tuple[str, ...], aside: LeftAside) -> Iterator[ImageEntry]:
    store = Store(path)
    for entry in store.list():
        if is_image_name(entry.key) or matches_any(include, entry.key):
            yield _of(store, entry)
        else:
            aside.add(entry.key)


def _of(store: Store, entry: Entry) -> ImageEntry:
    return ImageEntry(entry.key, store.url_of(entry.key), None, entry.size, entry.version)


def _safely_named(entry: ImageEntry, store: Store) -> ImageEntry:
    key = safe_key(entry.key)
    if key == entry.key:
        return entry
    # Beside `back\slash.png` there may be a file that is really named `back%5Cslash.png`.
    while store.exists(key):
        key = key.replace("%", "%25")
    return replace(entry, key=key)


def _glob(pattern: str, include: tuple[str, ...], aside: LeftAside) -> Iterator[ImageEntry]:
    from mimo_core.images.extensions import IMAGE_EXTENSIONS

    glob = Glob(pattern)
    store = Store(glob.root)
    # A pattern that spells another extension out (`*.dat`) asks for just that.
    widened = bool(glob.extension) and glob.extension not in IMAGE_EXTENSIONS
    for entry in glob.walk(store):
        if is_container(entry.key) and glob.extension in CONTAINER_EXTENSIONS:
            # Of several containers, members of one name are told apart by the container's.
            yield from _members(store.url_of(entry.key), f"{entry.key}/", include, aside)
        elif widened or is_image_name(entry.key) or matches_any(include, entry.key):
            yield _of(store, entry)
        else:
            aside.add(entry.key)


def _members(path: str, prefix: str, include: tuple[str, ...], aside: LeftAside) -> Iterator[ImageEntry]:
    """List the images in a container; `prefix` stands before their keys."""
    for held in list_members(path):
        if is_image_name(held.name) or matches_any(include, held.name):
            key = safe_key(prefix + held.name)
            yield ImageEntry(key, held.member.address, None, held.member.size, held.version)
        else:
            aside.add(held.name)


def _single(path: str, exists: bool) -> Iterator[ImageEntry]:
    if list_extension(path) is not None and exists:
        return _listed(path)
    name = path.rpartition("/")[2]
    if not is_image_name(name):
        raise UsageError(
            f"{redact(path)} is no folder, and by its name neither an image, a list ({' '.join(LIST_EXTENSIONS)}) "
            f"nor a container ({' '.join(CONTAINER_EXTENSIONS)})"
        )
    entry = info_url(path) if not is_local(path) or Path(path).is_file() else None
    return iter(
        [ImageEntry(safe_key(name), Store(path.rpartition("/")[0] or "/").url_of(name), None)]
        if entry is None
        else [ImageEntry(safe_key(name), path, None, entry.size, entry.version)]
    )


def _web(source: str) -> Iterator[ImageEntry]:
    path = unquote(urlsplit(source).path)
    if list_extension(path) is not None:
        return _listed(source)
    name = path.rpartition("/")[2]
    if not is_image_name(name):
        raise UsageError(
            f"{redact(source)}: a web address cannot be listed; give one image, or a list ({' '.join(LIST_EXTENSIONS)})"
        )
    return iter([ImageEntry(safe_key(name), source)])


# -- list files -------------------------------------------------------------------------------------------------------


def _listed(path: str) -> Iterator[ImageEntry]:
    folder = _folder_of(path)
    for place, row in read_list(path):
        if not row.source:
            raise UsageError(f"{redact(path)}, {place}: the source is empty")
        source = _absolute(folder, row.source)
        reference = _absolute(folder, row.reference) if row.reference else None
        key = row.key or _key_of(folder, source)
        if not row.key or _NO_UNICODE.search(row.key):
            key = safe_key(key)
        yield ImageEntry(key, _as_text(source), reference and _as_text(reference))


def _as_text(source: str) -> str:
    """Return a source that text can hold: a local path whose bytes are no UTF-8 becomes a `file://` address."""
    if not _NO_UNICODE.search(source):
        return source
    return (
        Store("/").url_of(source.lstrip("/"))
        if is_local(source)
        else _NO_UNICODE.sub("\N{REPLACEMENT CHARACTER}", source)
    )


def _folder_of(path: str) -> str:
    if scheme_of(path) in _WEB:
        parts = urlsplit(path)
        return parts._replace(path=parts.path.rpartition("/")[0], query="", fragment="").geturl()
    return path.rpartition("/")[0] or "/"


def _absolute(folder: str, source: str) -> str:
    """Return a source of a list: absolute as it is, relative ones against the list's folder."""
    if re.match(r"^[A-Za-z][A-Za-z0-9+.\-]+://", source):
        return source
    if source.startswith("/"):
        return source
    if is_local(folder):
        return os.path.normpath(f"{folder}/{source}")
    while source.startswith(("./", "../")):
        dots, _, source = source.partition("/")
        folder = folder.rpartition("/")[0] if dots == ".." else folder
    return f"{folder}/{source}"


def _key_of(folder: str, source: str) -> str:
    """Return the key of a source without one: relative to the list's folder, else its path with host or bucket."""
    inside = folder.rstrip("/") + "/"
    if source.startswith(inside):
        name = source[len(inside) :]
        return unquote(urlsplit(name).path) if scheme_of(source) in _WEB else name
    if is_local(source):
        return Store(source).url.lstrip("/")
    rest = source.partition("://")[2]
    if scheme_of(source) in _WEB:
        parts = urlsplit(source)
        return f"{parts.netloc.rpartition('@')[2]}{unquote(parts.path)}"
    return redact(rest)


# -- references -------------------------------------------------------------------------------------------------------


def _inputs(entries: Iterator[ImageEntry], pairing: References) -> Iterator[ImageEntry]:
    return (entry for entry in entries if entry.reference is not None or pairing.is_input(entry.key))


def _paired(
    entries: Iterator[ImageEntry], pairing: References, place: str, note: Callable[[str], None] | None
) -> Iterator[ImageEntry]:
    given = found = False
    koehler = None
    for entry in entries:
        if entry.reference is None:
            url, there = pairing.find(entry.key, entry.source)
            if there is False and koehler is None and has_many_originals(entry.key.rpartition("/")[2]):
                koehler = entry.key
            found = found or there is not False
            yield replace(entry, reference=url, paired=there)
        else:
            given = True
            pairing.note_given(entry.reference)
            yield entry
    # One image of such a name among others that have their references is no data set.
    if koehler is not None and not given and not found:
        raise UsageError(
            f"{koehler!r} is of Koehler's data set, which has about 200 originals for each image, and the best of "
            "their scores counts: that is not computed here; a list with a column `reference` names one for each"
        )
    if pairing.told_nothing and not given:
        raise UsageError(
            f"no image of {redact(place)} has a reference there: no folder tells which are blurred and which sharp "
            "(blur and sharp, input and target, ...), and no image is its own reference; name two folders, or give a "
            "list with a column `reference`"
        )
    if note is not None and (unused := pairing.unused()).count:
        note(str(unused))
