"""The numbers behind the charts of a report: histograms, pauses that are cut out, differences, choices of images."""

import math
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from inprocess import recipe_of

from mimo_core.errors import UsageError
from mimo_core.report.charts import difference_chart, least_span
from mimo_core.report.measures import PSNR, gains_of, histogram, means_of, pace_of, paired, stage_means
from mimo_core.report.run_data import RunData, labels_of, read_run
from mimo_core.report.selection import choose_images
from mimo_core.runs.config import RestoreConfig
from mimo_core.runs.folder import RunFolder, RunManifest
from mimo_core.runs.record import Record
from mimo_core.runs.records import write_part
from mimo_core.storage import Store
from mimo_core.sweep.comparison import Difference

BEGUN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def record(number: int, **values: object) -> Record:
    given: dict[str, object] = {"output": f"images/{number}.png", "finished_at": BEGUN + timedelta(seconds=number)}
    return Record(f"{number}.png", f"/in/{number}.png", "restored", **{**given, **values})  # type: ignore[arg-type]


def run_of(folder: Path, parts: list[list[Record]], most_rows: int = 1_000_000) -> RunData:
    store = Store(str(folder))
    RunFolder(store).begin(RunManifest.of(RestoreConfig(source="/in", output=str(folder)), recipe_of()))
    for number, rows in enumerate(parts):
        write_part(store, number, rows)
    return read_run(store, folder.name, most_rows)


