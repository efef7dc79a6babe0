"""CPUs of several kinds, as the program sees them: what a test expects is that of one kind, not of the CPU beneath."""

from collections.abc import Callable

import pytest

FLAGS = {
    "avx2": frozenset({"avx2", "fma"}),
    "avx_vnni": frozenset({"avx2", "fma", "avx_vnni"}),
    "avx512_vnni": frozenset({"avx2", "fma", "avx512f", "avx512_vnni"}),
    "avx512_bf16": frozenset({"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16"}),
    "amx": frozenset({"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"}),
    "arm": frozenset({"fp", "asimd"}),
}
"""Kinds of CPU, and what is among the flags of each."""
BF16 = frozenset({"avx512_bf16", "amx"})
"""Those that multiply bfloat16 in hardware."""


@pytest.fixture
def pretend_cpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the program take the CPU for one of that kind of `FLAGS`; what it computes is still this CPU's.

    OpenVINO computes bfloat16 in float32 and int8 with overflows where the CPU has no instructions for them.
    """

    def pretend(kind: str) -> None:
        monkeypatch.setattr("mimo_core.hardware._cpu_flags", lambda: set(FLAGS[kind]))
        monkeypatch.setattr("mimo_core.engines.openvino_session.computes_bf16", lambda core: kind in BF16)

    return pretend
