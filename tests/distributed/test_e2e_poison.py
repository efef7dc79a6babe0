"""Bad inputs become records of their own; their neighbours are restored; only what failed is tried again."""

import os
from pathlib import Path

import pytest
from archives import check_tree, make_archive, outputs, rows_by_key
from fixtures_clusters import Cluster
from fixtures_runs import Runs
from processes import ROOT

pytestmark = pytest.mark.ray

KILLER, HANGER = "02/025.png", "03/032.png"


def add_poison(source: Path) -> dict[str, str]:
    """Add bad inputs among the good ones; return the kind of error that each deserves."""
    png = (ROOT / "samples" / "blurred" / "window.png").read_bytes()
    jpeg = (ROOT / "samples" / "blurred" / "seeds.jpg").read_bytes()
    (source / "00" / "empty.png").write_bytes(b"")
    (source / "00" / "text.png").write_text("This is no picture.\n")
    (source / "01" / "truncated.png").write_bytes(png[: len(png) // 2])
    (source / "01" / "truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    os.mkfifo(source / "02" / "fifo.png")
    (source / "03" / "dangling.png").symlink_to("nowhere.png")
    return {
        "00/empty.png": "empty",
        "00/text.png": "not_an_image",
        "01/truncated.png": "truncated",
        "01/truncated.jpg": "truncated",
        "02/fifo.png": "not_an_image",
        "03/dangling.png": "not_found",
    }


@pytest.mark.slow
@pytest.mark.parametrize("shard_size", [8, 64])
def test_poison_is_recorded_and_its_neighbours_are_restored(
    runs: Runs, tmp_path: Path, tiny_weights: Path, ray_cluster: Cluster, shard_size: int
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    good = set(make_archive(source, 42)) - {KILLER, HANGER}
    bad = {**add_poison(source), KILLER: "crashed_worker", HANGER: "timeout"}
    assert len(good) == 40
    options = ("--weights", tiny_weights, "--shard-size", shard_size, "--workers", 2, "--timeout", 8)
    faults = f"die:{KILLER};hang:{HANGER}"
    finished = runs.finish(source, output, *options, faults=faults, on=ray_cluster)
    assert finished.code == 3, finished.text

    records = rows_by_key(output)
    assert {key: row["error_kind"] for key, row in records.items() if row["status"] == "failed"} == bad
    assert {key for key, row in records.items() if row["status"] == "restored"} == good
    assert set(outputs(output)) == good
    assert all(row["attempt"] == 1 for row in records.values())
    assert all(row["error"] for key, row in records.items() if key in bad)
    check_tree(output)
    assert "40 restored, 8 failed" in finished.text
    assert sum(key in finished.text for key in bad) >= 5, "the table names the first few"
    print(f"{finished.seconds:.0f} s")

    # The same command again: nothing is done twice.
    again = runs.finish(source, output, *options, on=ray_cluster)
    assert again.code == 3, again.text
    assert rows_by_key(output) == records

    # The two come right once the faults are gone; the broken files fail again, and nothing else changes.
    retried = runs.finish(source, output, *options, "--mode", "retry-failed", on=ray_cluster)
    assert retried.code == 3, retried.text
    after = rows_by_key(output)
    assert {key: after[key] for key in good} == {key: records[key] for key in good}
    for key in (KILLER, HANGER):
        assert (after[key]["status"], after[key]["attempt"]) == ("restored", 2)
    still_bad = set(bad) - {KILLER, HANGER}
    assert {key: after[key]["error_kind"] for key in still_bad} == {key: bad[key] for key in still_bad}
    assert all(after[key]["attempt"] == 2 for key in still_bad)
    assert set(outputs(output)) == good | {KILLER, HANGER}
    check_tree(output)
