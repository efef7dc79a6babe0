"""Training on a Ray cluster: Ray Train starts the workers, and again if they die; OUTPUT's checkpoint goes on."""

import os
import platform
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util import placement_group_table

from mimo_core.distributed.connection import connect
from mimo_core.distributed.nodes import refuse_unseen_folder
from mimo_core.distributed.relay import RelayMessages, StopSignal, open_relay
from mimo_core.distributed.resources import Demand, free_slots, total_slots
from mimo_core.errors import ErrorKind, MimoError, SystemFailure, UsageError
from mimo_core.training.train_config import PhotoData, TrainConfig, VideoData
from mimo_core.training.trainer import Trainer
from mimo_core.wording import count

_RESTARTS = 3
_POLL_SECONDS = 0.2
_FIRST_NOTICE_SECONDS = 10.0
_NOTICE_SECONDS = 30.0
_STOP_SECONDS = 60.0
"""A step of the largest network on a slow processor, and a checkpoint; whoever takes longer to stop is left alone."""
_PATIENCE_SECONDS = 24 * 3600
"""For room on a busy cluster, and for the leading worker while it validates: neither is a failure."""
_SHARED = "use a folder that all nodes share"
_RAY_TRAIN = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(_PATIENCE_SECONDS),
    # The user's relative paths are meant from where the command was started.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
# Threads that wait by spinning take the cores from their neighbours.
_WORKER_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class WorkerGroup:
    """The workers of a training: how many, and what each reserves."""

    workers: int
    demand: Demand

    def __str__(self) -> str:
        return f"{count(self.workers, 'worker')}, {_show(self.demand)}" + (" each" if self.workers > 1 else "")


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker gets: the configuration, the folder that its relative paths start from, one that must be
    there, and the way back to the driver.
    """

    config: TrainConfig
    home: Path
    scratch: Path
    relay: Any


def train(config: TrainConfig, say: Callable[[str], None], stopped: Callable[[], bool]) -> bool:
    """Train on the cluster that `RAY_ADDRESS` names, or on this machine's cores or GPUs.

    Args:
        config: What to train; `workers` defaults to one for each GPU.
        say: Takes lines for people as they come.
        stopped: Asked several times a second; true makes the workers save a checkpoint and stop.

    Returns:
        Whether the training came to its configured end.

    Raises:
        UsageError: The configuration cannot work, here or at all.
        SystemFailure: There is no cluster, or workers failed again and again.
        MimoError: The training diverged.
        KeyboardInterrupt: `stopped`, and no worker is there to save anything, or none did so in time.
    """
    if config.workers is not None and config.batch % config.workers:
        raise UsageError(
            f"a batch of {config.batch} cannot be shared evenly by {config.workers} workers: "
            "choose a --batch that is a multiple of --workers"
        )
    with connect(config.device) as connection:
        group = choose_worker_group(config)
        with _scratch(config.output.absolute()) as scratch:
            if connection.embedded:
                # Nobody takes this machine away with a warning.
                os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
            else:
                _refuse_unseen(config, scratch)
            relay = open_relay()
            suited = {"device": "cuda" if group.demand.gpus else "cpu", "threads": group.demand.cpus or None}
            settings = WorkerSettings(config.model_copy(update=suited), Path.cwd(), scratch, relay)
            say(f"training with {group}")
            return _follow(_Fit(settings, group), relay, group, say, stopped)


def choose_worker_group(config: TrainConfig) -> WorkerGroup:
    """Decide how many workers there are and what each takes of the cluster that this process is connected to.

    Raises:
        UsageError: The cluster can never hold so many workers, or has no GPU where one is asked for.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if config.device.startswith("cuda") and not gpus:
        raise UsageError(f"--device {config.device}: the cluster has no GPU; use --device cpu")
    gpu = config.device != "cpu" and gpus > 0
    workers = config.workers
    if workers is None:
        workers = max(number for number in range(1, max(gpus, 1) + 1) if config.batch % number == 0) if gpu else 1
    demand = Demand(config.threads or 0, gpus=1) if gpu else Demand(config.threads or _even_share(workers))
    room = total_slots(demand)
    if room < workers:
        raise UsageError(
            f"{count(workers, 'worker')} with {_show(demand)} each cannot work here: the cluster has "
            f"{_resources(demand)}, with room for {room}; ask for fewer --workers"
            + (" or --threads" if config.threads else "")
        )
    return WorkerGroup(workers, demand)


