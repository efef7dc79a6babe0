"""Pairs as the data sets have them on their disks, whatever the storage; what is not there, and what is left over."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_core.datasets.imagelist import list_images
from mimo_core.datasets.pairing import role_of, sharp_names, swaps
from mimo_core.errors import UsageError
from mimo_core.storage import Store

GOPRO = ["GOPR0384_11_00/{}/000001.png", "GOPR0384_11_00/{}/000002.png", "GOPR0385_11_01/{}/000001.png"]


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a data set, empty."""
    return str(tmp_path / "set") if request.param == "local" else f"s3://{request.getfixturevalue('s3_bucket')}/set"


def pairs(root: str, files: list[str], source: str = "", reference: str = "") -> tuple[dict[str, str], list[str]]:
    """Input to reference, both below the root, as listed; and what was noted."""
    store = Store(root)
    for file in files:
        store.write(file, b"")
    notes: list[str] = []
    entries = list_images(
        f"{root}/{source}".rstrip("/"), reference=f"{root}/{reference}".rstrip("/"), note=notes.append
    )
    cut = len(root) + 1
    return {entry.source[cut:]: str(entry.reference)[cut:] for entry in entries}, notes


def swapped(files: list[str], first: str, second: str) -> dict[str, str]:
    return {file.format(first): file.format(second) for file in files}


def test_gopro_as_distributed(place: str) -> None:
    files = [file.format(folder) for file in GOPRO for folder in ("blur", "blur_gamma", "sharp")]
    expected = swapped([f"test/{file}" for file in GOPRO], "blur", "sharp")
    files = [f"test/{file}" for file in files]
    assert pairs(place, files, "test", "test") == (expected, [])
    assert pairs(place, files) == (expected, [])
    assert pairs(place, files, "test/*/blur/*.png", "test") == (expected, [])
    sequence = {one: other for one, other in expected.items() if "GOPR0384" in one}
    found, notes = pairs(place, files, "test/GOPR0384_11_00/blur", "test/GOPR0384_11_00")
    assert (found, notes) == (sequence, [])
    assert pairs(place, files, "test/GOPR0384_11_00", "test")[0] == sequence


def test_gopro_with_gamma_alone(place: str) -> None:
    files = [file.format(folder) for file in GOPRO for folder in ("blur_gamma", "sharp")]
    assert pairs(place, files) == (swapped(GOPRO, "blur_gamma", "sharp"), [])


@pytest.mark.parametrize(("first", "second"), [("input", "target"), ("blur", "sharp"), ("Blurred", "Sharp")])
@pytest.mark.parametrize("nested", [False, True])
def test_merged_roots(tmp_path: Path, first: str, second: str, nested: bool) -> None:
    names = ["{}/a/1.png", "{}/2.jpg"] if nested else ["{}/1.png", "{}/2.jpg"]
    files = [name.format(folder) for name in names for folder in (first, second)]
    for source, reference in (("", ""), (first, second), (first, "")):
        assert pairs(str(tmp_path), files, source, reference) == (swapped(names, first, second), [])


def test_realblur(place: str) -> None:
    files = [f"scene{scene:03d}/{pair}" for scene in (1, 50) for pair in ("blur/blur_1.png", "gt/gt_1.png")]
    expected = {f"scene{scene:03d}/blur/blur_1.png": f"scene{scene:03d}/gt/gt_1.png" for scene in (1, 50)}
    assert pairs(place, files) == (expected, [])
    one = {source: reference for source, reference in expected.items() if "001" in source}
    assert pairs(place, files, "scene001/blur", "scene001/gt") == (one, [])


def test_hide(place: str) -> None:
    inputs = ["test/test-close-ups/1fromGOPR0950.png", "test/test-long-shot/2fromGOPR0950.png", "train/3.png"]
    files = inputs + [f"GT/{name.rpartition('/')[2]}" for name in inputs]
    expected = {name: f"GT/{name.rpartition('/')[2]}" for name in inputs}
    tested = {name: expected[name] for name in inputs[:2]}
    assert pairs(place, files) == (expected, [])
    assert pairs(place, files, "", "GT") == (expected, [])
    assert pairs(place, files, "test", "GT") == (tested, ["1 reference belongs to no image: 3.png"])
    assert pairs(place, files, "test", "")[0] == tested
    assert pairs(place, files, "test/test-close-ups", "GT")[0] == {inputs[0]: expected[inputs[0]]}


