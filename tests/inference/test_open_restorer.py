"""A restorer from a recipe: the same pixels as the session's own, from any thread, until it is closed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from inprocess import LITE, recipe_of
from pictures import scene

from mimo_core.engines import SessionSpec, open_session
from mimo_core.errors import SystemFailure, UsageError
from mimo_core.inference.open_restorer import open_restorer, session_spec
from mimo_core.models.weights import load_weights


def test_a_recipe_says_all_of_a_session_but_the_device() -> None:
    weights = load_weights(LITE)
    recipe = recipe_of(weights, batch=4, threads=2, precision="bf16")
    assert session_spec(recipe, weights) == SessionSpec("torch", "cpu", "bf16", weights, threads=2, streams=2)
    assert session_spec(recipe, weights, "cuda:1", "/usr/bin/python3") == SessionSpec(
        "torch", "cuda:1", "bf16", weights, threads=2, streams=2, vacc_python="/usr/bin/python3"
    )
    assert session_spec(recipe_of(), None) == SessionSpec("identity", "cpu", "fp32", None, threads=1)


def test_any_thread_gets_the_pixels_of_the_bare_session() -> None:
    weights = load_weights(LITE)
    image = scene(64, 80)
    session = open_session(SessionSpec("torch", "cpu", "fp32", weights, threads=1))
    expected = session.restore(image[None])[0]
    session.close()
    with open_restorer(recipe_of(weights), weights) as restorer, ThreadPoolExecutor(3) as threads:
        restored = list(threads.map(restorer.restore_one, [image] * 6))
        assert restorer.device_name == "cpu"
    assert all(np.array_equal(one, expected) for one in restored)


def test_a_closed_restorer_refuses_instead_of_waiting() -> None:
    with open_restorer(recipe_of(), None) as restorer:
        image = scene(16, 16)
        assert np.array_equal(restorer.restore_one(image), image)
    restorer.close()
    with pytest.raises(UsageError, match="closed"):
        restorer.restore_one(image)


def test_what_cannot_be_opened_says_so() -> None:
    weights = load_weights(LITE)
    with pytest.raises((UsageError, SystemFailure), match=r"CUDA device|cuda:99"):
        open_restorer(recipe_of(weights, device_type="cuda"), weights, "cuda:99")