def _even_share(workers: int) -> int:
    """Return as many CPUs for each as let all of them in."""
    most = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    return next((cpus for cpus in range(most, 0, -1) if total_slots(Demand(cpus)) >= workers), 1)


def _show(demand: Demand) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in demand.items().items())


def _resources(demand: Demand) -> str:
    total, free = ray.cluster_resources(), ray.available_resources()
    return " and ".join(f"{total.get(name, 0):g} {name} ({free.get(name, 0):g} free)" for name in demand.items())


def _refuse_unseen(config: TrainConfig, scratch: Path) -> None:
    """Make sure that every node sees all that the workers read and write."""
    output, home = config.output.absolute(), Path.cwd()
    refuse_unseen_folder(scratch, f"the output {output}", _SHARED)
    read: list[Path] = []
    for entry in config.data:
        if isinstance(entry, PhotoData):
            read += entry.folders
        elif isinstance(entry, VideoData):
            read.append(entry.path if entry.path.is_dir() else entry.path.parent)
        else:
            read.append(entry.folder)
    read += [entry.folder for entry in config.validation]
    if config.init is not None and Path(config.init).is_file():
        read.append(Path(config.init).parent)
    for folder in dict.fromkeys(home / folder for folder in read):
        refuse_unseen_folder(folder, f"the folder {folder}", _SHARED)
    if not all(folder.is_absolute() for folder in (*read, config.output)):
        refuse_unseen_folder(home, f"the folder {home}, from which relative paths start,", _SHARED)


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """Provide a folder for Ray Train's own files, in the output because all nodes see that; it is gone afterwards."""
    new = not output.exists()
    scratch = output / f".ray-{uuid.uuid4().hex}"
    try:
        scratch.mkdir(parents=True)
        yield scratch
    finally:
        # With what a driver left behind that was killed.
        for folder in output.glob(".ray-*"):
            shutil.rmtree(folder, ignore_errors=True)
        if new:
            with suppress(OSError):
                output.rmdir()


