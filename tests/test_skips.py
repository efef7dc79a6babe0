"""CI fails over tests that were skipped, but for what its machine cannot have."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[1] / ".ci" / "skips.py"
RAN = '<testcase classname="tests.a" name="test_one"/>'
PERMITTED = '<testcase classname="tests.a" name="test_int8"><skipped message="this CPU has no bfloat16"/></testcase>'
STRANGE = '<testcase classname="tests.a" name="test_page"><skipped message="needs Chromium"/></testcase>'


@pytest.mark.parametrize(
    ("cases", "code", "said"),
    [
        ([RAN, PERMITTED], 0, ""),
        ([RAN, STRANGE], 1, "skipped: tests.a::test_page: needs Chromium\n"),
        ([PERMITTED], 1, "no test has run in "),
    ],
)
def test_what_is_skipped_unasked_fails(tmp_path: Path, cases: list[str], code: int, said: str) -> None:
    report = tmp_path / "report.xml"
    report.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    done = subprocess.run([sys.executable, str(PROGRAM), str(report)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.startswith(said)) == (code, True), done.stderr
    assert bool(done.stderr) == bool(said)


def test_no_report_is_no_success() -> None:
    assert subprocess.run([sys.executable, str(PROGRAM)], timeout=60).returncode == 1
