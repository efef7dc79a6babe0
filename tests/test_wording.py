"""Numbers as people read them, the same in the terminal and in the report."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_core.wording import count, duration, significant, size


def test_durations_have_two_units_at_most() -> None:
    expected = {0: "0 s", 0.234: "0.234 s", 12.34: "12.3 s", 59.4: "59.4 s", 59.6: "1 min 00 s", 3599.5: "1 h 00 min"}
    expected |= {7500: "2 h 05 min", 86400: "1 d 00 h", 100_000_000: "1157 d 09 h"}
    assert {seconds: duration(seconds) for seconds in expected} == expected


def test_sizes_have_decimal_units() -> None:
    expected = {0: "0 B", 999: "999 B", 1000: "1 kB", 3_400_000: "3.4 MB", 999_960: "1 MB", 2e13: "20 TB"}
    expected |= {5e15: "5,000 TB"}
    assert {number: size(number) for number in expected} == expected


@given(st.floats(1e-4, 1e7))
def test_numbers_keep_three_digits_and_are_never_in_powers_of_ten(number: float) -> None:
    assert "e" not in significant(number)
    assert float(significant(number).replace(",", "")) == pytest.approx(number, rel=6e-3)


def test_one_and_many() -> None:
    assert (count(0, "worker"), count(1, "worker"), count(2, "worker")) == ("0 workers", "1 worker", "2 workers")