class _Fit(threading.Thread):
    """Ray Train at work, on a thread of its own, so that the main one can listen to signals and to the workers."""

    def __init__(self, settings: WorkerSettings, group: WorkerGroup) -> None:
        super().__init__(name="ray-train", daemon=True)
        self.error: Exception | None = None
        for name, value in _RAY_TRAIN.items():
            os.environ.setdefault(name, value)
        self._trainer = TorchTrainer(
            _work,
            train_loop_config={"settings": settings},
            torch_config=TorchConfig(timeout_s=_PATIENCE_SECONDS),
            scaling_config=ScalingConfig(
                num_workers=group.workers,
                use_gpu=group.demand.gpus > 0,
                resources_per_worker=group.demand.items(),
            ),
            run_config=RunConfig(
                name="train",
                storage_path=str(settings.scratch),
                failure_config=FailureConfig(  # type: ignore[call-arg]
                    max_failures=_RESTARTS,
                    controller_failure_limit=_RESTARTS,
                ),
                callbacks=[_Watch(settings.relay)],  # type: ignore[list-item]
                worker_runtime_env={"env_vars": _WORKER_ENVIRONMENT},
            ),
        )
        self.start()

    def run(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:  # noqa: BLE001 - told to the user by the main thread
            self.error = error


def _follow(fit: _Fit, relay: Any, group: WorkerGroup, say: Callable[[str], None], stopped: Callable[[], bool]) -> bool:
    """Pass on what the workers say until Ray Train has ended, and the wish to stop to them."""
    working, wished = False, None
    notice = time.monotonic() + _FIRST_NOTICE_SECONDS
    # Never waited for while workers train: a Ray that is gone must not keep the driver from stopping.
    asked = relay.take.remote()
    while fit.is_alive():
        if ray.wait([asked], timeout=0)[0]:
            working = _pass_on(asked, say).working
            asked = relay.take.remote()
        if wished is None and stopped():
            wished = time.monotonic()
        if wished is not None:
            relay.stop.remote()
            if not working:
                raise KeyboardInterrupt
            if time.monotonic() - wished > _STOP_SECONDS:
                say(f"the workers did not stop within {_STOP_SECONDS:.0f} s: the last checkpoint counts")
                raise KeyboardInterrupt
        elif working:
            notice = time.monotonic() + _FIRST_NOTICE_SECONDS
        elif time.monotonic() > notice:
            if _waits_for_room(group):
                say(f"waiting for room for {group}: the cluster has {_resources(group.demand)}")
            notice = time.monotonic() + _NOTICE_SECONDS
        fit.join(_POLL_SECONDS)
    _pass_on(asked, say)
    messages = _pass_on(relay.take.remote(), say)
    if messages.failure is not None:
        raise messages.failure
    if fit.error is not None:
        raise SystemFailure(
            ErrorKind.DEVICE, f"{_reason(fit.error)}; the same command goes on from the last checkpoint"
        ) from fit.error
    return messages.finished is True


def _pass_on(asked: Any, say: Callable[[str], None]) -> RelayMessages:
    messages: RelayMessages = ray.get(asked)
    for line in messages.lines:
        say(line)
    return messages


def _waits_for_room(group: WorkerGroup) -> bool:
    """Return whether there is no room for the workers; workers that have it may still be starting."""
    waits = any(one["state"] == "PENDING" for one in placement_group_table().values())
    return waits and free_slots(group.demand) < group.workers


def _work(loop_config: dict[str, Any]) -> None:
    """Train as one worker of the group that Ray Train has opened."""
    settings: WorkerSettings = loop_config["settings"]
    relay = settings.relay
    try:
        if settings.home.is_dir():
            os.chdir(settings.home)
        if not settings.scratch.is_dir():
            raise UsageError(f"node {platform.node()} cannot see the output {settings.scratch.parent}: {_SHARED}")
        leads = ray.train.get_context().get_world_rank() == 0
        if leads:
            relay.begin.remote()
        trainer = Trainer(settings.config, relay.say.remote)
        _agree_on(trainer.step)
        trainer.run(lambda line: relay.say.remote(str(line)), stopped=StopSignal(relay) if leads else lambda: False)
        if leads:
            ray.get(relay.end.remote(trainer.finished))
    except MimoError as error:
        ray.get(relay.fail.remote(error))
        raise


def _agree_on(step: int) -> None:
    """Make sure that all workers go on from the same step, whatever a shared folder showed each of them."""
    steps: list[int] = [0] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(steps, step)
    if len(set(steps)) > 1:
        # Another try reads the folder anew.
        raise RuntimeError(f"the workers found checkpoints of different steps: {steps}")


class _Watch(UserCallback):
    """A callback of Ray Train's controller: says why workers are started again, and sees to it that some are not."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay
        self._failures = 0

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Handle one failure of the group, before Ray Train decides what to do about it."""
        for error in worker_exceptions.values():
            if isinstance(error, MimoError):
                # An error of this callback is the one that Ray Train does not answer with a restart.
                raise error
        self._failures += 1
        if self._failures <= _RESTARTS:
            reason = _reason_of(worker_exceptions)
            self._relay.lose.remote(
                f"{reason}; all workers start again from the last checkpoint ({self._failures} of {_RESTARTS})"
            )


def _reason(error: Exception) -> str:
    """Why Ray Train gave up."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    if failures:
        return f"the training failed {_RESTARTS + 1} times, at last because {_reason_of(failures)}"
    return f"Ray Train gave up: {_line(getattr(error, 'controller_failure', error))}"


def _reason_of(failures: dict[int, Exception]) -> str:
    """Why a group of workers failed: the death of one, or else its error, not the broken connections of the rest."""
    dead = [rank for rank, error in failures.items() if isinstance(_cause(error), RayActorError)]
    if dead:
        return f"worker {' and '.join(map(str, sorted(dead)))} died"
    rank = min(failures, key=lambda rank: (isinstance(failures[rank], RuntimeError), rank))
    return f"worker {rank} failed ({_line(failures[rank])})"


def _cause(error: Exception) -> object:
    return getattr(error, "health_check_failure", error)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
