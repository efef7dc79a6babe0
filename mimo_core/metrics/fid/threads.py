"""Threads on which PyTorch computes alone, so that no digit depends on how many there are."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import torch

_opening = Lock()


def open_threads(count: int) -> ThreadPoolExecutor:
    """Return a pool of `count` threads, each of which computes every PyTorch operation by itself.

    Convolutions and matrix products add in another order for another number of threads, so that the last digits of
    their results depend on it. Many images at a time keep the cores busy all the same.
    """
    pool = ThreadPoolExecutor(count, "measuring")
    with _opening:
        everywhere = torch.get_num_threads()
        started = Barrier(count + 1)

        def start() -> None:
            # A thread's first look at the number, wherever it is, takes the process's over what was set before it.
            torch.get_num_threads()
            torch.set_num_threads(1)
            # Without the barrier the pool would give two starts to one thread.
            started.wait()

        for _ in range(count):
            pool.submit(start)
        started.wait()
        # The setting holds for the thread that makes it and for threads to come, which are others' again.
        torch.set_num_threads(everywhere)
    return pool
