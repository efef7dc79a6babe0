"""What tar and zip files hold, without unpacking them: each member with an address of its own."""

import io
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from mimo_core.errors import ImageError, UsageError
from mimo_core.storage import info_url, open_url, redact
from mimo_core.storage.members import Member

CONTAINER_EXTENSIONS = (".tar", ".zip")
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
_TAR_BUFFER = 4096


@dataclass(frozen=True)
class Held:
    """A file in a container: its name there, where it lies, and the version of the container."""

    name: str
    member: Member
    version: str | None


def is_container(path: str) -> bool:
    """Return whether a path names a tar or zip by its extension."""
    return path.lower().endswith(CONTAINER_EXTENSIONS)


def list_members(path: str) -> Iterator[Held]:
    """Yield the files in a container, in its order; of a tar only the headers are read, of a zip its directory.

    Links and folders are left out.

    Raises:
        UsageError: the container cannot be read, or is none, or has members that are encrypted or packed in a way
            other than deflate.
    """
    try:
        entry = info_url(path)
        file = open_url(path)
    except ImageError as error:
        raise UsageError(f"the container cannot be read: {error}") from None
    version = None if entry is None else entry.version
    with file:
        try:
            members = _tar(path, file) if path.lower().endswith(".tar") else _zip(path, file)
            for name, member in members:
                yield Held(name.removeprefix("./"), member, version)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, ImageError) as error:
            raise UsageError(
                f"{redact(path)} is no whole {path.lower()[-3:]} that can be read in place ({error}); unpack it"
            ) from None


def _tar(path: str, file: io.BufferedReader) -> Iterator[tuple[str, Member]]:
    # Between headers lie whole images: what is read ahead is thrown away.
    small = io.BufferedReader(file.raw, _TAR_BUFFER)
    with tarfile.open(fileobj=small, mode="r:") as tar:
        while (info := tar.next()) is not None:
            # Else it keeps all of very many.
            tar.members = []  # type: ignore[attr-defined]
            if info.isreg() and not info.issparse():
                yield info.name, Member(path, info.offset_data, info.size, info.size)


def _zip(path: str, file: io.BufferedReader) -> Iterator[tuple[str, Member]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            method = _METHODS.get(info.compress_type)
            if method is None or info.flag_bits & 1:
                how = "encrypted" if info.flag_bits & 1 else f"packed by method {info.compress_type}"
                raise zipfile.BadZipFile(f"{info.filename} is {how}")
            yield info.filename, Member(path, info.header_offset, info.compress_size, info.file_size, method, info.CRC)
