"""Requests to a storage over a network, tried again: at first soon, then for as long as the storage may be away.

Three things look alike at first and mean different things. A storage that answers nobody is away: everybody waits for
it, visibly, and only when it stays away the run stops. A storage that answers, only not for this object, is not away:
the object fails alone. Bytes that are not those which were stored are the object's failure, too.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TypeVar

from mimo_core.errors import MimoError
from mimo_core.storage import outages
from mimo_core.storage.file_errors import Retries

T = TypeVar("T")

# A request that was answered too late counts as much as several that were refused at once.
_SOON_SECONDS = 10.0
# Fewest tries of an object before it is given up.
_FEWEST = 3
_PROBE_SECONDS = 10.0


class BodyError(Exception):
    """What arrived is not what is stored; the text says how that is known."""


class AloneError(Exception):
    """One object cannot be read, though the storage answers; `cause` is the last error, `tries` how many there were."""

    def __init__(self, cause: Exception, tries: int) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.tries = tries


async def persist(
    act: Callable[[], Awaitable[T]],
    retries: Retries,
    transient: Callable[[BaseException], bool],
    place: str,
    answers: Callable[[], Awaitable[bool]] | None = None,
) -> T:
    """Carry a request out, again after every failure that may pass.

    Args:
        act: one try.
        retries: how patiently.
        transient: whether an error may pass.
        place: what is waited for when the storage is away, in words.
        answers: finds out whether the storage answers at all; None where a failure is never one object's.

    Raises:
        AloneError: the storage answers, but not this request.
        Exception: what `act` raised last: it cannot pass, or the storage stayed away.
    """
    tries, begun = 0, time.monotonic()
    patience = outages.patience() if retries.patience_s is None else retries.patience_s
    # Since when the storage is thought to answer, None while it does not.
    answering: float | None = begun
    with ExitStack() as away:
        while True:
            try:
                return await act()
            except Exception as error:
                if isinstance(error, MimoError) or not transient(error):
                    raise
                tries += 1
                if isinstance(error, BodyError) and tries >= min(_FEWEST, retries.attempts):
                    raise AloneError(error, tries) from None
                now = time.monotonic()
                if tries >= retries.attempts or now - begun >= _SOON_SECONDS:
                    if answers is not None and await _in_time(answers):
                        answering = now if answering is None else answering
                        if tries >= min(_FEWEST, retries.attempts) and now - answering >= retries.alone_s:
                            raise AloneError(error, tries) from None
                    else:
                        if now - begun >= patience and tries >= min(_FEWEST, retries.attempts):
                            raise
                        if answering is not None:
                            away.enter_context(outages.waiting(place, type(error).__name__, patience))
                        answering = None
            await asyncio.sleep(retries.wait(tries - 1))
            # What is long to read must not pass for waiting once the storage is back.
            if answering is None and answers is not None and await _in_time(answers):
                answering = time.monotonic()
                away.close()


async def _in_time(answers: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await asyncio.wait_for(answers(), _PROBE_SECONDS)
    except (asyncio.TimeoutError, TimeoutError):
        return False
