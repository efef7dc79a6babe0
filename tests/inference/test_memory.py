"""The bound on decoded pixels: kept, except for what the accelerator waits for, and never a deadlock."""

import threading
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_core.inference.memory import MemoryBudget


def acquired(budget: MemoryBudget, ticket: int, size: int, within: float = 0.05) -> bool:
    """Whether the grant comes at once (else it is given up: the thread ends when the test lets it)."""
    granted = threading.Event()

    def ask() -> None:
        budget.acquire(ticket, size)
        granted.set()

    threading.Thread(target=ask, daemon=True).start()
    return granted.wait(within)


def test_the_oldest_is_granted_however_large_and_the_next_waits() -> None:
    budget = MemoryBudget(100)
    budget.expect(0)
    budget.expect(1)
    assert acquired(budget, 0, 10_000, within=10)
    waiting = threading.Thread(target=budget.acquire, args=(1, 1), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    budget.release(0)
    waiting.join(10)
    assert not waiting.is_alive()


def test_what_fits_is_granted_out_of_order() -> None:
    budget = MemoryBudget(100)
    for ticket in range(4):
        budget.expect(ticket)
    assert acquired(budget, 3, 60, within=10)
    assert acquired(budget, 2, 40, within=10)
    assert not acquired(budget, 1, 1)
    assert acquired(budget, 0, 1, within=10)


def test_gone_images_do_not_keep_a_batch_waiting_for_itself() -> None:
    """A batch of two holds image 0 and waits for a second; 1 to 4 are broken, and 5 must be granted."""
    budget = MemoryBudget(10, batch=2)
    for ticket in range(6):
        budget.expect(ticket)
    assert acquired(budget, 0, 100, within=10)
    for broken in range(1, 5):
        budget.release(broken)
    assert acquired(budget, 5, 100, within=10)


@settings(deadline=None, max_examples=60)
@given(
    images=st.lists(st.tuples(st.integers(1, 120), st.booleans()), min_size=1, max_size=40),
    limit=st.integers(1, 150),
    batch=st.integers(1, 4),
    readers=st.integers(1, 4),
    window=st.integers(0, 6),
)
def test_a_pipeline_of_threads_always_comes_to_its_end(
    images: list[tuple[int, bool]], limit: int, batch: int, readers: int, window: int
) -> None:
    """Readers load images (some broken); the consumer takes them in order and lets them go in whole batches only."""
    budget = MemoryBudget(limit, batch)
    slots = threading.BoundedSemaphore(batch + window)
    held: dict[int, int] = {}
    lock = threading.Lock()
    worst = 0

    def load(ticket: int) -> bool:
        nonlocal worst
        size, sound = images[ticket]
        if not sound:
            return False
        budget.acquire(ticket, size)
        with lock:
            held[ticket] = size
            oldest = sorted(held)[:batch]
            worst = max(worst, sum(held.values()) - sum(held[one] for one in oldest))
        return True

    def let_go(ticket: int) -> None:
        with lock:
            held.pop(ticket, None)
        budget.release(ticket)
        slots.release()

    def feed(pool: ThreadPoolExecutor, loading: list) -> None:
        for ticket in range(len(images)):
            slots.acquire()
            budget.expect(ticket)
            loading.append(pool.submit(load, ticket))

    with ThreadPoolExecutor(readers) as pool:
        loading: list = []
        feeder = threading.Thread(target=feed, args=(pool, loading), daemon=True)
        feeder.start()
        group: list[int] = []
        for ticket in range(len(images)):
            while len(loading) <= ticket:
                feeder.join(0.001)
            if loading[ticket].result(timeout=20):
                group.append(ticket)
            else:
                let_go(ticket)
            if len(group) == batch:
                for one in group:
                    let_go(one)
                group = []
        for one in group:
            let_go(one)
        feeder.join(20)
    assert not held
    assert worst <= limit, "beyond the images of one batch the bound holds"
