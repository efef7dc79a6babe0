"""Training pairs come from photographs, pairs and frames as promised."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import alpha, exif, scene, with_pillow

from mimo_core.datasets.imagelist import list_images
from mimo_core.datasets.pairs import image_files, list_pairs
from mimo_core.errors import UsageError
from mimo_core.training.blur import Shake
from mimo_core.training.loader import photo_files
from mimo_core.training.sources import (
    AveragedFrames,
    ImagePairs,
    SharpPhotos,
    average,
    read_clips,
    read_rgb,
    sharp_tiles,
)
from mimo_core.training.train_config import PairData, PhotoData

STILL = Shake(0.0, 0.0, read_noise=0.0, shot_noise=0.0)


def texture(seed: int, height: int = 320, width: int = 384) -> np.ndarray:
    """A busy colour image: what a sharp photograph is to the Laplacian."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def test_only_sharp_tiles_are_chosen() -> None:
    image = np.full((512, 768, 3), 128, dtype=np.uint8)
    image[:, :256] = texture(1, 512, 256)
    corners = sharp_tiles(image)
    assert (0, 0) in corners
    assert (256, 0) in corners
    assert all(left < 256 for _, left in corners)
    plain = cv2.cvtColor(image[:256, :256], cv2.COLOR_RGB2GRAY)
    assert cv2.Laplacian(plain, cv2.CV_64F).var() >= 150


def test_soft_photographs_are_refused(tmp_path: Path) -> None:
    soft = write(tmp_path / "soft.png", np.full((300, 300, 3), 90, dtype=np.uint8))
    with pytest.raises(UsageError, match="none of 1 photographs"):
        SharpPhotos([soft], STILL)


def test_still_photographs_stay_as_they_are(tmp_path: Path) -> None:
    source = SharpPhotos([write(tmp_path / "a.png", texture(1))], Shake(5.0, 9.0), still=1.0)
    pair = source.draw(np.random.default_rng(0), 64)
    assert pair.sharp.shape == (64, 64, 3)
    assert np.array_equal(pair.blurred, pair.sharp)


def test_blurred_crops_lie_on_their_sharp_ones(tmp_path: Path) -> None:
    source = SharpPhotos([write(tmp_path / "a.png", texture(1))], Shake(6.0, 9.0, read_noise=0.0, shot_noise=0.0))
    for seed in range(5):
        pair = source.draw(np.random.default_rng(seed), 96)
        assert pair.blurred.shape == pair.sharp.shape == (96, 96, 3)
        gray = [cv2.GaussianBlur(image[..., 1].astype(np.float32), (0, 0), 2) for image in (pair.blurred, pair.sharp)]
        (dx, dy), _ = cv2.phaseCorrelate(*gray)
        assert max(abs(dx), abs(dy)) < 0.5
        assert not np.array_equal(pair.blurred, pair.sharp)


def test_pairs_are_cut_alike_at_every_scale(tmp_path: Path) -> None:
    sharp = texture(2)
    files = [(write(tmp_path / "blur" / "a.png", 255 - sharp), write(tmp_path / "sharp" / "a.png", sharp))]
    source = ImagePairs(files, min_scale=0.3)
    for seed in range(10):
        pair = source.draw(np.random.default_rng(seed), 64)
        assert pair.sharp.shape == (64, 64, 3)
        assert np.abs(255 - pair.blurred.astype(int) - pair.sharp).max() <= 1


def test_pairs_are_seen_at_the_scales_that_are_asked_for(tmp_path: Path) -> None:
    ramp = np.repeat(np.repeat(np.arange(256, dtype=np.uint8)[np.newaxis, :, np.newaxis], 256, 0), 3, 2)
    files = [(write(tmp_path / "blur" / "a.png", ramp), write(tmp_path / "sharp" / "a.png", ramp))]
    source = ImagePairs(files, min_scale=0.25, max_scale=0.5)
    for seed in range(20):
        row = source.draw(np.random.default_rng(seed), 32).sharp[0, :, 0].astype(int)
        # Where an image is shrunk to a quarter, neighbours are four levels apart.
        assert 1.9 <= (row[-1] - row[0]) / 31 <= 4.1
    with pytest.raises(ValueError, match=r"min_scale 0.5 is above max_scale 0.25"):
        PairData(folder=tmp_path, min_scale=0.5, max_scale=0.25)


