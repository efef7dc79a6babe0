"""A look at all images of a list, as a Parquet file that is a list itself."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import pyarrow as pa
import pyarrow.parquet as pq

from mimo_core.datasets.imagelist import ImageEntry
from mimo_core.errors import ImageError, UsageError
from mimo_core.images import codecs
from mimo_core.images.cache import max_bytes_of
from mimo_core.storage import info_url, read_url, redact, redact_text, write_url
from mimo_core.triage.predictor import predictor

THRESHOLDS = (0.25, 0.5, 1.0)
"""Gains in dB below which the survey counts images."""

_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        *(pa.field(name, pa.int32()) for name in ("width", "height")),
        *(pa.field(name, pa.float32()) for name in ("gain", "gain_low", "gain_high")),
        pa.field("blur", pa.string()),
        pa.field("blur_extent", pa.float32()),
        pa.field("error", pa.string()),
    ]
)
_ROWS = 1024


@dataclass
class Survey:
    """What was seen.

    Attributes:
        images, failed, too_small, judged: counts; `images` is the sum of the others.
        kinds: judged images by their blur.
        gain: sum of the predicted gains, dB.
        shortened: images whose addresses hold what must not be written, such as a signature, and stand without it.
        below: for each of `THRESHOLDS`, how many images are predicted to gain less, and the sum of their gains.
        seconds: taken.
    """

    images: int = 0
    failed: int = 0
    too_small: int = 0
    judged: int = 0
    gain: float = 0.0
    shortened: int = 0
    seconds: float = 0.0
    kinds: dict[str, int] = field(default_factory=dict)
    below: list[tuple[float, int, float]] = field(default_factory=lambda: [(least, 0, 0.0) for least in THRESHOLDS])

    def add(self, row: dict[str, object]) -> None:
        """Count one more row of the file."""
        self.images += 1
        gain = row.get("gain")
        if row.get("error") is not None:
            self.failed += 1
        elif not isinstance(gain, float):
            self.too_small += 1
        else:
            self.judged += 1
            self.gain += gain
            kind = str(row["blur"])
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            self.below = [
                (least, number + 1, total + gain) if gain < least else (least, number, total)
                for least, number, total in self.below
            ]


def survey(
    entries: Iterable[ImageEntry], output: str, *, threads: int, max_pixels: int, tick: Callable[[int], None]
) -> Survey:
    """Look at images, and write what was seen when all is done.

    Args:
        entries: the images, which stream.
        output: path or URL of the Parquet file.
        threads: images looked at at a time.
        max_pixels: larger images are refused.
        tick: told now and then how many images are done.

    Raises:
        UsageError: the file is there already.
        SystemFailure: the storage as a whole fails.
        ImageError: the file cannot be written.
    """
    if info_url(output) is not None:
        # It may be somebody's own list, even the one that is read.
        raise UsageError(f"{redact(output)} is there already; name another file, or remove it")
    done, begun = Survey(), time.monotonic()
    # Else OpenCV starts as many threads for each image.
    cv2.setNumThreads(1)
    with TemporaryDirectory(prefix="mimo-triage-") as folder:
        file = Path(folder) / "list.parquet"
        with ThreadPoolExecutor(threads) as pool, pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
            left = iter(entries)
            while batch := list(islice(left, _ROWS)):
                done.shortened += sum(redact(entry.source) != entry.source for entry in batch)
                rows = []
                for row in pool.map(lambda entry: _row(entry, max_pixels), batch):
                    rows.append(row)
                    done.add(row)
                    if done.images % 16 == 0:
                        tick(done.images)
                writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
        write_url(output, file.read_bytes())
    done.seconds = time.monotonic() - begun
    return done


def _row(entry: ImageEntry, max_pixels: int) -> dict[str, object]:
    row: dict[str, object] = {"key": entry.key, "source": redact(entry.source)}
    try:
        data, _ = read_url(entry.source, max_bytes=max_bytes_of(max_pixels))
        image = codecs.decode(data, max_pixels=max_pixels, pages="first")
        row |= {"width": image.width, "height": image.height}
        outlook = predictor().outlook(codecs.model_input(image))
    except ImageError as error:
        return {**row, "error": redact_text(f"{error.kind}: {error}")}
    if outlook is None:
        return row
    row |= {"gain": outlook.gain, "gain_low": outlook.low, "gain_high": outlook.high}
    return {**row, "blur": outlook.kind, "blur_extent": outlook.extent}
