"""Differences between cells, paired over images, and the table that they end in."""

import csv
import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_core.cli.sweeping import table_within
from mimo_core.cli.terminal import Terminal
from mimo_core.sweep.comparison import Difference, interval, paired_difference
from mimo_core.sweep.figures import Figures
from mimo_core.sweep.results import Result
from mimo_core.sweep.table import comma_separated, markdown


def table(scores: dict[str, float | None]) -> pa.Table:
    return pa.table({"key": list(scores), "psnr": pa.array(scores.values(), pa.float64())})


def test_images_are_paired_by_key_and_those_of_one_cell_alone_do_not_count() -> None:
    cell = table({"c": 31.0, "a": 30.0, "only": 99.0, "none": None, "equal": np.inf})
    baseline = table({"a": 29.0, "b": 1.0, "c": 29.0, "none": 3.0, "equal": np.inf})
    found = paired_difference(cell, baseline, "psnr")
    assert found is not None
    assert (found.mean, found.images) == (1.5, 2)
    assert found.low == 1.0
    assert found.high == 2.0


def test_cells_without_an_image_in_common_have_no_difference() -> None:
    assert paired_difference(table({"a": 1.0}), table({"b": 1.0}), "psnr") is None


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1), st.floats(-50, 50), min_size=1, max_size=20), st.randoms())
def test_the_order_of_records_changes_no_digit(scores: dict[str, float], random: object) -> None:
    baseline = table(dict.fromkeys(scores, 0.0))
    shuffled = list(scores.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (paired_difference(table(dict(one)), baseline, "psnr") for one in (scores.items(), shuffled))
    assert first == second
    assert first is not None
    assert first.low - 1e-9 <= first.mean <= first.high + 1e-9


def test_the_interval_is_that_of_scipys_bootstrap() -> None:
    differences = np.random.default_rng(1).gamma(2.0, 1.0, 80)
    mine = interval(differences)
    its = scipy.stats.bootstrap((differences,), np.mean, n_resamples=9999, method="percentile", random_state=2)
    assert mine.low == pytest.approx(its.confidence_interval.low, abs=0.03)
    assert mine.high == pytest.approx(its.confidence_interval.high, abs=0.03)
    assert interval(differences) == mine


def test_of_very_many_the_interval_is_the_one_that_the_bootstrap_approaches() -> None:
    differences = np.random.default_rng(1).normal(0.5, 1.0, 10_001)
    many, fewer = interval(differences), interval(differences[:10_000])
    assert (many.low, many.high) == pytest.approx((fewer.low, fewer.high), abs=2e-3)


FIGURES = Figures(
    *("mimo-unet-lite", "torch fp32", 60, 60, 0, 0, 15.3, 0.93),
    *({"psnr": 26.5631, "ssim": 0.81234, "input_psnr": 25.0}, None, None, "3x180x320", 12.3456, "f" * 64),
)
BASE = Result(
    "reds_fp32", {"data": "reds", "precision": "fp32", "interpolation": "nearest"}, "done", "", FIGURES, "reds_fp32"
)
OTHER = Result(
    *("reds_bf16", {"data": "reds", "precision": "bf16", "interpolation": "bi|linear"}, "done", ""),
    *(replace(FIGURES, how="torch bf16", gflops=None, rate=None), "reds_fp32"),
    {"psnr": Difference(-0.0123, -0.02, -0.0001, 60), "ssim": Difference(-0.00001, -0.00002, 0.00001, 60)},
)
FAILED = Result("reds_fp16", {"data": "reds", "precision": "fp16"}, "not_run", "nothing computes\nin fp16")


def test_the_table_has_the_shape_of_the_zoos() -> None:
    lines = markdown([BASE, OTHER, FAILED]).splitlines()
    assert lines[0] == (
        "| data | interpolation | model | engine and precision | GFLOP | M params | PSNR dB | SSIM | shape | images/s "
        "| images | PSNR dB, difference [95 %] | SSIM, difference [95 %] |"
    )
    assert lines[2] == (
        "| reds | nearest | mimo-unet-lite | torch fp32 | 15.3 | 0.930 | 26.563 | 0.8123 | 3x180x320 | 12.3 | 60 "
        "| baseline | baseline |"
    )
    assert lines[3] == (
        "| reds | bi\\|linear | mimo-unet-lite | torch bf16 | - | 0.930 | 26.563 | 0.8123 | 3x180x320 | - | 60 "
        "| -0.012 [-0.020, 0.000] | 0.0000 [0.0000, 0.0000] tie |"
    )
    assert lines[4:] == ["", "Not run:", "", "- `reds_fp16`: nothing computes in fp16"]


def test_fid_has_a_column_where_some_cell_has_one() -> None:
    with_fid = replace(BASE, figures=replace(FIGURES, fid=12.345))
    assert "| FID |" in markdown([with_fid, OTHER])
    assert "| 12.35 |" in markdown([with_fid, OTHER]) or "| 12.34 |" in markdown([with_fid, OTHER])
    assert "FID" not in markdown([BASE, OTHER])


def test_the_csv_holds_every_cell_unrounded() -> None:
    rows = list(csv.DictReader(io.StringIO(comma_separated([BASE, OTHER, FAILED]))))
    assert [row["cell"] for row in rows] == ["reds_fp32", "reds_bf16", "reds_fp16"]
    assert rows[0]["psnr"] == "26.5631"
    assert rows[1]["psnr_difference_low"] == "-0.02"
    assert rows[1]["choice_interpolation"] == "bi|linear"
    assert rows[2]["reason"] == "nothing computes\nin fp16"
    assert rows[2]["gflops"] == ""


def test_results_survive_json() -> None:
    import json

    for result in (BASE, OTHER, FAILED):
        assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result


@pytest.mark.parametrize("width", [60, 100, 160])
def test_a_narrow_terminal_does_without_columns_before_it_breaks_words(width: int) -> None:
    console = Terminal(width=width, force_terminal=True, color_system=None)
    shown, left_out = table_within([BASE, OTHER], console)
    with console.capture() as captured:
        console.print_table(shown)
    lines = captured.get().splitlines()
    assert all(len(line) <= width for line in lines)
    assert "M params" in left_out
    assert "data" not in left_out
    if width >= 100:
        assert len(lines) == 3
        assert "-0.012 [-0.020, 0.000]" in lines[2]
    assert ("SSIM, difference [95 %]" in left_out) == (width < 160)
