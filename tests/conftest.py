"""Fixtures for every room's tests: where the shared real images are."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from mimo_core.errors import UsageError
from mimo_core.metrics.fid.inception import Inception, find_inception

pytest_plugins = ["fixtures_cpu", "fixtures_s3", "fixtures_runs", "fixtures_vacc", "fixtures_browser"]


# How long an example takes is the machine's affair and must not fail a test.
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("random", settings.get_profile("repeatable"), derandomize=False)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let property tests try the same examples in every run, and new ones where slow tests are asked for."""
    if not session.config.getoption("--hypothesis-profile"):
        asked = re.search(r"(?<!not )\bslow\b", session.config.getoption("-m"))
        settings.load_profile("random" if asked else "repeatable")


def find_shared_data() -> Path | None:
    """The folder of real image pairs and golden outputs: MIMO_SHARED_DATA, or ../shared/data beside the project."""
    named = os.environ.get("MIMO_SHARED_DATA")
    if named:
        return Path(named)
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    return beside if beside.is_dir() else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared real images; the test is skipped where it is absent."""
    folder = find_shared_data()
    if folder is None:
        pytest.skip("needs the shared image pairs: no ../shared/data beside the project and MIMO_SHARED_DATA is unset")
    if not folder.is_dir():
        pytest.fail(f"MIMO_SHARED_DATA names {folder}, which is not a folder")
    return folder


@pytest.fixture(scope="session")
def inception() -> Inception:
    """The Inception network of FID; the test is skipped where its package is not installed."""
    try:
        return find_inception(None)
    except UsageError as error:
        pytest.skip(str(error))
