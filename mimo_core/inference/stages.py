"""The stages that one image goes through in a worker: load, infer, finish; each timed, each on any thread."""

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images import codecs
from mimo_core.images.cache import DecodedImages, Fetched, ImageFiles
from mimo_core.images.pixels import Pixels, as_8bit
from mimo_core.images.provenance import marked
from mimo_core.images.resizing import resize_bilinear
from mimo_core.inference.fault_hook import Faults
from mimo_core.inference.guard import suspicion
from mimo_core.inference.loaded import (
    LeftOutError,
    Loaded,
    Problem,
    described_fault,
    differing_colours,
    modified_ns,
    of_pages,
    shape_columns,
    size_of,
)
from mimo_core.inference.open_restorer import AnyRestorer
from mimo_core.inference.progress import ProgressBoard
from mimo_core.inference.restorer import Restoration
from mimo_core.inference.task import Task
from mimo_core.metrics.fid.vectors import Features
from mimo_core.metrics.no_reference import indications
from mimo_core.metrics.scorer import Scorer
from mimo_core.runs.plan import PlanRow
from mimo_core.runs.recipe import Recipe
from mimo_core.runs.record import Record, now
from mimo_core.storage import Store, read_url, redact
from mimo_core.triage.predictor import predictor
from mimo_core.version import __version__

if TYPE_CHECKING:
    from mimo_core.metrics.fid.extractor import FeatureExtractor


