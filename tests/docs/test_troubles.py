"""The page of troubles names tests that exist."""

import re

from processes import ROOT


def test_every_test_that_the_page_names_exists() -> None:
    page = (ROOT / "docs" / "troubles.md").read_text(encoding="utf-8")
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", page)
    assert len(named) > 20
    assert not [name for name in named if f"def {name}(" not in tests]