@pytest.mark.parametrize("part", ["train", "val"])
def test_reds(place: str, part: str) -> None:
    names = [f"{part}/{part}_{{}}/000/00000000.png", f"{part}/{part}_{{}}/001/00000000.png"]
    files = [name.format(kind) for name in names for kind in ("blur", "sharp")]
    expected = swapped(names, "blur", "sharp")
    for source, reference in (("", ""), (part, part), (f"{part}/{part}_blur", f"{part}/{part}_sharp")):
        assert pairs(place, files, source, reference) == (expected, [])


def test_a_missing_reference_is_named_and_never_taken_from_the_neighbour(place: str) -> None:
    files = ["blur/1.png", "blur/2.png", "blur/4.png", "sharp/1.png", "sharp/3.png", "sharp/4.webp", "sharp/x.txt"]
    found, notes = pairs(place, files)
    assert found == {"blur/1.png": "sharp/1.png", "blur/2.png": "sharp/2.png", "blur/4.png": "sharp/4.webp"}
    assert notes == ["1 reference belongs to no image: sharp/3.png"]
    found, notes = pairs(place, files, "blur", "sharp")
    assert found["blur/2.png"] == "sharp/2.png"
    assert notes == ["1 reference belongs to no image: 3.png"]


def test_many_references_left_over_are_counted(tmp_path: Path) -> None:
    files = ["in/1.png", *(f"out/{number}.png" for number in range(1, 10))]
    assert pairs(str(tmp_path), files, "in", "out")[1] == [
        "8 references belong to no image: 2.png, 3.png, 4.png, 5.png, 6.png, ..."
    ]


def test_one_name_in_two_folders_is_refused_where_the_name_alone_would_tell(tmp_path: Path) -> None:
    files = ["test/a/1.png", "test/b/1.png", "GT/1.png"]
    with pytest.raises(UsageError, match=r"'a/1.png' and 'b/1.png' would both be compared with .*GT/1.png"):
        pairs(str(tmp_path), files, "test", "GT")


def test_a_name_alone_tells_nothing_where_references_have_folders(tmp_path: Path) -> None:
    files = ["in/a/1.png", "truth/1.png", "truth/b/1.png"]
    assert pairs(str(tmp_path), files, "in", "truth")[0] == {"in/a/1.png": "truth/a/1.png"}


@pytest.mark.parametrize("source", ["", "a", "list.txt"])
def test_one_place_without_a_layout_is_refused_and_never_compared_with_itself(tmp_path: Path, source: str) -> None:
    (tmp_path / "list.txt").write_text("1.png\na/2.png\n")
    with pytest.raises(UsageError, match="no image is its own reference"):
        pairs(str(tmp_path), ["1.png", "a/2.png"], source, source if source == "a" else "")


def test_a_limit_neither_hides_that_refusal_nor_counts_the_references_of_others(tmp_path: Path) -> None:
    pairs(str(tmp_path / "plain"), ["in/1.png", "in/2.png", "out/1.png", "out/2.png"], "in", "out")
    notes: list[str] = []
    entries = list_images(str(tmp_path / "plain/in"), reference=str(tmp_path / "plain/out"), limit=1, note=notes.append)
    assert ([entry.key for entry in entries], notes) == (["1.png"], [])
    with pytest.raises(UsageError, match="no image is its own reference"):
        list(list_images(str(tmp_path / "plain/in"), reference=str(tmp_path / "plain/in"), limit=1))