class Stages:
    """The stages by one recipe, reporting to one progress board."""

    def __init__(
        self,
        output: Store,
        recipe: Recipe,
        device: str,
        board: ProgressBoard,
        faults: Faults,
        scorer: Scorer,
        extractor: "FeatureExtractor | None" = None,
        decoded: DecodedImages | None = None,
    ) -> None:
        """`extractor`: where the run asks for features of its images; `decoded`: images that may be wanted again."""
        self._output = output
        self._extractor = extractor
        # Scores are those of the first page.
        self._files = ImageFiles(recipe.max_pixels, decoded, pages=recipe.pages if recipe.saves_images else "first")
        self._scorer = scorer
        self._recipe = recipe
        self._board = board
        self._faults = faults
        self._mark = {
            "software": f"mimo-restore {__version__}",
            "method": recipe.method,
            "recipe": recipe.fingerprint(),
        }
        self._constant: dict[str, Any] = {
            **recipe.columns(),
            "device": device,
            "host": platform.node(),
        }

    def load(self, task: Task, index: int, row: PlanRow) -> Loaded:
        """Read and decode the image and its reference.

        Raises:
            ImageError: the image cannot be restored.
            SystemFailure: storage as a whole fails.
        """
        with self._board.stage("read", task.shard, {index: row.key}) as reading:
            file = self._files.read(row.source)
            if row.version is not None and file.entry.version is not None and file.entry.version != row.version:
                raise ImageError(
                    ErrorKind.CHANGED,
                    "the source has changed since the run was planned; start a new run to restore what is there now",
                )
            sharp, problem = self._read_reference(row)
            self._insist_on_scores(problem)
            made = self._read_restored(row)
        with self._board.stage("decode", task.shard, {index: row.key}) as decoding:
            image = self._decode(task, index, row, file)
            if self._recipe.saves_images:
                codecs.check_encodable(image, self._container(image))
                if self._recipe.format == "same":
                    codecs.check_kept(image)
            pixels, *more = (self._sized(codecs.model_input(page)) for page in image.pages)
            reference = note = None
            if sharp is not None:
                try:
                    truth = self._decode(task, index, row, sharp)
                    reference = self._sized(codecs.model_input(truth))
                    note = differing_colours(image, truth)
                except ImageError as error:
                    problem = Problem(error.kind, f"the reference cannot be decoded: {error}")
            if reference is not None and reference.shape != pixels.shape:
                problem = Problem(
                    ErrorKind.REFERENCE_SIZE,
                    f"the reference is {size_of(reference)}, the image {size_of(pixels)}; not scored "
                    "(--size resizes both on purpose)",
                )
                reference = None
            self._insist_on_scores(problem)
            problem = problem or note
            given = self._given(task, index, row, made, pixels) if made is not None else None
        times = reading.milliseconds, decoding.milliseconds
        digest = hashlib.sha256(file.data).hexdigest() if self._recipe.saves_images and file.data else None
        modified = modified_ns(row.source, file)
        loaded = Loaded(image, pixels, tuple(more), reference, given, problem, file.nbytes, digest, modified, *times)
        return self._worth_restoring(task, index, row, loaded) if self._recipe.leaves_out else loaded

    def _worth_restoring(self, task: Task, index: int, row: PlanRow, loaded: Loaded) -> Loaded:
        """Look at an image before it is restored.

        Raises:
            LeftOutError: it would gain little; it is copied already, where that is asked for.
            ImageError, SystemFailure: it cannot be copied.
        """
        recipe = self._recipe
        with self._board.stage("decode", task.shard, {index: row.key}):
            outlook = predictor().outlook(loaded.pixels)
        if outlook is None:
            return loaded
        if recipe.minimum_gain is not None and outlook.gain < recipe.minimum_gain:
            reason = f"predicted to gain {outlook.gain:+.2f} dB, less than {recipe.minimum_gain:g}"
        elif recipe.skip_sharp and outlook.kind == "none":
            reason = f"no blur is seen; predicted to gain {outlook.gain:+.2f} dB"
        else:
            return replace(loaded, predicted_gain=outlook.gain)
        saved = self._save(task, index, row, loaded, loaded.image, True) if recipe.others == "copy" else {}
        columns = {**shape_columns(loaded.image), **saved, "bytes_in": loaded.bytes_in}
        columns |= {"source_sha256": loaded.sha256, "predicted_gain": outlook.gain}
        raise LeftOutError(reason, columns)

    def infer(
        self, restorer: AnyRestorer, task: Task, group: Sequence[tuple[int, PlanRow, Loaded]]
    ) -> tuple[list[Restoration | ImageError], float]:
        """Restore images of one shape together; return their results and the seconds taken."""
        keys = {index: row.key for index, row, _ in group}
        with self._board.stage("infer", task.shard, keys) as inferring:
            for key in keys.values():
                self._faults.strike(key)
            restored: list[Restoration | ImageError]
            if self._recipe.given:
                restored = [Restoration(loaded.given) for _, _, loaded in group if loaded.given is not None]
            else:
                pixels = [loaded.pixels for _, _, loaded in group]

                def tick(done: int, tiles: int) -> None:
                    self._board.tick(task.shard, keys, done, tiles)

                restored = restorer.restore(pixels, tick)
                if more := group[0][2].more:
                    restored = [of_pages([*restored, *(restorer.restore([page], tick)[0] for page in more)])]
        return restored, inferring.milliseconds / 1e3

    def finish(
        self, task: Task, index: int, row: PlanRow, loaded: Loaded, restoration: Restoration, infer_seconds: float
    ) -> Record:
        """Encode, write, hash and score a restored image; what is evaluated alone is only scored.

        Raises:
            ImageError: this image cannot be encoded or written.
            SystemFailure: nothing can be written.
        """
        pages = (page.pixels for page in restoration.more)
        result = codecs.with_restored(loaded.image, restoration.pixels, *pages)
        suspect = self._suspect(loaded, restoration)
        original = suspect is not None and self._recipe.guard == "keep-original"
        if original:
            result, suspect = loaded.image, f"{suspect}; the original is kept"
        saved = self._save(task, index, row, loaded, result, original) if self._recipe.saves_images else {}
        with self._board.stage("score", task.shard, {index: row.key}) as scoring:
            # What another tool made of a gray image may be coloured, and is scored as it is.
            shown = restoration.pixels if self._recipe.given else codecs.model_input(result)
            scores = self._scores(loaded, shown, None if original else restoration.values)
            if self._recipe.indications:
                scores |= indications(loaded.pixels, shown)
        return Record(
            key=row.key,
            source=row.source,
            status="restored",
            reference=row.reference,
            error_kind=loaded.problem.kind.value if loaded.problem is not None else None,
            error=loaded.problem.message if loaded.problem is not None else None,
            **shape_columns(loaded.image),
            bytes_in=loaded.bytes_in,
            **saved,
            **scores,
            read_ms=loaded.read_ms,
            decode_ms=loaded.decode_ms,
            infer_ms=infer_seconds * 1e3,
            score_ms=scoring.milliseconds,
            tiles=restoration.tiles,
            scales=restoration.scales,
            fallback=restoration.fallback,
            suspect=suspect,
            source_sha256=loaded.sha256,
            predicted_gain=loaded.predicted_gain,
            attempt=task.attempt,
            finished_at=now(),
            **self._constant,
        )

    def _suspect(self, loaded: Loaded, restoration: Restoration) -> str | None:
        """Return what of a restored image, of any page, is as no restoration makes it."""
        if self._recipe.guard == "off" or self._recipe.given:
            return None
        pages = zip((loaded.pixels, *loaded.more), (restoration, *restoration.more), strict=True)
        found = (suspicion(before, page.pixels) for before, page in pages)
        return next((str(one) for one in found if one is not None), None)

    def _save(
        self, task: Task, index: int, row: PlanRow, loaded: Loaded, result: codecs.Image, original: bool
    ) -> dict[str, Any]:
        """Encode and write a restored image, or the original; return what its record says of that."""
        with self._board.stage("encode", task.shard, {index: row.key}) as encoding:
            container = self._container(loaded.image)
            if original and self._recipe.size is None and container == loaded.image.container:
                data = self._original(row, loaded)
            else:
                if self._recipe.mark and not original:
                    result = marked(result, container, **self._mark)
                data = codecs.encode(result, container, quality=self._recipe.quality)
        with self._board.stage("write", task.shard, {index: row.key}) as writing:
            try:
                self._output.write(row.output, data, modified_ns=loaded.modified_ns)
            except ImageError as error:
                raise ImageError(ErrorKind.WRITE, str(error)) from error
            digest = hashlib.sha256(data).hexdigest()
        return {
            "output": row.output,
            "bytes_out": len(data),
            "output_sha256": digest,
            "output_format": container,
            "lost": ", ".join(codecs.losses(result, container)) or None,
            "encode_ms": encoding.milliseconds,
            "write_ms": writing.milliseconds,
        }

    def _original(self, row: PlanRow, loaded: Loaded) -> bytes:
        """Return the file itself, which encoding once more would only wear out."""
        data = self._files.read(row.source).data
        if hashlib.sha256(data).hexdigest() != loaded.sha256:
            raise ImageError(ErrorKind.CHANGED, "the source has changed while it was restored")
        return data

    def _container(self, image: codecs.Image) -> str:
        """Return what is written: the content decides, whatever the name says, unless the user chose a format."""
        if self._recipe.format != "same":
            return self._recipe.format
        return "png" if image.container in codecs.READ_ONLY else image.container

    def _scores(self, loaded: Loaded, restored: Pixels, values: npt.NDArray[np.float32] | None) -> dict[str, Any]:
        if loaded.reference is None:
            return {}
        scores: dict[str, Any] = self._scorer.score(loaded.pixels, restored, loaded.reference, values)
        if self._extractor is not None:
            images = [as_8bit(one) for one in (loaded.pixels, restored, loaded.reference)]
            scores["features"] = Features(*self._extractor.features(images))
        return scores

    def failure(self, task: Task, row: PlanRow, error: Exception, loaded: Loaded | None = None) -> Record:
        """Return the record of an image that could not be restored."""
        if isinstance(error, ImageError):
            kind, message = error.kind, str(error)
        elif isinstance(error, MemoryError):
            kind, message = ErrorKind.OUT_OF_MEMORY, "the worker's main memory is exhausted"
        else:
            kind, message = ErrorKind.INTERNAL, described_fault(error)
        # Only an evaluation refuses an image without a reference, and then by design.
        left_out = kind in (ErrorKind.REFERENCE_MISSING, ErrorKind.LITTLE_TO_GAIN)
        known: dict[str, Any] = {}
        if isinstance(error, LeftOutError):
            known = error.columns
        elif loaded is not None:
            known = {**shape_columns(loaded.image), "bytes_in": loaded.bytes_in}
        return Record(
            key=row.key,
            source=row.source,
            status="skipped" if left_out else "failed",
            reference=row.reference,
            error_kind=kind.value,
            error=message,
            **known,
            attempt=task.attempt,
            finished_at=now(),
            **self._constant,
        )

    def _decode(self, task: Task, index: int, row: PlanRow, file: Fetched) -> codecs.Image:
        """Decode a file; what seems damaged is read once more, for it may have been damaged on its way."""
        try:
            return self._files.decode(file)
        except ImageError as error:
            if error.kind not in (ErrorKind.TRUNCATED, ErrorKind.NOT_AN_IMAGE):
                raise
            try:
                with self._board.stage("read", task.shard, {index: row.key}):
                    again = self._files.read_again(file)
            except ImageError:
                again = None
            if again is None:
                raise
            return self._files.decode(again)

    def _sized(self, pixels: Pixels) -> Pixels:
        return pixels if self._recipe.size is None else resize_bilinear(pixels, self._recipe.size)

    def _insist_on_scores(self, problem: Problem | None) -> None:
        """Give an image up that cannot be scored, where that is all it is there for."""
        if problem is not None and self._recipe.evaluates:
            raise ImageError(problem.kind, problem.message)

    def _read_restored(self, row: PlanRow) -> Fetched | None:
        if row.restored is None:
            return None
        try:
            data, entry = read_url(row.restored)
            return Fetched(row.restored, entry, data)
        except ImageError as error:
            raise ImageError(error.kind, f"the restored image cannot be read: {error}") from error

    def _given(self, task: Task, index: int, row: PlanRow, made: Fetched, pixels: Pixels) -> Pixels:
        """Return what another tool made of an image, fit to be compared with it."""
        try:
            given = self._sized(codecs.model_input(self._decode(task, index, row, made)))
        except ImageError as error:
            raise ImageError(error.kind, f"the restored image cannot be decoded: {error}") from error
        if given.shape != pixels.shape:
            raise ImageError(
                ErrorKind.REFERENCE_SIZE,
                f"the restored image is {size_of(given)}, the image {size_of(pixels)} (--size resizes both on purpose)",
            )
        return given

    def _read_reference(self, row: PlanRow) -> tuple[Fetched | None, Problem | None]:
        if row.reference is None:
            return None, None
        try:
            return self._files.read(row.reference), None
        except ImageError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                return None, Problem(error.kind, f"the reference cannot be read: {error}")
        return None, Problem(ErrorKind.REFERENCE_MISSING, f"there is no reference {redact(row.reference)}; not scored")
