"""Ctrl-C and SIGTERM end a process in time, with exit code 130 and one report, whatever it is busy with."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import hashlib, sys, threading, time
from mimo_core.cli.interruption import interruptible
from mimo_core.cli.main import leave

def report(cause):
    print("stopped by", cause, flush=True)

with interruptible(report) as interruption:
    try:
        print("ready", flush=True)
        {busy}
    except BaseException as error:
        if not interruption.happened:
            raise
        {cleanup}
        interruption.report()
        leave(130)
print("done", flush=True)
"""
WAITING = "threading.Event().wait()"
# Minutes inside one call of a library, in which Python cannot run a handler.
STUCK = "hashlib.pbkdf2_hmac('sha256', b'x', b'x', 10**9)"
OTHER_ERROR = """
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            raise ValueError("a library's own idea of an interruption")"""


@contextmanager
def program(busy: str, cleanup: str = "pass") -> Iterator[subprocess.Popen[str]]:
    code = PROGRAM.format(busy=busy.strip(), cleanup=cleanup)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        # No more than that, for what a file object reads ahead is lost to `communicate`.
        said = b""
        while not said.endswith(b"\n"):
            # An unbuffered program writes the end of the line apart.
            read = os.read(process.stdout.fileno(), 1)
            assert read, "the program has ended"
            said += read
        assert said == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("busy", [WAITING, STUCK, OTHER_ERROR])
@pytest.mark.parametrize(("number", "cause"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_one_signal_ends_it_in_time_with_one_report(busy: str, number: signal.Signals, cause: str) -> None:
    with program(busy) as process:
        begun = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        seconds = time.monotonic() - begun
    assert process.returncode == 130, err
    assert out == f"stopped by {cause}\n"
    # `ray job stop` kills after 3 seconds; the issue asks for 2.
    assert seconds < 2.9


def test_a_cleanup_that_takes_too_long_is_cut_off() -> None:
    with program(WAITING, cleanup="time.sleep(60)") as process:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == "stopped by SIGTERM\n"


def test_a_second_signal_ends_it_at_once() -> None:
    with program(STUCK) as process:
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        seconds = time.monotonic() - begun
    assert process.returncode == 130
    assert seconds < 1.2


def test_what_ends_by_itself_is_left_alone() -> None:
    with program("pass") as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "done\n", "")


def test_an_error_without_a_signal_stays_an_error() -> None:
    with program("raise ValueError('mine')") as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "ValueError: mine" in err
    assert out == ""
