"""The pictures of a report: upright, of the right files, and restored again to the pixel where none were saved."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from finished import finish, make_pairs
from PIL import Image as Pillow

from mimo_core.report.build import build_report
from mimo_core.report.pictures import DIFFERENCE_LEVELS, Shot, difference, encode_shots, load_shots, shrink
from mimo_core.report.run_data import read_run
from mimo_core.report.selection import choose_images
from mimo_core.storage import Store

KEYS = ["a.png", "b/c.png"]
GIVEN = {"model": "given", "engine": "identity", "weights": None}


def shots_of(*folders: Path) -> list[Shot]:
    runs = [read_run(Store(str(folder)), folder.name) for folder in folders]
    choices = [choice for group in choose_images(runs, 4) for choice in group.choices]
    return load_shots(runs, [run.label for run in runs], choices, lambda: None)


def layers(shot: Shot) -> dict[str, npt.NDArray[np.uint8]]:
    return {layer.name: layer.pixels for layer in shot.layers}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pairs(tmp_path_factory.mktemp("pairs"), KEYS)


def test_pictures_are_the_files(pairs: Path, tmp_path: Path) -> None:
    finish(pairs, tmp_path / "run")
    for shot in shots_of(tmp_path / "run"):
        found = layers(shot)
        assert list(found) == ["input", "output-0", "difference-0", "reference"]
        for name, path in (
            ("input", pairs / "blurred" / shot.key),
            ("output-0", tmp_path / "run" / "images" / shot.key),
            ("reference", pairs / "sharp" / shot.key),
        ):
            assert np.array_equal(found[name], cv2.imread(str(path))[:, :, ::-1])
        assert np.array_equal(found["difference-0"], difference(found["output-0"], found["reference"]))


@pytest.mark.parametrize(
    "choices", [{"scales": "1/2,1"}, {"ensemble": 4}, {"size": (64, 80)}], ids=["scales", "ensemble", "resized"]
)
def test_unsaved_outputs_are_restored_again_to_the_pixel(
    pairs: Path, tmp_path: Path, choices: dict[str, object]
) -> None:
    finish(pairs, tmp_path / "saved", **choices)
    finish(pairs, tmp_path / "unsaved", evaluates=True, saves_images=False, **choices)
    assert not (tmp_path / "unsaved" / "images").exists()
    for shot in shots_of(tmp_path / "saved", tmp_path / "unsaved"):
        assert shot.problems == ()
        assert np.array_equal(layers(shot)["output-0"], layers(shot)["output-1"])


def test_what_another_tool_made_is_shown(pairs: Path, tmp_path: Path) -> None:
    made = make_pairs(tmp_path / "made", KEYS[::-1]) / "blurred"
    finish(pairs, tmp_path / "run", restored=made, evaluates=True, saves_images=False, **GIVEN)
    for shot in shots_of(tmp_path / "run"):
        assert np.array_equal(layers(shot)["output-0"], cv2.imread(str(made / shot.key))[:, :, ::-1])


def test_runs_over_other_images_of_the_same_names_show_their_own_outputs(pairs: Path, tmp_path: Path) -> None:
    others = make_pairs(tmp_path / "others", KEYS[::-1])
    finish(pairs, tmp_path / "first", weights=None, evaluates=True, saves_images=False)
    finish(others, tmp_path / "second", weights=None, evaluates=True, saves_images=False)
    folders = tmp_path / "first", tmp_path / "second"
    for shot in shots_of(*folders):
        for place, source in enumerate((pairs, others)):
            itself = cv2.imread(str(source / "blurred" / shot.key))[:, :, ::-1]
            assert np.array_equal(layers(shot)[f"output-{place}"], itself)
    stores = [Store(str(folder)) for folder in folders]
    page = build_report(stores, stores[0], 0, lambda _: None)
    assert "2 images of one name came from several places" in page


def test_what_another_tool_made_is_not_shown_once_the_plan_is_gone(pairs: Path, tmp_path: Path) -> None:
    finish(pairs, tmp_path / "run", restored=pairs / "sharp", evaluates=True, saves_images=False, **GIVEN)
    (tmp_path / "run" / "plan" / "plan.json").unlink()
    for shot in shots_of(tmp_path / "run"):
        assert "output-0" not in layers(shot)
        assert "the plan of the run" in shot.problems[0]


def test_weights_that_are_gone_are_told(pairs: Path, tmp_path: Path) -> None:
    finish(pairs, tmp_path / "run", evaluates=True, saves_images=False)
    manifest = tmp_path / "run" / "run.json"
    manifest.write_text(manifest.read_text().replace('"weights":"mimo-unet-lite"', '"weights":"/gone.pkl"').replace(
        '"weights": "mimo-unet-lite"', '"weights": "/gone.pkl"'))  # fmt: skip
    for shot in shots_of(tmp_path / "run"):
        assert "output-0" not in layers(shot)
        assert any("/gone.pkl" in problem for problem in shot.problems)


def test_a_missing_input_leaves_the_rest(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "pairs", KEYS)
    finish(pairs, tmp_path / "run")
    (pairs / "blurred" / KEYS[0]).unlink()
    (shot,) = [one for one in shots_of(tmp_path / "run") if one.key == KEYS[0]]
    assert list(layers(shot)) == ["output-0", "difference-0", "reference"]
    assert len(shot.problems) == 1
    assert shot.problems[0].startswith("the input cannot be shown")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(tmp_path: Path, orientation: int) -> None:
    pairs = make_pairs(tmp_path / "pairs", ["a.png"])
    for side in ("blurred", "sharp"):
        path = pairs / side / "a.png"
        picture = Pillow.open(path)
        exif = picture.getexif()
        exif[274] = orientation
        picture.save(path, exif=exif)
    finish(pairs, tmp_path / "run", weights=None)
    (shot,) = shots_of(tmp_path / "run")
    from PIL import ImageOps

    upright = np.asarray(ImageOps.exif_transpose(Pillow.open(pairs / "blurred" / "a.png")))
    assert np.array_equal(layers(shot)["input"], upright)
    assert {layer.pixels.shape for layer in shot.layers} == {upright.shape}


def test_deep_and_gray_images_are_shown(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    for side in ("blurred", "sharp"):
        (tmp_path / side).mkdir()
        assert cv2.imwrite(str(tmp_path / side / "deep.png"), generator.integers(0, 65536, (20, 30, 3), np.uint16))
        assert cv2.imwrite(str(tmp_path / side / "gray.png"), generator.integers(0, 256, (20, 30), np.uint8))
    finish(tmp_path, tmp_path / "run", weights=None)
    for shot in shots_of(tmp_path / "run"):
        assert {layer.pixels.shape for layer in shot.layers} == {(20, 30, 3)}
        assert {layer.pixels.dtype for layer in shot.layers} == {np.dtype(np.uint8)}


def test_difference_is_black_for_equal_pixels_and_brightest_from_its_limit_on() -> None:
    image = np.zeros((1, 4, 3), np.uint8)
    other = image.copy()
    other[0, 1, 2] = DIFFERENCE_LEVELS // 2
    other[0, 2, 0] = DIFFERENCE_LEVELS
    other[0, 3] = 255
    shown = difference(image, other)[0].astype(int).sum(axis=1)
    assert shown[0] < 10
    assert shown[0] < shown[1] < shown[2] == shown[3]


def test_shrinking_keeps_the_shape_and_what_is_small() -> None:
    wide = np.zeros((300, 1200, 3), np.uint8)
    assert shrink(wide, 600).shape == (150, 600, 3)
    assert shrink(wide, 1200) is wide


def test_a_smaller_budget_makes_smaller_pictures(pairs: Path, tmp_path: Path) -> None:
    finish(pairs, tmp_path / "run", weights=None)
    shots = shots_of(tmp_path / "run")
    rich, poor = encode_shots(shots, 10_000_000), encode_shots(shots, 2000)
    size = [sum(len(uri) for one in encoded for uri in one.uris.values()) for encoded in (rich, poor)]
    assert size[1] < size[0]
    assert all(uri.startswith("data:image/webp;base64,") for one in rich for uri in one.uris.values())
