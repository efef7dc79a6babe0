"""The library: what a notebook calls gives the pixels, files and figures of a run, and says what is wrong."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from finished import finish, make_pairs, photograph
from inprocess import run
from pictures import alpha, exif, opened, profile, scene, with_pillow

import mimo_core
from mimo_core import ImageError, ImageRestorer, UsageError
from mimo_core.images.codecs import decode
from mimo_core.metrics.psnr_ssim import psnr, ssim
from mimo_core.runs.records import read_part
from mimo_core.storage import Store

ROOT = Path(__file__).resolve().parents[2]
LITE = {"weights": "mimo-unet-lite", "engine": "torch", "precision": "fp32", "device": "cpu", "cpus_per_worker": 1}


@pytest.fixture(scope="module")
def restorer() -> ImageRestorer:
    return ImageRestorer(**LITE)


def blurred() -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(photograph("blurred")[40:136, 60:204, ::-1])


def test_importing_it_is_fast_and_loads_nothing() -> None:
    script = (
        "import sys, time\nbegun = time.process_time()\nimport mimo_core\nspent = time.process_time() - begun\n"
        "heavy = 'numpy', 'torch', 'cv2', 'pyarrow', 'pydantic', 'ray'\n"
        "print(spent, *[name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    spent, *loaded = done.stdout.split()
    assert loaded == []
    assert float(spent) < 0.1


def test_every_name_is_there_and_no_other() -> None:
    assert sorted(mimo_core.__all__) == mimo_core.__all__
    for name in mimo_core.__all__:
        assert getattr(mimo_core, name) is not None
    assert set(mimo_core.__all__) <= set(dir(mimo_core))
    with pytest.raises(AttributeError, match="no attribute 'restor'"):
        _ = mimo_core.restor  # type: ignore[attr-defined]


def test_files_and_arrays_get_the_pixels_of_a_run(tmp_path: Path, restorer: ImageRestorer) -> None:
    make_pairs(tmp_path, ["a.png"])
    outcome = run(tmp_path / "blurred", tmp_path / "run", weights="mimo-unet-lite")
    expected = outcome.output("a.png")
    source = tmp_path / "blurred" / "a.png"
    restorer.restore_file(source, tmp_path / "new" / "a.png")
    assert (tmp_path / "new" / "a.png").read_bytes() == expected
    assert np.array_equal(restorer.restore(str(source)), decode(expected).pixels)
    once = mimo_core.restore(decode(source.read_bytes()).pixels, **LITE)
    assert np.array_equal(once, decode(expected).pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_keep_their_shape_and_type(restorer: ImageRestorer, dtype: type[np.unsignedinteger]) -> None:
    colour = blurred().astype(dtype) * (257 if dtype is np.uint16 else 1)
    restored = restorer.restore(colour)
    assert restored.shape == colour.shape
    assert restored.dtype == dtype
    assert not np.array_equal(restored, colour)
    transparency = (alpha(*colour.shape[:2]).astype(dtype))[:, :, np.newaxis]
    with_alpha = restorer.restore(np.concatenate([colour, transparency], axis=2))
    assert np.array_equal(with_alpha[:, :, :3], restored)
    assert np.array_equal(with_alpha[:, :, 3:], transparency)
    gray = np.ascontiguousarray(colour[:, :, 1])
    flat, deep = restorer.restore(gray), restorer.restore(gray[:, :, np.newaxis])
    assert flat.shape == gray.shape
    assert flat.dtype == deep.dtype == dtype
    assert np.array_equal(flat[:, :, np.newaxis], deep)
    assert np.array_equal(restorer.restore(colour[::-1, ::-1]), restorer.restore(colour[::-1, ::-1].copy()))


def test_a_file_keeps_its_metadata_and_its_pixels_lie_as_stored(tmp_path: Path, restorer: ImageRestorer) -> None:
    data = with_pillow(blurred(), "JPEG", quality=95, exif=exif(6), icc_profile=profile())
    (tmp_path / "in.jpg").write_bytes(data)
    restorer.restore_file(str(tmp_path / "in.jpg"), str(tmp_path / "out.webp"), quality=90)
    before, after = opened(data), opened((tmp_path / "out.webp").read_bytes())
    assert after.format == "WEBP"
    assert after.size == before.size
    assert after.getexif()[0x112] == 6
    assert after.info["icc_profile"] == profile()
    assert restorer.restore(tmp_path / "in.jpg").shape == blurred().shape


def test_options_are_those_of_a_run() -> None:
    image = blurred()
    with ImageRestorer(**LITE, tile="64x64", overlap=8, batch=2, ensemble=4) as restorer:
        recipe = restorer.recipe
        assert (recipe.tile, recipe.overlap, recipe.batch, recipe.ensemble) == ((64, 64), 8, 2, 4)
        assert (recipe.engine, recipe.threads) == ("torch", 1)
        turned = np.rot90(restorer.restore(np.ascontiguousarray(np.rot90(image))), -1)
        assert psnr(np.ascontiguousarray(turned), restorer.restore(image)) > 50
    with pytest.raises(UsageError, match="closed"):
        restorer.restore(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": "x"}, "no option weight; did you mean weights"),
        ({"shard_size": 4}, "no option shard_size; there are weights, model"),
        ({"tile": "big"}, "--tile: expected HEIGHTxWIDTH"),
        ({"precision": "fp64"}, "--precision: expected auto, fp32"),
        ({"overlap": -1}, "--overlap: input should be greater"),
        ({"weights": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"engine": "torch", "device": "cpu", "precision": "int8"}, "nothing computes in int8 on cpu"),
    ],
)
def test_a_wrong_option_is_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as told:
        mimo_core.restore(np.zeros((8, 8, 3), np.uint8), **options)  # type: ignore[arg-type]
    assert message in str(told.value)


def test_what_is_no_image_is_told(tmp_path: Path, restorer: ImageRestorer) -> None:
    with pytest.raises(UsageError, match="float64: scale values"):
        restorer.restore(np.zeros((8, 8, 3)))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="1, 3 or 4 channels"):
        restorer.restore(np.zeros((8, 8, 2), np.uint8))
    with pytest.raises(UsageError, match="not list"):
        restorer.restore([[1]])  # type: ignore[arg-type]
    with pytest.raises(ImageError) as missing:
        restorer.restore(tmp_path / "missing.png")
    assert missing.value.kind == "not_found"
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError) as text:
        restorer.restore_file(tmp_path / "text.png", tmp_path / "out.png")
    assert text.value.kind == "not_an_image"
    assert not (tmp_path / "out.png").exists()


def test_a_source_is_never_overwritten_nor_a_container_guessed(tmp_path: Path, restorer: ImageRestorer) -> None:
    source = tmp_path / "a.png"
    assert cv2.imwrite(str(source), scene(32, 32))
    before = source.read_bytes()
    (tmp_path / "link.png").symlink_to(source)
    for output in (source, tmp_path / "link.png", tmp_path / "." / "a.png", f"file://{source}"):
        with pytest.raises(UsageError, match="is the source"):
            restorer.restore_file(source, output)
    with pytest.raises(UsageError, match="not named as an image"):
        restorer.restore_file(source, tmp_path / "a.doc")
    with pytest.raises(ImageError, match="256 colours"):
        restorer.restore_file(source, tmp_path / "a.gif")
    assert source.read_bytes() == before


def test_large_images_are_refused_by_their_header(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(with_pillow(scene(64, 64), "PNG"))
    with ImageRestorer(engine="identity", max_pixels=4000) as restorer, pytest.raises(ImageError) as told:
        restorer.restore(tmp_path / "a.png")
    assert told.value.kind == "too_large"


def test_scores_are_those_of_the_records(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "pairs", ["a.png", "b.png"])
    finish(pairs, tmp_path / "run", metrics=("psnr", "ssim", "psnr_y", "ssim_matlab3d"))
    for record in mimo_core.read_records(tmp_path / "run"):
        found = mimo_core.score(tmp_path / "run" / str(record.output), pairs / "sharp" / record.key, "all")
        assert list(found) == ["psnr", "ssim", "psnr_float", "psnr_y", "ssim_matlab3d"]
        assert found["psnr"] == record.psnr
        assert found["ssim"] == record.ssim
        assert found["psnr_y"] == record.psnr_y
        assert found["ssim_matlab3d"] == record.ssim_matlab3d
        assert found["psnr_float"] == pytest.approx(record.psnr, abs=1e-4)


def test_scores_take_gray_alpha_and_depth_as_a_run_does() -> None:
    image, other = scene(40, 40), scene(80, 40)[40:]
    plain = mimo_core.score(image, other)
    assert plain == {"psnr": psnr(image, other), "ssim": ssim(image, other)}
    deep = other.astype(np.uint16) * 257
    assert mimo_core.score(np.dstack([image, alpha(40, 40)]), deep) == plain
    gray = mimo_core.score(image[:, :, 0], other[:, :, 0], metrics=["psnr"])
    assert gray == {"psnr": pytest.approx(psnr(image[:, :, 0], other[:, :, 0]))}
    assert mimo_core.score(image[:8], other[:8], "ssim") == {"ssim": None}
    with pytest.raises(UsageError, match="one shape"):
        mimo_core.score(image, other[:20])
    with pytest.raises(UsageError, match="no metric 'lpips'"):
        mimo_core.score(image, other, "psnr, lpips")


def test_records_come_in_the_order_of_the_plan_as_objects_and_as_a_table(tmp_path: Path) -> None:
    keys = [f"{number:02d}.png" for number in range(9)]
    pairs = make_pairs(tmp_path / "pairs", keys, (32, 32))
    outcome = finish(pairs, tmp_path / "run", weights=None)
    records = mimo_core.read_records(tmp_path / "run")
    assert [record.output_sha256 for record in records] == [outcome.records[key].output_sha256 for key in keys]
    store = Store(str(tmp_path / "run"))
    assert records == [record for number in range(3) for record in read_part(store, number)]
    table = mimo_core.read_records_table(str(tmp_path / "run"))
    assert table["key"].to_pylist() == keys
    assert len(list((tmp_path / "run" / "records").iterdir())) == 3
    with pytest.raises(UsageError, match="holds no records"):
        mimo_core.read_records(tmp_path)


@pytest.mark.s3
def test_buckets_are_read_and_written(tmp_path: Path, s3_bucket: str, restorer: ImageRestorer) -> None:
    place = Store(f"s3://{s3_bucket}/library")
    place.write("in.png", with_pillow(blurred(), "PNG"))
    restorer.restore_file(f"{place.url}/in.png", f"{place.url}/out/a.png")
    assert np.array_equal(decode(place.read("out/a.png")).pixels, restorer.restore(blurred()))
    with pytest.raises(UsageError, match="is the source"):
        restorer.restore_file(f"{place.url}/in.png", f"{place.url}/in.png")


def test_a_folder_is_restored_under_its_own_names_and_one_bad_image_stops_no_other(
    tmp_path: Path, restorer: ImageRestorer
) -> None:
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    (source / "a.png").write_bytes(with_pillow(blurred(), "PNG"))
    (source / "deep" / "b.gif").write_bytes(with_pillow(blurred(), "GIF"))
    (source / "c<.jpg").write_bytes(with_pillow(blurred(), "JPEG")[:900])
    (source / "notes.txt").write_text("left alone")
    folder = restorer.restore_folder(source, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["a.png", "b.gif.png"]
    assert list(folder.files) == ["a.png", "deep/b.gif"]
    assert folder.table().column("status").to_pylist() == ["restored", "failed", "restored"]
    assert folder.table().column("error_kind").to_pylist() == [None, "truncated", None]
    shown = folder._repr_html_()
    assert "c&lt;.jpg" in shown
    assert shown.count("<img") == 4
    with pytest.raises(UsageError, match="is the source"):
        restorer.restore_folder(source, f"{source}/")
    with pytest.raises(UsageError, match="there is nothing at"):
        restorer.restore_folder(tmp_path / "absent", tmp_path / "out")


def test_a_notebook_shows_files_that_are_gone_as_text(tmp_path: Path, restorer: ImageRestorer) -> None:
    (tmp_path / "a.png").write_bytes(with_pillow(blurred(), "PNG"))
    file = restorer.restore_file(tmp_path / "a.png", tmp_path / "b.png")
    assert file._repr_html_().count("<img") == 2
    (tmp_path / "b.png").unlink()
    assert "<img" not in file._repr_html_()
    assert "b.png" in file._repr_html_()


def test_the_detail_is_where_most_has_changed() -> None:
    before = np.full((900, 1200, 3), 100, np.uint8)
    after = before.copy()
    after[700:720, 900:930] = 160
    comparison = mimo_core.compare(before, after)
    top, left = comparison._most_changed()
    assert top <= 700 < 720 <= top + 280
    assert left <= 900 < 930 <= left + 420
    assert comparison._repr_html_().count("<img") == 4
    with pytest.raises(UsageError, match="one size, not 1200x900 and 1100x900"):
        mimo_core.compare(before, after[:, :1100])
