"""What a cell of a sweep costs by its recipe and the passes that its images took."""

from collections import Counter

import pytest
from inprocess import LITE, recipe_of

from mimo_core.models.weights import load_weights
from mimo_core.sweep.figures import _operations


@pytest.mark.parametrize(
    ("scales", "taken", "passes"),
    [
        ("1", {}, 1.0),
        ("1/2,1", {"1/2,1": 3}, 1.25),
        ("1/4,1/2", {"1/4,1/2": 3}, 0.3125),
        # All are judged at full size, a half and a quarter; what suits full size is restored by that.
        ("auto", {"1": 4}, 1.3125),
        ("auto", {"1": 3, "1/4,1/2": 1}, 1.3125 + 0.3125 / 4),
    ],
)
def test_operations_are_those_of_all_passes(scales: str, taken: dict[str, int], passes: float) -> None:
    weights = load_weights(LITE)
    shapes = Counter({(64, 96): 4})
    full = _operations(recipe_of(weights), shapes, {})
    assert full is not None
    assert _operations(recipe_of(weights, scales=scales), shapes, taken) == pytest.approx(passes * full)
    assert _operations(recipe_of(weights, scales=scales, ensemble=4), shapes, taken) == pytest.approx(4 * passes * full)
