"""Restoring images again by a run's recipe, where the run kept no outputs."""

from __future__ import annotations

import threading

from mimo_core.errors import MimoError, UsageError
from mimo_core.images.pixels import Pixels
from mimo_core.inference.open_restorer import OpenRestorer, open_restorer, weights_of
from mimo_core.runs.recipe import Recipe


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
                    self._restorer = open_restorer(self._recipe, weights_of(self._recipe))
                except MimoError as error:
                    self._refusal = str(error)
                    raise UsageError(self._refusal) from error
        return self._restorer.restore_one(pixels)

    def close(self) -> None:
        """Close the restorer, if it was opened."""
        if self._restorer is not None:
            self._restorer.close()
