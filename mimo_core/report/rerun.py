"""Restoring images again by a run's recipe, where the run kept no outputs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mimo_core.engines import Session, SessionSpec, open_session
from mimo_core.errors import ImageError, MimoError, UsageError
from mimo_core.images.pixels import Pixels
from mimo_core.inference.ensemble import AnyRestorer, restorer_by
from mimo_core.runs.recipe import Recipe

if TYPE_CHECKING:
    from mimo_core.engines.vacc.compiled import CompiledModel
    from mimo_core.models.weights import Weights


class Again:
    """A session by the recipe of a run, opened when the first image needs it; use it from any thread."""

    def __init__(self, recipe: Recipe) -> None:
        """Nothing is opened yet."""
        self._recipe = recipe
        # A session lives on one thread.
        self._thread = ThreadPoolExecutor(1, "again")
        self._session: Session | None = None
        self._restorer: AnyRestorer | None = None
        self._refusal: str | None = None

    def restore(self, pixels: Pixels) -> Pixels:
        """Return the image (H, W, 3) as the run restored it, in its type.

        Raises:
            UsageError: it cannot be done here; the message says why.
            ImageError: this image cannot be restored.
        """
        return self._thread.submit(self._restore, pixels).result()

    def close(self) -> None:
        """Give the session back."""
        if self._session is not None:
            self._thread.submit(self._session.close).result()
        self._thread.shutdown()

    def _restore(self, pixels: Pixels) -> Pixels:
        if self._refusal is not None:
            raise UsageError(self._refusal)
        if self._restorer is None:
            try:
                self._open()
            except MimoError as error:
                self._refusal = str(error)
                raise UsageError(self._refusal) from error
        assert self._restorer is not None
        (result,) = self._restorer.restore([pixels])
        if isinstance(result, ImageError):
            raise result
        return result.pixels

    def _open(self) -> None:
        recipe = self._recipe
        weights, compiled = _weights(recipe)
        self._session = open_session(
            SessionSpec(
                engine=recipe.engine,
                device=recipe.device_type,
                precision=recipe.precision,
                weights=weights,
                compiled=compiled,
                threads=recipe.threads,
                streams=recipe.streams,
            )
        )
        self._restorer = restorer_by(recipe, self._session)


def _weights(recipe: Recipe) -> tuple[Weights | None, CompiledModel | None]:
    if recipe.engine == "identity":
        return None, None
    # PyTorch, which a report of saved outputs need not load.
    from mimo_core.engines.vacc.compiled import load_compiled
    from mimo_core.models.weights import load_weights

    if recipe.engine == "vacc":
        compiled = load_compiled(recipe.weights, recipe.precision)
        _check(recipe, compiled.sha256)
        return None, compiled
    weights = load_weights(recipe.weights, recipe.interpolation)
    _check(recipe, weights.sha256)
    return weights, None


def _check(recipe: Recipe, sha256: str) -> None:
    if sha256 != recipe.weights_sha256:
        raise UsageError(f"the weights {recipe.weights} are not those of the run any more (their SHA-256 differs)")
