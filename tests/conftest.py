"""Fixtures for every room's tests: where the shared real images are."""

import os
import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from mimo_core.errors import UsageError
from mimo_core.hardware import usable_cores
from mimo_core.metrics.fid.inception import Inception, find_inception

# A process that has once used a Ray with a token, as an embedded one is by default, cannot use one without. What the
# tests start as processes inherits nothing of this.
os.environ["RAY_AUTH_MODE"] = "disabled"

pytest_plugins = [
    "fixtures_cpu",
    "fixtures_s3",
    "fixtures_clusters",
    "fixtures_runs",
    "fixtures_vacc",
    "fixtures_browser",
]


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


_LONG = ("training", "report", "engines")

# One more than there are cores, for tests that use Ray wait most of the time. Each process loads PyTorch.
_MOST_PROCESSES = 4


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """In how many processes tests are run where `-n` does not say: none of their own where a person looks on."""
    if config.option.capture == "no" or config.option.usepdb or config.option.collectonly:
        return 0
    return min(usable_cores() + 1, _MOST_PROCESSES)


def pytest_configure(config: pytest.Config) -> None:
    """Let the processes share the cores, for threads that wait for each other take them from their neighbours."""
    if hasattr(config, "workerinput"):
        import torch

        torch.set_num_threads(max(1, usable_cores() // int(config.workerinput["workercount"])))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take longest, so that no process is left alone with one in the end."""
    items.sort(key=lambda item: (item.get_closest_marker("ray") is None, item.path.parent.name not in _LONG))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give a module's tests, and all that use the shared cluster, to one process."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = super()._split_scope(nodeid)
            return "cluster" if _uses_the_cluster(config.rootpath / module) else module

    return Scheduling(config, log)


@cache
def _uses_the_cluster(module: Path) -> bool:
    return "ray_cluster" in module.read_text(encoding="utf-8")


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
