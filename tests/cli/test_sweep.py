"""The sweep's file as it is read, and the one that comes with the project."""

from pathlib import Path

import pytest

from mimo_core.cli.sweeping import read_sweep
from mimo_core.errors import UsageError
from mimo_core.sweep.cells import expand

ROOT = Path(__file__).resolve().parents[2]


def test_the_projects_own_sweep_is_what_it_says() -> None:
    cells = expand(read_sweep(str(ROOT / "recipes/sweep.yaml")), "out")
    assert len(cells) == 2 * 2 * 2 * 2 + 2
    assert len({cell.config.size for cell in cells}) == 3


def test_the_documents_sweep_is_read(tmp_path: Path) -> None:
    text = (ROOT / "docs/sweep.md").read_text(encoding="utf-8")
    (tmp_path / "sweep.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    cells = expand(read_sweep(str(tmp_path / "sweep.yaml")), "out")
    assert len(cells) == 2 * (8 - 1) + 1
    assert all(cell.config.fid for cell in cells)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: {a: {source: x}}\ncells: [{sise: native}]\n", "cells.0: no option to vary is named sise"),
        ("data: {a: {sourse: x}}\ncells: [{}]\n", "data.a.source: Field required"),
        ("- a\n", "expected names with values"),
        ("1: 2\n", "names of settings are text"),
        ("data: [", "is not YAML"),
    ],
)
def test_a_file_that_is_not_understood_says_where(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=expected):
        read_sweep(str(file))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_sweep(str(tmp_path / "none.yaml"))
