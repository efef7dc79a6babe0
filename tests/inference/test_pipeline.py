"""The pipeline on real files, in this process: order, records, scores, formats, sizes; the same bytes at any width."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import plain_torch
import pytest
from inprocess import LITE, InProcessRun, run
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mimo_core.errors import UsageError
from mimo_core.inference.pipeline import PipelineOptions
from mimo_core.metrics.psnr_ssim import psnr, ssim
from mimo_core.models.weights import load_weights
from mimo_core.runs.statistics import STAGES

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def cut(folder: str, name: str, top: int, left: int, height: int = 64, width: int = 96) -> npt.NDArray[np.uint8]:
    """A piece of a sample photograph, BGR."""
    pixels = cv2.imread(str(SAMPLES / folder / name))
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def save(path: Path, pixels: npt.NDArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pieces of photographs in two shapes, blurred and sharp, as `blur/` and `sharp/`."""
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(12):
        name = ("window.png", "mountains.jpg", "seeds.jpg")[number % 3]
        shape = (64, 96) if number % 4 else (45, 71)
        for side, source in (("blur", "blurred"), ("sharp", "sharp")):
            piece = cut(source, name, 20 * number, 15 * number, *shape)
            save(folder / side / f"{number // 5}" / f"{number:02d}.png", piece)
    return folder


