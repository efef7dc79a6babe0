"""Connecting to Ray: the cluster that `RAY_ADDRESS` names, or an embedded one that lives as long as the run."""

import logging
import os
import re
import signal
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

import mimo_core
from mimo_core.distributed.cluster_watch import watched
from mimo_core.distributed.ray_private import require_supported_ray, silence_notices, use_token
from mimo_core.distributed.resources import UNITS_VARIABLE, VACC
from mimo_core.errors import ErrorKind, SystemFailure, UsageError
from mimo_core.hardware import usable_cores
from mimo_core.wording import first_line

# Only shard numbers and the weights pass through the object store.
_OBJECT_STORE_BYTES = 256 << 20
_TEMPORARY = "RAY_TMPDIR"
# A socket's path may have 107 bytes, of which Ray's session takes about 70.
_LONGEST_TEMPORARY = 36
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
_PLACE = re.compile(r"(?P<host>[^:\s]+|\[[^\]\s]+\]):(?P<port>\d{1,5})")
# A head that restarts needs some seconds.
_ANSWER_SECONDS = 20.0


@dataclass(frozen=True)
class Connection:
    """A connection to Ray; `embedded` if this process started it."""

    embedded: bool
    address: str


@contextmanager
def connect(device: str = "auto", dies: int = 0, lost: Callable[[str], None] | None = None) -> Iterator[Connection]:
    """Connect to the cluster of `RAY_ADDRESS`, or start an embedded Ray, and disconnect in the end.

    Args:
        device: as asked for; `cuda:N` shows an embedded Ray that GPU alone, `vacc:N` one die.
        dies: VACC dies of this machine, for an embedded Ray to give out.
        lost: see `watched`; None leaves the end of a lost cluster's driver to Ray.

    Raises:
        UsageError: the address is of a kind that a driver cannot use, or `cuda:N` or `vacc:N` is asked of a cluster,
            where Ray gives them out.
        SystemFailure: there is no cluster at the address, or Ray does not start here.
    """
    require_supported_ray()
    address = cluster_address()
    if ":" in device and address:
        kind = device.split(":")[0]
        raise UsageError(f"--device {device}: on a cluster Ray gives out the devices; say --device {kind}")
    if device.startswith("cuda:"):
        os.environ["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's own notice of this setting would be the first thing that a user of a machine without GPUs reads.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    on_term = signal.getsignal(signal.SIGTERM)
    with _beside_the_program():
        if address:
            _join(address)
        else:
            _start(device, dies)
    silence_notices()
    # Ray takes SIGTERM for itself while connecting.
    signal.signal(signal.SIGTERM, on_term)
    connection = Connection(embedded=not address, address=address or "embedded")
    try:
        with watched(connection.address, lost) if lost is not None else nullcontext():
            yield connection
    except KeyboardInterrupt:
        # Shutting down in order takes longer than `ray job stop` waits; Ray's processes end with this one.
        raise
    except BaseException:
        ray.shutdown()
        raise
    else:
        ray.shutdown()


@contextmanager
def _beside_the_program() -> Iterator[None]:
    """Let Ray begin in the folder that holds this package.

    Workers import from the folder that a driver connects in, before all others: a `queue.py` or `mimo_core` among the
    user's own files would take the program's place.
    """
    before = os.open(".", os.O_RDONLY)
    os.chdir(Path(mimo_core.__file__).resolve().parents[1])
    try:
        yield
    finally:
        os.fchdir(before)
        os.close(before)


def cluster_address() -> str:
    """Return where the cluster is that `RAY_ADDRESS` names; empty for an embedded Ray.

    Raises:
        UsageError: it names no place that a driver can connect to.
    """
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if address in ("", "local"):
        return ""
    if "://" in address:
        raise UsageError(
            f"RAY_ADDRESS is {address}: a job cannot be driven through that kind of address; "
            "use `ray job submit --working-dir . -- python -m jobs.restore ...`"
        )
    if address != "auto" and not _PLACE.fullmatch(address):
        raise UsageError(
            f"RAY_ADDRESS is {address}: expected HOST:PORT, as `ray start --head` prints it; unset it to run on this "
            "machine"
        )
    return address


def _join(address: str) -> None:
    """Connect to a cluster."""
    # Ray itself would go on trying for a quarter of an hour, and tell of each try.
    require_answer(address, _ANSWER_SECONDS)
    if "RAY_AUTH_MODE" not in os.environ:
        use_token()
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=_runtime_env())
    except Exception as error:
        # What Ray raises here has no common class.
        raise _no_cluster(address, error) from error


