"""Archives to restore, and how the results of runs are compared."""

import hashlib
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import inprocess
from processes import ROOT

from mimo_core.runs.records import write_part
from mimo_core.storage import Store


def make_archive(folder: Path, count: int, seed: int = 1, size: tuple[int, int] = (64, 96)) -> list[str]:
    """Cut so many small pictures (height, width) out of the sample photographs; return their keys."""
    import cv2

    rng = random.Random(seed)
    photographs = [cv2.imread(str(path)) for path in sorted((ROOT / "samples" / "blurred").iterdir())]
    keys = []
    for number in range(count):
        picture = photographs[number % len(photographs)]
        top, left = rng.randrange(picture.shape[0] - size[0]), rng.randrange(picture.shape[1] - size[1])
        key = f"{number // 10:02d}/{number:03d}.{'png' if number % 3 else 'jpg'}"
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / key), picture[top : top + size[0], left : left + size[1]])
        keys.append(key)
    return keys


TORCH = ("--engine", "torch", "--precision", "fp32")


def restore_undisturbed(source: Path, output: Path, weights: Path | None = None) -> None:
    """Leave what a run with these weights and `TORCH` leaves, or one of the identity: by one pipeline, without Ray."""
    outcome = inprocess.run(source, output, weights=None if weights is None else str(weights))
    store = Store(str(output))
    for result in outcome.results:
        write_part(store, result.task.shard, list(result.records.values()))


def outputs(output: Path) -> dict[str, str]:
    """SHA-256 of every output by key."""
    base = output / "images"
    files = (path for path in base.rglob("*") if path.is_file())
    return {path.relative_to(base).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def count_outputs(output: Path) -> int:
    """How many outputs there are."""
    return sum(len(files) for _, _, files in os.walk(output / "images"))


def parts(output: Path) -> set[int]:
    """Numbers of the committed parts."""
    return {int(path.stem[5:]) for path in (output / "records").glob("part-*.parquet")}


def rows(output: Path) -> list[dict[str, object]]:
    """All records, read by plain pyarrow."""
    import pyarrow.parquet as pq

    return [row for path in sorted((output / "records").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def rows_by_key(output: Path) -> dict[str, dict[str, object]]:
    """All records by key; each key has exactly one."""
    found = rows(output)
    twice = [key for key, number in Counter(row["key"] for row in found).items() if number > 1]
    assert not twice, f"more than one record: {twice}"
    return {str(row["key"]): row for row in found}


def written_unrecorded(output: Path) -> bool:
    """Whether some shard's outputs are all written while its part is not committed."""
    from mimo_core.runs.plan import read_plan
    from mimo_core.storage import Store

    plan = read_plan(Store(str(output)))
    for number, rows in enumerate(plan.shards() if plan is not None else ()):
        written = number not in parts(output) and all((output / row.output).exists() for row in rows)
        if written and number not in parts(output):
            return True
    return False


def check_tree(output: Path) -> None:
    """Nothing lies in a finished run's folder that does not belong there."""
    known = {"images", "plan", "records", "lease", "totals"}
    strange = [
        path.relative_to(output).as_posix()
        for path in output.rglob("*")
        if not (path.is_dir() and path.relative_to(output).parts[0] in known)
        and not _belongs(path.relative_to(output).as_posix())
    ]
    assert not strange, f"left behind: {strange}"
    assert len(list((output / "lease").iterdir())) <= 1


def _belongs(name: str) -> bool:
    import re

    return bool(
        re.fullmatch(
            r"run\.json|summary\.json|plan/plan\.json|plan/shard-\d{8}\.parquet|records/part-\d{8}\.parquet"
            r"|(lease|totals)/epoch-\d{8}\.json|images/.*[^/]",
            name,
        )
    )


def assert_same_run(output: Path, undisturbed: Path, keys: list[str]) -> None:
    """Every key has one record and restored bytes, equal to those of the undisturbed run; nothing is left over."""
    found, expected = rows_by_key(output), rows_by_key(undisturbed)
    assert sorted(found) == sorted(keys) == sorted(expected)
    blamed = {key: row["error"] for key, row in found.items() if row["status"] != "restored"}
    assert not blamed
    written = outputs(output)
    assert written == outputs(undisturbed)
    assert {f"images/{key}": value for key, value in written.items()} == {
        row["output"]: row["output_sha256"] for row in found.values()
    }
    check_tree(output)


def lease_state(output: Path) -> str:
    """The state of the newest lease."""
    newest = sorted((output / "lease").glob("epoch-*.json"))[-1]
    return str(json.loads(newest.read_text())["state"])


def download(client: Any, bucket: str, prefix: str, folder: Path) -> None:
    """Copy what lies below a prefix into a folder."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page["Contents"]:
            target = folder / item["Key"].removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read())
