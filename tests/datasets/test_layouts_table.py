"""The table of docs/layouts.md: each data set's layout, built of real pairs, through an evaluation without a network.

`PYTHONPATH=tests python tests/datasets/test_layouts_table.py ../shared/data` writes it anew; as tests
each row is made again.
"""

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import pytest
from inprocess import run

from mimo_core.datasets.left_aside import is_image_name
from mimo_core.datasets.pairs import list_pairs
from mimo_core.distributed.dry_run import Listed, dry_run
from mimo_core.errors import UsageError
from mimo_core.runs.config import EvaluateConfig
from mimo_core.runs.record import Record

PAGE = Path(__file__).resolve().parents[2] / "docs" / "layouts.md"
HEADER = """| data set | SOURCE | images | planned | paired | left out | first image | PSNR | SSIM | mean PSNR |
|---|---|---|---|---|---|---|---|---|---|
"""
PAIRS = 6


@dataclass(frozen=True)
class Layout:
    """A data set on its disk: `{n}` is the number of a pair from 1, `{shot}` one of HIDE's folders.

    Attributes:
        name: of the row.
        planned: files of the blurred images that are to be restored, the first one's is shown.
        sharp: files of their originals.
        left: files that are neither, or that are there a second time.
        source, reference: what the command names, below the root.
        line: of a list beside the root that is the source, `{sharp}` and `{blurred}`.
        data: where the pairs come from.
    """

    name: str
    planned: tuple[str, ...]
    sharp: str
    left: tuple[str, ...] = ()
    source: str = ""
    reference: str = ""
    line: str = ""
    data: str = "gopro_pairs"


REAL, REDS = {"data": "reds_pairs"}, "val/val_{}/00{{n}}/00000000.png"
RSBLUR = ("0001/00000{n}/real_blur/real_blur.png",), "0001/00000{n}/gt/gt_sharp.png"
REALBLUR = ("scene00{n}/blur/blur_7.png",), "scene00{n}/gt/gt_7.png"
LAYOUTS = [
    Layout("NAFNet", ("val/input_crops/{n}.png",), "val/target_crops/{n}.png", source="val", reference="val"),
    Layout("HINet", ("train/blur_crops/{n}.png",), "train/sharp_crops/{n}.png", source="train", reference="train"),
    Layout("Restormer", ("test/GoPro/input/{n}.png",), "test/GoPro/target/{n}.png"),
    Layout(
        "GoPro",
        ("test/GOPR0372_07_0{n}/blur/000047.png",),
        "test/GOPR0372_07_0{n}/sharp/000047.png",
        left=("test/GOPR0372_07_0{n}/blur_gamma/000047.png",),
        source="test",
        reference="test",
    ),
    Layout("HIDE", ("test/{shot}/{n}fromGOPR0950.png",), "GT/{n}fromGOPR0950.png", source="test", reference="GT"),
    Layout("HIDE, one root", ("test/{shot}/{n}fromGOPR0950.png",), "GT/{n}fromGOPR0950.png"),
    Layout("RealBlur", *REALBLUR, **REAL),
    # Each line of that list ends in a space.
    Layout("RealBlur, list", *REALBLUR, line="{sharp} {blurred} ", **REAL),
    Layout(
        "RSBlur",
        *RSBLUR,
        left=("0001/00000{n}/avg65_img/avg_blur.png", "0001/00000{n}/avg65_mask_100/avg_blur.png"),
        **REAL,
    ),
    Layout(
        "RSBlur, list",
        *RSBLUR,
        left=("0001/00000{n}/avg65_img/avg_blur.png", "0001/00000{n}/avg65_mask_100/avg_blur.png"),
        line="{sharp} {blurred}",
        **REAL,
    ),
    Layout("REDS", (REDS.format("blur"),), REDS.format("sharp"), source="val", reference="val", **REAL),
    Layout(
        "REDS, a folder for each zip",
        ("val_blur/" + REDS.format("blur"),),
        "val_sharp/" + REDS.format("sharp"),
        left=("val_blur_jpeg/" + REDS.format("blur_jpeg"),),
        **REAL,
    ),
    Layout("BSD", ("test/00{n}/Blur/RGB/00000000.png",), "test/00{n}/Sharp/RGB/00000000.png", **REAL),
    Layout(
        "Lai",
        ("uniform/manmade_0{n}_kernel_01.png", "uniform/manmade_0{n}_kernel_02.png"),
        "ground_truth/manmade_0{n}.png",
        **REAL,
    ),
]
REFUSED = {
    "Köhler": (
        ("BlurryImages/Blurry1_{n}.png", "GroundTruth/Image1/GroundTruth1_{n}_1.png"),
        "is of Koehler's data set, which has about 200 originals for each image",
    ),
    "LMDB": (("input.lmdb/data.mdb", "target.lmdb/data.mdb"), "holds images in LMDB databases"),
}


