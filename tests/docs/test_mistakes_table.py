"""The mistakes that are made most are answered with the right exit code, the remedy, and soon."""

from pathlib import Path

import pytest
from mistakes import MISTAKES, PREFACE, ROOT, Mistake, make, prepare


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    prepare(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_a_mistake_is_answered(mistake: Mistake, place: Path) -> None:
    if "cuda" in mistake.command and list(Path("/dev").glob("nvidia*")):
        pytest.skip("this machine has a GPU")
    answer = make(mistake, place)
    assert answer.code == mistake.code, answer.text
    assert mistake.words in answer.text
    assert len(answer.text.splitlines()) == 1, "one line, and no traceback"
    # Some seconds, on a machine that others use, too.
    assert answer.seconds < 30
    assert not (place / "out").exists()


def test_the_page_has_every_mistake() -> None:
    page = (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8")
    assert page.startswith(PREFACE)
    rows = [line for line in page.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(MISTAKES) == 25
    for mistake, row in zip(MISTAKES, rows, strict=True):
        assert row.startswith(f"| {mistake.what} | `{mistake.command}` | ")
        assert f" | {mistake.code} | " in row
