"""Everything before the first image: what the run is, which choices are frozen for it, and its plan."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from mimo_core.datasets.globs import Glob, has_magic
from mimo_core.datasets.imagelist import ImageEntry, list_images
from mimo_core.datasets.left_aside import LeftAside, describe
from mimo_core.datasets.list_files import list_extension
from mimo_core.datasets.references import References
from mimo_core.distributed.observer import Observer
from mimo_core.distributed.ray_private import submitted_job
from mimo_core.distributed.resources import VACC, Demand
from mimo_core.engines import ENGINES
from mimo_core.engines.vacc.compiled import CompiledModel
from mimo_core.errors import ErrorKind, ImageError, SystemFailure, UsageError
from mimo_core.hardware import Hardware
from mimo_core.inference.choices import choose, choose_weights, default_weights, device_type_of
from mimo_core.inference.tuning import Answer, Question, tune
from mimo_core.metrics.fid.inception import Inception, find_inception
from mimo_core.models.weights import Weights
from mimo_core.runs.config import EvaluateConfig, RunConfig
from mimo_core.runs.folder import RunFolder, RunManifest
from mimo_core.runs.links import renew_links
from mimo_core.runs.plan import COMMIT, Plan, read_plan, remove_shards
from mimo_core.runs.plan_writer import extend, write_plan
from mimo_core.runs.recipe import Recipe
from mimo_core.runs.replacement import discard_replacement, finish_replacement, replace_run
from mimo_core.runs.strangers import refuse_strangers
from mimo_core.storage import Store, redact
from mimo_core.wording import count

# Main memory of a worker besides its activations: interpreter, PyTorch, images under way.
_WORKER_BYTES = 800 << 20
_FEWEST_PIXEL_BYTES, _MOST_PIXEL_BYTES = 128 << 20, 2 << 30
_GPU_WORKER_CPUS = 4
_VACC_WORKER_CPUS = 2
SHARD_SIZE = 64
_FEW_SHARDS = 8
_SMALLEST_SHARD = 2
_COUNTED = 1000
_LOOKED_AT = 100

Networks = Weights | CompiledModel | None


@dataclass(frozen=True)
class Request:
    """What is known of a run before any hardware is.

    Attributes:
        config: what is asked for.
        manifest: of the run that is resumed; None for a new one.
        weights: the network; None where none is needed.
        inception: the network of the Frechet distance, where it is asked for.
    """

    config: RunConfig
    manifest: RunManifest | None
    weights: Networks
    inception: Inception | None = None

    @property
    def vacc(self) -> bool:
        """Whether workers need a VACC die each."""
        return isinstance(self.weights, CompiledModel)

    def wants_gpu(self, gpus_in_cluster: float) -> bool:
        """Return whether workers are to have a GPU, where the cluster has so many."""
        if self.vacc:
            return False
        config, frozen = self.config, self.manifest.recipe if self.manifest is not None else None
        if config.device == "auto" and frozen is None:
            return gpus_in_cluster > 0 and (config.engine == "auto" or "cuda" in ENGINES[config.engine].devices)
        return device_type_of(config, None, frozen) == "cuda"


@dataclass(frozen=True)
class Resolved:
    """A run with every choice made.

    Attributes:
        manifest: of the run that is resumed; None for a new one.
        recipe: what is done to every image.
        weights: the network; None where none is needed.
        inception: the network of the Frechet distance, where it is asked for.
        hardware: of a node that holds workers.
    """

    manifest: RunManifest | None
    recipe: Recipe
    weights: Networks
    inception: Inception | None
    hardware: Hardware


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to be worked on."""

    recipe: Recipe
    plan: Plan
    demand: Demand


def resolve(request: Request, hardware: Hardware, tune: Callable[[Question], Answer] = tune) -> Resolved:
    """Make every choice of a run, without changing anything.

    Args:
        request: what `request_of` gave.
        hardware: of a node that holds workers.
        tune: measures what is fastest there, where a new run leaves the choice to us.

    Raises:
        UsageError: nothing there computes what is asked for, or the run in OUTPUT was begun with other choices.
    """
    config, weights = request.config, request.weights
    frozen = request.manifest.recipe if request.manifest is not None else None
    if config.weights is None and frozen is None and weights is not None:
        weights = _weights_for(config, weights, hardware)
    recipe = choose(config, weights, hardware, frozen, tune)
    if request.inception is not None:
        recipe = recipe.model_copy(update={"fid_sha256": request.inception.sha256})
    if request.manifest is not None and (differences := request.manifest.differences(config, recipe)):
        raise UsageError(
            f"OUTPUT holds a run that was begun with other choices ({'; '.join(differences)}): repeat its options, "
            "choose another OUTPUT, or start over with --mode overwrite"
        )
    return Resolved(request.manifest, recipe, weights, request.inception, hardware)