def test_a_pair_of_two_sizes_is_refused(tmp_path: Path) -> None:
    files = [(write(tmp_path / "blur" / "a.png", texture(1, 64, 64)), write(tmp_path / "a.png", texture(1, 64, 68)))]
    with pytest.raises(UsageError, match="64x64"):
        ImagePairs(files)


def test_pairs_are_found_by_name_whatever_the_container(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.png"):
        write(tmp_path / "input" / name, texture(1, 32, 32))
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / "target" / name, texture(1, 32, 32))
    assert [(one.name, two.name) for one, two in list_pairs(tmp_path)] == [("a.png", "a.png"), ("b.jpg", "b.png")]
    (tmp_path / "target" / "b.png").unlink()
    with pytest.raises(UsageError, match=r"b.jpg has no sharp image"):
        list_pairs(tmp_path)
    with pytest.raises(UsageError, match="no folders blur and sharp"):
        list_pairs(tmp_path / "input")


def test_frames_are_averaged_around_their_middle() -> None:
    frames = [np.full((40, 40, 3), level, dtype=np.uint8) for level in (10, 20, 31, 40, 50)]
    source = AveragedFrames([frames], counts=[5])
    pair = source.draw(np.random.default_rng(0), 32)
    assert pair.sharp.max() == pair.sharp.min() == 31
    assert pair.blurred.max() == pair.blurred.min() == 30
    assert average(frames[:2])[0, 0, 0] == 15


def test_averages_never_cross_a_cut(tmp_path: Path) -> None:
    for index in range(6):
        write(tmp_path / f"{index:03d}.png", np.full((32, 32, 3), 20 if index < 3 else 200, dtype=np.uint8))
    clips = read_clips(tmp_path)
    assert [len(clip) for clip in clips] == [3, 3]
    source = AveragedFrames(clips, counts=[3])
    assert len(source) == 2
    values = {int(source.draw(np.random.default_rng(seed), 32).blurred[0, 0, 0]) for seed in range(20)}
    assert values == {20, 200}


@pytest.mark.parametrize("counts", [[], [4], [1]])
def test_frame_counts_without_a_middle_are_refused(counts: list[int]) -> None:
    with pytest.raises(UsageError, match="odd"):
        AveragedFrames([[np.zeros((8, 8, 3), dtype=np.uint8)] * 9], counts=counts)


def test_a_clip_that_is_too_short_is_refused() -> None:
    with pytest.raises(UsageError, match="no clip has 7"):
        AveragedFrames([[np.zeros((8, 8, 3), dtype=np.uint8)] * 5], counts=[7])


def test_videos_are_read(shared_data: Path) -> None:
    clips = read_clips(shared_data / "video" / "cityCC0.mpg")
    assert sum(len(clip) for clip in clips) == 190
    assert [len(clip) for clip in clips][:1] == [116]
    assert clips[0][0].shape == (405, 720, 3)


