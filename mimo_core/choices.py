"""From a configuration to a recipe: every automatic choice is made here, once, and frozen with the run."""

from dataclasses import dataclass
from typing import Literal, cast

from mimo_core.config import RestoreConfig, parse_size
from mimo_core.errors import UsageError
from mimo_core.hardware import Hardware
from mimo_core.recipe import Recipe
from mimo_core.restorer import TilePolicy
from mimo_core.sessions import ENGINES
from mimo_core.weights import Weights, load_weights, shipped

_DEFAULTS = ("mimo-unet-lite", "mimo-unet")
"""Weights for those who name none, the cheapest first."""
_PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class _Calls:
    """How much one call of a session takes: pixels, tile (height, width) above that, and images of a batch."""

    pixels: int
    tile: tuple[int, int]
    batch: int


# On a CPU batches gain nothing and large calls fall out of the caches; a GPU wants enough work in each call.
_CALLS = {"cpu": _Calls(1 << 20, (512, 512), 1), "cuda": _Calls(4 << 20, (1024, 1024), 8)}


def choose_weights(config: RestoreConfig, frozen: Recipe | None) -> Weights | None:
    """Load the weights that the configuration, or the run that it resumes, names; None for the identity engine.

    Raises:
        WeightsError: there are none, or they are not what they should be.
        UsageError: they are of another variant than `--model` demands.
    """
    if config.engine == "identity" or (config.engine == "auto" and frozen is not None and frozen.engine == "identity"):
        return None
    name = config.weights or (frozen.weights if frozen is not None else default_weights("cpu"))
    interpolation = config.interpolation
    if interpolation == "auto" and frozen is not None:
        interpolation = cast(Literal["nearest", "bilinear"], frozen.interpolation)
    weights = load_weights(name, None if interpolation == "auto" else interpolation)
    if config.model is not None and weights.spec.variant != config.model:
        raise UsageError(f"--model asks for {config.model}, but {name} holds {weights.spec.variant}")
    return weights


def default_weights(device_type: str) -> str:
    """Return the shipped weights for those who name none: the cheapest on a CPU, else the best that are trained."""
    trained = {entry.name for entry in shipped() if entry.trained}
    return next(name for name in (_DEFAULTS if device_type == "cpu" else _DEFAULTS[::-1]) if name in trained)


def choose(config: RestoreConfig, weights: Weights | None, hardware: Hardware, frozen: Recipe | None) -> Recipe:
    """Resolve every option into the recipe of the run.

    Args:
        config: what the user asked for.
        weights: what `choose_weights` gave.
        hardware: a node that will hold a worker.
        frozen: the recipe of the run that is resumed; its choices stand wherever the user leaves the choice to us.
    """
    if config.engine not in ("auto", *ENGINES):
        raise UsageError(f"no engine is named {config.engine!r}; there are {', '.join(sorted(ENGINES))}")
    if config.precision not in ("auto", *_PRECISIONS):
        raise UsageError(f"--precision {config.precision}: no engine here computes in it; use {', '.join(_PRECISIONS)}")
    device_type = device_type_of(config, hardware, frozen)
    calls = _CALLS[device_type]
    if config.tile == "auto":
        tile = frozen.tile if frozen is not None else calls.tile
        call_pixels = frozen.call_pixels if frozen is not None else calls.pixels
    elif config.tile == "none":
        tile, call_pixels = None, calls.pixels
    else:
        # A tile that the user names is used for every image larger than it, in whole batches.
        tile, call_pixels = parse_size(config.tile), None
    batch = int(config.batch) if config.batch != "auto" else frozen.batch if frozen is not None else calls.batch
    recipe = Recipe(
        model=weights.spec.variant if weights is not None else "identity",
        weights=weights.source if weights is not None else "none",
        weights_sha256=weights.sha256 if weights is not None else "",
        interpolation=weights.spec.interpolation if weights is not None else "none",
        engine="identity" if weights is None else "torch",
        device_type=device_type,
        precision=_precision(config, device_type, hardware, frozen),
        size=None if config.size == "native" else parse_size(config.size),
        tile=tile,
        overlap=config.overlap,
        call_pixels=call_pixels,
        batch=batch,
        threads=_threads(config, device_type, frozen),
        max_pixels=config.max_pixels,
        format=config.format,
        quality=config.quality,
    )
    # Refuses tiles that the overlap eats up before any work begins.
    TilePolicy(recipe.tile, recipe.overlap, recipe.call_pixels, recipe.batch)
    return recipe


def device_type_of(config: RestoreConfig, hardware: Hardware | None, frozen: Recipe | None) -> str:
    """Return `cpu` or `cuda`: as asked for, else as the run began, else the best of the hardware."""
    if config.device != "auto":
        return config.device.split(":")[0]
    if frozen is not None:
        return frozen.device_type
    return "cuda" if hardware is not None and hardware.cuda and config.engine != "identity" else "cpu"


def _threads(config: RestoreConfig, device_type: str, frozen: Recipe | None) -> int | None:
    """CPU threads inside one operation: part of the recipe, for sums in bfloat16 depend on how they are split.

    One by default: workers that share nothing use the cores better than threads that wait for each other.
    """
    if device_type != "cpu":
        return None
    if config.cpus_per_worker is not None:
        return config.cpus_per_worker
    return frozen.threads if frozen is not None else 1


def _precision(
    config: RestoreConfig, device_type: str, hardware: Hardware, frozen: Recipe | None
) -> Literal["fp32", "bf16", "fp16", "int8"]:
    if config.precision == "int8":
        raise UsageError("--precision int8: the torch engine computes in fp32, bf16 or fp16")
    if config.precision != "auto":
        return config.precision
    if frozen is not None:
        return frozen.precision
    if config.engine == "identity":
        return "fp32"
    # bfloat16 has float32's range, so that no activation overflows, and the image itself is added in float32.
    fast = hardware.cuda_bf16 if device_type == "cuda" else hardware.cpu_bf16
    return "bf16" if fast else "fp32"
