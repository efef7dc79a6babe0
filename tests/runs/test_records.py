"""Records: what a part holds, what its footer says, and that a run's statistics are the sum of its parts'."""

import math
from dataclasses import fields, replace
from datetime import datetime, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_core.errors import ErrorKind, ImageError, SystemFailure, UsageError
from mimo_core.runs.record import STATUSES, Record, now
from mimo_core.runs.records import (
    SCHEMA,
    describe_columns,
    part_name,
    part_number,
    part_numbers,
    read_footer,
    read_part,
    write_part,
)
from mimo_core.runs.statistics import FIRST_FAILURES, Statistics
from mimo_core.storage import Store

CONTRACT = [
    "key",
    "source",
    "output",
    "reference",
    "status",
    "error_kind",
    "error",
    "width",
    "height",
    "channels",
    "bit_depth",
    "bytes_in",
    "bytes_out",
    "output_sha256",
    "input_psnr",
    "input_ssim",
    "psnr",
    "ssim",
    "read_ms",
    "decode_ms",
    "infer_ms",
    "encode_ms",
    "write_ms",
    "model",
    "weights_sha256",
    "engine",
    "precision",
    "device",
    "host",
    "attempt",
    "finished_at",
]

RESTORED = Record(
    key="a/ü.png", source="/in/a/ü.png", status="restored", output="images/a/ü.png", reference="/gt/a/ü.png",
    width=640, height=360, channels=3, bit_depth=8, bytes_in=1000, bytes_out=2000, output_sha256="ab" * 32,
    input_psnr=25.5, input_ssim=0.75, psnr=math.inf, ssim=1.0, read_ms=1.5, decode_ms=2.0, infer_ms=100.0,
    score_ms=4.0, encode_ms=8.0, write_ms=0.5, tiles=1, model="mimo-unet", weights_sha256="cd" * 32, engine="torch",
    precision="fp32", device="cpu", host="node1", attempt=1,
    finished_at=datetime(2026, 1, 2, 3, 4, 5, 678901, timezone.utc),
)  # fmt: skip
FAILED = Record(
    key="b.png", source="https://u:p@host/b.png?X-Amz-Signature=secret", status="failed", error_kind="truncated",
    error="https://host/b.png?X-Amz-Signature=secret ends early", attempt=2,
)  # fmt: skip
SKIPPED = Record(key="c.png", source="/in/c.png", status="skipped", error_kind="reference_missing")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path / "run"))
    return Store(f"s3://{request.getfixturevalue('s3_bucket')}/run")


def test_the_columns_are_those_of_the_contract_and_more() -> None:
    assert [name for name in SCHEMA.names if name in CONTRACT] == CONTRACT
    assert set(SCHEMA.names) == {field.name for field in fields(Record)} - {"features"}
    assert all(column["description"] for column in describe_columns())


def test_a_part_gives_back_its_records(store: Store) -> None:
    records = [RESTORED, FAILED, SKIPPED]
    statistics = write_part(store, 7, records, {"mimo.epoch": "3"})
    assert read_part(store, 7) == records
    assert read_footer(store, 7) == (statistics, {"mimo.epoch": "3", "mimo.schema_version": "1"})
    assert list(part_numbers(store)) == [7]
    assert [row for number in part_numbers(store) for row in read_part(store, number)] == records


def test_a_part_is_an_ordinary_parquet_file(tmp_path: Path) -> None:
    write_part(Store(str(tmp_path)), 0, [RESTORED, FAILED])
    table = pq.read_table(tmp_path / part_name(0))
    assert table.schema.equals(SCHEMA)
    assert table.schema.field("psnr").metadata[b"description"].startswith(b"PSNR")
    assert pq.read_metadata(tmp_path / part_name(0)).row_group(0).column(0).compression == "ZSTD"
    assert table.column("finished_at").to_pylist()[0] == RESTORED.finished_at


@pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
def test_parts_open_in_the_usual_libraries(tmp_path: Path, library: str) -> None:
    module = pytest.importorskip(library)
    store = Store(str(tmp_path))
    write_part(store, 0, [RESTORED, FAILED])
    write_part(store, 1, [SKIPPED])
    folder = tmp_path / "records"
    if library == "pandas":
        keys = list(module.read_parquet(folder).sort_values("key")["key"])
    elif library == "polars":
        keys = list(module.read_parquet(f"{folder}/*.parquet").sort("key")["key"])
    else:
        rows = module.sql(f"select key from '{folder}/*.parquet' order by key").fetchall()
        keys = [key for (key,) in rows]
    assert keys == ["a/ü.png", "b.png", "c.png"]


