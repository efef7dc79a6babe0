"""The cells that a sweep's file asks for: which, by what names, in which order, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mimo_core.errors import UsageError
from mimo_core.storage import Store
from mimo_core.sweep.cells import Cell, baseline_of, expand
from mimo_core.sweep.folder import SweepFolder
from mimo_core.sweep.sweep_config import SweepConfig

REDS = {"reds": {"source": "/data/reds"}}


def sweep(**values: Any) -> SweepConfig:
    return SweepConfig(**{"data": REDS, **values})


def names(config: SweepConfig) -> list[str]:
    return [cell.name for cell in expand(config, "/out")]


def by_choices(cells: list[Cell], **choices: Any) -> Cell:
    (cell,) = [one for one in cells if choices.items() <= one.choices.items()]
    return cell


def test_a_grid_is_the_product_of_its_lists() -> None:
    config = sweep(
        data={**REDS, "gopro": {"source": "/data/gopro/blur", "reference": "/data/gopro/sharp", "limit": 4}},
        grids=[
            {"data": "reds", "weights": ["a", "b"], "precision": ["fp32", "bf16"], "size": ["native", "96x160"]},
            {"data": "gopro", "weights": "a", "size": ["native", "360x640"]},
        ],
        options={"batch": 2, "save-images": True},
    )
    cells = expand(config, "/out/")
    assert len(cells) == len({cell.name for cell in cells}) == 10
    cell = by_choices(cells, data="gopro", size="360x640")
    assert cell.name == "gopro_a_360x640"
    assert cell.config.output == "/out/cells/gopro_a_360x640"
    assert (cell.config.source, cell.config.reference, cell.config.limit) == (
        "/data/gopro/blur",
        "/data/gopro/sharp",
        4,
    )
    assert (cell.config.batch, cell.config.save_images, cell.config.weights) == ("2", True, "a")
    assert by_choices(cells, data="reds", weights="b", precision="bf16", size="native").config.reference == "/data/reds"


def test_cells_are_added_excluded_and_counted_once() -> None:
    config = sweep(
        grids=[
            {"precision": ["fp32", "bf16", "fp16"], "tile": ["none", "96x160"]},
            {"precision": "fp32", "tile": "none"},
        ],
        cells=[{"precision": "int8", "weights": "q"}, {"precision": "int8", "weights": "q"}],
        exclude=[{"precision": ["bf16", "fp16"], "tile": "96x160"}, {"precision": "fp16"}],
    )
    assert sorted(names(config)) == [
        "reds_bf16_tile-none",
        "reds_fp32_tile-none",
        "reds_fp32_tile96x160",
        "reds_q_int8",
    ]


def test_without_a_word_on_data_every_set_is_run() -> None:
    config = sweep(data={**REDS, "hide": {"source": "/h"}}, cells=[{"ensemble": 4}], grids=[{"precision": "fp32"}])
    assert sorted(names(config)) == ["hide_ensemble4", "hide_fp32", "reds_ensemble4", "reds_fp32"]


def test_names_do_not_depend_on_the_other_cells() -> None:
    first = names(sweep(cells=[{"weights": "out/tuned/weights.safetensors"}]))
    more = names(sweep(grids=[{"weights": ["out/tuned/weights.safetensors", "other/tuned/weights.safetensors"]}]))
    assert first[0] in more
    assert len(set(more)) == 2
    assert all(name.startswith("reds_tuned_") for name in more)


_VALUES = st.one_of(st.text("ab_./-", min_size=1, max_size=60), st.just("a"), st.just("a_b"))


@given(st.sets(st.tuples(_VALUES, st.sampled_from(["", "native", "8x8"])), min_size=2, max_size=6))
def test_other_choices_have_other_names_and_all_are_fit_for_folders(choices: set[tuple[str, str]]) -> None:
    cells = [{"weights": weights, **({"size": size} if size else {})} for weights, size in sorted(choices)]
    found = names(sweep(cells=cells))
    assert len(set(found)) == len(choices)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-") and len(name) <= 100 for name in found)


def test_neighbours_share_sessions_and_then_data() -> None:
    config = sweep(
        data={**REDS, "hide": {"source": "/h"}},
        grids=[{"size": ["native", "8x8"], "data": ["reds", "hide"], "precision": ["fp32", "bf16"]}],
    )
    order = [(cell.choices["precision"], cell.choices["data"]) for cell in expand(config, "/out")]
    assert order == [
        *[("fp32", "reds")] * 2,
        *[("fp32", "hide")] * 2,
        *[("bf16", "hide")] * 2,
        *[("bf16", "reds")] * 2,
    ]


def test_each_cell_is_compared_with_the_one_that_differs_in_the_baselines_values_alone() -> None:
    config = sweep(grids=[{"precision": ["fp32", "bf16"], "size": ["native", "8x8"]}], baseline={"precision": "fp32"})
    cells = expand(config, "/out")
    for cell in cells:
        baseline = baseline_of(cell, config, cells)
        assert baseline is not None
        assert baseline.choices == {**cell.choices, "precision": "fp32"}


def test_a_baseline_may_name_a_default() -> None:
    config = sweep(cells=[{"size": "8x8"}, {"size": "8x8", "ensemble": 4}], baseline={"ensemble": 1})
    cells = expand(config, "/out")
    assert {one.name for cell in cells if (one := baseline_of(cell, config, cells))} == {"reds_8x8"}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"grids": [{"precison": ["fp32"]}]}, "no option to vary is named precison"),
        ({"grids": [{"source": ["x"]}]}, "no option to vary is named source"),
        ({"grids": [{"size": []}]}, "size has no values"),
        ({"grids": [{"data": "gopro"}]}, "no data set is named 'gopro'; there are reds"),
        ({}, "neither grids nor cells"),
        ({"cells": [{}], "data": {"a/b": {"source": "x"}}}, "letters, digits"),
        ({"cells": [{}], "options": {"data": "reds"}}, "are for all data sets"),
        ({"cells": [{}], "option": {}}, "Extra inputs"),
    ],
)
def test_a_file_that_is_wrong_says_where(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        sweep(**values)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"cells": [{"precision": "fp8"}]}, r"cell \(data reds, precision fp8\): precision: "),
        ({"cells": [{"size": "big"}]}, "size: expected HEIGHTxWIDTH"),
        ({"cells": [{"device": "cuda:1"}]}, "device"),
        ({"grids": [{"size": "8x8"}], "exclude": [{"size": "8x8"}]}, "excludes all"),
        ({"cells": [{"size": "8x8"}], "baseline": {"size": "native"}}, r"no cell is the baseline \(size native\)"),
    ],
)
def test_a_cell_that_makes_no_sense_is_refused_before_anything_is_run(values: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        expand(sweep(**values), "/out")


def test_a_folder_of_somebody_elses_takes_no_sweep(tmp_path: Path) -> None:
    config = sweep(data=REDS, cells=[{"ensemble": 4}])
    folder = SweepFolder(Store(str(tmp_path)))
    folder.begin(config)
    folder.check(config)
    (tmp_path / "sweep.json").rename(tmp_path / "table.md")
    with pytest.raises(UsageError, match=r'it holds "table\.md"'):
        folder.begin(config)
    assert [entry.key for entry in folder.store.list()] == ["table.md"]
