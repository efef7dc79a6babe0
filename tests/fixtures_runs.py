"""Runs of the jobs.

A run whose end is all that matters works in this process and saves the seconds that loading PyTorch and Ray takes; one
that is to be killed, stopped or watched is a process of its own.
"""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fixtures_clusters import Cluster
from processes import PATIENCE, ROOT, end_all, shell_environment, wait_until

from mimo_core.cli.main import run as run_job


@dataclass
class Finished:
    """How a run ended: exit code (negative for a signal), what it printed, and how long it took in seconds."""

    code: int
    text: str
    seconds: float


class Run:
    """One run of the main job in a process of its own."""

    def __init__(
        self, arguments: list[str], log: Path, environment: Mapping[str, str], *, job: str = "restore", cwd: Path = ROOT
    ) -> None:
        self.mark = uuid.uuid4().hex
        self._log = log
        self._begun = time.monotonic()
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"jobs.{job}", *arguments],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=shell_environment(self.mark, environment),
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def says(self, text: str, within: float = PATIENCE) -> None:
        """Wait until it has printed the text."""
        self.until(lambda: text in self.text, f"the run says {text!r}", within)

    def until(self, condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
        """Wait for a condition that comes true only while this run works."""
        # A condition may hold for a moment only, so it is not asked again.
        held = []
        wait_until(lambda: held.append(condition()) or held[-1] or not self.alive, what, within, every=0.003)
        assert held[-1], f"the run ended ({self.process.returncode}) before {what}:\n{self.text}"

    def end(self, within: float = PATIENCE) -> Finished:
        """Wait for its end."""
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run hangs; it said:\n{self.text}") from None
        return Finished(code, self.text, time.monotonic() - self._begun)

    def signal(self, number: signal.Signals) -> None:
        """Send the driver a signal."""
        self.process.send_signal(number)


def finish_here(job: str, arguments: list[str], environment: Mapping[str, str]) -> Finished:
    """Run a job in this process, with the environment of a user's shell, to its end."""
    said, begun, before = io.StringIO(), time.monotonic(), dict(os.environ)
    os.environ.clear()
    os.environ.update({"RAY_AUTH_MODE": "disabled", **shell_environment(uuid.uuid4().hex, environment)})
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = run_job(job, arguments)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return Finished(code, said.getvalue(), time.monotonic() - begun)


@dataclass
class Runs:
    """Starts runs and ends what is left of them."""

    folder: Path
    started: list[Run] = field(default_factory=list)

    def start(
        self,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        faults: str = "",
        on: Cluster | None = None,
        job: str = "restore",
        cwd: Path = ROOT,
    ) -> Run:
        """Start `mimo restore` with these arguments in a process of its own, on a cluster or with an embedded Ray."""
        log = self.folder / f"run-{len(self.started)}.log"
        run = Run([str(one) for one in arguments], log, _added(environment, faults, on), job=job, cwd=cwd)
        self.started.append(run)
        return run

    def finish(
        self,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        faults: str = "",
        on: Cluster | None = None,
        job: str = "restore",
    ) -> Finished:
        """Run it to its end: in this process, unless the cluster is guarded."""
        if on is not None and on.guarded:
            return self.start(*arguments, environment=environment, faults=faults, on=on, job=job).end()
        return finish_here(job, [str(one) for one in arguments], _added(environment, faults, on))


def _added(environment: Mapping[str, str] | None, faults: str, on: Cluster | None) -> dict[str, str]:
    """What a run's environment has beyond that of a user's shell."""
    return {"MIMO_FAULTS": faults, **(on.driver_environment if on else {}), **(environment or {})}


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    """Starts runs of this test; all their processes end with it."""
    folder = tmp_path / "logs"
    folder.mkdir()
    made = Runs(folder)
    yield made
    for run in made.started:
        end_all(run.mark)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(10)


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a very small network that changes pixels; the same at every call."""
    import torch

    from mimo_core.models.network import MimoUNet, arrays_of
    from mimo_core.models.weights import ModelSpec, save_weights

    torch.manual_seed(7)
    network = MimoUNet(width=8, num_res=1)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, ModelSpec(8, 1, "nearest"), arrays_of(network.state_dict()))
    return path
