"""The stages that one image goes through in a worker: load, infer, finish; each timed, each on any thread."""

import hashlib
import platform
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mimo_core import codecs
from mimo_core.errors import ErrorKind, ImageError
from mimo_core.faults import Faults
from mimo_core.metrics import as_8bit, psnr, ssim
from mimo_core.plan import PlanRow
from mimo_core.preprocess import resize_bilinear
from mimo_core.progress import ProgressBoard
from mimo_core.recipe import Recipe
from mimo_core.records import Record, now
from mimo_core.restorer import Restoration, Restorer
from mimo_core.sessions import Pixels
from mimo_core.storage import Store, read_url, redact
from mimo_core.work import Task


@dataclass(frozen=True)
class Problem:
    """Why a restored image has no scores."""

    kind: ErrorKind
    message: str


@dataclass(frozen=True, eq=False)
class Loaded:
    """An image that is ready to be inferred.

    Attributes:
        image: as decoded.
        pixels: what the network takes, (H, W, 3) RGB, resized if the recipe says so.
        reference: the ground truth at the same size, if there is one.
        problem: why there is none although one was expected.
        bytes_in: size of the source file.
        read_ms, decode_ms: time taken for source and reference together.
    """

    image: codecs.Image
    pixels: Pixels
    reference: Pixels | None
    problem: Problem | None
    bytes_in: int
    read_ms: float
    decode_ms: float

    @property
    def nbytes(self) -> int:
        """Bytes of pixels that the image holds while it is in the pipeline, its output included."""
        return (
            self.image.pixels.nbytes
            + 2 * self.pixels.nbytes
            + (self.reference.nbytes if self.reference is not None else 0)
        )

    def like(self, other: "Loaded") -> bool:
        """Return whether both can be in one batch."""
        return self.pixels.shape == other.pixels.shape and self.pixels.dtype == other.pixels.dtype


