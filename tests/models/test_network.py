"""The network agrees with the reference network, and refuses what no network can be."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from mimo_core.errors import UsageError
from mimo_core.models.architecture import count_parameters, gflops, parameter_shapes
from mimo_core.models.network import MimoUNet, build_network
from mimo_core.models.weights import golden_weights

VARIANTS = {"mimo-unet": (32, 8), "mimo-unet-plus": (32, 20)}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_all_three_scales_equal_the_reference_network(shared_data: Path, variant: str, interpolation: str) -> None:
    golden = np.load(shared_data / "golden" / f"{variant}-{interpolation}.npz")
    network = build_network(golden_weights(variant, interpolation))
    with torch.inference_mode():
        outputs = network(torch.from_numpy(golden["input"]))
        residual = network.residual(torch.from_numpy(golden["input"]))
    for output, name in zip(outputs, ("quarter", "half", "full"), strict=True):
        assert np.abs(output.numpy() - golden[name]).max() < 1e-5
    assert np.abs(residual.numpy() + golden["input"] - golden["full"]).max() < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_have_the_names_and_shapes_of_official_checkpoints(shared_data: Path, variant: str) -> None:
    expected = json.loads((shared_data / "golden" / "parameters.json").read_text())[variant]
    network = MimoUNet(*VARIANTS[variant])
    assert {name: list(tensor.shape) for name, tensor in network.state_dict().items()} == expected


def test_sizes_are_those_of_the_paper() -> None:
    assert count_parameters(32, 8) == 6_807_171
    assert count_parameters(32, 20) == 16_107_651
    assert gflops(32, 8, 360, 640) == pytest.approx(448.1, abs=0.05)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([8, 12, 16, 32]), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
def test_parameters_and_arithmetic_equal_what_torch_counts(width: int, num_res: int, rows: int, columns: int) -> None:
    with torch.device("meta"):
        network = MimoUNet(width, num_res)
        image = torch.empty(1, 3, 4 * rows, 4 * columns)
    with FlopCounterMode(display=False) as counter:
        network(image)
    assert {name: tuple(one.shape) for name, one in network.named_parameters()} == parameter_shapes(width, num_res)
    assert gflops(width, num_res, 4 * rows, 4 * columns) * 1e9 == pytest.approx(counter.get_total_flops())


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_outputs_are_a_quarter_a_half_and_the_whole(interpolation: str) -> None:
    network = MimoUNet(8, 1, interpolation)
    shapes = [tuple(output.shape) for output in network(torch.rand(2, 3, 20, 36))]
    assert shapes == [(2, 3, 5, 9), (2, 3, 10, 18), (2, 3, 20, 36)]


def test_residual_is_the_output_minus_the_input() -> None:
    torch.manual_seed(0)
    network, image = MimoUNet(8, 2).eval(), torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        torch.testing.assert_close(network.residual(image) + image, network(image)[2])


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network, image = MimoUNet(8, 1, dropout=0.5), torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        assert not torch.equal(network.train()(image)[2], network(image)[2])
        assert torch.equal(network.eval()(image)[2], network(image)[2])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"width": 10}, "width"),
        ({"width": 4}, "width"),
        ({"num_res": 0}, "num_res"),
        ({"interpolation": "cubic"}, "cubic"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_networks_that_cannot_be_are_refused(arguments: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        MimoUNet(**arguments)  # type: ignore[arg-type]
