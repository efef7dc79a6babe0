"""What the machine is told to compute: the same answers for the same flags, whatever CPU runs the tests."""

import pytest
from fixtures_cpu import BF16, FLAGS

from mimo_core.hardware import Hardware, int8_saturates


@pytest.mark.parametrize("kind", FLAGS)
def test_the_flags_of_a_cpu_say_what_it_computes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimo_core.hardware._cpu_flags", lambda: set(FLAGS[kind]))
    assert Hardware.here().cpu_bf16 == (kind in BF16)
    assert int8_saturates() == (kind == "avx2")
