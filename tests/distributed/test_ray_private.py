"""The private names of Ray that the program uses are there, and a Ray without them is refused in words."""

import pytest
import ray

from mimo_core.distributed.ray_private import require_supported_ray
from mimo_core.errors import UsageError


def test_the_installed_ray_fits() -> None:
    require_supported_ray()


def test_another_ray_is_refused_with_the_versions_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ray._private.state, "available_resources_per_node")
    with pytest.raises(UsageError, match=r"available_resources_per_node is missing\): install .*pip install 'ray>="):
        require_supported_ray()
