"""What this machine can compute: cores, memory, CUDA, and the precisions that run at full speed."""

import os
import platform
import resource
from dataclasses import dataclass
from pathlib import Path

from mimo_core.errors import UsageError

# NVIDIA's driver, the same below WSL, on Jetson boards, and AMD's.
_GPU_NODES = ("nvidia[0-9]*", "nvidiactl", "dxg", "nvhost-*", "nvmap", "kfd")


@dataclass(frozen=True)
class Hardware:
    """A machine as the automatic choices see it.

    Attributes:
        cores: CPU cores that this process may use.
        memory: bytes of main memory that this process may use.
        cpu_bf16: whether the CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX).
        cuda: whether PyTorch sees a CUDA device.
        cuda_bf16: whether that device multiplies bfloat16 in hardware (compute capability 8.0 or later).
        cuda_memory: bytes of memory of that device, 0 without one.
        vacc_dies: VACC dies, two on a card; counted when asked for.
    """

    cores: int
    memory: int
    cpu_bf16: bool
    cuda: bool
    cuda_bf16: bool
    cuda_memory: int
    vacc_dies: int = 0

    @classmethod
    def here(cls, *, vacc_dies: int = 0) -> "Hardware":
        """Inspect the machine that this process runs on; `vacc_dies` is what the caller knows of these."""
        cuda, cuda_bf16, cuda_memory = _cuda() if may_have_cuda() else (False, False, 0)
        return cls(usable_cores(), usable_memory(), _cpu_has_bf16(), cuda, cuda_bf16, cuda_memory, vacc_dies)


def _cuda() -> tuple[bool, bool, int]:
    """Return what `Hardware` says of CUDA; PyTorch takes seconds to import, so nothing else here does."""
    import torch

    if not torch.cuda.is_available():
        return False, False, 0
    return True, torch.cuda.get_device_capability()[0] >= 8, torch.cuda.get_device_properties(0).total_memory


def may_have_cuda() -> bool:
    """Return whether a device is here that PyTorch may use as `cuda`, told by what drivers make, in no time."""
    return any(next(Path("/dev").glob(name), None) for name in _GPU_NODES)


def usable_cores() -> int:
    """Return the CPU cores that this process may use: affinity, then the control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _first_line("/sys/fs/cgroup/cpu.max")
    if quota is not None and not quota.startswith("max"):
        allowed, period = map(int, quota.split())
        cores = min(cores, max(1, allowed // period))
    return cores


def usable_memory() -> int:
    """Return the bytes of main memory that this process may use: the machine's, or its control group's limit."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _first_line("/sys/fs/cgroup/memory.max")
    return min(memory, int(limit)) if limit is not None and limit.isdigit() else memory


def cpu_name() -> str:
    """Return what the CPU calls itself, with what it can compute: machines of equal names compute equally fast."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    facts = {line for line in lines if line.startswith(("model name", "flags", "Features", "cache size"))}
    return "; ".join(sorted(facts))


def cpu_model() -> str:
    """Return the CPU's name alone, for people."""
    names = (line.partition(":")[2].strip() for line in cpu_name().split("; ") if line.startswith("model name"))
    return next(names, platform.machine())


def peak_memory() -> int:
    """Return the most main memory that this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def int8_saturates() -> bool:
    """Return whether this CPU adds products of 8-bit integers in 16 bits, where they overflow: x86 without VNNI."""
    flags = _cpu_flags()
    return "avx2" in flags and not flags & {"avx512_vnni", "avx_vnni", "amx_int8"}


def refuse_int8_that_saturates(remedy: str = "use --precision fp32") -> None:
    """Refuse int8 on a CPU that computes it wrongly (`int8_saturates`); `remedy` says what to do instead.

    Raises:
        UsageError: it is one.
    """
    if int8_saturates():
        raise UsageError(f"this CPU's int8 products overflow (it has no VNNI): {remedy}")


def _cpu_has_bf16() -> bool:
    return bool(_cpu_flags() & {"avx512_bf16", "amx_bf16"})


def _cpu_flags() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
