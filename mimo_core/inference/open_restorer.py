"""From a recipe and its weights to a session, and to a restorer that any thread may use."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mimo_core.engines import Session, SessionHost, SessionSpec
from mimo_core.errors import ImageError, UsageError
from mimo_core.images.pixels import Pixels
from mimo_core.inference.coarse_to_fine import CoarseToFineRestorer
from mimo_core.inference.ensemble import EnsembleRestorer
from mimo_core.inference.restorer import Restoration, Restorer
from mimo_core.inference.strength import PartialRestorer
from mimo_core.runs.recipe import Recipe

if TYPE_CHECKING:
    from types import TracebackType

    from mimo_core.engines.vacc.compiled import CompiledModel
    from mimo_core.models.weights import Weights


AnyRestorer = Restorer | EnsembleRestorer | CoarseToFineRestorer | PartialRestorer


def restorer_by(recipe: Recipe, session: Session, *, keep_values: bool = False) -> AnyRestorer:
    """Return what restores with the session as a recipe says; `keep_values` as for `Restorer`."""
    if recipe.strength != 1:
        whole = recipe.model_copy(update={"strength": 1.0})
        return PartialRestorer(restorer_by(whole, session, keep_values=keep_values), recipe.strength)
    together = recipe.ensemble > 1
    restorer = Restorer(session, recipe.tile_policy, keep_values=keep_values or together)
    full = EnsembleRestorer(restorer) if together else restorer
    if recipe.factors == (1,):
        return full
    coarse = full if isinstance(full, EnsembleRestorer) else full.keeping_values()
    return CoarseToFineRestorer(full, coarse, recipe.factors, keep_values=keep_values)


def session_spec(
    recipe: Recipe,
    weights: Weights | CompiledModel | None,
    device: str | None = None,
    vacc_python: str | None = None,
) -> SessionSpec:
    """Return the specification of the session that computes what a recipe says.

    Args:
        recipe: the choices.
        weights: what the recipe's weights name; None for an engine without a network.
        device: one device of the recipe's type, such as `cuda:1`; None for the first.
        vacc_python: interpreter of a child process that holds a VACC die.
    """
    compiled = None
    if weights is not None:
        # Only here: the identity engine needs no PyTorch.
        from mimo_core.engines.vacc.compiled import CompiledModel

        if isinstance(weights, CompiledModel):
            weights, compiled = None, weights
    return SessionSpec(
        engine=recipe.engine,
        device=device or recipe.device_type,
        precision=recipe.precision,
        weights=weights,
        threads=recipe.threads,
        streams=recipe.streams,
        compiled=compiled,
        vacc_python=vacc_python,
    )


def weights_of(recipe: Recipe) -> Weights | CompiledModel | None:
    """Load the weights that a recipe names, None for an engine without a network.

    Raises:
        UsageError: they are not there, or not those that the recipe was made for.
    """
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


class OpenRestorer:
    """A restorer with a session of its own, open until `close`; usable from any threads, one call after another."""

    def __init__(self, recipe: Recipe, spec: SessionSpec) -> None:
        """Open the session; see `open_restorer`."""
        self.recipe = recipe
        self._host = SessionHost(spec)
        self.device_name = self._host.session.device_name
        self._restorer = restorer_by(recipe, self._host.session)
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> OpenRestorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def restore(self, images: Sequence[Pixels]) -> list[Restoration | ImageError]:
        """Return the restorations of images of one shape and type; see `Restorer.restore`.

        Raises:
            UsageError: the restorer is closed.
            DeviceFaultError: the session is dead.
        """
        with self._lock:
            if self._closed:
                raise UsageError("this restorer is closed: open another one")
            done = self._host.do(lambda _: self._restorer.restore(images))
        return done.result()

    def restore_one(self, image: Pixels) -> Pixels:
        """Return one restored image, (H, W, 3) RGB, in the type of the input.

        Raises:
            ImageError: this image cannot be restored.
            UsageError, DeviceFaultError: see `restore`.
        """
        (result,) = self.restore([image])
        if isinstance(result, ImageError):
            raise result
        return result.pixels

    def close(self) -> None:
        """Finish what was asked for and close the session. Closing twice is allowed."""
        with self._lock:
            self._closed = True
        self._host.close()


def open_restorer(
    recipe: Recipe,
    weights: Weights | CompiledModel | None,
    device: str | None = None,
    vacc_python: str | None = None,
) -> OpenRestorer:
    """Open a session and return the restorer that uses it by the recipe; arguments as for `session_spec`.

    Raises:
        UsageError: the engine cannot do what the recipe asks for.
        SystemFailure: the device is not there or does not work.
    """
    return OpenRestorer(recipe, session_spec(recipe, weights, device, vacc_python))
