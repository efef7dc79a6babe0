"""A session with the one thread that it is used on, so that several pipelines can use it one after another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from mimo_core.engines.base import Session, SessionSpec
from mimo_core.engines.registry import open_session

T = TypeVar("T")


class SessionHost:
    """Opens a session on a thread of its own, does work with it there in the order in which it comes, and closes it.

    Raises:
        SystemFailure: the session cannot be opened.
    """

    def __init__(self, spec: SessionSpec) -> None:
        self.spec = spec
        self._opened: Future[Session] = Future()
        self._work: queue.SimpleQueue[tuple[Callable[[Session], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="infer", daemon=True)
        self._thread.start()
        self.session = self._opened.result()

    def do(self, work: Callable[[Session], T]) -> Future[T]:
        """Call `work` with the session on the session's thread; return the future of its result."""
        done: Future[T] = Future()
        self._work.put((work, done))
        return done

    def close(self) -> None:
        """Finish what was asked for, then give the session back."""
        self._work.put(None)
        self._thread.join()

    def _serve(self) -> None:
        try:
            session = open_session(self.spec)
        except BaseException as error:  # noqa: BLE001 - the constructor raises it
            self._opened.set_exception(error)
            return
        self._opened.set_result(session)
        while (asked := self._work.get()) is not None:
            work, done = asked
            try:
                result = work(session)
            except BaseException as error:  # noqa: BLE001 - whoever asked for it raises it
                done.set_exception(error)
            else:
                done.set_result(result)
        session.close()
