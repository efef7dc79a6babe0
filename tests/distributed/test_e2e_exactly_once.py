"""Whatever is killed whenever: after resuming, every image has one record and the bytes of an undisturbed run."""

import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from archives import TORCH, assert_same_run, count_outputs, make_archive, parts, restore_undisturbed, written_unrecorded
from fixtures_clusters import Cluster, cluster
from fixtures_runs import Run, Runs
from processes import marked, wait_until, workers_of

pytestmark = pytest.mark.ray


SEED = 6


@dataclass(frozen=True)
class Kill:
    """Whom to kill, and when: once so many outputs exist, then, for `between`, between outputs and their part."""

    victim: str
    outputs: int
    between: bool


def kills(seed: int, number: int, images: int) -> list[Kill]:
    """Draw instants, at most three workers in a row so that no image can come to be blamed for all of them."""
    rng = random.Random(seed)
    instants = sorted(rng.sample(range(1, images - 4), number))
    drawn, row = [], 0
    for at in instants:
        victim = "driver" if row == 3 else rng.choice(("driver", "worker", "worker"))
        row = 0 if victim == "driver" else row + 1
        drawn.append(Kill(victim, at, between=rng.random() < 0.4))
    return drawn


class KillTrial:
    """Carries kills out against one run, which is resumed whenever its driver is dead."""

    def __init__(self, runs: Runs, output: Path, command: list[object], seed: int, on: Cluster | None) -> None:
        self._runs = runs
        self._output = output
        self._command = command
        self._rng = random.Random(seed)
        self._cluster = on
        self._run: Run | None = None
        self.killed: list[str] = []

    def survive(self, kill: Kill) -> None:
        run = self._run = self._run if self._run is not None and self._run.alive else self._start()
        # A run that is past the instant already gets a little further, so that no kill hits where the last one did.
        target = max(kill.outputs, count_outputs(self._output) + 1)
        run.until(lambda: count_outputs(self._output) >= target, f"{target} outputs")
        if kill.between:
            run.until(lambda: written_unrecorded(self._output), "outputs are written and not recorded")
        if kill.victim == "driver":
            os.kill(run.process.pid, signal.SIGKILL)
            run.process.wait(30)
        else:
            run.until(self._workers, "there is a worker")
            os.kill(self._rng.choice(self._workers()), signal.SIGKILL)
        self.killed.append(f"{kill.victim} at {count_outputs(self._output)} outputs, {len(parts(self._output))} parts")

    def finish(self) -> None:
        if self._run is not None and self._run.alive:
            finished = self._run.end()
            assert finished.code == 0, finished.text
        finished = self._runs.finish(*self._command, on=self._cluster)
        assert finished.code == 0, finished.text
        assert "nothing was left to do" in finished.text or "session" in finished.text

    def _start(self) -> Run:
        return self._runs.start(*self._command, on=self._cluster, faults="pause-commit:1;pause-image:0.15")

    def _workers(self) -> list[int]:
        if self._cluster is not None:
            return self._cluster.workers()
        assert self._run is not None
        return workers_of(self._run.mark)


def kill_and_resume(
    runs: Runs, folder: Path, weights: Path, *, seed: int, number: int, images: int, on: Cluster | None
) -> None:
    source, output, undisturbed = folder / "in", folder / "out", folder / "undisturbed"
    keys = make_archive(source, images)
    options = [*TORCH, "--weights", weights, "--shard-size", 4, "--workers", 2]
    restore_undisturbed(source, undisturbed, weights)
    trial = KillTrial(runs, output, [source, output, *options], seed, on)
    plan = kills(seed, number, images)
    for kill in plan:
        trial.survive(kill)
    trial.finish()
    assert len(trial.killed) == number
    print("\n".join(trial.killed))
    assert_same_run(output, undisturbed, keys)


@pytest.fixture(scope="module")
def guarded_cluster() -> Iterator[Cluster]:
    """A cluster whose clients must show a token."""
    with cluster(guarded=True) as made:
        yield made


@pytest.mark.slow
def test_two_kills(runs: Runs, tmp_path: Path, tiny_weights: Path, guarded_cluster: Cluster) -> None:
    """One of a worker, and one of a driver between the outputs of a shard and its part."""
    assert [kill.victim for kill in kills(SEED, 2, 24)] == ["worker", "driver"]
    kill_and_resume(runs, tmp_path, tiny_weights, seed=SEED, number=2, images=24, on=guarded_cluster)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_twenty_kills(runs: Runs, tmp_path: Path, tiny_weights: Path, guarded_cluster: Cluster) -> None:
    kill_and_resume(runs, tmp_path, tiny_weights, seed=20, number=20, images=240, on=guarded_cluster)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_ten_kills_with_an_embedded_ray(runs: Runs, tmp_path: Path, tiny_weights: Path) -> None:
    kill_and_resume(runs, tmp_path, tiny_weights, seed=10, number=10, images=120, on=None)


@pytest.mark.slow
def test_a_dead_driver_takes_its_embedded_ray_along(runs: Runs, tmp_path: Path, tiny_weights: Path) -> None:
    make_archive(tmp_path / "in", 30)
    run = runs.start(tmp_path / "in", tmp_path / "out", "--weights", tiny_weights, faults="pause-commit:0.4")
    run.until(lambda: count_outputs(tmp_path / "out") >= 2, "two outputs")
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait(30)
    wait_until(lambda: not marked(run.mark), "its Ray processes end", within=90)
