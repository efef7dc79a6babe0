#!/usr/bin/env python3
"""Fails where a test was skipped that CI has to run, or where none has run at all.

    python3 .ci/skips.py REPORT.xml [REPORT.xml ...]

The reports are pytest's (`--junitxml`). A test that is skipped for another reason than those below is a test that CI
believes to have run.
"""

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence

# The beginning of pytest's reason, and why it is no defect of the machine that CI runs on.
PERMITTED = {
    "this CPU computes no int8 products without overflow": "needs AVX-512 VNNI or AMX, which not every machine has",
    "this CPU computes no bfloat16": "needs AVX-512 BF16 or AMX, which not every machine has",
    "this CPU has no bfloat16": "needs AVX-512 BF16 or AMX, which not every machine has",
    "there is no Python 3.8 with NumPy to run it": "that of VACC's own image, which no package brings",
    "this machine gives no namespace of processes": "a container may not allow it; elsewhere Ray would end all others",
    "this machine has a GPU": "the answer to somebody who asks for one where there is none cannot be had",
    "needs Prometheus": "a package of the system that not every machine has",
    "needs the shared image pairs": "they lie beside a checkout and are no part of it",
}


def skipped(report: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the reason of every test that was skipped."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        for skip in case.iter("skipped"):
            yield f"{case.get('classname')}::{case.get('name')}", skip.get("message", "")


def ran(report: str) -> int:
    """Return how many tests have run."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    return sum(case.find("skipped") is None for case in cases)


def main(reports: Sequence[str]) -> int:
    """Name what should have run; 0 where there is nothing."""
    wrong = [f"no test has run in {report}" for report in reports if not ran(report)]
    for report in reports:
        wrong += [f"skipped: {name}: {why}" for name, why in skipped(report) if not why.startswith(tuple(PERMITTED))]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong or not reports else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
