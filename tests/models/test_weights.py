"""Weights load from every known layout, and a wrong file is told apart by what was found and expected."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch
from torch import Tensor

from mimo_core.errors import UsageError, WeightsError
from mimo_core.models.convert import inspect_weights
from mimo_core.models.network import MimoUNet, arrays_of, build_network
from mimo_core.models.weights import ModelSpec, load_weights, save_weights, shipped

SPEC = ModelSpec(8, 2, "nearest")


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(MimoUNet(8, 2).state_dict())


def assert_same(loaded: dict[str, npt.NDArray[np.float32]], state: dict[str, Tensor]) -> None:
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        assert np.array_equal(loaded[name], tensor.numpy())


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_pytorch_layouts_load(tmp_path: Path, state: dict[str, Tensor], suffix: str, nested: bool, prefix: str) -> None:
    file = tmp_path / f"weights{suffix}"
    named = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({"model": named, "epoch": 3, "optimizer": {"state": {}}} if nested else named, file)
    weights = load_weights(str(file))
    assert weights.spec == SPEC
    assert weights.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert_same(weights.state, state)


def test_the_old_format_of_torch_loads(tmp_path: Path, state: dict[str, Tensor]) -> None:
    file = tmp_path / "old.pkl"
    torch.save({"model": state}, file, _use_new_zipfile_serialization=False)
    assert_same(load_weights(str(file)).state, state)


def test_saved_weights_come_back(tmp_path: Path, state: dict[str, Tensor]) -> None:
    file = tmp_path / "weights.safetensors"
    sha256 = save_weights(file, ModelSpec(8, 2, "bilinear"), arrays_of(state), trained_on="nothing", half=False)
    weights = load_weights(str(file))
    assert weights.spec == ModelSpec(8, 2, "bilinear")
    assert weights.sha256 == sha256
    assert weights.metadata == {
        "variant": "mimo-unet-w8-r2",
        "width": "8",
        "num_res": "2",
        "interpolation": "bilinear",
        "trained_on": "nothing",
        "source_sha256": "",
        "scales": "1",
    }
    assert_same(weights.state, state)


def test_saving_is_repeatable_and_readable_by_others(tmp_path: Path, state: dict[str, Tensor]) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert save_weights(first, SPEC, arrays_of(state)) == save_weights(
        second, SPEC, arrays_of(dict(reversed(state.items())))
    )
    assert first.read_bytes() == second.read_bytes()
    assert all(tensor.dtype == torch.float16 for tensor in safetensors.torch.load_file(first).values())
    assert first.stat().st_mode & 0o044 == 0o044 & ~_umask()


def test_half_weights_load_as_float32(tmp_path: Path, state: dict[str, Tensor]) -> None:
    file = tmp_path / "weights.safetensors"
    save_weights(file, SPEC, arrays_of(state))
    loaded = load_weights(str(file)).state
    assert all(values.dtype == np.float32 for values in loaded.values())
    assert all(np.array_equal(loaded[name], tensor.half().float().numpy()) for name, tensor in state.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_types_that_others_save_in_load_as_float32(
    tmp_path: Path, state: dict[str, Tensor], dtype: torch.dtype, suffix: str
) -> None:
    stored = {name: tensor.to(dtype) for name, tensor in state.items()}
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(stored, file)
    else:
        safetensors.torch.save_file(stored, file)
    assert_same(load_weights(str(file)).state, {name: tensor.float() for name, tensor in stored.items()})
    assert inspect_weights(str(file)).dtypes == (str(dtype).removeprefix("torch."),)


def test_whole_numbers_are_no_weights(tmp_path: Path, state: dict[str, Tensor]) -> None:
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({name: tensor.to(torch.int32) for name, tensor in state.items()}, file)
    with pytest.raises(WeightsError, match="int32 values; expected floating-point ones"):
        load_weights(str(file))


def test_interpolation_is_the_callers_else_the_files_else_nearest(tmp_path: Path, state: dict[str, Tensor]) -> None:
    plain, marked = tmp_path / "plain.pth", tmp_path / "marked.safetensors"
    torch.save(state, plain)
    save_weights(marked, ModelSpec(8, 2, "bilinear"), arrays_of(state))
    assert load_weights(str(plain)).spec.interpolation == "nearest"
    assert load_weights(str(plain), "bilinear").spec.interpolation == "bilinear"
    assert load_weights(str(marked)).spec.interpolation == "bilinear"
    assert load_weights(str(marked), "nearest").spec.interpolation == "nearest"
    with pytest.raises(UsageError, match="cubic"):
        load_weights(str(plain), "cubic")


def test_the_network_is_built_with_the_weights(tmp_path: Path, state: dict[str, Tensor]) -> None:
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    weights = load_weights(str(file))
    network = build_network(weights)
    assert not network.training
    assert_same(arrays_of(dict(network.state_dict())), state)
    with torch.no_grad():
        network.get_parameter("feat_extract.0.main.0.bias").add_(1.0)
    assert_same(weights.state, state)


def _web_page() -> bytes:
    return b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head></html>"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty", "0 bytes"]),
        (_web_page(), ["web page"]),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", ["Git LFS"]),
        (b"not weights at all", ["not weights", ".safetensors"]),
        (pickle.dumps([1, 2, 3]), ["found", "expected"]),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), ["HDF5"]),
    ],
)
def test_files_that_are_something_else_are_named(tmp_path: Path, content: bytes, words: list[str]) -> None:
    file = tmp_path / "weights.pkl"
    file.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        load_weights(str(file))
    message = str(caught.value)
    assert "weights.pkl" in message
    assert any(word in message for word in words), message


def test_a_cut_file_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    for name in ("cut.pth", "cut.safetensors"):
        whole = tmp_path / f"whole-{name}"
        if name.endswith(".pth"):
            torch.save(state, whole)
        else:
            save_weights(whole, SPEC, arrays_of(state))
        (tmp_path / name).write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(WeightsError, match=name):
            load_weights(str(tmp_path / name))


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/mimo-restore-this-must-not-exist",)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "evil.pkl"
    file.write_bytes(pickle.dumps({"model": _Runs()}, protocol=2))
    with pytest.raises(WeightsError, match=r"not loaded|not a weights file"):
        load_weights(str(file))
    assert not Path("/tmp/mimo-restore-this-must-not-exist").exists()


def test_another_network_is_told_by_its_names(tmp_path: Path) -> None:
    file = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.bias": torch.zeros(64)}, file)
    with pytest.raises(WeightsError, match=r"not a MIMO-UNet: found 2 tensors named bn1.bias, conv1.weight"):
        load_weights(str(file))


def test_what_is_missing_unexpected_or_misshapen_is_listed(tmp_path: Path, state: dict[str, Tensor]) -> None:
    del state["AFFs.0.conv.0.main.0.bias"]
    state["extra.weight"] = torch.zeros(1)
    state["FAM1.merge.main.0.weight"] = torch.zeros(3, 3)
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    with pytest.raises(WeightsError) as caught:
        load_weights(str(file))
    message = str(caught.value)
    assert "AFFs.0.conv.0.main.0.bias is missing" in message
    assert "extra.weight was not expected" in message
    assert "FAM1.merge.main.0.weight is 3x3, expected 32x32x3x3" in message


def test_values_that_are_not_finite_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["FAM1.merge.main.0.bias"] = torch.full((32,), float("nan"))
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    with pytest.raises(WeightsError, match=r"FAM1.merge.main.0.bias holds values that are not finite"):
        load_weights(str(file))


def test_a_name_that_is_nothing_gets_a_hint() -> None:
    with pytest.raises(WeightsError, match=r"neither a file nor shipped.*mimo weights list"):
        load_weights("no-such-weights")
    with pytest.raises(WeightsError, match="Did you mean mimo-unet-lite"):
        load_weights("mimo-unet-light")


def test_golden_weights_are_the_same_everywhere() -> None:
    weights = load_weights("golden:mimo-unet", "bilinear")
    assert weights.spec == ModelSpec(32, 8, "bilinear")
    assert weights.sha256 == "4d4d4a3e43e27458236293ab18507fe8d270ec9fe3ea9acda9a743bb44366195"
    with pytest.raises(WeightsError, match="mimo-unet-plus"):
        load_weights("golden:resnet")


def test_every_shipped_card_tells_the_truth_about_its_file() -> None:
    entries = shipped()
    assert any(entry.trained for entry in entries)
    for entry in entries:
        if not entry.trained:
            assert entry.path is None
            with pytest.raises(WeightsError, match="not trained yet"):
                load_weights(entry.name)
            continue
        weights = load_weights(entry.name)
        card = entry.card
        assert weights.sha256 == card.sha256
        assert weights.spec == ModelSpec(card.width, card.num_res, card.interpolation)
        assert weights.spec.variant == card.variant
        assert weights.scales == card.scales
        assert card.credits
        assert card.scores
        assert card.licence


def test_metadata_is_json_clean(tmp_path: Path, state: dict[str, Tensor]) -> None:
    file = tmp_path / "weights.safetensors"
    save_weights(file, SPEC, arrays_of(state), trained_on='photos "by hand", ünïcode')
    assert json.loads(json.dumps(load_weights(str(file)).metadata))["trained_on"] == 'photos "by hand", ünïcode'


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_what_is_no_weights_file_is_told_without_the_insides_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "junk.pkl"
    path.write_bytes(b"junk" * 100)
    with pytest.raises(WeightsError, match=r"400 bytes beginning b'junkjunk'\): expected .* complete$"):
        load_weights(str(path))
