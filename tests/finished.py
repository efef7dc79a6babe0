"""Finished runs for tests of what looks at runs: real images, restored in this process, in a whole run folder."""

from pathlib import Path

import cv2
import inprocess
import numpy as np
import numpy.typing as npt

from mimo_core.runs.config import RestoreConfig
from mimo_core.runs.folder import RunFolder, RunManifest
from mimo_core.runs.records import write_part
from mimo_core.storage import Store

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = "mimo-unet-lite"


def photograph(side: str, name: str = "window.png") -> npt.NDArray[np.uint8]:
    """One of the samples, BGR; `side` is `blurred` or `sharp`."""
    return np.asarray(cv2.imread(str(ROOT / "samples" / side / name)), np.uint8)


def make_pairs(folder: Path, keys: list[str], size: tuple[int, int] = (96, 144)) -> Path:
    """Pieces of a sample, blurred and sharp, under these keys in `folder/blurred` and `folder/sharp`."""
    height, width = size
    for side in ("blurred", "sharp"):
        whole = photograph(side)
        for number, key in enumerate(keys):
            top, left = 37 * number % (whole.shape[0] - height), 53 * number % (whole.shape[1] - width)
            path = folder / side / key
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), whole[top : top + height, left : left + width])
    return folder


def finish(pairs: Path, output: Path, *, reference: bool = True, **choices: object) -> inprocess.InProcessRun:
    """Restore `pairs/blurred` against `pairs/sharp` and commit the run in `output`."""
    source, sharp = pairs / "blurred", pairs / "sharp" if reference else None
    # As the shipped weights were trained.
    options: dict[str, object] = {"weights": SHIPPED, "interpolation": "bilinear", "shard_size": 4, **choices}
    outcome = inprocess.run(source, output, reference=sharp, **options)  # type: ignore[arg-type]
    store = Store(str(output))
    config = RestoreConfig(source=str(source), output=str(output), reference=None if sharp is None else str(sharp))
    RunFolder(store).begin(RunManifest.of(config, outcome.recipe))
    for result in outcome.results:
        write_part(store, result.task.shard, [result.records[row] for row in result.task.rows])
    return outcome