class Stages:
    """The stages by one recipe, reporting to one progress board."""

    def __init__(self, output: Store, recipe: Recipe, device: str, board: ProgressBoard, faults: Faults) -> None:
        self._output = output
        self._recipe = recipe
        self._board = board
        self._faults = faults
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
            data, entry = read_url(row.source)
            if row.version is not None and entry.version is not None and entry.version != row.version:
                raise ImageError(
                    ErrorKind.CHANGED,
                    "the source has changed since the run was planned; start a new run to restore what is there now",
                )
            sharp, problem = self._read_reference(row)
        with self._board.stage("decode", task.shard, {index: row.key}) as decoding:
            image = codecs.decode(data, max_pixels=self._recipe.max_pixels)
            codecs.check_encodable(image, _container(row.output, image))
            pixels = self._sized(codecs.model_input(image))
            reference = None
            if sharp is not None:
                try:
                    reference = self._sized(
                        codecs.model_input(codecs.decode(sharp, max_pixels=self._recipe.max_pixels))
                    )
                except ImageError as error:
                    problem = Problem(error.kind, f"the reference cannot be decoded: {error}")
            if reference is not None and reference.shape != pixels.shape:
                problem = Problem(
                    ErrorKind.REFERENCE_SIZE,
                    f"the reference is {_size(reference)}, the image {_size(pixels)}; not scored "
                    "(--size resizes both on purpose)",
                )
                reference = None
        return Loaded(image, pixels, reference, problem, len(data), reading.milliseconds, decoding.milliseconds)

    def infer(
        self, restorer: Restorer, task: Task, group: Sequence[tuple[int, PlanRow, Loaded]]
    ) -> tuple[list[Restoration | ImageError], float]:
        """Restore images of one shape together; return their results and the seconds taken."""
        keys = {index: row.key for index, row, _ in group}
        with self._board.stage("infer", task.shard, keys) as inferring:
            for key in keys.values():
                self._faults.strike(key)
            pixels = [loaded.pixels for _, _, loaded in group]
            restored = restorer.restore(pixels, lambda: self._board.tick(task.shard, keys))
        return restored, inferring.milliseconds / 1e3

    def finish(
        self, task: Task, index: int, row: PlanRow, loaded: Loaded, restoration: Restoration, infer_seconds: float
    ) -> Record:
        """Encode, write, hash and score a restored image.

        Raises:
            ImageError: this image cannot be encoded or written.
            SystemFailure: nothing can be written.
        """
        result = codecs.with_restored(loaded.image, restoration.pixels)
        with self._board.stage("encode", task.shard, {index: row.key}) as encoding:
            data = codecs.encode(result, _container(row.output, loaded.image), quality=self._recipe.quality)
        with self._board.stage("write", task.shard, {index: row.key}) as writing:
            try:
                self._output.write(row.output, data)
            except ImageError as error:
                raise ImageError(ErrorKind.WRITE, str(error)) from error
            digest = hashlib.sha256(data).hexdigest()
        with self._board.stage("score", task.shard, {index: row.key}) as scoring:
            scores = _scores(loaded, codecs.model_input(result)) if loaded.reference is not None else {}
        return Record(
            key=row.key,
            source=row.source,
            status="restored",
            output=row.output,
            reference=row.reference,
            error_kind=loaded.problem.kind.value if loaded.problem is not None else None,
            error=loaded.problem.message if loaded.problem is not None else None,
            **_shape(loaded.image),
            bytes_in=loaded.bytes_in,
            bytes_out=len(data),
            output_sha256=digest,
            **scores,
            read_ms=loaded.read_ms,
            decode_ms=loaded.decode_ms,
            infer_ms=infer_seconds * 1e3,
            score_ms=scoring.milliseconds,
            encode_ms=encoding.milliseconds,
            write_ms=writing.milliseconds,
            tiles=restoration.tiles,
            fallback=restoration.fallback,
            attempt=task.attempt,
            finished_at=now(),
            **self._constant,
        )

    def failure(self, task: Task, row: PlanRow, error: Exception, loaded: Loaded | None = None) -> Record:
        """Return the record of an image that could not be restored."""
        if isinstance(error, ImageError):
            kind, message = error.kind, str(error)
        elif isinstance(error, MemoryError):
            kind, message = ErrorKind.OUT_OF_MEMORY, "the worker's main memory is exhausted"
        else:
            kind, message = ErrorKind.INTERNAL, _where(error)
        return Record(
            key=row.key,
            source=row.source,
            status="failed",
            reference=row.reference,
            error_kind=kind.value,
            error=message,
            **(_shape(loaded.image) if loaded is not None else {}),
            bytes_in=loaded.bytes_in if loaded is not None else None,
            attempt=task.attempt,
            finished_at=now(),
            **self._constant,
        )

    def _sized(self, pixels: Pixels) -> Pixels:
        return pixels if self._recipe.size is None else resize_bilinear(pixels, self._recipe.size)

    def _read_reference(self, row: PlanRow) -> tuple[bytes | None, Problem | None]:
        if row.reference is None:
            return None, None
        try:
            return read_url(row.reference)[0], None
        except ImageError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                return None, Problem(error.kind, f"the reference cannot be read: {error}")
        return None, Problem(ErrorKind.REFERENCE_MISSING, f"there is no reference {redact(row.reference)}; not scored")


def _container(output: str, image: codecs.Image) -> str:
    """Return the container that the output's name promises; a name that promises none keeps the input's."""
    known = PurePosixPath(output).suffix.lower() in codecs.IMAGE_EXTENSIONS
    return codecs.container_of(output) if known else image.container


def _scores(loaded: Loaded, restored: Pixels) -> dict[str, Any]:
    assert loaded.reference is not None
    reference, before, after = as_8bit(loaded.reference), as_8bit(loaded.pixels), as_8bit(restored)
    return {
        "input_psnr": psnr(before, reference),
        "input_ssim": ssim(before, reference),
        "psnr": psnr(after, reference),
        "ssim": ssim(after, reference),
    }


def _shape(image: codecs.Image) -> dict[str, Any]:
    return {
        "width": image.width,
        "height": image.height,
        "channels": image.channels,
        "bit_depth": image.bit_depth,
    }


def _size(pixels: Pixels) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def _where(error: Exception) -> str:
    """Return an unexpected error with the place that raised it: it is a defect of this program, to be reported."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (at {PurePosixPath(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