def request_of(config: RunConfig, folder: RunFolder) -> Request:
    """Find out what is asked for, and refuse what cannot work wherever it runs, without changing anything.

    Raises:
        UsageError: source and output overlap, the source holds no image, the mode does not fit what OUTPUT holds, or
            the weights are not what they should be.
    """
    _refuse_overlap(config, folder)
    manifest = folder.manifest()
    if manifest is None:
        if config.mode not in ("resume", "overwrite"):
            raise UsageError(f"--mode {config.mode} needs a run, and {folder.store} holds none")
        _refuse_strangers(folder)
    elif config.mode == "overwrite":
        manifest = None
    weights = choose_weights(config, manifest.recipe if manifest is not None else None)
    inception = _inception(config)
    if manifest is None or config.mode == "extend":
        # Before Ray is started: that there is an image and, where all are soon listed, one that can be scored.
        for entry in islice(entries_of(config), _LOOKED_AT):
            if entry.paired is not False or not config.evaluates:
                break
    return Request(config, manifest, weights, inception)


def _weights_for(config: RunConfig, weights: Networks, hardware: Hardware) -> Networks:
    """Return the weights that suit the hardware, where a new run leaves the choice to us."""
    name = default_weights(device_type_of(config, hardware, None))
    if weights is not None and name == weights.source:
        return weights
    return choose_weights(config.model_copy(update={"weights": name}), None)


def _inception(config: RunConfig) -> Inception | None:
    if not (isinstance(config, EvaluateConfig) and config.fid):
        return None
    return find_inception(config.fid_weights)


def entries_of(
    config: RunConfig, note: Callable[[str], None] | None = None, aside: LeftAside | None = None
) -> Iterator[ImageEntry]:
    """List the source; `note` is told which references belong to no image, `aside` counts what is no image by name.

    Raises:
        UsageError: there is no such source, no image in it, or, told in the end, none that an evaluation can score.
    """
    entries = list_images(
        config.source,
        include=config.include,
        reference=config.reference,
        limit=config.limit,
        note=note,
        aside=aside,
    )
    if config.restored_elsewhere is not None:
        restored = References(config.restored_elsewhere, layouts=False, called="--restored")
        entries = (replace(entry, restored=restored.of(entry.key)) for entry in entries)
    # What an extended run has already may have references.
    return _some_paired(entries, config) if config.evaluates and config.mode != "extend" else entries


def _some_paired(entries: Iterator[ImageEntry], config: RunConfig) -> Iterator[ImageEntry]:
    """Pass images on, and refuse in the end to evaluate where there is not one reference."""
    alone = None
    for number, entry in enumerate(entries):
        alone = entry if entry.paired is False and (not number or alone is not None) else None
        yield entry
    if alone is not None:
        raise UsageError(
            f"no image has a reference in {redact(str(config.reference))}: they are found by name, and that of "
            f"{alone.key} would be {redact(str(alone.reference))}"
        )


def plan_run(config: RunConfig, folder: RunFolder, resolved: Resolved, observer: Observer) -> Plan:
    """Return the run's plan: the one that it has, extended if asked for, or a new one. Needs the lease."""
    if resolved.manifest is None:
        return _begin(config, folder, RunManifest.of(config, resolved.recipe, submitted_job()), observer)
    existing = read_plan(folder.store) or finish_replacement(folder)
    discard_replacement(folder)
    if existing is None:
        raise SystemFailure(
            ErrorKind.STORAGE, f"{folder.store} has a run.json but no plan; start over with --mode overwrite"
        )
    if existing.signed:
        _renew_links(config, folder, existing, observer.say)
    if config.mode == "extend":
        aside = LeftAside()
        existing, added = extend(existing, _listed(config, observer, aside), aside=aside)
        observer.say(f"{count(added, 'new image')} added to the plan")
    return existing


def _listed(config: RunConfig, observer: Observer, aside: LeftAside) -> Iterator[ImageEntry]:
    """List the source, and tell how far that is and, in the end, what is left aside."""
    for number, entry in enumerate(entries_of(config, observer.say, aside)):
        if number % _COUNTED == 0:
            observer.phase(f"reading the list: {number:,} images" if number else "reading the list")
        yield entry
    if aside.counted:
        observer.say(describe(aside.counted))