@pytest.mark.parametrize(
    ("files", "source", "reference"),
    [
        (["test/s/blur/1.png", "test/s/sharp/1.png"], "test/s/sharp", "test/s"),
        (["test/s/blur/1.png", "test/s/sharp/1.png"], "test/s/sharp", ""),
        (["test/s/blur/1.png", "test/s/sharp/1.png"], "test/s/sharp/1.png", "test/s/sharp"),
        (["scene1/blur/blur_1.png", "scene1/gt/gt_1.png"], "scene1/gt", "scene1"),
        (["test/a/1.png", "GT/1.png"], "GT", ""),
        (["val/input_crops/1.png", "val/target_crops/1.png"], "val/target_crops", "val"),
    ],
)
def test_originals_that_are_named_as_the_source_are_not_their_own_references(
    tmp_path: Path, files: list[str], source: str, reference: str
) -> None:
    with pytest.raises(UsageError, match="no image is its own reference"):
        pairs(str(tmp_path), files, source, reference)


def test_a_list_of_originals_that_lies_elsewhere_gives_none_itself(tmp_path: Path) -> None:
    pairs(str(tmp_path / "set"), ["blur/1.png", "sharp/1.png"])
    (tmp_path / "list.txt").write_text("set/sharp/1.png\n")
    for reference in ("set", "set/sharp"):
        (entry,) = list_images(str(tmp_path / "list.txt"), reference=str(tmp_path / reference))
        assert entry.paired is False
        assert entry.reference != entry.source
    with pytest.raises(UsageError, match="no image is its own reference"):
        list(list_images(str(tmp_path / "list.txt"), reference=str(tmp_path)))


def test_what_lies_outside_of_the_layout_has_no_reference(tmp_path: Path) -> None:
    found, _ = pairs(str(tmp_path), ["1.png", "set/blur/2.png", "set/sharp/2.png"])
    assert found == {"1.png": "sharp/1.png", "set/blur/2.png": "set/sharp/2.png"}


def test_images_of_one_place_are_never_their_own_references_where_folders_tell(tmp_path: Path) -> None:
    assert pairs(str(tmp_path), ["blur/1.png", "sharp/2.png"])[0] == {"blur/1.png": "sharp/1.png"}
    assert pairs(str(tmp_path / "gt"), ["test/1.png", "GT/2.png"])[0] == {"test/1.png": "GT/1.png"}


def test_a_list_inside_the_data_set_finds_the_sharp_ones(tmp_path: Path) -> None:
    for name in ("blur/1.png", "blur/2.png", "sharp/1.png", "sharp/2.png", "sharp/3.png"):
        Store(str(tmp_path)).write(name, b"")
    (tmp_path / "list.csv").write_text("source,reference\nblur/1.png,\nblur/2.png,sharp/3.png\n")
    notes: list[str] = []
    entries = list_images(str(tmp_path / "list.csv"), reference=str(tmp_path), note=notes.append)
    assert [entry.reference for entry in entries] == [str(tmp_path / "sharp/1.png"), str(tmp_path / "sharp/3.png")]
    assert notes == ["1 reference belongs to no image: sharp/2.png"]


_NAME = st.text("ab1", min_size=1, max_size=3)
_FOLDERS = st.lists(_NAME, max_size=3).map(lambda names: "".join(name + "/" for name in names))


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(_FOLDERS, _FOLDERS, _NAME), min_size=1, max_size=8), st.randoms())
def test_any_tree_is_paired_by_its_names(images: set[tuple[str, str, str]], random: object) -> None:
    """Each blurred image finds the original that its name tells, and none other, whichever of them are there."""
    names = sorted({f"{before}{{}}/{after}{name}.png" for before, after, name in images})
    there = [name for name in names if random.random() < 0.7]  # type: ignore[attr-defined]
    with TemporaryDirectory() as folder:
        files = [name.format("blur") for name in names] + [name.format("sharp") for name in there]
        found, notes = pairs(folder, files)
        assert found == swapped(names, "blur", "sharp")
        assert notes == []


def test_what_folders_tell() -> None:
    assert role_of("a/blur/x.png") == role_of("sharp/train_blur/0/x.png") == "input"
    assert role_of("a/GT/x.png") == role_of("blur/val_sharp/x.png") == "reference"
    assert role_of("sharp.png") is role_of("blurry_things/x.png") is None
    assert [swap.key("S") for swap in swaps("blur/a/input/x.png")] == ["blur/a/S/x.png", "S/a/input/x.png"]
    assert sharp_names("blur_1.png") == ["blur_1.png", "gt_1.png", "sharp_1.png"]
