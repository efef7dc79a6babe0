"""Artefacts in restored photographs are named, or kept out of the archive; restorations themselves raise no alarm."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from inprocess import run

import mimo_core
from mimo_core.inference import restorer
from mimo_core.inference.guard import suspicion

SAMPLES = Path(__file__).parents[2] / "samples"
Picture = npt.NDArray[np.uint8]


def read(file: Path) -> Picture:
    return np.asarray(cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB), np.uint8)


def spoilt(image: Picture, kind: str, seed: int = 0) -> Picture:
    """The image with an artefact in a square of 64 pixels, at 100,60."""
    values = image.astype(np.float32)
    square = values[60:124, 100:164]
    rng = np.random.default_rng(seed)
    if kind == "mosaic":
        square += np.kron(rng.uniform(-24, 24, (8, 8, 3)), np.ones((8, 8, 1)))
    elif kind == "cast":
        square[..., 1] += 16
    elif kind == "checkerboard":
        rows, columns = np.mgrid[:64, :64]
        square += (2 * (1 - 2 * ((rows + columns) % 2)))[..., np.newaxis]
    elif kind == "noise":
        square += rng.normal(0, 90, (64, 64, 1))
    return np.clip(values, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("mosaic", "colours change"),
        ("cast", "colours change"),
        ("checkerboard", "a checkerboard appears"),
        ("noise", "brightness changes"),
    ],
)
@pytest.mark.parametrize("name", ["brushes.png", "mountains.jpg", "seeds.jpg", "window.png"])
def test_artefacts_in_restored_photographs_are_named_with_their_place(name: str, kind: str, said: str) -> None:
    before = read(SAMPLES / "blurred" / name)
    after = mimo_core.restore(before, weights="mimo-unet-lite")
    assert suspicion(before, after) is None, "a restoration is no artefact"
    found = suspicion(before, spoilt(after, kind))
    assert found is not None
    assert found.what == said or kind == "noise"
    assert 64 <= found.x < 164
    assert 32 <= found.y < 124
    deep = [image.astype(np.uint16) * np.uint16(257) for image in (before, spoilt(after, kind))]
    assert suspicion(*deep) == found


def test_restorations_of_real_photographs_raise_no_alarm(shared_data: Path) -> None:
    files = [*sorted((shared_data / "reds_pairs" / "blur").iterdir())[::12], *sorted((SAMPLES / "blurred").iterdir())]
    with mimo_core.ImageRestorer(weights="mimo-unet-lite") as network:
        for file in files:
            image = read(file)
            assert suspicion(image, network.restore(image)) is None, file.name


def test_tiny_images_are_not_judged() -> None:
    assert suspicion(np.zeros((63, 500, 3), np.uint8), np.full((63, 500, 3), 255, np.uint8)) is None


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that spoils one image of two: a double of what hardware does at times."""
    together = restorer.Restorer._together

    def failing(self: restorer.Restorer, images: list[Picture], *rest: object, **named: object) -> object:
        results = together(self, images, *rest, **named)  # type: ignore[arg-type]
        return [
            replace(result, pixels=spoilt(result.pixels, "mosaic")) if image.shape[1] > image.shape[0] else result
            for image, result in zip(images, results, strict=True)
        ]

    monkeypatch.setattr(restorer.Restorer, "_together", failing)


@pytest.mark.usefixtures("broken")
def test_a_run_names_suspects_and_keeps_originals_where_it_is_asked_to(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    image = cv2.imread(str(SAMPLES / "blurred" / "window.png"))[:240, :320]
    assert cv2.imwrite(str(source / "wide.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 70])
    assert cv2.imwrite(str(source / "tall.jpg"), np.ascontiguousarray(np.rot90(image)))
    named = run(source, tmp_path / "named", engine="identity")
    assert named.records["tall.jpg"].suspect is None
    assert "colours change by" in (named.records["wide.jpg"].suspect or ""), named.records["wide.jpg"].error
    kept = run(source, tmp_path / "kept", engine="identity", guard="keep-original")
    assert (kept.records["wide.jpg"].suspect or "").endswith("; the original is kept")
    assert kept.output("wide.jpg") == (source / "wide.jpg").read_bytes()
    assert kept.output("tall.jpg") == named.output("tall.jpg")
    as_png = run(source, tmp_path / "png", engine="identity", guard="keep-original", format="png")
    decoded = cv2.imdecode(np.frombuffer(as_png.output("wide.jpg"), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decoded, cv2.imread(str(source / "wide.jpg")))
    off = run(source, tmp_path / "off", engine="identity", guard="off")
    assert off.records["wide.jpg"].suspect is None
    assert off.output("wide.jpg") == named.output("wide.jpg")
