"""Weights from a URL are downloaded once, noticed when they change, and named without secrets."""

from pathlib import Path

import fsspec
import pytest
import torch

from mimo_core.errors import MimoError
from mimo_core.models.network import MimoUNet, arrays_of
from mimo_core.models.weights import ModelSpec, load_weights, save_weights
from mimo_core.storage.disk_cache import cache_folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIMO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(url: str, tmp_path: Path, seed: int) -> str:
    torch.manual_seed(seed)
    file = tmp_path / "local.safetensors"
    sha256 = save_weights(file, ModelSpec(8, 1, "bilinear"), arrays_of(MimoUNet(8, 1).state_dict()))
    with fsspec.open(url, "wb") as remote:
        remote.write(file.read_bytes())
    return sha256


def test_a_url_loads_and_a_replaced_file_is_noticed(cache: Path, tmp_path: Path) -> None:
    url = "memory://weights-test/a.safetensors"
    first = put(url, tmp_path, 0)
    assert load_weights(url).sha256 == first
    assert load_weights(url).sha256 == first
    second = put(url, tmp_path, 1)
    assert second != first
    assert load_weights(url).sha256 == second


def test_a_missing_url_says_so(cache: Path) -> None:
    with pytest.raises(MimoError, match=r"none\.safetensors"):
        load_weights("memory://weights-test/none.safetensors")


def test_the_cache_is_where_the_environment_says(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("MIMO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/mimo-restore")
