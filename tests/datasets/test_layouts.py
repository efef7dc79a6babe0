"""Real pairs in the layouts of the data sets, as they unpack: what is planned, paired and left out, and the scores."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest

from mimo_core.datasets.imagelist import ImageEntry, list_images
from mimo_core.datasets.pairs import list_pairs
from mimo_core.errors import UsageError
from mimo_core.images.codecs import decode, model_input
from mimo_core.metrics.scorer import score_pair


@dataclass(frozen=True)
class Layout:
    """A data set on its disk: `{n}` is the number of a pair, from 1.

    Attributes:
        blurred: files of the blurred images, of which the first is to be restored.
        sharp: files of their originals.
        reference: what `--reference` names beside the root.
        left: files that are neither.
    """

    blurred: tuple[str, ...]
    sharp: str
    reference: str = ""
    left: tuple[str, ...] = ()


LAYOUTS = {
    "NAFNet": Layout(("val/input_crops/{n}.png",), "val/target_crops/{n}.png"),
    "HINet": Layout(("train/blur_crops/a_s00{n}.png",), "train/sharp_crops/a_s00{n}.png"),
    "HINet's REDS": Layout(("val/blur_300/{n}.png",), "val/sharp_300/{n}.png"),
    "Restormer": Layout(("test/GoPro/input/{n}.png",), "test/GoPro/target/{n}.png"),
    "GoPro": Layout(("test/G_{n}/blur/000047.png", "test/G_{n}/blur_gamma/000047.png"), "test/G_{n}/sharp/000047.png"),
    "HIDE": Layout(("test/test-close-ups/{n}fromGOPR0950.png",), "GT/{n}fromGOPR0950.png", "GT"),
    "HIDE in one": Layout(("test/test-close-ups/{n}fromGOPR0950.png",), "GT/{n}fromGOPR0950.png"),
    "RealBlur": Layout(("scene00{n}/blur/blur_7.png",), "scene00{n}/gt/gt_7.png"),
    "RSBlur": Layout(
        ("0001/00000{n}/real_blur/real_blur.png", "0001/00000{n}/avg65_img/avg_blur.png"),
        "0001/00000{n}/gt/gt_sharp.png",
        left=("0001/00000{n}/avg65_mask_100/avg_blur.png",),
    ),
    "RSBlur's synthetic ones": Layout(
        ("G/00000{n}/avg_inter_img/avg_blur.png",),
        "G/00000{n}/gt/gt_sharp.png",
        left=("G/00000{n}/avg_inter_mask_100/avg_blur.png",),
    ),
    "RSBlur's synthetic ones as its list has them": Layout(
        ("0019/00000{n}/oracle_avg65_img/avg_blur.png",), "0019/00000{n}/gt/gt_sharp.png"
    ),
    "REDS": Layout(("train/train_blur/00{n}/00000000.png",), "train/train_sharp/00{n}/00000000.png"),
    "REDS, a folder for each zip": Layout(
        ("val_blur/val/val_blur/00{n}/00000000.png",), "val_sharp/val/val_sharp/00{n}/00000000.png"
    ),
    "REDS' jpeg": Layout(
        ("train/train_blur/00{n}/00000000.png", "train/train_blur_jpeg/00{n}/00000000.png"),
        "train/train_sharp/00{n}/00000000.png",
    ),
    "REDS' jpeg alone": Layout(
        ("train_blur_jpeg/train/train_blur_jpeg/00{n}/00000000.png",),
        "train_sharp/train/train_sharp/00{n}/00000000.png",
    ),
    "BSD": Layout(("test/00{n}/Blur/RGB/00000000.png",), "test/00{n}/Sharp/RGB/00000000.png"),
    "Lai": Layout(("uniform/manmade_0{n}_kernel_01.png",), "ground_truth/manmade_0{n}.png"),
}
NUMBERS = (1, 2, 3)


@pytest.fixture(scope="module")
def real(shared_data: Path) -> list[tuple[Path, Path]]:
    """Three real pairs, blurred and sharp."""
    return list_pairs(shared_data / "reds_pairs")[:3]


def place(real: list[tuple[Path, Path]], root: Path, blurred: tuple[str, ...], sharp: tuple[str, ...]) -> None:
    """Link the pairs under these names."""
    for number, (first, second) in zip(NUMBERS, real, strict=True):
        for name, file in [*((name, first) for name in blurred), *((name, second) for name in sharp)]:
            target = root / name.format(n=number)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                try:
                    os.link(file, target)
                except OSError:
                    target.write_bytes(file.read_bytes())


def relative(root: Path, entries: list[ImageEntry]) -> dict[str, str]:
    return {
        str(Path(entry.source).relative_to(root)): str(Path(str(entry.reference)).relative_to(root))
        for entry in entries
    }


def score(entry: ImageEntry) -> dict[str, float | None]:
    """What a run's record would say of the input."""
    assert entry.reference is not None
    image, reference = (model_input(decode(Path(file).read_bytes())) for file in (entry.source, entry.reference))
    return score_pair(("psnr", "ssim"), image, reference)


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_paired_and_scored(tmp_path: Path, real: list[tuple[Path, Path]], name: str) -> None:
    layout, notes = LAYOUTS[name], list[str]()
    place(real, tmp_path, (*layout.blurred, *layout.left), (layout.sharp,))
    entries = list(
        list_images(str(tmp_path), reference=str(tmp_path / layout.reference).rstrip("/"), note=notes.append)
    )
    expected = {layout.blurred[0].format(n=number): layout.sharp.format(n=number) for number in NUMBERS}
    assert relative(tmp_path, entries) == expected
    assert [entry.paired for entry in entries] == [True] * 3
    assert notes == []
    for entry, (blurred, sharp) in zip(entries, real, strict=True):
        first, second = (cv2.imread(str(file)).astype(float) for file in (blurred, sharp))
        by_hand = 10 * math.log10(255**2 / ((first - second) ** 2).mean())
        assert score(entry)["psnr"] == pytest.approx(by_hand, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("RealBlur", "{sharp} {blurred} "),
        ("RSBlur", "{sharp} {blurred}"),
        ("RSBlur's synthetic ones", "{sharp}\t{blurred}"),
        ("RSBlur's synthetic ones as its list has them", "{sharp} {blurred}"),
        ("BSD", "{sharp} {blurred}"),
        ("GoPro", "{blurred}, {sharp}"),
    ],
)
def test_lists_of_two_columns_are_pairs(tmp_path: Path, real: list[tuple[Path, Path]], name: str, lines: str) -> None:
    layout, root = LAYOUTS[name], tmp_path / "Real Blur-J"
    place(real, root, layout.blurred, (layout.sharp,))
    rows = [
        lines.format(sharp=f"Real Blur-J/{layout.sharp}", blurred=f"Real Blur-J/{layout.blurred[0]}").format(n=number)
        for number in NUMBERS
    ]
    (tmp_path / "list.txt").write_text("\n".join(rows) + "\n")
    entries = list(list_images(str(tmp_path / "list.txt"), reference=str(root)))
    expected = {layout.blurred[0].format(n=number): layout.sharp.format(n=number) for number in NUMBERS}
    assert relative(root, entries) == expected
    assert [score(entry)["psnr"] for entry in entries] == [
        score(ImageEntry("", str(blurred), str(sharp)))["psnr"] for blurred, sharp in real
    ]


