"""What a weights file holds is told truly, and conversions keep it."""

import pickle
import subprocess
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from mimo_core.cli.main import main
from mimo_core.errors import UsageError, WeightsError
from mimo_core.models.convert import convert_weights, inspect_weights
from mimo_core.models.network import MimoUNet
from mimo_core.models.weights import ModelSpec, load_weights


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    state = {f"module.{name}": tensor for name, tensor in MimoUNet(8, 2).state_dict().items()}
    torch.save({"model": state, "epoch": 3000, "optimizer": {}}, tmp_path / "MIMO.pkl")
    return tmp_path / "MIMO.pkl"


def test_inspection_tells_layout_network_and_hashes(checkpoint: Path) -> None:
    found = inspect_weights(str(checkpoint))
    assert found.format == "pytorch"
    assert found.nested_in == "model"
    assert found.prefixed
    assert found.other_keys == ("epoch", "optimizer")
    assert found.spec == ModelSpec(8, 2, "nearest")
    assert found.interpolation_from == "assumed"
    assert found.dtypes == ("float32",)
    assert found.parameters == sum(values.size for values in load_weights(str(checkpoint)).state.values())
    assert found.gflops_360x640 > 0
    assert found.official is None
    git = subprocess.run(["git", "hash-object", str(checkpoint)], capture_output=True, text=True, check=True)
    assert found.git_object == git.stdout.strip()


def test_a_round_trip_through_safetensors_keeps_every_value(checkpoint: Path, tmp_path: Path) -> None:
    whole = convert_weights(str(checkpoint), tmp_path / "a.safetensors", interpolation="bilinear", half=False)
    assert whole.largest_error == 0.0
    assert whole.spec.interpolation == "bilinear"
    converted = load_weights(str(tmp_path / "a.safetensors"))
    assert converted.sha256 == whole.sha256
    assert converted.metadata["source_sha256"] == load_weights(str(checkpoint)).sha256
    back = convert_weights(str(tmp_path / "a.safetensors"), tmp_path / "b.pkl")
    content = torch.load(tmp_path / "b.pkl", weights_only=True)
    assert content["mimo_restore"] == {"interpolation": "bilinear", "scales": "1"}
    original = load_weights(str(checkpoint)).state
    assert all(np.array_equal(content["model"][name], values) for name, values in original.items())
    assert back.bytes == (tmp_path / "b.pkl").stat().st_size


def test_a_checkpoint_keeps_what_weights_are_made_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "convert", "mimo-unet-lite", str(tmp_path / "lite.pkl")]) == 0
    assert "(bilinear, scales auto)" in capsys.readouterr().out
    before, after = load_weights("mimo-unet-lite"), load_weights(str(tmp_path / "lite.pkl"))
    assert (after.spec, after.scales) == (before.spec, before.scales)
    found = inspect_weights(str(tmp_path / "lite.pkl"))
    assert found.interpolation_from == "metadata"
    assert found.other_keys == ()


def test_half_is_the_default_for_safetensors_and_its_error_is_told(checkpoint: Path, tmp_path: Path) -> None:
    done = convert_weights(str(checkpoint), tmp_path / "a.safetensors")
    assert inspect_weights(str(tmp_path / "a.safetensors")).dtypes == ("float16",)
    before, after = load_weights(str(checkpoint)).state, load_weights(str(tmp_path / "a.safetensors")).state
    error = max(float(np.abs(before[name] - after[name]).max()) for name in before)
    assert done.largest_error == pytest.approx(error)
    assert 0 < error < 1e-3


def test_conversions_refuse_what_would_lose_weights(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="never overwritten"):
        convert_weights(str(checkpoint), checkpoint)
    with pytest.raises(UsageError, match="must end in"):
        convert_weights(str(checkpoint), tmp_path / "a.onnx")
    with pytest.raises(WeightsError):
        convert_weights(str(tmp_path / "none.pkl"), tmp_path / "a.pth")
    state = MimoUNet(8, 2).state_dict()
    state["FAM1.merge.main.0.bias"] = torch.full((32,), 1e5)
    torch.save(state, tmp_path / "large.pth")
    with pytest.raises(UsageError, match="float16 cannot"):
        convert_weights(str(tmp_path / "large.pth"), tmp_path / "large.safetensors", half=True)
    assert not (tmp_path / "large.safetensors").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])
def test_inspection_refuses_what_is_not_finite(tmp_path: Path, value: float, name: str) -> None:
    state = MimoUNet(8, 2).state_dict()
    state["FAM1.merge.main.0.bias"][3] = value
    if name.endswith(".pth"):
        torch.save(state, tmp_path / name)
    else:
        safetensors.torch.save_file(state, tmp_path / name)
    with pytest.raises(WeightsError, match=r"FAM1.merge.main.0.bias holds values that are not finite"):
        inspect_weights(str(tmp_path / name))


def test_what_torch_says_to_its_callers_is_not_quoted(tmp_path: Path) -> None:
    """Objects and TorchScript are refused in this program's words: torch's tell how to run their code."""
    torch.save({"model": MimoUNet(8, 2).state_dict(), "optimizer": torch.nn.Linear(2, 2)}, tmp_path / "objects.pkl")
    (tmp_path / "protocol4.pkl").write_bytes(pickle.dumps({"model": Path("x")}, protocol=4))
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for member in ("data.pkl", "constants.pkl", "version"):
            archive.writestr(f"script/{member}", b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, text in (
            ("objects.pkl", r"holds Python objects beside tensors \(torch.nn.modules.linear.Linear\)"),
            ("protocol4.pkl", "expected"),
            ("script.pt", "is a TorchScript archive, which holds code"),
        ):
            with pytest.raises(WeightsError, match=text) as caught:
                inspect_weights(str(tmp_path / name))
            assert "weights_only" not in str(caught.value)
            assert "eights only load" not in str(caught.value)
