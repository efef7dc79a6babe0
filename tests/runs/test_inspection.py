"""Verifying a run: what is told of one that is not finished, and of one that is not as recorded."""

import hashlib
from pathlib import Path

import inprocess
import pytest

from mimo_core.cli.main import main
from mimo_core.datasets.imagelist import ImageEntry
from mimo_core.runs.config import RestoreConfig
from mimo_core.runs.folder import RunFolder, RunManifest
from mimo_core.runs.plan_writer import write_plan
from mimo_core.runs.record import Record
from mimo_core.runs.records import write_part
from mimo_core.storage import Store


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run of five shards with two images each, of which the first three are done."""
    store = Store(str(tmp_path))
    plan = write_plan(store, (ImageEntry(f"{number}.png", f"/in/{number}.png") for number in range(10)), shard_size=2)
    RunFolder(store).begin(RunManifest.of(RestoreConfig(source="/in", output=str(tmp_path)), inprocess.recipe_of()))
    for number in range(3):
        records = []
        for row in plan.shard(number):
            store.write(row.output, row.key.encode())
            digest = hashlib.sha256(row.key.encode()).hexdigest()
            records.append(Record(row.key, row.source, "restored", output=row.output, output_sha256=digest))
        write_part(store, number, records)
    return tmp_path


def test_a_run_that_is_not_finished_is_told_in_one_line(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(out)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "10 images of the plan, 6 outputs hashed (0 B), 0 defects",
        "the run is not finished: 4 images of the plan without a record yet; the command that began it goes on",
    ]


def test_status_names_the_command_that_goes_on(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(out)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-2:] == [
        "no driver works on this run; the command that began it goes on from here:",
        f"  mimo restore /in {out}",
    ]


def test_status_of_a_finished_run_names_the_command_that_tries_again(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (3, 4):
        rows = [f"{2 * number + row}.png" for row in range(2)]
        write_part(Store(str(out)), number, [Record(key, f"/in/{key}", "failed", error_kind="empty") for key in rows])
    assert main(["status", str(out)]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == f"  mimo restore /in {out} --mode retry-failed"


def test_status_sends_nobody_to_try_again_what_has_changed(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (3, 4):
        rows = [f"{2 * number + row}.png" for row in range(2)]
        write_part(Store(str(out)), number, [Record(key, f"/in/{key}", "failed", error_kind="changed") for key in rows])
    assert main(["status", str(out)]) == 3
    told = capsys.readouterr().out
    assert told.endswith("into another OUTPUT, or start over with --mode overwrite\n")
    assert "retry-failed" not in told


def test_defects_are_told_one_by_one_beside_it(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "images" / "1.png").write_bytes(b"other")
    (out / "images" / "4.png").unlink()
    assert main(["verify", str(out)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("1.png: its output images/1.png is not the file")
    assert told[1].startswith("4.png: its output images/4.png is missing")
    assert "2 defects" in told[2]
    assert told[3].startswith("the run is not finished: 4 images")
