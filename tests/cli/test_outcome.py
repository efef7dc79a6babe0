"""The scores at the end of a run, as a person reads them."""

import pytest
from inprocess import recipe_of

from mimo_core.cli.outcome import scores_of
from mimo_core.cli.status import show_status
from mimo_core.distributed.outcome import Outcome
from mimo_core.runs.inspection import RunStatus
from mimo_core.runs.plan import Plan
from mimo_core.runs.statistics import Mean, Statistics
from mimo_core.storage import Store


@pytest.mark.parametrize(
    ("scores", "row"),
    [
        ({"input_psnr": Mean(50, 2), "psnr": Mean(60, 2)}, ("PSNR", "25.00 -> 30.00 dB (+5.00), mean of 2")),
        ({"psnr_float": Mean(60, 2)}, ("PSNR of float", "30.00 dB, mean of 2")),
        (
            {"input_psnr": Mean(0, 0, 3), "psnr": Mean(150, 3)},
            ("PSNR", "infinite -> 50.00 dB, mean of 0 and 3; identical images: 3 before, 0 after"),
        ),
        (
            {"input_psnr_y": Mean(25, 1, 1), "psnr_y": Mean(80, 2)},
            ("PSNR of luma", "25.00 -> 40.00 dB, mean of 1 and 2; identical images: 1 before, 0 after"),
        ),
        (
            {"psnr_float": Mean(0, 0, 2)},
            ("PSNR of float", "infinite dB, mean of 0; identical images: 2 after"),
        ),
    ],
)
def test_means_of_what_was_scored_with_a_gain_only_over_as_many_images(
    scores: dict[str, Mean], row: tuple[str, str]
) -> None:
    assert scores_of(Statistics(scores=scores)) == [row]


def test_what_is_scored_across_profiles_is_not_among_what_was_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    statistics = Statistics(images=5, restored=3, skipped=2, notes={"reference_missing": 2, "reference_colours": 3})
    show_status(RunStatus("finished", None, None, statistics, 1, None, None), "/out")
    said = capsys.readouterr().out
    assert "2 (2 reference_missing)" in said
    assert "reference_colours" not in said


@pytest.mark.parametrize(
    ("limit", "failed", "skipped", "tolerated"),
    [
        *((None, 0, 0, True), (None, 1, 0, False), (None, 0, 1, False), ("2", 1, 1, True), ("2", 2, 1, False)),
        *(("1%", 2, 0, True), ("1%", 2, 1, False), ("0", 0, 0, True), ("0%", 1, 0, False)),
    ],
)
def test_so_many_failures_are_tolerated(limit: str | None, failed: int, skipped: int, tolerated: bool) -> None:
    statistics = Statistics(images=200, restored=200 - failed - skipped, failed=failed, skipped=skipped)
    plan = Plan(Store("/nowhere"), 4, 200, 0, 64, "same", "", False, "")
    outcome = Outcome(statistics, recipe_of(), plan, 200, 1.0, 0.5, (), 0)
    assert outcome.tolerated(limit) is tolerated