def require_answer(address: str, seconds: float) -> None:
    """Wait at most so long until something answers at HOST:PORT; nothing is asked for `auto`.

    Raises:
        SystemFailure: nothing does.
    """
    place = _PLACE.fullmatch(address)
    if place is None:
        return
    deadline = time.monotonic() + seconds
    while True:
        try:
            where = (place["host"].strip("[]"), int(place["port"]))
            socket.create_connection(where, timeout=max(0.1, deadline - time.monotonic())).close()
            return
        except OSError as error:
            if time.monotonic() + 1 > deadline or isinstance(error, socket.gaierror):
                raise _no_cluster(address, error) from error
            time.sleep(1)


def _no_cluster(address: str, error: Exception) -> SystemFailure:
    return SystemFailure(
        ErrorKind.DEVICE,
        f"no Ray cluster answers at {address} (RAY_ADDRESS): {first_line(error)}; is it running, and is its token "
        "here (RAY_AUTH_MODE, RAY_AUTH_TOKEN)? Unset RAY_ADDRESS to run on this machine",
    )


def _start(device: str, dies: int) -> None:
    """Start an embedded Ray."""
    os.environ.setdefault(UNITS_VARIABLE, VACC)
    # Its processes end with this one, however it ends; those that look for a dead server do so for a minute.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
    _shorten_temporary_folder()
    _make_token_without_home()
    settings: dict[str, Any] = {
        "address": "local",
        "num_cpus": usable_cores(),
        "resources": {VACC: min(dies, 1) if device.startswith("vacc:") else dies} if dies else None,
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "object_store_memory": _OBJECT_STORE_BYTES,
    }
    try:
        ray.init(**settings)
    except Exception as error:
        # What Ray raises here has no common class. On a busy machine its processes take longer than it waits for them.
        if "timed out" not in str(error).lower():
            raise _cannot_start(error) from error
    else:
        return
    ray.shutdown()
    try:
        ray.init(**settings)
    except Exception as error:
        raise _cannot_start(error) from error


def _cannot_start(error: Exception) -> SystemFailure:
    return SystemFailure(
        ErrorKind.DEVICE,
        f"Ray does not start on this machine: {first_line(error)}; its logs lie in {_temporary_folder()}/ray (another "
        f"place: {_TEMPORARY}), and `mimo doctor` says what is wrong here",
    )


def _temporary_folder() -> str:
    """Return the folder below which Ray puts its sockets and logs, by Ray's own rule."""
    return os.environ.get(_TEMPORARY) or os.environ.get("TMPDIR") or "/tmp"


def _shorten_temporary_folder() -> None:
    """Choose another temporary folder where the name is too long for Ray's sockets."""
    if len(os.fsencode(_temporary_folder())) <= _LONGEST_TEMPORARY:
        return
    short = next((folder for folder in _SHORT_FOLDERS if os.access(folder, os.W_OK | os.X_OK)), None)
    if short is None:
        raise UsageError(
            f"the temporary folder {_temporary_folder()} has too long a name for Ray's sockets: name one of at most "
            f"{_LONGEST_TEMPORARY} bytes with {_TEMPORARY}"
        )
    os.environ[_TEMPORARY] = short


def _make_token_without_home() -> None:
    """Give Ray its token through the environment where it cannot keep one in the user's folder, as it does else."""
    if any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        return
    try:
        folder = Path.home() / ".ray"
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "auth_token").exists():
            return
        with tempfile.TemporaryFile(dir=folder):
            return
    except (OSError, RuntimeError):
        # Read-only, or a user without a folder.
        os.environ["RAY_AUTH_TOKEN"] = uuid.uuid4().hex


def _runtime_env() -> dict[str, object] | None:
    """Ship the program to the nodes, unless it runs as a submitted job, whose working directory ships it already."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return None
    return {"py_modules": [str(Path(mimo_core.__file__).parent)]}
