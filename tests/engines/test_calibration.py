"""Ranges for int8: what a histogram counts, and what each method makes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mimo_core.datasets.samples import sample_images
from mimo_core.engines.quantization.calibration import Histogram, convolutions, observe
from mimo_core.errors import SystemFailure, WeightsError
from mimo_core.models.int8 import KEY, Quantisation, activation_steps, weight_steps
from mimo_core.models.network import build_network
from mimo_core.models.weights import Weights, golden_weights, load_weights


def histogram(*parts: torch.Tensor) -> Histogram:
    counted = Histogram()
    for part in parts:
        counted.add(part)
    return counted


def normal(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def test_max_takes_in_everything_however_the_values_came() -> None:
    values = torch.cat([normal(10_000), torch.tensor([-9.5, 77.25])])
    assert histogram(values).range("max", 0) == (-9.5, 77.25)
    assert histogram(*values.split(777)).range("max", 0) == (-9.5, 77.25)


def test_a_percentile_is_that_of_the_values_at_both_ends() -> None:
    values = normal(2_000_000)
    low, high = histogram(*values.split(300_000)).range("percentile", 99.9)
    expected = np.quantile(values.numpy(), [0.001, 0.999])
    assert [low, high] == pytest.approx(expected, abs=0.005)
    # The bins have doubled several times by now; the share beyond is still right to a bin.
    low, high = histogram(values, torch.tensor([40.0])).range("percentile", 99.9)
    assert [low, high] == pytest.approx(expected, abs=0.02)


def test_a_bin_counts_more_values_than_float32_can() -> None:
    """Of a large image the activations are zeros for the most part, more than 2**24 of them."""
    threads = torch.get_num_threads()
    # Each thread counts its own share.
    torch.set_num_threads(1)
    try:
        counted = histogram(torch.zeros(1).expand(20_000_000), torch.ones(1).expand(4_000_000))
    finally:
        torch.set_num_threads(threads)
    low, high = counted.range("percentile", 82)
    assert (low, high) == (0, pytest.approx(0, abs=0.001))
    assert counted.range("percentile", 84) == (0, 1)


def test_the_widest_range_of_float32_loses_no_value() -> None:
    largest = float(np.finfo(np.float32).max)
    counted = histogram(torch.tensor([-largest, 0.0, 0.0, 0.0, largest]))
    assert counted.range("max", 0) == (-largest, largest)
    low, high = counted.range("percentile", 70)
    assert (low, high / largest) == (0, pytest.approx(0, abs=0.001))


def test_values_without_a_sign_keep_0_as_their_lowest() -> None:
    counted = histogram(normal(100_000).relu())
    for method in ("max", "percentile", "mse", "entropy"):
        low, high = counted.range(method, 99.99)  # type: ignore[arg-type]
        assert low == 0
        assert 0 < high <= float(normal(100_000).max())


def test_the_mean_square_gives_up_an_outlier_and_max_does_not() -> None:
    values = torch.cat([normal(1_000_000), torch.tensor([100.0])])

    def error(span: tuple[float, float]) -> float:
        steps = activation_steps(*span, symmetric=False)
        levels = np.clip(np.rint(values.numpy() / steps.scale) + float(steps.zero), 0, 255)
        return float(np.square((levels - float(steps.zero)) * steps.scale - values.numpy()).mean())

    counted = histogram(values)
    chosen = counted.range("mse", 0)
    assert chosen[1] < 60
    assert error(chosen) < error(counted.range("max", 0)) / 2


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(SystemFailure, match="not finite"):
        histogram(torch.tensor([1.0, float("nan")]))


def test_every_convolution_of_the_residual_is_observed() -> None:
    weights = load_weights("mimo-unet-lite")
    image = sample_images(None, 1)[0][:62, :90]
    seen = observe(build_network(weights), [image])
    assert set(seen) == {name for name in convolutions(weights.state) if not name.startswith("ConvsOut.")}
    low, high = seen["feat_extract.0"].range("max", 0)
    assert (low, high) == (0.0, pytest.approx(image.max() / 255))


# The integers


def test_integers_stand_for_their_values_to_half_a_step() -> None:
    for low, high, symmetric in ((0.0, 3.0, False), (-1.0, 3.0, False), (-1.0, 3.0, True)):
        steps = activation_steps(low, high, symmetric=symmetric)
        ends = np.iinfo(steps.zero.dtype)
        values = np.linspace(low, high, 1001)
        levels = np.clip(np.rint(values / steps.scale) + float(steps.zero), ends.min, ends.max)
        assert np.abs((levels - float(steps.zero)) * steps.scale - values).max() <= 0.501 * float(steps.scale)
        assert (float(steps.zero) - float(steps.zero)) * steps.scale == 0


def test_each_channel_of_the_weights_has_its_own_step() -> None:
    weight = np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32)
    weight[1] *= 100
    weight[2] = 0
    for axis, tensor in ((0, weight), (1, weight.swapaxes(0, 1))):
        integers, steps = weight_steps(tensor, axis)
        others = tuple(one for one in range(4) if one != axis)
        spread = np.expand_dims(steps.scale, others)
        assert (np.abs(integers * spread - tensor) <= 0.501 * spread).all()
        assert np.abs(integers).max(axis=others).tolist() == [127, 127, 0, 127]


# In the metadata


def described(text: str) -> Weights:
    lite = golden_weights("mimo-unet-lite")
    return Weights(lite.spec, lite.state, lite.sha256, "file", {KEY: text})


def test_what_is_written_is_read() -> None:
    quantisation = Quantisation("max", {"feat_extract.0": (0.0, 1.0), "FAM1.merge": (-0.1, 1 / 3)})
    assert Quantisation.of(described(quantisation.text())) == quantisation
    assert Quantisation.of(golden_weights("mimo-unet-lite")) is None


def test_ranges_of_another_interpolation_are_refused() -> None:
    metadata = {KEY: Quantisation("max", {"feat_extract.0": (0.0, 1.0)}).text(), "interpolation": "bilinear"}
    assert Quantisation.of(replace(load_weights("mimo-unet-lite", "bilinear"), metadata=metadata)) is not None
    with pytest.raises(WeightsError, match="calibrated with bilinear interpolation"):
        Quantisation.of(replace(load_weights("mimo-unet-lite", "nearest"), metadata=metadata))


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        '{"calibration": "max"}',
        '{"calibration": "max", "ranges": {"feat_extract.0": [0]}}',
        '{"calibration": "max", "ranges": {"no_such_layer": [0, 1]}}',
        '{"calibration": "max", "ranges": {"feat_extract.0": [1, 2]}}',
        '{"calibration": "max", "ranges": {"feat_extract.0": [0, NaN]}}',
    ],
)
def test_damaged_metadata_are_refused(text: str) -> None:
    with pytest.raises(WeightsError, match="quantise it again"):
        Quantisation.of(described(text))
