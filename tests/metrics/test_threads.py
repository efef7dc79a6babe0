"""Threads that compute alone, and leave every other thread as it was."""

import threading

import pytest
import torch

from mimo_core.metrics.fid.threads import open_threads


@pytest.mark.parametrize("around", [1, 2, 3])
def test_each_computes_alone_and_others_do_not(around: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(around)
    try:
        with open_threads(3) as pool:
            together = threading.Barrier(3)

            def count() -> int:
                together.wait()
                return torch.get_num_threads()

            found = [pool.submit(count) for _ in range(3)]
            assert [future.result() for future in found] == [1, 1, 1]
            assert torch.get_num_threads() == around
            others: list[int] = []
            other = threading.Thread(target=lambda: others.append(torch.get_num_threads()))
            other.start()
            other.join()
            assert others == [around]
    finally:
        torch.set_num_threads(before)
