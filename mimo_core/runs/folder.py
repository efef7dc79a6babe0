"""The run's folder: what the run is (run.json), its plan, its committed parts and its summary."""

import json
import os
import platform
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mimo_core.errors import ErrorKind, ImageError, SystemFailure, UsageError
from mimo_core.runs import feature_parts as features
from mimo_core.runs import plan, records
from mimo_core.runs.config import RunConfig
from mimo_core.runs.lease import FOLDER as LEASE_FOLDER
from mimo_core.runs.lease import Lease, LeaseLostError
from mimo_core.runs.outputs import REPORT
from mimo_core.runs.recipe import Recipe
from mimo_core.runs.record import Record
from mimo_core.runs.statistics import Statistics
from mimo_core.runs.totals import Totals, read_totals, remove_totals
from mimo_core.storage import Store, is_local, redact
from mimo_core.version import __version__

FORMAT = 1
_DELETERS = 16
# What S3 takes in one request.
_DELETED_AT_ONCE = 1000
_READERS = 16
NAME = "run.json"
_SUMMARY = "summary.json"
_FEATURES = "mimo.features_sha256"
_PACKAGES = ("torch", "openvino", "numpy", "opencv-python-headless", "pyarrow", "ray")
# What a resuming command repeats, besides the recipe: it decides which images the plan holds.
_SELECTION = ("source", "reference", "restored", "include", "limit")


