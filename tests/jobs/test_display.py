"""What a person reads: numbers in words of fixed form, and lines at intervals where there is no terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.display import Display, duration, progress_line, rate, size
from jobs.running import how_to_resume
from mimo_core.config import RestoreConfig
from mimo_core.progress import RunProgress, count


def test_durations_have_two_units_at_most() -> None:
    expected = {0: "0 s", 0.2: "1 s", 59: "59 s", 60: "1 min 00 s", 61.5: "1 min 02 s", 3599.5: "1 h 00 min"}
    expected |= {7500: "2 h 05 min", 86400: "1 d 00 h", 100_000_000: "1157 d 09 h"}
    assert {seconds: duration(seconds) for seconds in expected} == expected


def test_sizes_have_decimal_units() -> None:
    expected = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 3_400_000: "3.4 MB", 999_960: "1.0 MB", 2e13: "20.0 TB"}
    expected |= {5e15: "5000.0 TB"}
    assert {number: size(number) for number in expected} == expected


@given(st.floats(0, 1e7))
def test_rates_are_never_in_powers_of_ten(number: float) -> None:
    assert "e" not in rate(number) or number < 1e-4
    assert float(rate(number)) == pytest.approx(number, rel=6e-3)


def test_one_and_many() -> None:
    assert (count(0, "worker"), count(1, "worker"), count(2, "worker")) == ("0 workers", "1 worker", "2 workers")


def progress(**changes: object) -> RunProgress:
    values = {"total": 200, "done": 50, "failed": 2, "rate_now": 1234.5, "rate_run": 4.567}
    return RunProgress(**{**values, "seconds_left": 75.0, "workers": 1, **changes})  # type: ignore[arg-type]


def test_the_line_says_how_far_how_fast_and_how_long() -> None:
    assert progress_line(progress()) == (
        "50/200 images (25.0%), 2 failed, 1234 images/s now, 4.57 over the run, 1 min 15 s left, 1 worker"
    )
    assert "left" not in progress_line(progress(seconds_left=None))


@pytest.mark.parametrize(("done", "total", "share"), [(57, 100, "57.0%"), (9999, 10000, "99.9%"), (1, 3, "33.3%")])
def test_the_share_is_exact_and_never_all_before_the_end(done: int, total: int, share: str) -> None:
    assert f"({share})" in progress_line(progress(done=done, total=total))


def test_all_is_all() -> None:
    assert "200/200 images (100.0%)" in progress_line(progress(done=200))
    assert "(100.0%)" in progress_line(progress(done=0, total=0))


def test_without_a_terminal_lines_come_at_intervals_and_the_last_state_in_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Display() as display:
        display.say("[bold]begun[/bold] /a/very/" + "long/" * 60 + "path.png")
        for done in range(100):
            display.progress(progress(done=done))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("[bold]begun[/bold] /a/very/long/")
    assert lines[0].endswith("path.png"), "no line is folded"
    assert lines[1:] == [progress_line(progress(done=99))]


def test_the_way_to_resume_can_be_pasted_and_holds_no_secret() -> None:
    config = RestoreConfig(source="my photos", output="out")
    assert how_to_resume("restore", config, ["my photos", "out", "--include", "*.dat"]).endswith(
        "mimo restore 'my photos' out --include '*.dat'"
    )
    secret = how_to_resume("restore", config, ["https://u:p@host/list.csv?X-Amz-Signature=abc", "out"])
    assert "abc" not in secret
    assert "u:p" not in secret


def test_the_way_to_resume_does_not_remove_what_is_done() -> None:
    config = RestoreConfig(source="in", output="out", mode="overwrite")
    text = how_to_resume("restore", config, ["in", "out", "--mode", "overwrite"])
    assert "without --mode overwrite" in text
    assert "mimo restore in" not in text
