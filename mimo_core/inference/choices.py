"""From a configuration to a recipe: every automatic choice is made here, once, and frozen with the run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, cast

from mimo_core.engines import ENGINES
from mimo_core.engines.base import Precision
from mimo_core.engines.vacc.compiled import CompiledModel, is_compiled, load_compiled
from mimo_core.errors import UsageError
from mimo_core.hardware import Hardware
from mimo_core.images.scales import FULL
from mimo_core.inference.tuning import Answer, Question
from mimo_core.models.int8 import KEY
from mimo_core.models.weights import Weights, load_weights, shipped
from mimo_core.runs.config import RunConfig, parse_size
from mimo_core.runs.recipe import GIVEN, Recipe, given_fields

_DEFAULTS = ("mimo-unet-lite", "mimo-unet")
"""Weights for those who name none, the cheapest first."""


@dataclass(frozen=True)
class _Calls:
    """How much one call of a session takes: pixels, tile (height, width) above that, and images of a batch."""

    pixels: int
    tile: tuple[int, int]
    batch: int


# On a CPU batches gain nothing and large calls fall out of the caches; a GPU wants enough work in each call.
_CALLS = {"cpu": _Calls(1 << 20, (512, 512), 1), "cuda": _Calls(4 << 20, (1024, 1024), 8)}


def choose_weights(config: RunConfig, frozen: Recipe | None) -> Weights | CompiledModel | None:
    """Load the weights that the configuration, or the run that it resumes, names; None for the identity engine.

    The vacc engine's are a compiled model: a folder of such models chooses the engine, too.

    Raises:
        WeightsError: there are none, or they are not what they should be.
        UsageError: they are of another variant than `--model` demands.
    """
    if config.restored_elsewhere is not None:
        return None
    if config.engine == "identity" or (config.engine == "auto" and frozen is not None and frozen.engine == "identity"):
        return None
    name = config.weights or (frozen.weights if frozen is not None else default_weights("cpu"))
    weights: Weights | CompiledModel
    resumed = frozen is not None and frozen.engine == "vacc" and config.weights is None
    if config.engine == "vacc" and config.weights is None and not resumed:
        raise UsageError(
            "--engine vacc computes with compiled weights: name their folder with --weights; `mimo export WEIGHTS "
            "FOLDER --for vacc` makes it, and `vamc` compiles in it"
        )
    if config.engine == "vacc" or (config.engine == "auto" and (resumed or is_compiled(name))):
        precision = config.precision if config.precision != "auto" or frozen is None else frozen.precision
        weights = load_compiled(name, precision)
    else:
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


def choose(
    config: RunConfig,
    weights: Weights | CompiledModel | None,
    hardware: Hardware,
    frozen: Recipe | None,
    tune: Callable[[Question], Answer],
) -> Recipe:
    """Resolve every option into the recipe of the run.

    Args:
        config: what the user asked for.
        weights: what `choose_weights` gave.
        hardware: a node that will hold a worker.
        frozen: the recipe of the run that is resumed; its choices stand wherever the user leaves the choice to us.
        tune: measures what is fastest on such a node; asked where a new run leaves engine or tile to us.

    Raises:
        UsageError: nothing computes what is asked for.
    """
    if isinstance(weights, CompiledModel):
        return choose_compiled(config, weights, frozen)
    if config.device.startswith("vacc"):
        raise UsageError(f"--device {config.device}: for VACC cards say --engine vacc and --weights FOLDER")
    device_type = device_type_of(config, hardware, frozen)
    precision = _precision(config, device_type, weights, hardware, frozen)
    threads = _threads(config, device_type, frozen)
    engines = _engines(config, device_type, precision, weights, frozen)
    calls = _CALLS[device_type]
    if weights is not None and frozen is None and (len(engines) > 1 or config.tile == "auto") and device_type == "cpu":
        spec = weights.spec
        answer = tune(Question(engines, precision, spec.width, spec.interpolation, threads or 1, config.overlap))
        engines = (answer.engine,)
        calls = replace(calls, tile=(answer.tile, answer.tile), pixels=answer.call_pixels)
    if config.tile == "auto":
        tile = frozen.tile if frozen is not None else calls.tile
        call_pixels = frozen.call_pixels if frozen is not None else calls.pixels
    elif config.tile == "none":
        tile, call_pixels = None, calls.pixels
    else:
        # A tile that the user names is used for every image larger than it, in whole batches.
        tile, call_pixels = parse_size(config.tile), None
    batch = int(config.batch) if config.batch != "auto" else frozen.batch if frozen is not None else calls.batch
    return Recipe(
        model=weights.spec.variant if weights is not None else GIVEN if config.restored_elsewhere else "identity",
        weights=weights.source if weights is not None else "none",
        weights_sha256=weights.sha256 if weights is not None else "",
        interpolation=weights.spec.interpolation if weights is not None else "none",
        engine=engines[0],
        device_type=device_type,
        precision=precision,
        tile=tile,
        call_pixels=call_pixels,
        batch=batch,
        threads=threads,
        scales=choose_scales(config, weights, frozen),
        **given_fields(config),
    )


def choose_scales(config: RunConfig, weights: Weights | CompiledModel | None, frozen: Recipe | None) -> str:
    """Return the scales of the passes: as asked for, else as the run began, else those the weights are made for."""
    if config.scales is not None:
        return config.scales
    if frozen is not None:
        return frozen.scales
    return weights.scales if weights is not None else FULL


def device_type_of(config: RunConfig, hardware: Hardware | None, frozen: Recipe | None) -> str:
    """Return `cpu` or `cuda`: as asked for, else as the run began, else the best of the hardware that can be used."""
    if config.device != "auto":
        return config.device.split(":")[0]
    if frozen is not None:
        return frozen.device_type
    usable = config.engine == "auto" or "cuda" in ENGINES[config.engine].devices
    return "cuda" if hardware is not None and hardware.cuda and usable else "cpu"


def _engines(
    config: RunConfig, device_type: str, precision: Precision, weights: Weights | None, frozen: Recipe | None
) -> tuple[str, ...]:
    """Return the engines that can do it, one where there is nothing to choose."""
    if weights is None:
        return ("identity",)
    every = tuple(name for name, engine in ENGINES.items() if engine.automatic)
    asked = every if config.engine == "auto" else (config.engine,)
    able = tuple(one for one in asked if device_type in ENGINES[one].devices and precision in ENGINES[one].precisions)
    if frozen is not None and frozen.engine in able:
        return (frozen.engine,)
    if not able:
        able_to = "; ".join(
            f"{one} computes on {' or '.join(ENGINES[one].devices)} in {', '.join(ENGINES[one].precisions)}"
            for one in asked
        )
        raise UsageError(f"nothing computes in {precision} on {device_type} with --engine {config.engine}: {able_to}")
    return able


def _threads(config: RunConfig, device_type: str, frozen: Recipe | None) -> int | None:
    """Return the CPU threads inside one operation.

    They are part of the recipe, for sums in bfloat16 depend on how they are split.

    One by default: workers that share nothing use the cores better than threads that wait for each other.
    """
    if device_type != "cpu":
        return None
    if config.cpus_per_worker is not None:
        return config.cpus_per_worker
    return frozen.threads if frozen is not None else 1


def _precision(
    config: RunConfig, device_type: str, weights: Weights | None, hardware: Hardware, frozen: Recipe | None
) -> Precision:
    if config.precision != "auto":
        return config.precision
    if frozen is not None:
        return frozen.precision
    if weights is None:
        return "fp32"
    if KEY in weights.metadata and device_type == "cpu" and config.engine in ("auto", "openvino"):
        # Somebody took the trouble to quantise them.
        return "int8"
    # bfloat16 has float32's range, so that no activation overflows, and the image itself is added in float32.
    fast = hardware.cuda_bf16 if device_type == "cuda" else hardware.cpu_bf16
    return "bf16" if fast else "fp32"


# One more than the die computes would do; images differ in what the host has to do with them.
_IN_FLIGHT = 4


def choose_compiled(config: RunConfig, compiled: CompiledModel, frozen: Recipe | None) -> Recipe:
    """Return the recipe of a run with a compiled model: its size is the only tile.

    Raises:
        UsageError: an option asks for what was decided when the model was compiled.
    """
    if config.device != "auto" and not config.device.startswith("vacc"):
        raise UsageError(f"--device {config.device}: {compiled.source} is compiled for VACC; say --device vacc")
    if config.interpolation not in ("auto", compiled.spec.interpolation):
        raise UsageError(
            f"--interpolation {config.interpolation}: {compiled.source} was exported with "
            f"{compiled.spec.interpolation}; export it again"
        )
    shape = f"{compiled.size[0]}x{compiled.size[1]}"
    if config.tile not in ("auto", shape, shape.replace("x", "X")):
        raise UsageError(f"--tile {config.tile}: {compiled.source} computes {shape} only; leave --tile out")
    batch = int(config.batch) if config.batch != "auto" else frozen.batch if frozen is not None else _IN_FLIGHT
    return Recipe(
        model=compiled.spec.variant,
        weights=compiled.source,
        weights_sha256=compiled.sha256,
        compiled_sha256=compiled.compiled_sha256,
        interpolation=compiled.spec.interpolation,
        engine="vacc",
        device_type="vacc",
        precision=compiled.precision,
        tile=compiled.size,
        call_pixels=None,
        batch=batch,
        threads=None,
        scales=choose_scales(config, compiled, frozen),
        **given_fields(config),
    )
