"""The lease: one winner of any race, the dead replaced at once, the silent after a while, no commit by the stale."""

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.runs.folder import RunFolder
from mimo_core.runs.lease import FOLDER, Lease, LeaseLostError, Timing, current_epoch, holder_is_dead_here, read_lease
from mimo_core.runs.records import read_part
from mimo_core.storage import Entry, Store

ROOT = Path(__file__).resolve().parents[2]
FAST = Timing(heartbeat=0.05, expiry=0.6, poll=0.02)
# For holders that must not lose it because the machine is busy.
CALM = replace(FAST, expiry=30.0)
# Waits for the others to be ready, tries once, and tells how it went; then holds until it is told to end.
CONTENDER = """
import sys
from mimo_core.runs.lease import Lease, LeaseLostError, Timing
from mimo_core.storage import Store
print("ready", flush=True)
sys.stdin.readline()
try:
    lease = Lease.acquire(Store(sys.argv[1]), lambda text: None, Timing(heartbeat=0.1, expiry=30, poll=0.02))
    print("held", lease.epoch, flush=True)
except LeaseLostError as error:
    print("lost", error, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path / "run"))
    return Store(f"s3://{request.getfixturevalue('s3_bucket')}/run")


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run"))


class Contender:
    """Another process that tries to take the lease."""

    def __init__(self, store: Store) -> None:
        command = [sys.executable, "-c", CONTENDER, store.url]
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def says(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


def silent(text: str) -> None:
    raise AssertionError(f"nobody should have to wait: {text}")


def elsewhere(store: Store, epoch: int = 1, **changes: object) -> None:
    """Leave the lease of a driver on another host behind."""
    document = {"epoch": epoch, "state": "held", "beat": 1, "host": "far-away", "pid": 7, "boot": "x", "started": "1"}
    store.write(f"{FOLDER}/epoch-{epoch:08d}.json", json.dumps({**document, **changes}).encode())


@pytest.mark.parametrize("count", [4])
def test_one_of_many_processes_gets_the_lease(local: Store, count: int) -> None:
    contenders = [Contender(local) for _ in range(count)]
    try:
        assert [one.says() for one in contenders] == [["ready"]] * count
        for one in contenders:
            one.go_on()
        answers = [one.says() for one in contenders]
        assert sorted(answer[0] for answer in answers) == ["held"] + ["lost"] * (count - 1)
        assert ["held", "1"] in answers
        lost = next(" ".join(answer) for answer in answers if answer[0] == "lost")
        assert "is working on this run; follow it with `mimo status`, or stop it first" in lost
        # All are killed: the next one need not wait for any.
        for one in contenders:
            one.kill()
        lease = Lease.acquire(local, silent, CALM)
        assert lease.epoch == 2
        lease.release()
    finally:
        for one in contenders:
            one.kill()


def test_threads_of_one_process_race_for_it_too(store: Store) -> None:
    start, won, lost = threading.Barrier(4), [], []

    def contend() -> None:
        start.wait()
        try:
            won.append(Lease.acquire(store, lambda text: None, replace(CALM, heartbeat=0.2)))
        except LeaseLostError as error:
            lost.append(error)

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(won), len(lost)) == (1, 3)
    won[0].check()
    won[0].release()


def test_a_holder_killed_on_this_host_is_replaced_at_once(local: Store) -> None:
    contender = Contender(local)
    try:
        assert contender.says() == ["ready"]
        contender.go_on()
        assert contender.says() == ["held", "1"]
        document = read_lease(local)
        assert document is not None
        assert document["pid"] == contender.process.pid
        assert not holder_is_dead_here(document)
        contender.process.send_signal(signal.SIGKILL)
        # Not waited for: a zombie is dead, too.
        until = time.monotonic() + 30
        while not holder_is_dead_here(document):
            assert time.monotonic() < until
        lease = Lease.acquire(local, silent, CALM)
        assert lease.epoch == 2
        assert [entry.key for entry in local.list(FOLDER)] == [f"{FOLDER}/epoch-00000002.json"]
        lease.release()
    finally:
        contender.kill()


def test_a_process_number_that_was_given_anew_is_no_sign_of_life(local: Store) -> None:
    lease = Lease.acquire(local, silent, CALM)
    document = read_lease(local)
    assert document is not None
    assert not holder_is_dead_here(document)
    assert holder_is_dead_here({**document, "started": "1"})
    assert not holder_is_dead_here({**document, "started": "1", "boot": "another"})
    assert not holder_is_dead_here({**document, "started": "1", "pid_namespace": "another"})
    lease.release()


def test_a_released_lease_is_taken_without_waiting(store: Store) -> None:
    for epoch in (1, 2, 3):
        lease = Lease.acquire(store, silent, CALM)
        assert lease.epoch == current_epoch(store) == epoch
        lease.check()
        lease.release()
        document = read_lease(store)
        assert document is not None
        assert document["state"] == "released"
    assert len(list(store.list(FOLDER))) == 1


def test_a_silent_holder_elsewhere_is_waited_for_visibly_and_then_replaced(store: Store) -> None:
    elsewhere(store)
    said: list[str] = []
    begun = time.monotonic()
    lease = Lease.acquire(store, said.append, FAST)
    assert time.monotonic() - begun >= FAST.expiry
    assert said == [
        "a driver on far-away (process 7) holds this run; waiting up to 0.6 s for a sign of life",
        "the driver on far-away gives no sign of life; taking the run over",
    ]
    assert lease.epoch == 2
    lease.release()


def test_a_living_holder_elsewhere_is_left_alone(local: Store) -> None:
    elsewhere(local)
    stop = threading.Event()

    def beat() -> None:
        number = 1
        while not stop.wait(0.05):
            number += 1
            elsewhere(local, beat=number)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(LeaseLostError, match=r"a driver on far-away \(process 7\) is working on this run"):
            Lease.acquire(local, lambda text: None, CALM)
    finally:
        stop.set()
        thread.join()


def test_the_heartbeat_carries_progress_and_counts_on(local: Store) -> None:
    lease = Lease.acquire(local, silent, CALM)
    lease.report({"done": 7})
    until = time.monotonic() + 30
    while (read_lease(local) or {}).get("progress") != {"done": 7}:
        assert time.monotonic() < until
        time.sleep(0.01)
    first = (read_lease(local) or {})["beat"]
    while (read_lease(local) or {})["beat"] == first:
        assert time.monotonic() < until
        time.sleep(0.01)
    lease.release()


def test_a_stale_epoch_cannot_commit(local: Store) -> None:
    stale = Lease.acquire(local, silent, CALM)
    folder = RunFolder(local)
    elsewhere(local, epoch=2)
    with pytest.raises(LeaseLostError, match="another driver has taken this run over; this one stops"):
        folder.commit(0, [], stale, fingerprint="f")
    assert not list(local.list("records"))
    with pytest.raises(LeaseLostError):
        stale.check()
    # Nor does it give back what is not its own.
    stale.release()
    assert (read_lease(local) or {})["host"] == "far-away"


class AwayStore(Store):
    """A store that answers nothing while it is away, and takes its time to say so."""

    away = 0.0

    def write(self, key: str, data: bytes) -> Entry:  # type: ignore[override]
        if self.away:
            time.sleep(self.away)
            raise SystemFailure(ErrorKind.WRITE, "the storage server cannot be reached")
        return super().write(key, data)


def test_a_lease_that_an_outage_kept_from_being_renewed_is_renewed_after_it(tmp_path: Path) -> None:
    store = AwayStore(str(tmp_path / "run"))
    lease = Lease.acquire(store, silent, replace(FAST, heartbeat=0.02))
    store.away = 0.01
    time.sleep(FAST.expiry + 0.05)
    with pytest.raises(SystemFailure, match="cannot be reached"):
        lease.check()
    before = (read_lease(store) or {})["beat"]
    store.away = 0.0
    lease.check()
    assert (read_lease(store) or {})["beat"] > before
    assert RunFolder(store).commit(0, [], lease, fingerprint="f").images == 0
    lease.release()


def test_a_lease_that_was_taken_over_during_an_outage_stays_lost(local: Store) -> None:
    lease = Lease.acquire(local, silent, replace(FAST, heartbeat=100.0))
    time.sleep(FAST.expiry + 0.05)
    elsewhere(local, epoch=2)
    with pytest.raises(LeaseLostError, match="another driver has taken this run over"):
        lease.check()
    assert not list(local.list("records"))
    lease.release()


class OvertakenStore(Store):
    """A store in which another driver takes over in the moment of a renewal."""

    armed = False

    def write(self, key: str, data: bytes) -> Entry:  # type: ignore[override]
        if self.armed:
            self.armed = False
            elsewhere(self, epoch=2)
        return super().write(key, data)


def test_an_overdue_renewal_that_comes_too_late_is_none(tmp_path: Path) -> None:
    store = OvertakenStore(str(tmp_path / "run"))
    lease = Lease.acquire(store, silent, replace(FAST, heartbeat=100.0))
    time.sleep(FAST.expiry + 0.05)
    store.armed = True
    with pytest.raises(LeaseLostError, match="another driver has taken this run over"):
        lease.check()
    lease.release()


def test_a_holder_whose_renewals_take_too_long_stops_by_itself(tmp_path: Path) -> None:
    """Its clock is all that it needs: the observer elsewhere waits as long as it does."""

    class SlowlyWritten(Store):
        def write(self, key: str, data: bytes) -> Entry:  # type: ignore[override]
            time.sleep(0.2)
            return super().write(key, data)

    lease = Lease.acquire(SlowlyWritten(str(tmp_path / "run")), silent, Timing(heartbeat=100.0, expiry=0.1, poll=0.02))
    time.sleep(0.15)
    with pytest.raises(LeaseLostError, match=r"could not be renewed within 0.1 s; this one stops and commits nothing"):
        lease.check()
    lease.release()


def test_release_does_not_hide_why_a_run_ends(tmp_path: Path, local: Store) -> None:
    lease = Lease.acquire(local, silent, CALM)
    folder = tmp_path / "run" / FOLDER
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    folder.write_text("a file in the way")
    lease.release()


class SlowStore(Store):
    """A store whose first exclusive creation takes so long that two drivers come and go meanwhile."""

    overtaken = False

    def create(self, key: str, data: bytes) -> bool:  # type: ignore[override]
        if not self.overtaken:
            self.overtaken = True
            elsewhere(self, epoch=5, state="released")
            self.delete(f"{FOLDER}/epoch-00000003.json")
        return super().create(key, data)


def test_an_epoch_created_on_an_old_view_is_given_up(tmp_path: Path) -> None:
    slow = SlowStore(str(tmp_path / "run"))
    elsewhere(slow, epoch=3, state="released")
    lease = Lease.acquire(slow, silent, CALM)
    assert lease.epoch == current_epoch(slow) == 6
    assert [entry.key for entry in slow.list(FOLDER)] == [f"{FOLDER}/epoch-00000006.json"]
    lease.release()


def test_strange_files_beside_the_lease_are_no_epochs(local: Store) -> None:
    for name in ("epoch-x.json", "probe-1", "epoch-9.txt", "notes.json"):
        local.write(f"{FOLDER}/{name}", b"{}")
    assert current_epoch(local) == 0
    assert read_lease(local) is None


# Commits


def test_a_part_is_committed_once(local: Store) -> None:
    from mimo_core.runs.record import Record

    lease = Lease.acquire(local, silent, CALM)
    folder = RunFolder(local)
    first = [Record(key="a", source="/a", status="failed", error_kind="empty")]
    assert folder.commit(3, first, lease, fingerprint="f").failed == 1
    with pytest.raises(LeaseLostError, match="another driver has committed shard 3"):
        folder.commit(3, first, lease, fingerprint="f")
    second = [Record(key="a", source="/a", status="restored", output="images/a")]
    assert folder.commit(3, second, lease, fingerprint="f", replace=True).restored == 1
    assert folder.committed() == {3}
    assert read_part(local, 3) == second
    lease.release()


def test_records_that_cannot_be_written_stop_the_run(tmp_path: Path, local: Store) -> None:
    lease = Lease.acquire(local, silent, CALM)
    (tmp_path / "run" / "records").write_text("a file in the way")
    with pytest.raises(SystemFailure) as caught:
        RunFolder(local).commit(0, [], lease, fingerprint="f")
    assert caught.value.kind is ErrorKind.WRITE
    lease.release()
    assert (tmp_path / "run" / "records").is_file()
