"""Restoring images again by a run's recipe, where the run kept no outputs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mimo_core.errors import MimoError, UsageError
from mimo_core.images.pixels import Pixels
from mimo_core.inference.open_restorer import OpenRestorer, open_restorer
from mimo_core.runs.recipe import Recipe

if TYPE_CHECKING:
    from mimo_core.engines.vacc.compiled import CompiledModel
    from mimo_core.models.weights import Weights


class Rerun:
    """A restorer by the recipe of a run, opened when the first image needs it; usable from any threads."""

    def __init__(self, recipe: Recipe) -> None:
        """Nothing is opened yet."""
        self._recipe = recipe
        self._lock = threading.Lock()
        self._restorer: OpenRestorer | None = None
        self._refusal: str | None = None

    def restore(self, pixels: Pixels) -> Pixels:
        """Return the image (H, W, 3) as the run restored it, in its type.

        Raises:
            UsageError: it cannot be done here; the message says why.
            ImageError: this image cannot be restored.
        """
        with self._lock:
            if self._refusal is not None:
                raise UsageError(self._refusal)
            if self._restorer is None:
                try:
                    self._restorer = open_restorer(self._recipe, _weights(self._recipe))
                except MimoError as error:
                    self._refusal = str(error)
                    raise UsageError(self._refusal) from error
        return self._restorer.restore_one(pixels)

    def close(self) -> None:
        """Close the restorer, if it was opened."""
        if self._restorer is not None:
            self._restorer.close()


def _weights(recipe: Recipe) -> Weights | CompiledModel | None:
    if recipe.engine == "identity":
        return None
    # PyTorch, which a report of saved outputs need not load.
    from mimo_core.engines.vacc.compiled import load_compiled
    from mimo_core.models.weights import load_weights

    weights: Weights | CompiledModel
    if recipe.engine == "vacc":
        weights = load_compiled(recipe.weights, recipe.precision)
    else:
        weights = load_weights(recipe.weights, recipe.interpolation)
    if weights.sha256 != recipe.weights_sha256:
        raise UsageError(f"the weights {recipe.weights} are not those of the run any more (their SHA-256 differs)")
    return weights
