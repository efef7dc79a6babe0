"""Sessions: one protocol for every engine; add one by a module here and its line in `registry.ENGINES`."""

from mimo_core.engines.base import Monitored, Session, SessionLimits, SessionSpec, Telemetry
from mimo_core.engines.host import SessionHost
from mimo_core.engines.registry import ENGINES, open_session
from mimo_core.errors import DeviceFaultError, SessionOutOfMemoryError

__all__ = [
    "ENGINES",
    "DeviceFaultError",
    "Monitored",
    "Session",
    "SessionHost",
    "SessionLimits",
    "SessionOutOfMemoryError",
    "SessionSpec",
    "Telemetry",
    "open_session",
]