class RunManifest(BaseModel):
    """What a run is: written once, when its plan is complete, and only `extend` renews its plan's digest."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    source: str
    reference: str | None
    restored: str | None = None
    include: tuple[str, ...]
    limit: int | None
    recipe: Recipe
    fingerprint: str
    options: dict[str, Any]
    versions: dict[str, str] = Field(default_factory=dict)
    host: str = ""
    created_at: str = ""
    ray_job: str | None = None
    """The submission id of the Ray job that began the run, where one did."""

    @property
    def identity(self) -> str:
        """What tells this run from any other that the folder ever held."""
        return f"{self.created_at} {self.fingerprint}"

    @classmethod
    def of(cls, config: RunConfig, recipe: Recipe, ray_job: str | None = None) -> "RunManifest":
        """Describe a new run."""
        options = config.model_dump(mode="json")
        for name in ("source", "output", "reference", "restored", "weights", "fid_weights"):
            if options.get(name):
                options[name] = redact(options[name])
        return cls(
            source=_place(config.source),
            reference=_place(config.reference) if config.reference else None,
            restored=_place(config.restored_elsewhere) if config.restored_elsewhere else None,
            include=config.include,
            limit=config.limit,
            recipe=recipe,
            fingerprint=recipe.fingerprint(),
            options=options,
            versions={"mimo-restore": __version__, "python": platform.python_version(), **_versions()},
            host=platform.node(),
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            ray_job=ray_job,
        )

    def differences(self, config: RunConfig, recipe: Recipe) -> list[str]:
        """Return one line for each thing by which the configuration asks for another run than this one."""
        asked = RunManifest.of(config, recipe)
        lines = [
            f"{name}: was {getattr(self, name) or 'none'}, now {getattr(asked, name) or 'none'}"
            for name in _SELECTION
            if getattr(self, name) != getattr(asked, name)
        ]
        # Another type of device computes with other threads, and maybe by another engine.
        ignore = frozenset({"device_type", "threads", "engine"}) if config.allow_mixed else frozenset[str]()
        return lines + self.recipe.differences(recipe, ignore=ignore)


class RunFolder:
    """A run's folder, local or in a bucket."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def no_run(self) -> UsageError:
        """Return the error of a folder in which a run is looked for and there is none."""
        return UsageError(f"{self.store} holds no run: name the OUTPUT of one, or begin it with `mimo restore`")

    def manifest(self) -> RunManifest | None:
        """Return what the run is, or None where there is none.

        Raises:
            UsageError: a newer version of this program wrote it, or it is damaged.
        """
        try:
            data = self.store.read(NAME)
        except ImageError as error:
            if error.kind is ErrorKind.NOT_FOUND:
                return None
            raise SystemFailure(error.kind, str(error)) from error
        try:
            document = json.loads(data)
            if document.get("format", 0) > FORMAT:
                raise UsageError(f"{self.store.show(NAME)} was written by a newer version of this program")
            return RunManifest.model_validate(document)
        except (ValidationError, ValueError, AttributeError) as error:
            raise UsageError(
                f"{self.store.show(NAME)} is not a run of this program ({type(error).__name__}); choose another OUTPUT"
            ) from error

    def begin(self, manifest: RunManifest) -> None:
        """Write run.json: from here on the run exists and is resumed."""
        self.store.write(NAME, manifest.model_dump_json(indent=1).encode())

    def erase(self) -> None:
        """Remove what the run wrote, by name, outputs included; whatever else lies beside it stays.

        run.json stays, too, until the next run's takes its place: an erasure that is interrupted can go on.

        Raises:
            UsageError: there is no run, so that nothing is known to be its own.
            SystemFailure: something cannot be removed.
        """
        manifest = self.manifest()
        if manifest is None:
            raise self.no_run()
        outputs = self._outputs() if manifest.recipe.saves_images else ()
        self._delete(records.part_name(number) for number in records.part_numbers(self.store))
        self._delete(features.part_names(self.store))
        remove_totals(self.store)
        self._delete(outputs)
        # Before its shards: a plan that is there is whole.
        self.store.delete(plan.COMMIT)
        plan.remove_shards(self.store)
        self.store.delete_many([_SUMMARY, REPORT])

    def _outputs(self) -> Iterable[str]:
        """Return the keys of the outputs: the plan's, or those that records name where the plan is damaged.

        Nothing says that any other output is the run's, so that it stays.
        """
        try:
            existing = plan.read_plan(self.store)
            if existing is None:
                return ()
            # To its end once, while the records are still there.
            deque(existing.rows(threads=_READERS), maxlen=0)
        except plan.DamagedPlanError:
            return [
                key for number in records.part_numbers(self.store) for key in records.outputs_of(self.store, number)
            ]
        return (row.output for row in existing.rows(threads=_READERS))

    def _delete(self, keys: Iterable[str]) -> None:
        """Remove very many files: thousands at once, by several threads."""
        left = iter(keys)
        with ThreadPoolExecutor(_DELETERS) as pool:
            pending: deque[Future[None]] = deque()
            while batch := list(islice(left, _DELETED_AT_ONCE)):
                pending.append(pool.submit(self.store.delete_many, batch))
                if len(pending) >= 2 * _DELETERS:
                    pending.popleft().result()
            for future in pending:
                future.result()

    def commit(
        self,
        shard: int,
        rows: list[Record],
        lease: Lease,
        *,
        fingerprint: str,
        replace: bool = False,
        pause: Callable[[], None] = lambda: None,
    ) -> Statistics:
        """Commit a shard's records, once.

        Args:
            shard: number of the shard.
            rows: its records in the order of the plan.
            lease: the driver's right to commit.
            fingerprint: of the recipe, stored with the part.
            replace: whether the part takes the place of the one that is there (retry-failed).
            pause: called when everything is written but the part itself; for tests.

        Raises:
            LeaseLostError: this driver may not commit any more.
            SystemFailure: the part cannot be written.
        """
        lease.check()
        metadata = {"mimo.epoch": str(lease.epoch), "mimo.fingerprint": fingerprint}
        described = [(row.key, row.features) for row in rows if row.features is not None]
        before = self.features_sha256(shard) if replace else None
        try:
            if described:
                metadata[_FEATURES] = features.write_features(self.store, shard, described)
            pause()
            lease.check()
            statistics = records.write_part(self.store, shard, rows, metadata, replace=replace)
        except ImageError as error:
            raise SystemFailure(error.kind, f"the records of shard {shard} cannot be written: {error}") from error
        if statistics is None:
            raise LeaseLostError(f"another driver has committed shard {shard}; this one stops")
        if before is not None and before != metadata.get(_FEATURES):
            features.remove_features(self.store, shard, before)
        return statistics

    def read(self, shard: int) -> list[Record]:
        """Return the records of a committed shard, with their features where it has some."""
        rows = records.read_part(self.store, shard)
        sha256 = self.features_sha256(shard)
        if sha256 is None:
            return rows
        known = features.read_features(self.store, shard, sha256)
        return [replace(row, features=known.get(row.key)) for row in rows]

    def features_sha256(self, shard: int) -> str | None:
        """Return the SHA-256 of a committed shard's features, None where it has none."""
        return records.read_footer(self.store, shard)[1].get(_FEATURES)

    def feature_set(self) -> features.FeatureSet:
        """Return the features of all committed shards."""
        numbers = sorted(self.committed())
        with ThreadPoolExecutor(_READERS) as pool:
            hashes = list(zip(numbers, pool.map(self.features_sha256, numbers), strict=True))
        return features.FeatureSet(self.store, [(number, sha256) for number, sha256 in hashes if sha256 is not None])

    def totals(self, run: RunManifest | None, numbers: Iterable[int] | None = None) -> Totals:
        """Return the totals of a run's committed parts; errors as `read_totals`.

        Args:
            run: what the folder holds.
            numbers: the parts that are committed, where that is known.
        """
        return read_totals(self.store, "" if run is None else run.identity, numbers)

    def committed(self) -> set[int]:
        """Return the numbers of the shards that are done."""
        return set(records.part_numbers(self.store))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json."""
        self.store.write(_SUMMARY, json.dumps(summary, indent=1, sort_keys=False).encode())

    def remove_summary(self) -> None:
        """Remove summary.json, because what it says will not be so any more."""
        self.store.delete(_SUMMARY)

    def summary(self) -> dict[str, Any] | None:
        """Return summary.json, None where it is missing or damaged."""
        try:
            document = json.loads(self.store.read(_SUMMARY))
        except ImageError as error:
            if error.kind in (ErrorKind.NOT_FOUND, ErrorKind.EMPTY):
                return None
            raise SystemFailure(error.kind, str(error)) from error
        except ValueError:
            return None
        return document if isinstance(document, dict) else None

    def tidy(self) -> None:
        """Remove what interrupted writes and visibility probes left behind; for the holder of the lease."""
        self.store.remove_leftovers()
        for entry in list(self.store.list(LEASE_FOLDER)):
            if entry.key.startswith(f"{LEASE_FOLDER}/probe-"):
                self.store.delete(entry.key)


def _place(url: str) -> str:
    """Return a source as it is compared and stored: `blur`, `./blur/` and the absolute path are one place."""
    return os.path.abspath(url) if is_local(url) and "://" not in url else redact(url).rstrip("/")  # noqa: PTH100


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
