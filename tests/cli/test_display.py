"""What a person sees of a run: one line that says how far it is, at intervals where there is no terminal."""

import json
from datetime import datetime, timedelta

import pytest
from processes import wait_until
from rich.table import Table

from mimo_core.cli import display as display_module
from mimo_core.cli.display import Display, bar, progress_line
from mimo_core.cli.running import attempt, how_to_resume
from mimo_core.cli.terminal import Terminal, tables
from mimo_core.errors import ErrorKind, SystemFailure, UsageError
from mimo_core.inference.progress import RunProgress
from mimo_core.runs.config import RestoreConfig
from mimo_core.wording import Notice


def progress(**changes: object) -> RunProgress:
    values = {"total": 200, "done": 50, "failed": 2, "rate_now": 1234.5, "rate_run": 4.567}
    return RunProgress(**{**values, "seconds_left": 75.0, "workers": 1, **changes})  # type: ignore[arg-type]


def test_the_line_says_how_far_how_fast_and_how_long() -> None:
    assert progress_line(progress()) == (
        "50/200 images (25.0%), 2 failed, 1,234 images/s now, 4.57 over the run, 1 min 15 s left, 1 worker"
    )
    assert "left" not in progress_line(progress(seconds_left=None))
    assert progress_line(progress(within="wall.tif: tile 57 of 130")).endswith("1 worker, wall.tif: tile 57 of 130")


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
    assert how_to_resume("restore", config, ["my photos", "out", "--include", "*.dat"], progressed=True).endswith(
        "mimo restore 'my photos' out --include '*.dat'"
    )
    secret = how_to_resume("restore", config, ["https://u:p@host/list.csv?X-Amz-Signature=abc", "out"], progressed=True)
    assert "abc" not in secret
    assert "u:p" not in secret


def test_the_way_to_resume_does_not_remove_what_is_done() -> None:
    config = RestoreConfig(source="in", output="out", mode="overwrite")
    arguments = ["in", "out", "--mode", "overwrite"]
    text = how_to_resume("restore", config, arguments, progressed=True)
    assert "without --mode overwrite" in text
    assert "mimo restore in" not in text
    # Before that, what goes on without it is the run that was to be replaced.
    assert how_to_resume("restore", config, arguments, progressed=False).endswith(
        "mimo restore in out --mode overwrite"
    )


@pytest.mark.parametrize("progressed", [False, True])
def test_only_a_run_that_got_somewhere_is_told_that_something_stays(
    progressed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(display: Display) -> int:
        if progressed:
            display.progress(progress())
        raise SystemFailure(ErrorKind.STORAGE, "the disk is full")

    assert attempt("restore", work, lambda _: "the same command goes on") == 1
    told = capsys.readouterr().err
    assert "mimo restore: the disk is full\n" in told
    assert told.endswith("Once that is mended: the same command goes on\n")
    assert ("What is committed stays." in told) == progressed


def test_a_log_is_told_of_a_phase_that_takes_long_and_of_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    with Display() as display:
        monkeypatch.setattr(display_module, "_LINE_SECONDS", 0.05)
        display.phase("starting Ray")
        wait_until(lambda: told.append(capsys.readouterr().err) or any(told), "the phase is told")
        monkeypatch.setattr(display_module, "_LINE_SECONDS", 600.0)
        display.phase("opening the workers' sessions")
        assert not display._later.finished.is_set()
        display.progress(progress())
        assert display._later.finished.is_set()
    assert "".join(told) == "starting Ray ...\n"
    assert "opening" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("width", "beside"),
    [
        (160, "50/200 (25.0%), 2 failed, 1 min 15 s left, 1,234 images/s, 1 worker"),
        (80, "50/200 (25.0%), 2 failed, 1 min 15 s left, 1,234 images/s, 1 worker"),
        (60, "50/200 (25.0%), 2 failed, 1 min 15 s left"),
        (30, "50/200 (25.0%)"),
        (10, "50/200 (25"),
    ],
)
def test_the_bar_is_one_line_whatever_the_width(width: int, beside: str) -> None:
    console = Terminal(width=width, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(bar(progress(), width))
    (line,) = captured.get().splitlines()
    assert len(line) <= width
    assert beside[: width - 2] in line
    assert "2 failed" not in bar_text(progress(failed=0))


def bar_text(shown: RunProgress) -> str:
    console = Terminal(width=200)
    with console.capture() as captured:
        console.print(bar(shown, 200))
    return captured.get()


def test_tables_have_no_blanks_at_the_end_of_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    for value in ("a long text of which no line is folded " * 4, "short"):
        table.add_row("label", value)
    tables().print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [line.rstrip() for line in lines]
    assert len(lines) == 2


def test_a_log_for_machines_has_one_document_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Display("2019") as display:
        display.phase("planning")
        display.say("begun")
        display.say(Notice("a worker died on node-7", worker="node-7"))
        display.say(Notice("b.png: recorded\nas timeout", level="error", shard=12))
        display.progress(progress(done=99))
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [datetime.fromisoformat(one.pop("time")).utcoffset() for one in told] == [timedelta()] * 4
    last = told.pop()
    assert told == [
        {"level": "info", "run": "2019", "shard": None, "worker": None, "message": "begun"},
        {"level": "warning", "run": "2019", "shard": None, "worker": "node-7", "message": "a worker died on node-7"},
        {"level": "error", "run": "2019", "shard": 12, "worker": None, "message": "b.png: recorded\nas timeout"},
    ]
    assert last["message"] == progress_line(progress(done=99))
    assert (last["progress"]["done"], last["progress"]["workers"]) == (99, 1)


@pytest.mark.parametrize(
    ("error", "code"), [(SystemFailure(ErrorKind.STORAGE, "no bucket"), 1), (UsageError("no such thing"), 2)]
)
def test_a_log_for_machines_tells_why_a_run_failed(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(display: Display) -> int:
        raise error

    assert attempt("restore", work, lambda progressed: "the same command goes on", "2019") == code
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (told[0]["level"], told[0]["message"]) == ("error", f"mimo restore: {error}")