@pytest.fixture(scope="module")
def restored(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> InProcessRun:
    return run(
        pairs / "blur", tmp_path_factory.mktemp("out"), weights=LITE, reference=pairs / "sharp", shard_size=5, batch=2
    )


def read(data: bytes) -> npt.NDArray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


# Records


def test_every_row_has_one_record_in_order_with_all_that_was_measured(pairs: Path, restored: InProcessRun) -> None:
    assert len(restored.records) == 12
    for key, record in restored.records.items():
        source, data = pairs / "blur" / key, restored.output(key)
        shape = cv2.imread(str(source)).shape
        assert (record.status, record.error_kind, record.error) == ("restored", None, None)
        assert (record.height, record.width, record.channels, record.bit_depth) == (*shape, 8)
        assert (record.bytes_in, record.bytes_out) == (source.stat().st_size, len(data))
        assert record.output_sha256 == hashlib.sha256(data).hexdigest()
        assert read(data).shape == shape
        assert (record.source, record.reference) == (str(source), str(pairs / "sharp" / key))
        assert record.model == "mimo-unet-lite"
        assert record.weights_sha256 == load_weights(LITE).sha256
        assert (record.engine, record.precision, record.device) == ("torch", "fp32", "cpu")
        assert (record.tiles, record.fallback, record.attempt) == (1, None, 1)
        for stage in STAGES:
            assert getattr(record, f"{stage}_ms") > 0


def test_scores_are_those_of_the_written_files_and_of_scikit_image(pairs: Path, restored: InProcessRun) -> None:
    for key, record in restored.records.items():
        blurred, sharp = cv2.imread(str(pairs / "blur" / key)), cv2.imread(str(pairs / "sharp" / key))
        output = read(restored.output(key))
        assert record.psnr == psnr(output, sharp)
        assert record.ssim == ssim(output, sharp)
        for image, decibels, similarity in (
            (blurred, record.input_psnr, record.input_ssim),
            (output, record.psnr, record.ssim),
        ):
            assert decibels == pytest.approx(peak_signal_noise_ratio(sharp, image, data_range=255), abs=1e-3)
            same = structural_similarity(
                sharp,
                image,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=255,
                channel_axis=-1,
            )
            assert similarity == pytest.approx(same, abs=1e-4)


def test_outputs_equal_an_independent_script_to_one_level(pairs: Path, restored: InProcessRun) -> None:
    state = load_weights(LITE).state
    compared = 0
    for key, record in restored.records.items():
        source = cv2.cvtColor(cv2.imread(str(pairs / "blur" / key)), cv2.COLOR_BGR2RGB)
        if record.height is None or record.height % 4 or source.shape[1] % 4:
            continue
        output = cv2.cvtColor(read(restored.output(key)), cv2.COLOR_BGR2RGB)
        assert np.abs(plain_torch.restore(state, source).astype(int) - output).max() <= 1
        compared += 1
    assert compared == 9


def test_identical_images_score_infinity_and_tiny_ones_have_no_ssim(tmp_path: Path) -> None:
    for folder in ("in", "copy"):
        save(tmp_path / folder / "same.png", cut("sharp", "window.png", 0, 0))
        save(tmp_path / folder / "tiny.png", cut("sharp", "window.png", 0, 0, 10, 30))
    found = run(tmp_path / "in", tmp_path / "out", reference=tmp_path / "copy").records
    assert found["same.png"].psnr == found["same.png"].input_psnr == float("inf")
    assert found["same.png"].ssim == pytest.approx(1.0)
    assert found["tiny.png"].psnr == float("inf")
    assert found["tiny.png"].ssim is found["tiny.png"].input_ssim is None


# Widths


@pytest.mark.parametrize("options", [PipelineOptions(1, 1, 1), PipelineOptions(1, 4), PipelineOptions(5, 3, 100_000)])
def test_the_bytes_do_not_depend_on_how_wide_the_pipeline_is(
    pairs: Path, restored: InProcessRun, tmp_path: Path, options: PipelineOptions
) -> None:
    again = run(
        pairs / "blur", tmp_path, weights=LITE, reference=pairs / "sharp", shard_size=5, batch=2, options=options
    )
    for key, record in again.records.items():
        first = restored.records[key]
        assert again.output(key) == restored.output(key)
        assert (record.psnr, record.ssim, record.output_sha256) == (first.psnr, first.ssim, first.output_sha256)


def test_a_pipeline_of_no_width_is_refused() -> None:
    for wrong in ({"readers": 0}, {"writers": 0}, {"memory": 0}):
        with pytest.raises(UsageError, match="at least one reader, one writer and some memory"):
            PipelineOptions(**wrong)


# Kinds of images


def test_gray_alpha_and_sixteen_bits_come_out_as_they_went_in(tmp_path: Path) -> None:
    colour = cut("blurred", "window.png", 40, 40)
    gray = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
    alpha = np.random.default_rng(3).integers(0, 256, gray.shape, dtype=np.uint8)
    deep = colour.astype(np.uint16) * 256 + np.random.default_rng(4).integers(0, 256, colour.shape, dtype=np.uint16)
    images = {
        "gray.png": gray,
        "gray16.png": deep[:, :, 0],
        "alpha.png": np.dstack([colour, alpha]),
        "alpha16.png": np.dstack([deep, alpha.astype(np.uint16) * 257]),
        "deep.png": deep,
        "deep.tiff": deep,
        "colour.png": colour,
    }
    for name, pixels in images.items():
        save(tmp_path / "in" / name, pixels)
    copied, changed = run(tmp_path / "in", tmp_path / "copy"), run(tmp_path / "in", tmp_path / "out", weights=LITE)
    for name, pixels in images.items():
        assert np.array_equal(read(copied.output(name)), pixels), name
        output, record = read(changed.output(name)), changed.records[name]
        assert output.dtype == pixels.dtype
        assert output.shape == pixels.shape
        assert record.bit_depth == 8 * pixels.itemsize
        assert record.channels == (pixels.shape[2] if pixels.ndim == 3 else 1)
        assert not np.array_equal(output, pixels), name
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            assert np.array_equal(output[:, :, 3], pixels[:, :, 3]), "alpha is left alone"
    assert np.array_equal(read(changed.output("alpha.png"))[:, :, :3], read(changed.output("colour.png")))
    assert len(np.unique(read(changed.output("deep.png")) % 256)) > 200, "the low bits live"


def test_every_format_is_written_and_named(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "sub/c.webp", "d.bmp", "e.tiff"):
        save(tmp_path / "in" / name, cut("blurred", "window.png", 10, 10))
    magic = {"png": b"\x89PNG", "jpg": b"\xff\xd8", "webp": b"RIFF", "tiff": b"II*\x00"}
    for form, start in magic.items():
        outcome = run(tmp_path / "in", tmp_path / form, format=form)
        assert len(outcome.records) == 5
        for key, record in outcome.records.items():
            assert outcome.output(key).startswith(start)
            assert record.output is not None
            assert Path(record.output).suffix in (f".{form}", Path(key).suffix)
    same = run(tmp_path / "in", tmp_path / "same")
    assert [record.output for record in same.records.values()] == [f"images/{key}" for key in same.records]
    assert [
        len(run(tmp_path / "in", tmp_path / str(q), format="jpg", quality=q).output("a.png")) for q in (40, 95)
    ] == (sorted(len((tmp_path / str(q) / "images" / "a.jpg").read_bytes()) for q in (40, 95)))


def test_size_resizes_image_and_reference_as_the_zoo_does(pairs: Path, tmp_path: Path) -> None:
    outcome = run(pairs / "blur", tmp_path, reference=pairs / "sharp", size=(36, 64))
    for key, record in outcome.records.items():
        blurred, sharp = (cv2.resize(cv2.imread(str(pairs / side / key)), (64, 36)) for side in ("blur", "sharp"))
        assert np.array_equal(read(outcome.output(key)), blurred)
        assert record.psnr == record.input_psnr == psnr(blurred, sharp)
    alpha = np.dstack([cut("blurred", "window.png", 0, 0), np.full((64, 96), 77, np.uint8)])
    save(tmp_path / "alpha" / "a.png", alpha)
    small = read(run(tmp_path / "alpha", tmp_path / "small", size=(20, 30)).output("a.png"))
    assert small.shape == (20, 30, 4)
    assert np.all(small[:, :, 3] == 77)


def test_large_images_are_cut_and_small_ones_are_not(tmp_path: Path) -> None:
    save(tmp_path / "in" / "large.png", cut("blurred", "window.png", 0, 0, 200, 300))
    save(tmp_path / "in" / "small.png", cut("blurred", "window.png", 0, 0, 100, 100))
    outcome = run(tmp_path / "in", tmp_path / "out", tile=(128, 128), overlap=16, call_pixels=128 * 128, batch=3)
    assert outcome.records["large.png"].tiles == 6
    assert outcome.records["small.png"].tiles == 1
    for key in outcome.records:
        assert np.array_equal(read(outcome.output(key)), cv2.imread(str(tmp_path / "in" / key)))


def test_a_record_tells_how_many_images_were_computed_together(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(7):
        assert cv2.imwrite(
            str(tmp_path / "in" / f"{number}.png"), np.full((16, 16 + 8 * (number == 3), 3), 90, np.uint8)
        )
    records = run(tmp_path / "in", tmp_path / "out", batch=2).records
    # The fourth has another shape.
    assert [records[f"{number}.png"].batch for number in range(7)] == [2, 2, 1, 1, 2, 2, 1]
