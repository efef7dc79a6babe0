"""Restores motion-blurred images with MIMO-UNet: from Python what is named here, over archives the command `mimo`."""

from importlib import import_module
from typing import TYPE_CHECKING

from mimo_core.version import __version__

if TYPE_CHECKING:
    from mimo_core.errors import ImageError, MimoError, SystemFailure, UsageError
    from mimo_core.inference.python_api import (
        ImageRestorer,
        RestorerOptions,
        compare,
        read_records,
        read_records_table,
        restore,
        restore_file,
        restore_folder,
        score,
    )
    from mimo_core.inference.shown import Comparison, RestoredFile, RestoredFolder
    from mimo_core.runs.record import Record

__all__ = [
    "Comparison",
    "ImageError",
    "ImageRestorer",
    "MimoError",
    "Record",
    "RestoredFile",
    "RestoredFolder",
    "RestorerOptions",
    "SystemFailure",
    "UsageError",
    "__version__",
    "compare",
    "read_records",
    "read_records_table",
    "restore",
    "restore_file",
    "restore_folder",
    "score",
]

_MODULES = {
    "mimo_core.errors": ("ImageError", "MimoError", "SystemFailure", "UsageError"),
    "mimo_core.inference.python_api": (
        *("ImageRestorer", "RestorerOptions", "read_records", "read_records_table"),
        *("compare", "restore", "restore_file", "restore_folder", "score"),
    ),
    "mimo_core.inference.shown": ("Comparison", "RestoredFile", "RestoredFolder"),
    "mimo_core.runs.record": ("Record",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

# For type checkers only the names above exist; a `__getattr__` would let them accept any.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a name when it is first used (PEP 562): all together take seconds."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the names, whether imported already or not."""
    return sorted({*globals(), *__all__})
