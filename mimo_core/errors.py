"""The errors of the program, and the closed list of kinds by which a failed image is recorded."""

from enum import Enum


class ErrorKind(str, Enum):
    """Why an image has no output, as stored in the `error_kind` column of the records."""

    NOT_FOUND = "not_found"
    NO_PERMISSION = "no_permission"
    STORAGE = "storage"
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    CHANGED = "changed"
    REFERENCE_MISSING = "reference_missing"
    REFERENCE_SIZE = "reference_size"
    REFERENCE_COLOURS = "reference_colours"
    LITTLE_TO_GAIN = "little_to_gain"
    OUT_OF_MEMORY = "out_of_memory"
    DEVICE = "device"
    CRASHED_WORKER = "crashed_worker"
    TIMEOUT = "timeout"
    WRITE = "write"
    INTERNAL = "internal"

    def __str__(self) -> str:
        return self.value


class MimoError(Exception):
    """Base of the errors that carry a message for the user: it names the thing and the remedy."""


class UsageError(MimoError):
    """Wrong use: options, paths or a configuration that cannot work (exit code 2)."""


class ImageError(MimoError):
    """One image cannot be restored; its neighbours can. Becomes the image's record."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type["ImageError"], tuple[ErrorKind, str]]:
        return type(self), (self.kind, str(self))


class WeightsError(UsageError):
    """A weights file that is missing or not what it should be; the message says what was found and expected."""


class SystemFailure(MimoError):
    """Storage, credentials or a device as a whole fails: the run stops instead of failing every image."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type["SystemFailure"], tuple[ErrorKind, str]]:
        return type(self), (self.kind, str(self))


class SessionOutOfMemoryError(MimoError):
    """The accelerator has too little memory for this batch; a smaller batch or tile may fit."""


class DeviceFaultError(SystemFailure):
    """The accelerator failed: the session is dead and must be replaced by a new process."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorKind.DEVICE, message)

    def __reduce__(self) -> tuple[type["DeviceFaultError"], tuple[str]]:  # type: ignore[override]
        return type(self), (str(self),)