def _begin(config: RunConfig, folder: RunFolder, manifest: RunManifest, observer: Observer) -> Plan:
    """Plan a new run, in the place of one that is there."""

    def write(store: Store) -> Plan:
        aside = LeftAside()
        size, entries = _sharded(config, observer, aside)
        return write_plan(store, entries, shard_size=size, output_format=config.format, aside=aside)

    if folder.manifest() is not None:
        if config.mode != "overwrite":
            raise UsageError(f"{folder.store} holds a run that has begun meanwhile; the same command goes on with it")
        return replace_run(folder, manifest, write)
    discard_replacement(folder)
    # A plan without a run is of a driver that was stopped between both.
    folder.store.delete(COMMIT)
    try:
        plan = write(folder.store)
    except UsageError:
        remove_shards(folder.store)
        raise
    folder.begin(manifest)
    return plan


def _renew_links(config: RunConfig, folder: RunFolder, plan: Plan, say: Callable[[str], None]) -> None:
    """Take links that were signed anew from the list; without them the run goes on with those that it has."""
    done = folder.committed() if config.mode != "retry-failed" else set[int]()
    try:
        renewed, unmatched = renew_links(plan, entries_of(config), set(range(plan.num_shards)) - done)
    except (UsageError, ImageError, SystemFailure) as error:
        say(f"links that have expired cannot be renewed: {error}")
        return
    if renewed:
        say(f"{count(renewed, 'image')} got new links from {redact(config.source)}")
    if unmatched is not None:
        say(
            f"links that have expired cannot be renewed from {unmatched} on, for {redact(config.source)} has another "
            "image there now"
        )


def _refuse_strangers(folder: RunFolder) -> None:
    try:
        refuse_strangers(folder.store)
    except UsageError:
        # Another driver may have begun its run since this one looked for it.
        if folder.manifest() is None:
            raise


def _sharded(config: RunConfig, observer: Observer, aside: LeftAside) -> tuple[int, Iterator[ImageEntry]]:
    """Return the shard size and the entries; a short list is cut finer, so that it occupies more than one worker."""
    entries = _listed(config, observer, aside)
    first = list(islice(entries, SHARD_SIZE * _FEW_SHARDS))
    return shard_size_of(config, len(first)), chain(first, entries)


def shard_size_of(config: RunConfig, images: int) -> int:
    """Return how many images go into a shard of a new run of so many (or more than a few shards hold)."""
    if config.shard_size is not None:
        return config.shard_size
    return min(SHARD_SIZE, max(_SMALLEST_SHARD, -(-images // _FEW_SHARDS)))


def demand_of(config: RunConfig, resolved: Resolved) -> Demand:
    """Return what a worker reserves on its node."""
    recipe, hardware, weights = resolved.recipe, resolved.hardware, resolved.weights
    if isinstance(weights, CompiledModel):
        # The die computes; decoding, encoding and scoring use what cores there are for it.
        cores = max(1, min(_VACC_WORKER_CPUS, hardware.cores // max(1, hardware.vacc_dies)))
        return Demand(cpus=config.cpus_per_worker or cores, memory=_WORKER_BYTES, custom={VACC: 1})
    if recipe.device_type == "cuda":
        # Workers that share a GPU share the cores that one alone would take.
        cores = max(1, round(min(_GPU_WORKER_CPUS, hardware.cores) * config.gpus_per_worker))
        return Demand(cpus=config.cpus_per_worker or cores, gpus=config.gpus_per_worker)
    width = weights.spec.width if weights is not None else 0
    element = 4 if recipe.precision == "fp32" else 2
    pixels = recipe.call_pixels or (recipe.batch * recipe.tile[0] * recipe.tile[1] if recipe.tile is not None else 0)
    # Measured at 720x1280 in float32 and bfloat16, widths 16 and 32: 22 to 24 full-resolution feature maps at the peak.
    activations = pixels * width * element * 24
    memory = min(_WORKER_BYTES + activations, hardware.memory // 2)
    return Demand(cpus=recipe.threads or 1, memory=memory)


def pixel_budget(hardware: Hardware, demand: Demand) -> int:
    """Return how many bytes of decoded pixels a worker may hold: those of a full node take a quarter of its memory."""
    share = min(1.0, max(1, demand.cpus) / hardware.cores)
    return max(_FEWEST_PIXEL_BYTES, min(_MOST_PIXEL_BYTES, int(hardware.memory * share / 4)))


def _refuse_overlap(config: RunConfig, folder: RunFolder) -> None:
    for name, place in (
        ("SOURCE", config.source),
        ("REFERENCE" if config.evaluates else "--reference", config.reference),
        ("--restored", config.restored_elsewhere),
    ):
        if place is None or list_extension(place) is not None:
            continue
        root = Glob(place).root if has_magic(place) and not Path(place).exists() else place
        if Store(root).overlaps(folder.store):
            raise UsageError(
                f"{name} and OUTPUT overlap ({redact(place)} and {folder.store}): a run would read what it writes; "
                "choose an OUTPUT outside of it"
            )
