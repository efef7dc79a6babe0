"""Standard streams that are closed or take ASCII alone, and names that would steer a terminal."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from mimo_core.cli.display import Display
from mimo_core.cli.streams import plain
from mimo_core.cli.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]
RUN = 'exec "$0" -m mimo_core.cli.main verify "$1"'


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run whose output is missing; its name steers terminals, and is neither ASCII nor harmless."""
    import inprocess

    from mimo_core.datasets.imagelist import ImageEntry
    from mimo_core.runs.config import RestoreConfig
    from mimo_core.runs.folder import RunFolder, RunManifest
    from mimo_core.runs.plan_writer import write_plan
    from mimo_core.runs.record import Record
    from mimo_core.runs.records import write_part
    from mimo_core.storage import Store

    store = Store(str(tmp_path))
    (row,) = write_plan(store, [ImageEntry("café\x1b]0;title\x07\x9b31m.png", "/in")]).rows()
    RunFolder(store).begin(RunManifest.of(RestoreConfig(source="/in", output="/out"), inprocess.recipe_of()))
    write_part(store, 0, [Record(row.key, row.source, "restored", output=row.output)])
    return tmp_path


def verify(out: Path, redirection: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    command = ["sh", "-c", f"{RUN} {redirection}", sys.executable, str(out)]
    return subprocess.run(command, capture_output=True, cwd=ROOT, env={**os.environ, **variables}, check=False)


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_exit_code(out: Path, redirection: str) -> None:
    done = verify(out, redirection)
    assert done.returncode == 1, "one defect"
    assert b"Traceback" not in done.stderr
    assert (b"1 defect" in done.stdout) == (">&-" not in redirection.replace("2>&-", ""))
    (out / "plan" / "plan.json").unlink()
    assert verify(out, redirection).returncode == 2


def test_what_cannot_be_written_out_ends_without_a_traceback(out: Path) -> None:
    for redirection in (">/dev/full 2>/dev/full", "| true"):
        assert b"Traceback" not in verify(out, redirection).stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_name_can_be_told_in_any_encoding_and_steers_no_terminal(out: Path, encoding: str) -> None:
    done = verify(out, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (1, b"")
    accent = {"ascii": b"\\xe9", "latin-1": b"\xe9", "utf-8": "é".encode()}[encoding]
    assert done.stdout.startswith(b"caf" + accent + rb"\x1b]0;title\x07\x9b31m.png: its output")


def test_names_on_a_terminal_keep_their_colours_to_themselves() -> None:
    file = io.StringIO()
    terminal = Terminal(file=file, force_terminal=True, color_system="standard", width=80)
    table = Table(show_header=False)
    table.add_row("red\x1b[31m.png", "[bold]kept[/bold]")
    terminal.print(table)
    terminal.print("\x1b[2J\u202egnp.exe", markup=False)
    told = file.getvalue()
    assert "\x1b[31m" not in told
    assert "\x1b[2J" not in told
    assert r"red\x1b[31m.png" in told
    assert r"\u202egnp.exe" in told
    assert "\x1b[1mkept" in told, "styles of our own are there"


def test_messages_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as display:
        display.say("a\x1b[31mb\nsecond line")
    assert capsys.readouterr().err == "a\\x1b[31mb\nsecond line\n"
    assert plain("naïve – 画像.png") == "naïve – 画像.png"