def test_held_out_photographs_are_left_out_and_must_exist(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.jpg"):
        write(tmp_path / name, texture(1, 32, 32))
    assert [file.name for file in photo_files(PhotoData(folders=(tmp_path,), exclude=("b.*",)))] == ["a.png", "c.jpg"]
    with pytest.raises(UsageError, match=r"d\.png"):
        photo_files(PhotoData(folders=(tmp_path,), exclude=("d.png",)))
    with pytest.raises(UsageError, match="not a folder"):
        photo_files(PhotoData(folders=(tmp_path / "none",)))
    assert len(image_files(tmp_path)) == 3


@pytest.mark.parametrize(
    ("folder", "layout"),
    [
        ("scene001", {"blur/blur_1.png": "gt/gt_1.png", "blur/blur_2.png": "gt/gt_2.png"}),
        ("train", {"train_blur/000/1.png": "train_sharp/000/1.png"}),
        ("train", {"Input/1.png": "GT/1.png"}),
    ],
    ids=["RealBlur", "REDS", "any case"],
)
def test_pairs_are_those_that_a_run_would_compare(tmp_path: Path, folder: str, layout: dict[str, str]) -> None:
    for name in (*layout, *layout.values(), "extra/1.png"):
        write(tmp_path / folder / name, texture(1, 32, 32))
    expected = [(tmp_path / folder / one, tmp_path / folder / other) for one, other in layout.items()]
    assert list_pairs(tmp_path / folder) == list_pairs(tmp_path) == expected
    entries = {
        Path(entry.source): Path(str(entry.reference))
        for entry in list_images(str(tmp_path / folder), reference=str(tmp_path / folder))
    }
    assert all(entries[one] == other for one, other in expected)


def test_the_order_is_that_of_the_segments_of_paths(tmp_path: Path) -> None:
    names = ["a/2.png", "a/10.png", "a-b/1.png", "B/1.png", "é.png", ".hidden.png", "a.png"]
    for name in names:
        write(tmp_path / name, texture(1, 32, 32))
    (tmp_path / "._a.png").write_bytes(b"a sidecar of macOS")
    found = image_files(tmp_path)
    assert found == sorted(tmp_path / name for name in names)
    assert image_files(tmp_path / "B") == [tmp_path / "B" / "1.png"]


def test_images_are_read_as_runs_read_them(tmp_path: Path, shared_data: Path) -> None:
    colour = scene(40, 60)
    (tmp_path / "turned.jpg").write_bytes(with_pillow(colour, "JPEG", quality=95, exif=exif(6)))
    assert read_rgb(tmp_path / "turned.jpg").shape == (60, 40, 3), "as a viewer shows it"
    assert cv2.imwrite(str(tmp_path / "deep.png"), cv2.cvtColor(colour, cv2.COLOR_RGB2BGR).astype(np.uint16) * 257)
    assert np.array_equal(read_rgb(tmp_path / "deep.png"), colour)
    (tmp_path / "gray.png").write_bytes(with_pillow(colour[:, :, :1], "PNG"))
    assert np.array_equal(read_rgb(tmp_path / "gray.png"), np.repeat(colour[:, :, :1], 3, axis=2))
    (tmp_path / "alpha.png").write_bytes(with_pillow(np.dstack([colour, alpha(40, 60)]), "PNG"))
    assert np.array_equal(read_rgb(tmp_path / "alpha.png"), colour)
    # Ordinary files have the pixels that OpenCV gives.
    for file in (*image_files(shared_data / "gopro_pairs")[::20], *image_files(shared_data / "photos")[::8]):
        assert np.array_equal(read_rgb(file), cv2.imread(str(file), cv2.IMREAD_COLOR_RGB))
    (tmp_path / "text.png").write_text("no image")
    for name in ("text.png", "missing.png"):
        with pytest.raises(UsageError, match=name):
            read_rgb(tmp_path / name)


def test_pairs_are_found_sequence_by_sequence_as_gopro_has_them(tmp_path: Path) -> None:
    for sequence in ("GOPR2", "GOPR1"):
        for kind in ("blur", "blur_gamma", "sharp"):
            for name in ("b.png", "a.png"):
                path = tmp_path / "train" / sequence / kind / name
                path.parent.mkdir(parents=True, exist_ok=True)
                write(path, texture(1, 32))
    pairs = list_pairs(tmp_path / "train")
    assert [str(blurred.relative_to(tmp_path / "train")) for blurred, _ in pairs] == [
        *("GOPR1/blur/a.png", "GOPR1/blur/b.png", "GOPR2/blur/a.png", "GOPR2/blur/b.png")
    ]
    assert all(str(sharp) == str(blurred).replace("blur", "sharp") for blurred, sharp in pairs)
    with pytest.raises(UsageError, match="has no folders blur and sharp"):
        list_pairs(tmp_path)