def test_parts_are_replaced_whole(store: Store) -> None:
    write_part(store, 0, [FAILED])
    write_part(store, 0, [RESTORED])
    assert read_part(store, 0) == [RESTORED]
    assert read_footer(store, 0)[0] == Statistics.of([RESTORED])


def test_no_credential_gets_into_a_part(tmp_path: Path) -> None:
    assert FAILED.source == "https://host/b.png"
    assert FAILED.error == "https://host/b.png ends early"
    record = Record(
        key="k", source="s3://k:secret@b/x", status="failed", error_kind="storage", reference="h://u:secret@x"
    )
    write_part(Store(str(tmp_path)), 0, [FAILED, record])
    assert b"secret" not in (tmp_path / part_name(0)).read_bytes()


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "done"},
        {"status": "failed"},
        {"status": "failed", "error_kind": "bad luck"},
        {"status": "skipped", "finished_at": datetime(2026, 1, 1)},  # noqa: DTZ001
    ],
)
def test_untruthful_records_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((UsageError, ValueError)):
        Record(key="k", source="s", **wrong)  # type: ignore[arg-type]


def test_messages_that_are_no_unicode_are_kept_escaped(tmp_path: Path) -> None:
    record = Record(key="k", source="/in/\udcff.png", status="failed", error_kind="internal", error="bad \ud800 name")
    store = Store(str(tmp_path))
    write_part(store, 0, [record])
    assert read_part(store, 0)[0].error == "bad \\ud800 name"


def test_what_is_missing_or_no_part_is_told_apart(store: Store) -> None:
    with pytest.raises(ImageError) as caught:
        read_part(store, 5)
    assert caught.value.kind is ErrorKind.NOT_FOUND
    with pytest.raises(ImageError):
        read_footer(store, 5)
    store.write(part_name(5), b"PAR1 is not all it takes")
    for read in (read_part, read_footer):
        with pytest.raises(SystemFailure, match="is not a part"):
            read(store, 5)


def test_only_parts_are_taken_for_parts(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for name in (
        "records/part-1.parquet",
        "records/x",
        "records/part-0000000a.parquet",
        "records/old/part-00000001.parquet",
    ):
        store.write(name, b"x")
    write_part(store, 3, [SKIPPED])
    write_part(store, 123456789, [SKIPPED])
    assert sorted(part_numbers(store)) == [3, 123456789]
    assert part_number(part_name(123456789)) == 123456789


def test_statistics_of_records() -> None:
    statistics = Statistics.of([RESTORED, replace(RESTORED, psnr=30.0, fallback="batch 4 to 2"), FAILED, SKIPPED])
    assert (statistics.images, statistics.restored, statistics.failed, statistics.skipped) == (4, 2, 1, 1)
    assert statistics.error_kinds == {"truncated": 1}
    assert statistics.notes == {"reference_missing": 1}
    assert statistics.devices == {"torch fp32 cpu": 2}
    assert (statistics.fallbacks, statistics.retried, statistics.bytes_in, statistics.bytes_out) == (1, 1, 2000, 4000)
    assert statistics.pixels == 2 * 640 * 360
    assert statistics.stage_ms["infer"] == 200.0
    assert statistics.mean("psnr") == 30.0
    assert statistics.scores["psnr"].infinite == 1
    assert statistics.mean("input_ssim") == 0.75
    assert [failure.key for failure in statistics.first_failures] == ["b.png", "c.png"]
    assert statistics.first_finished == RESTORED.finished_at.timestamp()
    assert Statistics.of([]).mean("psnr") is None


PSNR = st.none() | st.just(math.inf) | st.integers(0, 100).map(float)
RECORDS = st.builds(
    lambda status, kind, psnr, ms, attempt: Record(
        key="k", source="s", status=status, output="o", psnr=psnr, infer_ms=ms, attempt=attempt, engine="torch",
        error_kind=kind if status == "failed" else None, error="because", bytes_in=3, finished_at=now(),
    ),
    st.sampled_from(STATUSES),
    st.sampled_from([kind.value for kind in ErrorKind]),
    PSNR,
    st.none() | st.integers(0, 1000).map(float),
    st.integers(1, 3),
)  # fmt: skip


@given(st.lists(st.lists(RECORDS, max_size=6), max_size=5))
def test_statistics_add_up(parts: list[list[Record]]) -> None:
    total = Statistics()
    for part in parts:
        total = total.merge(Statistics.from_json(Statistics.of(part).to_json()))
    assert total == Statistics.of([record for part in parts for record in part])
    assert total.images == total.restored + total.failed + total.skipped
    assert len(total.first_failures) <= FIRST_FAILURES


def test_statistics_of_a_newer_version_are_understood() -> None:
    plain = {**Statistics.of([RESTORED]).to_json(), "invented_later": 1}
    assert Statistics.from_json(plain) == Statistics.of([RESTORED])
