"""The private names of Ray that the program uses are there, and a Ray without them is refused in words."""

import json

import pytest
import ray

from mimo_core.distributed.ray_private import require_supported_ray, submitted_job
from mimo_core.errors import UsageError


def test_the_installed_ray_fits() -> None:
    require_supported_ray()


@pytest.mark.parametrize("version", ["2.51.1", "3.0.0.dev0"])
def test_a_ray_of_another_age_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "__version__", version)
    with pytest.raises(UsageError, match=rf"Ray {version} is not a tested version: .*pip install 'ray>=2.52,<3'"):
        require_supported_ray()


def test_the_job_that_a_driver_belongs_to_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "RAY_JOB_CONFIG_JSON_ENV_VAR"
    monkeypatch.delenv(variable, raising=False)
    assert submitted_job() is None
    monkeypatch.setenv(variable, json.dumps({"metadata": {"job_submission_id": "nightly-7"}}))
    assert submitted_job() == "nightly-7"
    for other in ("{}", "no JSON", '{"metadata": null}'):
        monkeypatch.setenv(variable, other)
        assert submitted_job() is None


def test_another_ray_is_refused_with_the_versions_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ray._private.state, "available_resources_per_node")
    with pytest.raises(UsageError, match=r"available_resources_per_node is missing\): install .*pip install 'ray>="):
        require_supported_ray()
