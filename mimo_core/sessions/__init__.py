"""Sessions: one protocol for every engine; add one by a module here and its line in `registry.ENGINES`."""

from mimo_core.sessions.base import (
    DeviceFaultError,
    Pixels,
    Session,
    SessionLimits,
    SessionOutOfMemoryError,
    SessionSpec,
)
from mimo_core.sessions.registry import AUTOMATIC, ENGINES, open_session

__all__ = [
    "AUTOMATIC",
    "ENGINES",
    "DeviceFaultError",
    "Pixels",
    "Session",
    "SessionLimits",
    "SessionOutOfMemoryError",
    "SessionSpec",
    "open_session",
]
