"""Sessions: one protocol for every engine; add one by a module here and its line in `registry.ENGINES`."""

from mimo_core.sessions.base import (
    DeviceFaultError,
    Monitored,
    Pixels,
    Session,
    SessionLimits,
    SessionOutOfMemoryError,
    SessionSpec,
    Telemetry,
)
from mimo_core.sessions.host import SessionHost
from mimo_core.sessions.registry import ENGINES, open_session

__all__ = [
    "ENGINES",
    "DeviceFaultError",
    "Monitored",
    "Pixels",
    "Session",
    "SessionHost",
    "SessionLimits",
    "SessionOutOfMemoryError",
    "SessionSpec",
    "Telemetry",
    "open_session",
]
