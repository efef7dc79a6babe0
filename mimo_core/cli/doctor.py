"""`mimo doctor [PLACE ...]`: what this machine has for the program, what places can be read, and what is wrong."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import FAILED, OK
from mimo_core.cli.streams import show
from mimo_core.engines.registry import ENGINES
from mimo_core.errors import ImageError, MimoError
from mimo_core.hardware import Hardware, cpu_model, int8_saturates, may_have_cuda
from mimo_core.storage import Store, redact
from mimo_core.storage.disk_cache import cache_folder
from mimo_core.version import __version__
from mimo_core.wording import count, size

_LEAST_FREE = 1 << 30
_ANSWER_SECONDS = 3.0

Finding = tuple[str, str]


class DoctorConfig(BaseModel):
    """Say what this machine has for the program, which PLACEs can be read, and what is wrong; changes nothing."""

    POSITIONAL: ClassVar[tuple[str, ...]] = ("place",)

    EXAMPLES: ClassVar[tuple[str, ...]] = ("s3://archive/2019",)

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: tuple[str, ...] = Field((), description="folder or bucket prefix to look into")


def main(argv: Sequence[str]) -> int:
    """Run the job: 0 where nothing is wrong, 1 otherwise."""
    config = parse(DoctorConfig, argv, "mimo doctor")
    wrong: list[str] = []
    for label, text in _findings(config, wrong.append):
        show(f"{label:<10} {text}")
    for problem in wrong:
        show(f"wrong      {problem}")
    if not wrong:
        show("nothing is wrong")
    return FAILED if wrong else OK


def _findings(config: DoctorConfig, wrong: Callable[[str], None]) -> Iterator[Finding]:
    """Give what is found, line by line, and tell what is wrong."""
    yield "program", f"mimo {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    hardware = Hardware.here()
    yield "processor", f"{cpu_model()}, {count(hardware.cores, 'core')}, {size(hardware.memory)} of memory"
    yield "gpu", _gpu(hardware, wrong)
    for name, precisions in _engines(hardware, wrong):
        yield f"{name}", precisions
    yield "cache", _cache(wrong)
    yield "ray", _ray(wrong)
    for place in config.place:
        yield "place", _place(place, wrong)


def _gpu(hardware: Hardware, wrong: Callable[[str], None]) -> str:
    if hardware.cuda:
        return f"{size(hardware.cuda_memory)} of memory, {'bf16' if hardware.cuda_bf16 else 'no bf16'}"
    if may_have_cuda():
        wrong(
            f"a GPU is here, and PyTorch {_version('torch')} does not see it: install its CUDA build, and look at the "
            "driver with `nvidia-smi`"
        )
        return "one that PyTorch does not see"
    return "none"


def _engines(hardware: Hardware, wrong: Callable[[str], None]) -> Iterator[Finding]:
    """Give the engines that compute networks here, each with its version and precisions."""
    for name, engine in ENGINES.items():
        if not engine.automatic:
            continue
        try:
            import_module(engine.package)
        except ImportError as error:
            wrong(f"the engine {name} cannot be imported ({error}): `pip install {engine.package}`")
            continue
        # On the CPU; what a GPU computes in is the GPU's affair.
        there = {"fp32": True, "bf16": hardware.cpu_bf16, "int8": not int8_saturates(), "fp16": hardware.cuda}
        can = [precision for precision in engine.precisions if there[precision]]
        lacking = [precision for precision in engine.precisions if not there[precision]]
        text = f"{_version(engine.package)}: {', '.join(can)}"
        if lacking:
            text += f" (this machine lacks what {' and '.join(lacking)} {'needs' if len(lacking) == 1 else 'need'})"
        yield name, text


def _cache(wrong: Callable[[str], None]) -> str:
    folder = cache_folder()
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        wrong(f"the cache {folder} cannot be written to: name a folder with MIMO_CACHE")
    free = shutil.disk_usage(above).free
    if free < _LEAST_FREE:
        wrong(f"only {size(free)} are free where the cache is ({folder}): make room, or name a folder with MIMO_CACHE")
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    return f"{folder}, {size(held)} in it, {size(free)} free"


def _ray(wrong: Callable[[str], None]) -> str:
    # Ray takes a second to import, which `--help` need not.
    from mimo_core.distributed.connection import cluster_address, require_answer
    from mimo_core.distributed.ray_private import require_supported_ray

    where = "a Ray for each run"
    try:
        require_supported_ray()
        if address := cluster_address():
            where = f"the cluster at {address} (RAY_ADDRESS)"
            require_answer(address, _ANSWER_SECONDS)
    except MimoError as error:
        wrong(str(error))
    return f"{_version('ray')}, {where}"


def _place(place: str, wrong: Callable[[str], None]) -> str:
    try:
        first = next(iter(Store(place).list("")), None)
    except (MimoError, ImageError) as error:
        wrong(str(error))
        return f"{redact(place)}: cannot be read"
    return f"{redact(place)}: {'can be read' if first is not None else 'nothing is there'}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(unknown version)"