@pytest.mark.parametrize(
    ("line", "images"),
    [("a/1.png b/1.png", 2), ("blur/1.png blur/2.png", 2), ("gt/1.png blur/1.png mask/1.png", 3)],
)
def test_columns_that_no_name_tells_apart_are_refused(tmp_path: Path, line: str, images: int) -> None:
    (tmp_path / "list.txt").write_text(f"one image with spaces.png\n{line}\n")
    with pytest.raises(UsageError, match=rf"list.txt, line 2: {images} images, and .* do not tell which"):
        list(list_images(str(tmp_path / "list.txt")))


def test_paths_with_spaces_and_commas_are_one_path(tmp_path: Path) -> None:
    names = ["my photos, 2019/a b.png", "x.png.d/1.png", "archive.png/frame 2.png", "holiday.jpg copy.jpg"]
    names += ["trip/a.png - Copy.png", "b.png,c.png"]
    (tmp_path / "list.txt").write_text("\n".join(names))
    assert [entry.key for entry in list_images(str(tmp_path / "list.txt"))] == names


def test_many_blurs_of_one_original_share_it(tmp_path: Path, real: list[tuple[Path, Path]]) -> None:
    blurred = ("uniform/text_0{n}_kernel_01.png", "uniform/text_0{n}_kernel_02.png", "nonuniform/text_0{n}_gyro_01.png")
    place(real, tmp_path, blurred, ("ground_truth/text_0{n}.png",))
    entries = list(list_images(str(tmp_path), reference=str(tmp_path)))
    assert len(entries) == 9
    assert {entry.reference for entry in entries} == {str(tmp_path / f"ground_truth/text_0{n}.png") for n in NUMBERS}


def test_koehler_is_refused_by_name(tmp_path: Path, real: list[tuple[Path, Path]]) -> None:
    place(real, tmp_path, ("BlurryImages/Blurry1_{n}.png",), ("GroundTruth/Image1/GroundTruth1_{n}_1.png",))
    with pytest.raises(UsageError, match=r"'BlurryImages/Blurry1_1.png' is of Koehler's data set"):
        list(list_images(str(tmp_path), reference=str(tmp_path)))
    with pytest.raises(UsageError, match=r"'Blurry1_1.png' is of Koehler's data set"):
        list(list_images(str(tmp_path / "BlurryImages"), reference=str(tmp_path / "GroundTruth")))


def test_one_image_that_is_named_like_koehlers_stops_nobody(tmp_path: Path, real: list[tuple[Path, Path]]) -> None:
    place(real, tmp_path, ("photos/{n}.png",), ("sharp/{n}.png",))
    place(real, tmp_path, ("photos/blurry1_{n}.png",), ())
    entries = list(list_images(str(tmp_path / "photos"), reference=str(tmp_path / "sharp")))
    assert [(entry.key, entry.paired) for entry in entries] == [
        *((f"{n}.png", True) for n in NUMBERS),
        *((f"blurry1_{n}.png", False) for n in NUMBERS),
    ]


@pytest.mark.parametrize("name", ["input.lmdb", "target.lmdb", ""])
def test_lmdb_is_refused_by_name(tmp_path: Path, real: list[tuple[Path, Path]], name: str) -> None:
    for database in ("input.lmdb", "target.lmdb"):
        (tmp_path / database).mkdir()
        for file in ("data.mdb", "lock.mdb", "meta_info.txt"):
            (tmp_path / database / file).write_bytes(b"")
    with pytest.raises(UsageError, match=r"holds images in LMDB databases \(.*data.mdb\), which are not read"):
        list(list_images(str(tmp_path / name)))
    with pytest.raises(UsageError, match=r"the reference .* holds images in LMDB databases"):
        list_images(str(real[0][0].parent), reference=str(tmp_path / name))