def pairs_of(shared: Path, data: str) -> list[tuple[Path, Path]]:
    """Six real pairs, spread over the sequence."""
    pairs = list_pairs(shared / data)
    return pairs[:: len(pairs) // PAIRS][:PAIRS]


def link(file: Path, target: Path) -> None:
    """Have a file a second time, without its bytes where the disk allows that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    try:
        os.link(file, target)
    except OSError:
        target.write_bytes(file.read_bytes())


def named(pattern: str, number: int) -> str:
    return pattern.format(n=number, shot=("test-long-shot", "test-close-ups")[number % 2])


def build(root: Path, layout: Layout, pairs: list[tuple[Path, Path]]) -> Path:
    """Lay the pairs out below the root; return what SOURCE is."""
    for number, (blurred, sharp) in enumerate(pairs, 1):
        for pattern in (*layout.planned, *layout.left):
            link(blurred, root / named(pattern, number))
        link(sharp, root / named(layout.sharp, number))
    if not layout.line:
        return root / layout.source
    line = layout.line.format(sharp=f"{root.name}/{layout.sharp}", blurred=f"{root.name}/{layout.planned[0]}")
    lines = [named(line, number) for number in range(1, PAIRS + 1)]
    (root.parent / "test_list.txt").write_text("\n".join(lines) + "\n")
    return root.parent / "test_list.txt"


@dataclass(frozen=True)
class Row:
    """What came of a layout."""

    layout: Layout
    images: int
    listed: Listed
    records: dict[str, Record]

    def text(self) -> str:
        """As a line of the table."""
        used = {record.source for record in self.records.values()} | {
            record.reference for record in self.records.values()
        }
        first = next(iter(self.records.values()))
        source = "its list" if self.layout.line else f"`{self.layout.source}/`" if self.layout.source else "its root"
        scores = [record.psnr for record in self.records.values() if record.psnr is not None]
        cells = [self.layout.name, source, self.images, self.listed.images, self.paired, self.images - len(used)]
        cells += [f"`{first.key}`", f"{first.psnr:.3f}", f"{first.ssim:.4f}", f"{sum(scores) / len(scores):.3f}"]
        return "| " + " | ".join(map(str, cells)) + " |\n"

    @property
    def paired(self) -> int:
        """Images whose reference was there when they were scored."""
        return sum(record.error_kind is None and record.psnr is not None for record in self.records.values())


def row_of(layout: Layout, shared: Path, folder: Path) -> Row:
    """Lay a data set out, list it, and evaluate it without a network: the scores are those of the blurred images."""
    root = folder / layout.name.split(",", maxsplit=1)[0]
    source, reference = build(root, layout, pairs_of(shared, layout.data)), root / layout.reference
    config = EvaluateConfig.model_validate(
        {"source": str(source), "reference": str(reference), "output": str(folder / "out"), "engine": "identity"}
    )
    listed = dry_run(config).listed
    assert listed is not None
    options = {"evaluates": True, "saves_images": False, "engine": "identity", "metrics": ("psnr", "ssim")}
    records = run(source, folder / "out", reference=reference, **options).records
    images = sum(is_image_name(path.name) for path in root.rglob("*") if path.is_file())
    return Row(layout, images, listed, records)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_each_row_is_what_an_evaluation_gives(tmp_path: Path, shared_data: Path, layout: Layout) -> None:
    row = row_of(layout, shared_data, tmp_path)
    assert row.listed.images == row.paired == len(row.records) == PAIRS * len(layout.planned)
    assert row.listed.paired + row.listed.unseen == row.paired
    assert row.listed.unpaired == ()
    assert row.images == PAIRS * (len(layout.planned) + len(layout.left) + 1)
    by_hand = []
    for blurred, sharp in pairs_of(shared_data, layout.data):
        first, second = (cv2.imread(str(file)).astype(float) for file in (blurred, sharp))
        by_hand.append(10 * math.log10(255**2 / ((first - second) ** 2).mean()))
    found = sorted(record.psnr or 0 for record in row.records.values())
    assert found == pytest.approx(sorted(by_hand * len(layout.planned)), abs=1e-9)
    assert row.text() in PAGE.read_text(encoding="utf-8"), "run this file to write the table anew"


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_scored_is_refused_by_name(tmp_path: Path, shared_data: Path, name: str) -> None:
    patterns, message = REFUSED[name]
    for number, pair in enumerate(pairs_of(shared_data, "reds_pairs"), 1):
        for pattern, file in zip(patterns, pair, strict=True):
            link(file, tmp_path / "set" / pattern.format(n=number))
    place = str(tmp_path / "set")
    config = {"source": place, "reference": place, "output": str(tmp_path / "out"), "engine": "identity"}
    with pytest.raises(UsageError, match=message):
        dry_run(EvaluateConfig.model_validate(config))
    assert f"| {name} |" in PAGE.read_text(encoding="utf-8")


def write_table(shared: Path) -> None:
    rows = []
    for layout in LAYOUTS:
        with TemporaryDirectory() as folder:
            rows.append(row_of(layout, shared, Path(folder)).text())
    images = {"Köhler": 2 * PAIRS, "LMDB": 0}
    rows += [f"| {name} | its root | {images[name]} | refused | | | | | | |\n" for name in REFUSED]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(HEADER)
    after = [line for line in rest.splitlines(keepends=True) if not line.startswith("|")]
    PAGE.write_text(before + HEADER + "".join([*rows, *after]), encoding="utf-8")


if __name__ == "__main__":
    write_table(Path(sys.argv[1]))
