"""What a cell of a sweep costs by its recipe and the passes that each of its images took."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from inprocess import LITE, recipe_of

from mimo_core.images.pixels import Pixels
from mimo_core.images.scales import parse_scales
from mimo_core.inference.coarse_to_fine import CoarseToFineRestorer, passes_of
from mimo_core.inference.restorer import Restoration
from mimo_core.models.weights import load_weights
from mimo_core.runs.record import Record
from mimo_core.runs.records import part_name, write_part
from mimo_core.storage import Store
from mimo_core.sweep.figures import _operations, read_scores

SHAPE = (256, 320)
SMALL, LARGE = (96, 640), (1024, 2048)
# Nine windows of 256x256, each at full size, a half and a quarter.
JUDGED = 9 * 256 * 256 * 1.3125 / (1024 * 2048)


@pytest.mark.parametrize(
    ("scales", "shape", "taken", "passes"),
    [
        ("1", SHAPE, {"1": 4}, 1.0),
        ("1/2,1", SHAPE, {"1/2,1": 3}, 1.25),
        ("1/4,1/2", SHAPE, {"1/4,1/2": 3}, 0.3125),
        # All are judged at full size, a half and a quarter; what suits full size is restored by that.
        ("auto", SHAPE, {"1": 4}, 1.3125),
        ("auto", SHAPE, {"1": 3, "1/4,1/2": 1}, 1.3125 + 0.3125 / 4),
        # What is too narrow is not judged.
        ("auto", SMALL, {"1": 4}, 1.0),
        # What is large is judged by windows, and restored at full size after that.
        ("auto", LARGE, {"1": 2}, JUDGED + 1),
        ("auto", LARGE, {"1": 1, "1/2": 1}, JUDGED + (1 + 0.25) / 2),
    ],
)
def test_operations_are_those_of_all_passes(
    scales: str, shape: tuple[int, int], taken: dict[str, int], passes: float
) -> None:
    weights = load_weights(LITE)
    full = _operations(recipe_of(weights), Counter({(shape, "1"): 1}))
    assert full is not None
    images = Counter({(shape, one): number for one, number in taken.items()})
    assert _operations(recipe_of(weights, scales=scales), images) == pytest.approx(passes * full)
    assert _operations(recipe_of(weights, scales=scales, ensemble=4), images) == pytest.approx(4 * passes * full)


def test_each_image_counts_by_its_own_size_and_passes() -> None:
    recipe, each = recipe_of(load_weights(LITE), scales="auto"), []
    images = [((SHAPE, "1/2"), 3), ((SMALL, "1"), 1)]
    for image, number in images:
        found = _operations(recipe, Counter({image: 1}))
        assert found is not None
        each += [found] * number
    assert _operations(recipe, Counter(dict(images))) == pytest.approx(sum(each) / 4)


def test_records_of_before_a_column_came_are_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record = Record("a.png", "/in/a.png", "restored", height=256, width=320, psnr=30.0, scales="1")
    write_part(store, 0, [record])
    path = tmp_path / part_name(0)
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["scales", "psnr_zoo"]), path)
    scores = read_scores(store)
    assert (scores["psnr"].to_pylist(), scores["psnr_zoo"].to_pylist()) == ([30.0], [None])


class Noting:
    """Restores nothing much, and notes what it sees: an image that changes as much as asked where it is smaller."""

    def __init__(self, coarse: float) -> None:
        self.seen: list[tuple[int, int]] = []
        self.calls = 0
        self._coarse = coarse

    def restore(self, images: Sequence[Pixels], tick: object = None) -> list[Restoration]:
        found = []
        for image in images:
            height, width = image.shape[:2]
            self.seen.append((height, width))
            change = 0.01 if (height, width) in (SHAPE, SMALL, LARGE, (256, 256)) else self._coarse
            found.append(Restoration(image, values=np.asarray(image / 255 + change, np.float32)))
        return found


@pytest.mark.parametrize("shape", [SHAPE, SMALL, LARGE])
@pytest.mark.parametrize("coarse", [0.0, 0.1])
def test_those_passes_are_what_the_network_sees(shape: tuple[int, int], coarse: float) -> None:
    noting = Noting(coarse)
    restorer = CoarseToFineRestorer(noting, noting, None)  # type: ignore[arg-type]
    (restored,) = restorer.restore([np.full((*shape, 3), 90, np.uint8)])
    assert isinstance(restored, Restoration)
    assert restored.scales == ("1/4,1/2" if coarse and shape != SMALL else "1")
    expected = passes_of(shape, parse_scales(restored.scales), judged=True)
    assert sorted(noting.seen) == sorted(expected)
