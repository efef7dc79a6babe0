"""What goes wrong with one image becomes its record; what goes wrong with storage as a whole stops the task."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from inprocess import plan_of, recipe_of, run
from test_pipeline import cut, read, save

from mimo_core.engines import SessionSpec
from mimo_core.errors import ErrorKind, SystemFailure, UsageError
from mimo_core.inference.fault_hook import VARIABLE, Faults
from mimo_core.inference.pipeline import Pipeline, PipelineOptions
from mimo_core.inference.task import Task, TaskResult
from mimo_core.models.weights import load_weights
from mimo_core.storage import Store

IDENTITY = SessionSpec("identity", "cpu", "fp32", None)


def bad_files(folder: Path) -> dict[str, str]:
    """Files that cannot be restored, and what their records must say; good ones lie between them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(10):
        save(folder / f"{number}-good.png", cut("blurred", "window.png", 30 * number, 10 * number))
    (folder / "0-empty.png").touch()
    (folder / "1-text.png").write_text("This is not a picture.\n" * 20)
    png = (folder / "1-good.png").read_bytes()
    (folder / "2-truncated.png").write_bytes(png[: len(png) // 2])
    save(folder / "3-whole.jpg", cut("blurred", "mountains.jpg", 0, 0))
    jpg = (folder / "3-whole.jpg").read_bytes()
    (folder / "3-truncated.jpg").write_bytes(jpg[: len(jpg) // 2])
    os.mkfifo(folder / "4-fifo.png")
    (folder / "5-dangling.png").symlink_to(folder / "nowhere.png")
    save(folder / "6-large.png", cut("blurred", "window.png", 0, 0, 150, 150))
    return {
        "0-empty.png": "empty",
        "1-text.png": "not_an_image",
        "2-truncated.png": "truncated",
        "3-truncated.jpg": "truncated",
        "4-fifo.png": "not_an_image",
        "5-dangling.png": "not_found",
        "6-large.png": "too_large",
    }


@pytest.mark.parametrize("batch", [1, 3])
def test_each_bad_file_is_its_own_record_and_the_others_are_restored(tmp_path: Path, batch: int) -> None:
    expected = bad_files(tmp_path / "in")
    outcome = run(tmp_path / "in", tmp_path / "out", max_pixels=10_000, batch=batch, shard_size=7)
    found = outcome.records
    assert {key: record.error_kind for key, record in found.items() if record.status == "failed"} == expected
    assert sum(record.status == "restored" for record in found.values()) == 11
    for key, record in found.items():
        if record.status == "failed":
            assert record.error, "in words too"
            assert record.output is None
            assert not (tmp_path / "out" / "images" / key).exists()
        elif key.endswith(".png"):
            assert np.array_equal(read(outcome.output(key)), read((tmp_path / "in" / key).read_bytes()))
    assert "22500" in str(found["6-large.png"].error) or "150x150" in str(found["6-large.png"].error)


def test_a_folder_that_a_list_names_as_an_image_is_its_own_record(tmp_path: Path) -> None:
    save(tmp_path / "good.png", cut("blurred", "window.png", 0, 0))
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "list.txt").write_text("good.png\nfolder.png\nmissing.png\n")
    found = run(tmp_path / "list.txt", tmp_path / "out").records
    kinds = {key: record.error_kind for key, record in found.items()}
    assert kinds == {"good.png": None, "folder.png": "not_an_image", "missing.png": "not_found"}


def test_a_source_that_changed_since_the_plan_is_not_restored_silently(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name, cut("blurred", "window.png", 0, 0))
    plan = plan_of(tmp_path / "in", tmp_path / "out")
    save(tmp_path / "in" / "b.png", cut("blurred", "window.png", 90, 0))
    (tmp_path / "in" / "c.png").unlink()
    found = run(tmp_path / "in", tmp_path / "out", plan=plan).records
    assert [record.error_kind for record in found.values()] == [None, "changed", "not_found"]
    assert "changed since the run was planned" in str(found["b.png"].error)


def test_references_that_are_missing_or_do_not_fit_leave_the_image_restored_but_not_scored(tmp_path: Path) -> None:
    for name in ("fits", "missing", "small", "broken"):
        save(tmp_path / "in" / f"{name}.png", cut("blurred", "window.png", 0, 0))
    save(tmp_path / "ref" / "fits.png", cut("sharp", "window.png", 0, 0))
    save(tmp_path / "ref" / "small.png", cut("sharp", "window.png", 0, 0, 30, 40))
    (tmp_path / "ref" / "broken.png").write_bytes(b"\x89PNG\r\n")
    found = run(tmp_path / "in", tmp_path / "out", reference=tmp_path / "ref").records
    assert {record.status for record in found.values()} == {"restored"}
    assert {key: record.error_kind for key, record in found.items()} == {
        "fits.png": None,
        "missing.png": "reference_missing",
        "small.png": "reference_size",
        "broken.png": found["broken.png"].error_kind,
    }
    assert found["broken.png"].error_kind in ("truncated", "not_an_image")
    assert "the reference cannot be decoded" in str(found["broken.png"].error)
    assert "the reference is 40x30, the image 96x64" in str(found["small.png"].error)
    assert [record.psnr is not None for record in found.values()] == [key == "fits.png" for key in found]
    # With --size both are resized on purpose.
    sized = run(tmp_path / "in", tmp_path / "sized", reference=tmp_path / "ref", size=(32, 48)).records
    assert sized["small.png"].error_kind is None
    assert sized["small.png"].psnr is not None


def test_what_a_container_cannot_hold_is_the_images_error(tmp_path: Path) -> None:
    pixels = np.dstack([cut("blurred", "window.png", 0, 0), np.full((64, 96), 7, np.uint8)])
    save(tmp_path / "in" / "alpha.png", pixels)
    save(tmp_path / "in" / "plain.png", pixels[:, :, :3])
    found = run(tmp_path / "in", tmp_path / "out", format="jpg").records
    assert [record.error_kind for record in found.values()] == ["unsupported", None]
    assert "alpha" in str(found["alpha.png"].error)


def test_a_defect_in_one_image_is_recorded_with_its_place(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name, cut("blurred", "window.png", 0, 0))
    found = run(tmp_path / "in", tmp_path / "out", faults=Faults((("raise", "b*"),)), batch=1).records
    assert [record.error_kind for record in found.values()] == [None, "internal", None]
    assert "RuntimeError: fault hook" in str(found["b.png"].error)
    assert "fault_hook.py:" in str(found["b.png"].error)


# Failures of storage as a whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_the_task_and_blames_no_image(tmp_path: Path, small_disk: Path) -> None:
    for number in range(40):
        save(tmp_path / "in" / f"{number:02d}.png", cut("blurred", "window.png", number, number))
    outcome = run(tmp_path / "in", small_disk / "out", shard_size=20)
    failures = [result.failure for result in outcome.results]
    assert all(failures)
    for failure in failures:
        assert failure is not None
        assert failure[0] is ErrorKind.WRITE
        assert "the disk is full" in failure[1]
    done = [record for result in outcome.results for record in result.records.values()]
    assert len(done) < 40
    assert {record.status for record in done} == {"restored"}


def test_a_damaged_plan_fails_the_task_and_the_next_one_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimo_core.runs.plan_writer._FILE_ROWS", 1)
    for number in range(6):
        save(tmp_path / "in" / f"{number}.png", cut("blurred", "window.png", number, number))
    plan = plan_of(tmp_path / "in", tmp_path / "out", shard_size=2)
    (tmp_path / "out" / "plan" / "shard-00000001.parquet").write_bytes(b"nonsense")
    pipeline = Pipeline(Store(str(tmp_path / "out")), recipe_of(), IDENTITY, PipelineOptions())
    tasks = [Task(0, (0, 1)), Task(1, (0, 1)), Task(2, (0, 1)), Task(2, (0, 5)), Task(9, (0,)), Task(2, (1,))]
    results: list[TaskResult] = [pipeline.submit(task).result(60) for task in tasks]
    pipeline.close()
    assert [len(result.records) for result in results] == [2, 0, 2, 0, 0, 1]
    failures = [result.failure for result in results]
    assert failures[0] is failures[2] is failures[5] is None
    assert failures[1] is not None
    assert "shard 1 of the plan cannot be read" in failures[1][1]
    assert failures[3] == (ErrorKind.INTERNAL, "shard 2 has 2 rows, no row 5")
    assert failures[4] is not None
    assert plan.num_shards == 3


def test_a_session_that_does_not_open_is_the_constructors_error(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(UsageError, match="needs weights"):
        Pipeline(Store(str(tmp_path)), recipe_of(), SessionSpec("torch", "cpu", "fp32", None), PipelineOptions())
    with pytest.raises(SystemFailure, match=r"no CUDA device|does not exist"):
        Pipeline(
            Store(str(tmp_path)),
            recipe_of(),
            SessionSpec("torch", "cuda:99", "fp32", load_weights("golden:mimo-unet-lite")),
            PipelineOptions(),
        )
    assert threading.active_count() <= before + 1


# The fault hook


def test_the_hook_reads_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "die:*/7.png;hang:b;raise:c*;pause-commit:0.25;")
    assert Faults.from_environment() == Faults((("die", "*/7.png"), ("hang", "b"), ("raise", "c*")), 0.25)
    monkeypatch.delenv(VARIABLE)
    assert Faults.from_environment() == Faults()
    with pytest.raises(RuntimeError, match="asked for a failure on cat"):
        Faults((("raise", "c*"),)).strike("cat")
    Faults((("raise", "c*"),)).strike("dog")


@pytest.mark.parametrize("text", ["die", "explode:x", "pause-commit:soon", "die;hang:x"])
def test_a_malformed_hook_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match=f"{VARIABLE}: expected die:GLOB"):
        Faults.from_environment()