@given(
    st.lists(
        st.lists(st.floats(-1e6, 1e6) | st.floats(-1e300, 1e300), max_size=60),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([1e-4, 1e-3, 0.05, 1.0]),
)
# The extremes are far apart, and one of them is a hair beyond an edge.
@example([[3e-05, -120001.0]], 1e-4)
@example([[-5e-324, 2e5]], 1.0)
# The bins are finer than what float64 tells apart there, or nearly so.
@example([[999999.99995]], 1e-4)
@example([[1e17]], 1e-4)
@example([[1e300, -1e300]], 1.0)
def test_histogram_counts_every_finite_value_once(series: list[list[float]], step: float) -> None:
    arrays = [np.array([*values, math.nan, math.inf]) for values in series]
    counted = histogram(arrays, step)
    together = [value for values in series for value in values]
    if not together:
        assert counted is None
        return
    assert counted is not None
    assert [counts.sum() for counts in counted.counts] == [len(values) for values in series]
    assert counted.edges[0] <= min(together)
    assert counted.edges[-1] >= max(together)
    assert 1 <= len(counted.edges) - 1 <= 60
    widths = np.diff(counted.edges)
    # Of edges far from 0 the last digits are lost, of their differences up to a thousandth.
    assert widths.min() >= step * (1 - 2e-3)
    assert widths.max() <= widths.min() * (1 + 4e-3)
    # Round: 1, 2 or 5 times a power of ten.
    assert f"{widths[0]:.0e}"[0] in "125"


def test_pace_leaves_pauses_out(tmp_path: Path) -> None:
    rows = [record(number) for number in range(100)]
    late = [record(number, finished_at=BEGUN + timedelta(days=2, seconds=number)) for number in range(100, 200)]
    pace = pace_of(run_of(tmp_path / "run", [rows, late]))
    assert pace is not None
    assert pace.seconds == pytest.approx(198)
    assert pace.rate == pytest.approx(199 / 198)
    ((place, length),) = pace.pauses
    assert place == pytest.approx(99, abs=1)
    assert length == pytest.approx(2 * 86400 + 1)
    assert (pace.rates * np.diff(pace.edges)).sum() == pytest.approx(199)


def test_slow_images_are_no_pauses(tmp_path: Path) -> None:
    rows = [record(number, finished_at=BEGUN + timedelta(minutes=10 * number)) for number in range(20)]
    pace = pace_of(run_of(tmp_path / "run", [rows]))
    assert pace is not None
    assert pace.pauses == ()
    assert pace.seconds == pytest.approx(18 * 600 + 600)


def test_too_few_records_have_no_pace(tmp_path: Path) -> None:
    assert pace_of(run_of(tmp_path / "run", [[record(number) for number in range(5)]])) is None


def test_equal_outputs_are_counted_and_in_no_mean(tmp_path: Path) -> None:
    rows = [record(0, psnr=math.inf, input_psnr=20.0), record(1, psnr=30.0, input_psnr=28.0), record(2)]
    run = run_of(tmp_path / "run", [rows])
    (mean,) = means_of(run)
    assert mean.gain is not None
    assert (mean.after, mean.gain.mean, mean.images, mean.equal) == (30.0, 2.0, 1, 1)
    gains = gains_of(run, PSNR)
    assert gains[1] == 2.0
    assert np.isnan(gains[[0, 2]]).all()


def test_a_large_run_is_read_in_part_and_says_so(tmp_path: Path) -> None:
    parts = [[record(10 * part + row, psnr=float(part), read_ms=2.0) for row in range(10)] for part in range(10)]
    run = run_of(tmp_path / "run", parts, most_rows=20)
    assert run.table.num_rows == 20
    assert run.sampled
    (mean,) = means_of(run)
    # Totals are those of all records.
    assert mean.after == pytest.approx(4.5)
    assert stage_means(run) == {"read": pytest.approx(2.0)}


def test_paired_differences_are_over_common_keys(tmp_path: Path) -> None:
    first = run_of(tmp_path / "one", [[record(0, psnr=30.0), record(1, psnr=31.0), record(2, psnr=math.inf)]])
    second = run_of(tmp_path / "two", [[record(2, psnr=30.0), record(1, psnr=33.0), record(5, psnr=1.0)]])
    assert paired(first, second, "psnr").tolist() == [2.0]


def test_images_are_chosen_by_gain(tmp_path: Path) -> None:
    rows = [record(number, input_psnr=20.0, psnr=20.0 + (7 * number) % 30) for number in range(30)]
    failed = replace(rows[0], key="bad.png", status="failed", error_kind="empty", output=None)
    run = run_of(tmp_path / "run", [[failed, *rows]])
    groups = choose_images([run], 3)
    gains = gains_of(run, PSNR)
    assert [group.title for group in groups] == ["Gained most", "In the middle", "Gained least"]
    shown = [[gains[choice.rows[0]] for choice in group.choices] for group in groups]
    assert shown == [[29, 28, 27], [16, 15, 14], [0, 1, 2]]
    assert choose_images([run], 0) == []


def test_few_images_are_all_shown_once(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [[record(number, psnr=float(number)) for number in range(5)]])
    (group,) = choose_images([run], 4)
    assert group.title == "All 5 images, highest psnr first"
    assert [choice.rows for choice in group.choices] == [(4,), (3,), (2,), (1,), (0,)]


def test_of_several_runs_the_images_where_they_differ_are_chosen(tmp_path: Path) -> None:
    one = run_of(tmp_path / "one", [[record(number, psnr=30.0) for number in range(20)]])
    two = run_of(tmp_path / "two", [[record(number, psnr=30.0 + number % 7) for number in range(5, 25)]])
    groups = choose_images([one, two], 2)
    assert [group.title for group in groups] == ["Where the runs differ most", "In the middle"]
    keys = [[one.texts("key")[choice.rows[0]] for choice in group.choices] for group in groups]
    assert keys[0] == ["6.png", "13.png"]
    for group in groups:
        for choice in group.choices:
            assert one.texts("key")[choice.rows[0]] == two.texts("key")[choice.rows[1]]


def test_labels_tell_runs_apart() -> None:
    assert labels_of([Store("/a/one"), Store("/b/two")]) == ["one", "two"]
    assert labels_of([Store("/x/a/run"), Store("/x/b/run")]) == ["a/run", "b/run"]
    assert labels_of([Store("/run")]) == ["run"]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        read_run(Store(str(tmp_path)), "run")


def test_a_difference_whose_interval_holds_zero_is_a_tie() -> None:
    assert PSNR.show_difference(Difference(0.12, 0.05, 0.2, 9)) == "+0.12 dB [+0.05, +0.20]"
    assert PSNR.show_difference(Difference(-0.12, -0.3, 0.05, 9)) == "−0.12 dB [−0.30, +0.05], tie"
    # What rounds to nothing is a tie, too, however narrow its interval.
    assert PSNR.is_tie(Difference(0.00004, 0.00003, 0.00005, 9))
    # One image has no interval.
    assert PSNR.show_difference(Difference(0.5, 0.5, 0.5, 1)) == "+0.50 dB"


def test_no_axis_is_filled_by_a_difference_without_meaning() -> None:
    low, high = least_span([30.00001, 30.00005], PSNR)["domain"]
    assert high - low == pytest.approx(0.1)
    assert least_span([20.0, 30.0], PSNR)["domain"] == [20.0, 30.0]


def test_equal_runs_are_equal_and_not_higher() -> None:
    chart = difference_chart(1, np.full(12, 1e-9), PSNR, "one", "other")
    assert chart is not None
    assert chart.note == "Of 12 images, 0 higher, 0 lower, 12 equal."
    assert {row["sign"] for row in chart.rows if "sign" in row} == {"equal"}
