"""Decoded images that are kept: only as long as their files stay as they were, and only so many bytes."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from mimo_core.engines import SessionHost, SessionSpec
from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.cache import DecodedImages, ImageFiles
from mimo_core.storage import Store


def write(path: Path, value: int, moment: int = 1) -> None:
    """A picture of one gray, 8x8, written at a moment."""
    assert cv2.imwrite(str(path), np.full((8, 8, 3), value, np.uint8))
    os.utime(path, ns=(moment, moment))


def gray(files: ImageFiles, path: Path) -> int:
    return int(files.decode(files.read(str(path))).pixels[0, 0, 0])


def test_a_file_is_decoded_once_while_it_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write(path, 10)
    files = ImageFiles(1 << 20, DecodedImages(1 << 20))
    first = files.read(str(path))
    assert gray(files, path) == 10
    size = first.nbytes
    # The same time stands for the same content: what comes now was not read.
    write(path, 20)
    assert gray(files, path) == 10
    assert files.read(str(path)).nbytes == size
    write(path, 30, moment=2)
    assert gray(files, path) == 30
    path.unlink()
    with pytest.raises(ImageError) as caught:
        files.read(str(path))
    assert caught.value.kind is ErrorKind.NOT_FOUND


def test_nothing_is_kept_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write(path, 10)
    files = ImageFiles(1 << 20)
    assert gray(files, path) == 10
    write(path, 20)
    assert gray(files, path) == 20


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        write(path, 10)
    files = ImageFiles(1 << 20, DecodedImages(2 * 8 * 8 * 3))
    for path in (paths[0], paths[1], paths[0], paths[2]):
        gray(files, path)
    for path in paths:
        write(path, 20)
    assert [gray(files, path) for path in (paths[0], paths[2], paths[1])] == [10, 10, 20]


def test_what_is_kept_is_refused_by_those_who_take_less(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write(path, 10)
    kept = DecodedImages(1 << 20)
    gray(ImageFiles(64, kept), path)
    with pytest.raises(ImageError) as caught:
        gray(ImageFiles(63, kept), path)
    assert caught.value.kind is ErrorKind.TOO_LARGE


def test_two_pipelines_in_turn_share_a_session(tmp_path: Path, tiny_weights: Path) -> None:
    from archives import make_archive
    from inprocess import plan_of, recipe_of

    from mimo_core.inference.pipeline import Pipeline, PipelineOptions
    from mimo_core.inference.task import Task
    from mimo_core.models.weights import load_weights

    keys = make_archive(tmp_path / "in", 4)
    weights = load_weights(str(tiny_weights))
    host = SessionHost(SessionSpec("torch", "cpu", "fp32", weights, threads=1))
    kept = DecodedImages(1 << 20)
    written: list[dict[str, bytes]] = []
    for name in ("first", "second", "alone"):
        recipe = recipe_of(weights, engine="torch")
        plan = plan_of(tmp_path / "in", tmp_path / name)
        session = host if name != "alone" else host.spec
        pipeline = Pipeline(plan.store, recipe, session, PipelineOptions(), decoded=kept if name != "alone" else None)
        result = pipeline.submit(Task(0, tuple(range(len(keys))))).result()
        pipeline.close()
        assert {record.status for record in result.records.values()} == {"restored"}
        assert {record.bytes_in for record in result.records.values()} == {
            (tmp_path / "in" / key).stat().st_size for key in keys
        }
        written.append({key: Store(str(tmp_path / name)).read(f"images/{key}") for key in keys})
    assert written[0] == written[1] == written[2]
    # The pipelines that were given it have left it open.
    assert host.do(lambda session: session.restore(np.zeros((1, 16, 16, 3), np.uint8))).result().shape == (1, 16, 16, 3)
    host.close()
