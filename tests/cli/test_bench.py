"""`mimo bench session` and `mimo bench zoo`: whole tables, from real sessions."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fixtures_vacc import compiled_folder

from mimo_core.cli.main import OK, USAGE, main
from mimo_core.engines import SessionSpec
from mimo_core.engines.latency import Load, measure_loads
from mimo_core.engines.zoo import Subject, measure
from mimo_core.errors import UsageError
from mimo_core.models.weights import load_weights

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMO_CACHE", str(tmp_path / "cache"))


def test_a_request_behind_others_waits_for_them() -> None:
    spec = SessionSpec("torch", "cpu", "fp32", load_weights("mimo-unet-lite"), threads=1)
    image = np.zeros((64, 64, 3), np.uint8)
    alone, behind = measure_loads(spec, image, [Load(1, 1, 0.1, 6), Load(2, 4, 0.1, 9)])
    assert (len(alone.latencies), alone.images) >= (6, 6)
    assert behind.images == 2 * len(behind.latencies)
    for one in (alone, behind):
        times = [one.latencies[0], *(one.percentile(percent) for percent in (50, 90, 99, 100))]
        assert times == sorted(times)
        assert times[-1] == one.latencies[-1]
        assert one.latencies[0] <= one.mean <= one.latencies[-1]
        assert one.rate == one.images / one.seconds
        assert one.utilisation is not None
        assert 0 < one.utilisation <= 1
    # At depth 1 the latencies add up to the time; at depth 4 nearly every one is counted four times.
    assert sum(alone.latencies) <= alone.seconds
    assert 2 * behind.seconds < sum(behind.latencies) <= 4 * behind.seconds


def test_a_load_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one image"):
        Load(0, 1, 1.0)


def test_the_latencies_of_a_session_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--engine", "openvino", "--precision", "fp32", "--size", "64x96", "--seconds", "0.1", "--threads", "1"]
    assert main(["bench", "session", *options, "--batches", "1,2", "--depths", "1,3"]) == OK
    text = capsys.readouterr().out
    lines = [line.split() for line in text.splitlines()]
    header = next(number for number, line in enumerate(lines) if line[:2] == ["batch", "depth"])
    assert lines[header] == [
        "batch",
        "depth",
        "images/s",
        "min",
        "avg",
        "p50",
        "p90",
        "p99",
        "ms",
        "requests",
        "busy",
        "power",
        "memory",
    ]
    rows = lines[header + 1 : header + 5]
    assert [row[:2] for row in rows] == [["1", "1"], ["1", "3"], ["2", "1"], ["2", "3"]]
    assert re.fullmatch(
        r"1\.6 GFLOP an image: [\d.e-]+ TFLOP/s at best, [<>]? ?[\d.]+ % of what square matrix products in fp32 reach "
        r"here \([\d.e-]+ TFLOP/s\)",
        text.splitlines()[header + 5],
    )
    for row in rows:
        assert float(row[2]) > 0


def test_a_die_tells_of_itself(
    tmp_path: Path, colourful_weights: Path, vacc_python: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the double of the card's runtime: requests at the same time, and the die's own power and memory."""
    folder = compiled_folder(load_weights(str(colourful_weights)), tmp_path / "compiled", (64, 96))
    options = ["--weights", folder, "--vacc-python", vacc_python, "--size", "64x96", "--seconds", "1"]
    assert main(["bench", "session", *options, "--batches", "1", "--depths", "1,3"]) == OK
    text = capsys.readouterr().out
    assert "vacc fp16 on vacc" in text
    rows = [line.split() for line in text.splitlines()[2:]]
    assert [row[1] for row in rows] == ["1", "3"]
    for row in rows:
        assert "90%" in row
        assert "W" in row


@pytest.mark.parametrize(
    ("kind", "absent"),
    [("avx2", {"openvino bf16", "openvino int8 percentile"}), ("arm", {"openvino bf16"}), ("amx", set())],
)
def test_the_zoos_table_leaves_out_what_the_cpu_does_not_compute(
    kind: str, absent: set[str], pretend_cpu: Callable[[str], None]
) -> None:
    pretend_cpu(kind)
    image = np.random.default_rng(1).integers(0, 256, (32, 48, 3), np.uint8)
    subjects = [Subject(load_weights("mimo-unet-lite"), trained=True)]
    rows = measure(subjects, image, [image], [], threads=1, turns=1, say=lambda _: None)
    found = {row.how for row in rows if "cuda" not in row.how}
    by_openvino = {"openvino fp32", "openvino bf16", "openvino int8 percentile"}
    assert found == {"torch fp32, plain loop", "torch fp32", "torch bf16"} | by_openvino - absent


@pytest.mark.slow
def test_the_zoos_table_has_every_variant_in_every_precision(
    capsys: pytest.CaptureFixture[str], pretend_cpu: Callable[[str], None]
) -> None:
    pretend_cpu("amx")
    images = ["--images", str(SAMPLES / "blurred"), "--reference", str(SAMPLES / "sharp"), "--pairs", "2"]
    assert main(["bench", "zoo", *images, "--size", "32x48", "--turns", "1", "--threads", "1"]) == OK
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines() if line.startswith("mimo-unet") and ":" not in line.split()[0]]
    for variant, scored in (("mimo-unet-lite", True), ("mimo-unet", False), ("mimo-unet-plus", False)):
        mine = {" ".join(row[1:3]): row for row in rows if row[0] == variant and not row[1].startswith("zoo")}
        assert {"torch fp32", "torch bf16", "openvino fp32", "openvino bf16", "openvino int8"} <= set(mine)
        for row in mine.values():
            assert (row[-1] != "-") == (scored and "loop" not in row)
    assert "zoo: VACC int8 percentile" in text
    assert "29.274" in text
    assert "No card was at hand" in text


def test_wrong_use_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "zoo", "--images", str(SAMPLES / "blurred")]) == USAGE
    assert main(["bench", "session", "--depths", "0"]) == USAGE
    assert main(["bench", "session", "--engine", "magic"]) == USAGE
    assert main(["bench", "nothing"]) == USAGE
    text = capsys.readouterr().err
    for words in ("given together", "expected numbers such as 1,2,4", "found 'magic'", "usage: mimo bench"):
        assert words in text
