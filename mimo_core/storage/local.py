"""A folder of the local (or mounted) file system as a store."""

# Names need not be Unicode, and each operation is one system call on a descriptor: the work of os, not of pathlib.
# ruff: noqa: PTH103, PTH105, PTH106, PTH108, PTH114, PTH116, PTH120, PTH123

import errno
import os
import random
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from mimo_core.errors import ErrorKind, ImageError, SystemFailure
from mimo_core.storage.entry import Entry
from mimo_core.storage.file_errors import Retries, is_transient_os_error, read_fault, write_fault
from mimo_core.storage.names import TEMPORARY
from mimo_core.storage.placing import link, lock, sync_folder, unlink_unused
from mimo_core.storage.regular import entry_of, open_regular, refuse_larger

T = TypeVar("T")
Data = bytes | bytearray | memoryview

# How often a write is begun anew that somebody who tidies up has swept away.
_TURNS = 40


class LocalFolder:
    """The backend for local paths; `root` is absolute. Keys are trusted here: `Store` has checked them."""

    def __init__(self, root: str, retries: Retries) -> None:
        """Nothing is opened or created yet."""
        self.root = root
        self._retries = retries

    def show(self, key: str) -> str:
        """Return the path of `key` as messages show it."""
        return self._path(key)

    def _path(self, key: str) -> str:
        return f"{self.root.rstrip('/')}/{key}" if key else self.root

    # -- reading ----------------------------------------------------------------------------------------------------

    def fetch(self, key: str, max_bytes: int | None) -> tuple[bytes, Entry]:
        """Return the bytes and the entry of a regular file; links to files are followed."""
        path = self._path(key)

        def act() -> tuple[bytes, Entry]:
            with open(open_regular(path), "rb", buffering=0) as file:
                before = os.fstat(file.fileno())
                refuse_larger(path, before.st_size, max_bytes)
                data = file.read()
                after = os.fstat(file.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise ImageError(ErrorKind.CHANGED, f"{path} changed while it was read")
            return data, Entry(key, len(data), str(before.st_mtime_ns))

        return self._reading(act, path)

    def fetch_range(self, key: str, start: int, length: int) -> bytes:
        """At most `length` bytes from offset `start`."""
        path = self._path(key)

        def act() -> bytes:
            with open(open_regular(path), "rb", buffering=0) as file:
                return os.pread(file.fileno(), length, start)

        return self._reading(act, path)

    def info(self, key: str) -> Entry | None:
        """Return the entry of an existing regular file, else None."""
        path = self._path(key)

        def act() -> Entry | None:
            try:
                return entry_of(key, os.stat(path))
            except (FileNotFoundError, NotADirectoryError):
                return None

        entry = self._reading(act, path)
        return None if entry is None or entry.size is None else entry

    def _reading(self, act: Callable[[], T], path: str) -> T:
        try:
            return self._retries.call(act, is_transient_os_error)
        except FileNotFoundError as error:
            if os.path.islink(path):
                raise ImageError(ErrorKind.NOT_FOUND, f"{path} is a link to a file that does not exist") from None
            raise read_fault(error, path) from None
        except OSError as error:
            raise read_fault(error, path) from None

    # -- listing ----------------------------------------------------------------------------------------------------

    def entries(self, folder: str, recursive: bool, folders: bool, start_after: str) -> Iterator[Entry]:
        """Yield entries below `folder` in the order of their keys' bytes, as a bucket would list them.

        One folder's names are held at a time on each level. Links to files and folders are followed; a folder that is
        its own ancestor is not entered again. What is neither a file nor a folder has size None, as has a dangling
        link.
        """
        top = self._path(folder)
        prefix = f"{folder}/" if folder else ""
        try:
            status = os.stat(top)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _unlistable(top, error) from None
        levels = [(self._names(top, prefix), _identity(status))]
        while levels:
            names, _ = levels[-1]
            name = next(names, None)
            if name is None:
                levels.pop()
                continue
            key = names.prefix + name
            if not name.endswith("/"):
                if key > start_after:
                    yield self._entry_of(key)
                continue
            if not recursive:
                if folders and key > start_after:
                    yield Entry(key, None, None)
                continue
            if key <= start_after and not start_after.startswith(key):
                continue
            path = self._path(key[:-1])
            try:
                identity = _identity(os.stat(path))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _unlistable(path, error) from None
            if all(identity != above for _, above in levels):
                levels.append((self._names(path, key), identity))

    def _names(self, path: str, prefix: str) -> "_Names":
        def act() -> list[str]:
            with os.scandir(path) as found:
                return [f"{item.name}/" if _is_folder(item) else item.name for item in found]

        try:
            names = self._retries.call(act, is_transient_os_error)
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise _unlistable(path, error) from None
        names = [name for name in names if name != f"{TEMPORARY}/"]
        names.sort(key=os.fsencode)
        return _Names(prefix, names)

    def _entry_of(self, key: str) -> Entry:
        try:
            return entry_of(key, os.stat(self._path(key)))
        except OSError:
            return Entry(key, None, None)

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, key: str, data: Data, mode: int = 0o666, modified_ns: int | None = None) -> Entry:
        """Replace the file of `key` at once: readers see the old or the new bytes, whatever dies in between.

        `mode` are the permissions of the file, less those that the umask takes; `modified_ns` is its time of
        modification, where that is not now.
        """
        path = self._path(key)
        status = self._placing(path, data, lambda temporary: os.replace(temporary, path), mode, modified_ns)
        return entry_of(key, status)

    def create(self, key: str, data: Data) -> bool:
        """Write the file of `key` unless it exists, decided by the file system; readers never see it half written."""
        path = self._path(key)
        if os.path.lexists(path):
            return False
        try:
            self._placing(path, data, lambda temporary: link(temporary, path, data))
        except FileExistsError:
            return False
        return True

    def _placing(
        self,
        path: str,
        data: Data,
        place: Callable[[str], object],
        mode: int = 0o666,
        modified_ns: int | None = None,
    ) -> os.stat_result:
        def act() -> os.stat_result:
            base = self.root
            # A second pass is needed where the folder is not there yet or lies on another device; later ones where
            # somebody removes the folder or the unfinished file in the same moment.
            for turn in range(_TURNS):
                time.sleep(turn and random.uniform(0, 0.001 * turn))
                temporary = f"{base.rstrip('/')}/{TEMPORARY}/{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
                try:
                    with open(self._open_temporary(temporary, mode), "wb", buffering=0) as file:
                        rest = memoryview(data)
                        while rest:
                            rest = rest[file.write(rest) :]
                        os.fsync(file.fileno())
                        place(temporary)
                        if modified_ns is not None:
                            # Not every file system takes a time, and none is lost for it.
                            with suppress(OSError):
                                os.utime(file.fileno(), ns=(modified_ns, modified_ns))
                        status = os.fstat(file.fileno())
                except FileNotFoundError:
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    continue
                except OSError as error:
                    if error.errno != errno.EXDEV or base != self.root:
                        raise
                    base = self._base_on_device_of(path)
                    continue
                finally:
                    with suppress(OSError):
                        os.unlink(temporary)
                sync_folder(os.path.dirname(path))
                return status
            raise ImageError(ErrorKind.WRITE, f"{path}: its folder is removed again and again while it is written")

        try:
            return self._retries.call(act, is_transient_os_error)
        except FileExistsError:
            if os.path.lexists(path):
                raise
            raise ImageError(ErrorKind.WRITE, f"{path}: a file and a folder want the same name") from None
        except OSError as error:
            raise write_fault(error, path) from None

    def _base_on_device_of(self, path: str) -> str:
        # Where a folder of the store is a mount or a link to another disk, unfinished files must lie beyond it.
        folder = os.path.dirname(path)
        device = os.stat(folder).st_dev
        base = self.root
        for segment in os.path.relpath(folder, self.root).split("/"):
            base = f"{base.rstrip('/')}/{segment}"
            if os.stat(base).st_dev == device:
                break
        return base

    def _open_temporary(self, temporary: str, mode: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            try:
                descriptor = os.open(temporary, flags, mode)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(temporary), exist_ok=True)
                descriptor = os.open(temporary, flags, mode)
        except OSError as error:
            if is_transient_os_error(error) or isinstance(error, FileNotFoundError):
                raise
            raise write_fault(error, self.root, whole_store=True) from None
        lock(descriptor)
        return descriptor

    def delete(self, key: str) -> None:
        """Remove the file of `key`; nothing happens where there is none."""
        path = self._path(key)
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise write_fault(error, path) from None

    def delete_many(self, keys: Iterable[str], /) -> None:
        """Remove the files of these keys, and the folders below the root that are empty without them."""
        folders = set()
        for key in keys:
            self.delete(key)
            folders.add(key.rpartition("/")[0])
        for folder in sorted(folders, key=len, reverse=True):
            rest = folder
            # A folder that holds something else, or leads elsewhere, stays.
            with suppress(OSError):
                while rest:
                    os.rmdir(self._path(rest))
                    rest = rest.rpartition("/")[0]

    def delete_tree(self, folder: str) -> None:
        """Remove a folder with all that is in it; a link is removed itself, never what it leads to."""
        path = self._path(folder)
        try:
            if os.path.islink(path):
                os.unlink(path)
            else:
                shutil.rmtree(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise write_fault(error, path) from None

    def remove_leftovers(self, older_than_s: float) -> int:
        """Remove unfinished files at least `older_than_s` seconds old that no living process is writing."""
        now = time.time()
        removed = 0
        for base in [self.root, *self._folders_of_root()]:
            folder = f"{base.rstrip('/')}/{TEMPORARY}"
            try:
                with os.scandir(folder) as found:
                    for item in found:
                        with suppress(FileNotFoundError):
                            age = now - item.stat(follow_symlinks=False).st_mtime
                            removed += age >= older_than_s and unlink_unused(item.path)
                with suppress(OSError):
                    os.rmdir(folder)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise write_fault(error, folder, whole_store=True) from None
        return removed

    def _folders_of_root(self) -> Iterator[str]:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.root) as found:
            yield from [item.path for item in found if _is_folder(item)]


class _Names(Iterator[str]):
    """The sorted names of one folder on the way through a tree, freed as they are taken."""

    def __init__(self, prefix: str, names: list[str]) -> None:
        names.reverse()
        self.prefix = prefix
        self._names = names

    def __next__(self) -> str:
        if not self._names:
            raise StopIteration
        return self._names.pop()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_folder(item: "os.DirEntry[str]") -> bool:
    try:
        return item.is_dir()
    except OSError:
        return False


def _unlistable(path: str, error: OSError) -> SystemFailure:
    # Going on without the folder would leave its images out of the plan, and nobody would know.
    if isinstance(error, PermissionError):
        return SystemFailure(ErrorKind.NO_PERMISSION, f"{path}: no permission to list this folder")
    return SystemFailure(ErrorKind.STORAGE, f"{path} cannot be listed: {error.strerror or type(error).__name__}")
