"""A sweep as a user starts it: cells that run and cells that cannot, shared workers, interruption and resumption."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import pyarrow.dataset as ds
import pytest
import yaml
from archives import check_tree, make_archive, rows_by_key
from fixtures_clusters import Cluster
from fixtures_runs import Runs

from mimo_core.cli.main import main

pytestmark = pytest.mark.ray

_VARIES = ("read_ms", "decode_ms", "infer_ms", "score_ms", "finished_at")


def make_pairs(folder: Path, count: int) -> Path:
    """Blurred pictures with their sharp originals beside them."""
    for key in make_archive(folder / "sharp", count):
        sharp = cv2.imread(str(folder / "sharp" / key))
        assert sharp is not None
        blurred = (folder / "blur" / key).with_suffix(".png")
        blurred.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(blurred), cv2.blur(sharp, (5, 1)))
    return folder


def write_sweep(tmp_path: Path, **values: Any) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def grid(tmp_path: Path, tiny_weights: Path) -> Path:
    """Four cells of one session, one of another, and one that cannot be run."""
    small, large = make_pairs(tmp_path / "small", 6), make_pairs(tmp_path / "large", 9)
    (large / "sharp/00/000.jpg").unlink()
    return write_sweep(
        tmp_path,
        data={"small": {"source": str(small)}, "large": {"source": str(large), "limit": 8}},
        grids=[{"data": ["small", "large"], "weights": str(tiny_weights), "size": ["native", "32x48"]}],
        cells=[{"data": "small", "engine": "identity"}, {"data": "small", "engine": "torch", "precision": "int8"}],
        options={"engine": "torch", "precision": "fp32", "workers": 1, "shard-size": 2, "overlap": 8},
        baseline={"size": "native"},
    )


def results(output: Path) -> dict[str, Any]:
    return {one["name"]: one for one in json.loads((output / "results.json").read_text())["cells"]}


def scores(output: Path) -> dict[str, dict[str, object]]:
    """Everything that two runs of one evaluation have in common."""
    return {
        key: {name: value for name, value in row.items() if name not in _VARIES}
        for key, row in rows_by_key(output).items()
    }


@contextmanager
def watched(on: Cluster) -> Iterator[set[int]]:
    """The process numbers of all workers that are seen on the cluster until the block ends."""
    seen: set[int] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            seen.update(on.workers())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_a_sweep_is_what_its_cells_are_alone(tmp_path: Path, grid: Path, runs: Runs, ray_cluster: Cluster) -> None:
    output = tmp_path / "out"
    planned = runs.finish(grid, output, "--dry-run", job="sweep")
    assert planned.code == 0
    assert "6 cells over 2 data sets, 0 of them done; nothing was run" in planned.text
    assert not output.exists()
    with watched(ray_cluster) as hands:
        finished = runs.finish(grid, output, job="sweep", on=ray_cluster)
    assert finished.code == 3, finished.text
    found = results(output)
    by_state = {state: {name for name, one in found.items() if one["status"] == state} for state in ("done", "not_run")}
    assert len(by_state["done"]) == 5
    assert by_state["not_run"] == {"small_torch_int8"}
    assert "nothing computes in int8" in found["small_torch_int8"]["reason"]
    # One worker has served every cell whose demand it could meet.
    assert 1 <= len(hands) <= 2
    records = ds.dataset(output / "records", partitioning="hive").to_table().to_pandas()
    assert records.groupby("cell").size().to_dict() == {
        name: 8 if name.startswith("large") else 6 for name in by_state["done"]
    }
    for name in by_state["done"]:
        figures, cell = found[name]["figures"], output / "cells" / name
        check_tree(cell)
        own = records[(records.cell == name) & (records.status == "restored")]
        assert figures["scores"]["psnr"] == pytest.approx(own.psnr.mean(), abs=1e-9)
        assert figures["skipped"] == (1 if name.startswith("large") else 0)
    compared = next(one for name, one in found.items() if name.startswith("large") and "32x48" in name)
    assert compared["baseline"] != compared["name"]
    difference = compared["differences"]["psnr"]
    assert difference["images"] == 7
    base = found[compared["baseline"]]["figures"]["scores"]["psnr"]
    assert difference["mean"] == pytest.approx(compared["figures"]["scores"]["psnr"] - base, abs=1e-9)
    table = (output / "table.md").read_text()
    assert table in finished.text
    assert "32x48" in table
    # The same evaluation by itself, by a worker and a session of its own.
    config = json.loads((output / "cells" / compared["name"] / "run.json").read_text())["options"]
    alone = tmp_path / "alone"
    given = ("weights", "engine", "precision", "workers", "shard_size", "overlap", "size", "limit")
    options = [f"--{name.replace('_', '-')}={config[name]}" for name in given]
    own_run = runs.finish(config["source"], config["reference"], alone, *options, job="evaluate", on=ray_cluster)
    assert own_run.code == 3, own_run.text
    assert scores(alone) == scores(output / "cells" / compared["name"])


@pytest.mark.slow
def test_a_sweep_that_is_killed_and_interrupted_goes_on(
    tmp_path: Path, grid: Path, runs: Runs, ray_cluster: Cluster
) -> None:
    output, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    assert runs.finish(grid, undisturbed, job="sweep", on=ray_cluster).code == 3
    run = runs.start(grid, output, job="sweep", on=ray_cluster, faults="pause-image:0.1")
    cells = output / "cells"
    run.until(lambda: len(list(cells.glob("*/records/*.parquet"))) == 5, "the second cell is under way")
    os.kill(run.process.pid, signal.SIGKILL)
    run.end()
    done = {name for name, one in results(output).items() if one["status"] == "done"}
    assert len(done) == 1
    stamps = {path: path.stat().st_mtime_ns for name in done for path in (cells / name).rglob("*") if path.is_file()}
    run = runs.start(grid, output, job="sweep", on=ray_cluster, faults="pause-image:0.1")
    run.until(lambda: len(results(output)) == 2, "the second cell is done")
    run.signal(signal.SIGINT)
    stopped = run.end()
    assert stopped.code == 130
    assert "the same command goes on from here" in stopped.text
    finished = runs.finish(grid, output, job="sweep", on=ray_cluster)
    assert finished.code == 3, finished.text
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    mine, its = results(output), results(undisturbed)
    assert list(mine) == list(its)
    for name, one in mine.items():
        assert (one["status"], one["reason"], one["differences"]) == tuple(
            its[name][key] for key in ("status", "reason", "differences")
        )
        if one["status"] == "done":
            assert scores(cells / name) == scores(undisturbed / "cells" / name)
            copies = output / "records" / f"cell={name}"
            for part in (cells / name / "records").iterdir():
                assert (copies / part.name).read_bytes() == part.read_bytes()


@pytest.mark.slow
def test_what_is_wrong_is_refused_before_anything_is_run(
    tmp_path: Path, runs: Runs, ray_cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(file: Path, place: Path) -> str:
        assert main(["sweep", str(file), str(place)]) == 2
        return capsys.readouterr().err

    pairs = make_pairs(tmp_path / "pairs", 3)
    data = {"pairs": {"source": str(pairs)}}
    output = tmp_path / "out"
    for values, text in (
        ({"data": data, "cells": [{"precison": "fp32"}]}, "no option to vary is named precison"),
        ({"data": {"a": {"source": str(tmp_path / "typo")}}, "cells": [{}]}, "data a: there is nothing at"),
        ({"data": data, "cells": [{"size": "big"}]}, "size: expected HEIGHTxWIDTH"),
    ):
        assert text in refusal(write_sweep(tmp_path, **values), output)
        assert not output.exists()
    identity = {"engine": "identity", "workers": 1}
    first = write_sweep(tmp_path, data=data, cells=[{"size": "native"}], options=identity)
    assert runs.finish(first, output, job="sweep", on=ray_cluster).code == 0
    other = write_sweep(tmp_path, data=data, cells=[{"size": "native"}], options={**identity, "metrics": "psnr"})
    assert "option metrics: was None, now psnr" in refusal(other, output)
    more = write_sweep(
        tmp_path, data=data, cells=[{"size": "native"}, {"size": "32x48"}], options={**identity, "workers": 2}
    )
    added = runs.finish(more, output, job="sweep", on=ray_cluster)
    assert added.code == 0, added.text
    assert "[1/2]" not in added.text
    assert "[2/2] pairs_32x48" in added.text
    assert "holds a run" in refusal(first, output / "cells/pairs_native")


@pytest.mark.slow
def test_on_a_cluster_waiting_workers_do_not_stand_in_the_way(
    tmp_path: Path, tiny_weights: Path, runs: Runs, ray_cluster: Cluster
) -> None:
    """Workers that wait for the next cell hold every core, and each cell has something measured on a node."""
    pairs = make_pairs(tmp_path / "pairs", 8)
    file = write_sweep(
        tmp_path,
        data={"pairs": {"source": str(pairs)}},
        grids=[{"weights": str(tiny_weights), "precision": ["fp32", "bf16"], "size": ["native", "32x48"]}],
        options={"shard-size": 2, "engine": "torch"},
    )
    finished = runs.finish(file, tmp_path / "out", on=ray_cluster, job="sweep")
    assert finished.code == 0, finished.text
    found = results(tmp_path / "out")
    assert [one["figures"]["restored"] for one in found.values()] == [8, 8, 8, 8]
    for cell in found:
        check_tree(tmp_path / "out" / "cells" / cell)
