"""VACC cards: a session on one die, in this process where vaststreamx can be imported, else through a child process."""

from mimo_core.engines.vacc.child import count_dies
from mimo_core.engines.vacc.session import VaccSession

__all__ = ["VaccSession", "count_dies"]
