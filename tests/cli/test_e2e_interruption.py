"""Ctrl-C and SIGTERM end a run within two seconds, wherever it is; it says how to go on, and it goes on."""

import os
import signal
import time
from pathlib import Path

import pytest
from archives import TORCH, assert_same_run, count_outputs, lease_state, make_archive, parts, restore_undisturbed
from fixtures_runs import Run, Runs
from processes import marked, wait_until

pytestmark = pytest.mark.ray


def importing(run: Run, output: Path) -> bool:
    """The driver has begun to load its libraries, and Ray is not up."""
    maps = Path(f"/proc/{run.process.pid}/maps").read_text()
    return "pydantic_core" in maps and "_raylet" in maps


def starting_ray(run: Run, output: Path) -> bool:
    return any("gcs_server" in command for command in marked(run.mark).values())


def planning(run: Run, output: Path) -> bool:
    return (output / "plan").exists()


def starting_workers(run: Run, output: Path) -> bool:
    return any(command.startswith("ray::Worker") for command in marked(run.mark).values())


def working(run: Run, output: Path) -> bool:
    return count_outputs(output) >= 5 and len(parts(output)) >= 1


def interrupt(run: Run, number: signal.Signals, *, group: bool = False) -> float:
    """Send the signal and return the seconds until the end."""
    begun = time.monotonic()
    if group:
        # As a terminal does: every process of the group gets it.
        os.killpg(run.process.pid, number)
    else:
        run.signal(number)
    run.process.wait(30)
    return time.monotonic() - begun


@pytest.mark.parametrize(
    ("number", "moment", "group"),
    [
        pytest.param(signal.SIGTERM, importing, False, marks=pytest.mark.slow),
        (signal.SIGTERM, starting_ray, False),
        pytest.param(signal.SIGINT, planning, True, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, starting_workers, False, marks=pytest.mark.slow),
        (signal.SIGINT, working, True),
    ],
    ids=["importing-term", "starting-ray-term", "planning-ctrl-c", "starting-workers-term", "working-ctrl-c"],
)
def test_a_signal_ends_the_run_within_two_seconds(
    runs: Runs, tmp_path: Path, tiny_weights: Path, number: signal.Signals, moment, group: bool
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    make_archive(source, 300)
    run = runs.start(source, output, "--weights", tiny_weights, "--shard-size", 2)
    run.until(lambda: moment(run, output), moment.__name__)
    seconds = interrupt(run, number, group=group)
    assert run.process.returncode == 130, run.text
    assert seconds < 2, f"{seconds:.2f} s:\n{run.text}"
    assert f"stopped by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'}" in run.text
    assert f"mimo restore {source} {output} --weights {tiny_weights} --shard-size 2" in run.text
    assert "Traceback" not in run.text
    if moment is working:
        assert lease_state(output) == "released"
    print(f"ended after {seconds:.2f} s; its processes after another", end=" ")
    print(f"{wait_until(lambda: not marked(run.mark), 'its Ray processes end', within=90):.1f} s")


@pytest.mark.slow
def test_what_is_committed_stays_and_the_run_goes_on(runs: Runs, tmp_path: Path, tiny_weights: Path) -> None:
    source, output, undisturbed = tmp_path / "in", tmp_path / "out", tmp_path / "undisturbed"
    keys = make_archive(source, 60)
    options = (*TORCH, "--weights", tiny_weights, "--shard-size", 4)
    restore_undisturbed(source, undisturbed, tiny_weights)
    # A commit that takes longer than the two seconds must not hold the end up.
    run = runs.start(source, output, *options, faults="pause-commit:5")
    run.until(lambda: len(parts(output)) >= 1, "a part is committed")
    assert interrupt(run, signal.SIGTERM) < 2
    assert run.process.returncode == 130
    before = {path.name: path.stat().st_mtime_ns for path in (output / "records").iterdir()}
    finished = runs.finish(source, output, *options)
    assert finished.code == 0, finished.text
    after = {path.name: path.stat().st_mtime_ns for path in (output / "records").iterdir()}
    assert before.items() <= after.items()
    assert_same_run(output, undisturbed, keys)


@pytest.mark.slow
def test_a_second_signal_ends_the_run_at_once(runs: Runs, tmp_path: Path) -> None:
    output = tmp_path / "out"
    make_archive(tmp_path / "in", 40)
    run = runs.start(
        tmp_path / "in", output, "--engine", "identity", "--workers", 2, "--shard-size", 2, faults="pause-commit:60"
    )
    # More than the workers may have at hand, so that the first shards are being committed.
    run.until(lambda: count_outputs(output) >= 12, "outputs")
    run.signal(signal.SIGINT)
    time.sleep(0.3)
    assert run.alive, "the commit under way was not waited for"
    assert interrupt(run, signal.SIGINT) < 0.5
    assert run.process.returncode == 130
    assert "stopped by Ctrl-C" in run.text
    wait_until(lambda: not marked(run.mark), "its Ray processes end", within=90)
