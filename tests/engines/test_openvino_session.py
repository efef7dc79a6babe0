"""The OpenVINO session: the protocol's promises, its models on the disk, and memory that runs out."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from fixtures_cpu import BF16, FLAGS

from mimo_core.engines import SessionSpec, open_session
from mimo_core.engines.base import Session
from mimo_core.engines.model_cache import prune
from mimo_core.errors import ImageError, UsageError
from mimo_core.models.network import MimoUNet
from mimo_core.models.weights import ModelSpec, Weights, load_weights

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIMO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tiny(bias: float | None = None) -> Weights:
    """A small network at random, or one whose residual is this value everywhere."""
    torch.manual_seed(1)
    state = dict(MimoUNet(8, 1).state_dict())
    if bias is not None:
        state["feat_extract.5.main.0.weight"] = torch.zeros_like(state["feat_extract.5.main.0.weight"])
        state["feat_extract.5.main.0.bias"] = torch.full((3,), bias)
    return Weights(ModelSpec(8, 1, "nearest"), state, f"tiny {bias}", "tiny")


def opened(weights: Weights | None = None, precision: str = "fp32", **options: object) -> Session:
    spec = SessionSpec("openvino", "cpu", precision, weights or tiny(), **{"threads": 1, **options})  # type: ignore[arg-type]
    return open_session(spec)


def photographs(height: int, width: int) -> npt.NDArray[np.uint8]:
    names = ("window.png", "mountains.jpg", "seeds.jpg")
    images = [cv2.imread(str(ROOT / "samples" / "blurred" / name)) for name in names]
    return np.ascontiguousarray(np.stack([image[100 : 100 + height, 60 : 60 + width, ::-1] for image in images]))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_image_itself_is_never_rounded(
    precision: str, kind: type[np.uint8] | type[np.uint16], pretend_cpu: Callable[[str], None]
) -> None:
    pretend_cpu("amx")
    levels = np.arange(np.iinfo(kind).max + 1, dtype=kind)
    side = 16 if kind is np.uint8 else 256
    batch = np.stack([levels, levels[::-1], np.roll(levels, 77)], axis=-1).reshape(1, side, -1, 3)
    assert np.array_equal(opened(tiny(0.0), precision).restore(batch), batch)


def test_the_sum_of_image_and_residual_is_float32_in_bfloat16(pretend_cpu: Callable[[str], None]) -> None:
    pretend_cpu("amx")
    batch = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    exact = np.minimum(batch / np.float32(255) + np.float32(2.0**-9), np.float32(1))
    assert np.array_equal(opened(tiny(2.0**-9), "bf16").restore_float(batch), exact)


def test_a_batch_is_its_images_one_by_one_however_many_at_a_time() -> None:
    batch = photographs(64, 96)
    one_by_one = np.concatenate([opened().restore(image[np.newaxis]) for image in batch])
    assert np.array_equal(opened().restore(batch), one_by_one)
    assert np.array_equal(opened(threads=2, streams=2).restore(batch), one_by_one)
    assert np.array_equal(np.floor(opened().restore_float(batch) * 255 + 0.5).astype(np.uint8), one_by_one)


def test_the_model_for_every_size_gives_the_pixels_of_the_model_for_one() -> None:
    session = opened(load_weights("mimo-unet-lite"))
    for height, width in ((64, 96), (100, 52), (64, 96)):
        batch = photographs(height, width)
        alone = opened(load_weights("mimo-unet-lite"), static_shape=(height, width))
        assert np.abs(session.restore_float(batch) - alone.restore_float(batch)).max() <= 1e-6
        with pytest.raises(UsageError, match="pixels only"):
            alone.restore(photographs(height + 4, width))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_gone_wild_is_an_error_and_the_session_lives_on(value: float) -> None:
    with pytest.raises(ImageError, match="not finite, even in fp32"):
        opened(tiny(value)).restore(photographs(16, 16))


def test_what_it_cannot_do_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="needs weights"):
        open_session(SessionSpec("openvino", "cpu", "fp32", None))
    with pytest.raises(UsageError, match="on the CPU, not on cuda"):
        open_session(SessionSpec("openvino", "cuda", "fp32", tiny()))
    with pytest.raises(UsageError, match="computes in fp32, bf16, int8, not in fp16"):
        opened(precision="fp16")
    with pytest.raises(UsageError, match="multiple of 4"):
        opened(static_shape=(30, 64))
    with pytest.raises(UsageError, match="at least one image at a time, got 0 streams"):
        opened(streams=0)
    session = opened()
    with pytest.raises(UsageError, match="multiples of 4, got 16x18"):
        session.restore(np.zeros((1, 16, 18, 3), np.uint8))
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.restore(photographs(16, 16))


@pytest.mark.parametrize("kind", FLAGS)
def test_a_precision_without_instructions_for_it_is_refused(kind: str, pretend_cpu: Callable[[str], None]) -> None:
    pretend_cpu(kind)
    if kind in BF16:
        opened(precision="bf16").close()
    else:
        with pytest.raises(UsageError, match=r"no bfloat16 arithmetic.*--precision fp32"):
            opened(precision="bf16")
    # The ranges are asked for only where they would be of use.
    refusal = r"int8 products overflow.*--precision fp32" if kind == "avx2" else r"tiny holds no ranges.*mimo quantize"
    with pytest.raises(UsageError, match=refusal):
        opened(precision="int8")


OUT_OF_MEMORY = """
import resource
import numpy as np
from mimo_core.engines import SessionOutOfMemoryError, SessionSpec, open_session
from mimo_core.models.weights import load_weights

session = open_session(SessionSpec("openvino", "cpu", "fp32", load_weights("mimo-unet-lite"), threads=1))
small = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
before = session.restore(small)
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (300 << 20),) * 2)
try:
    session.restore(np.zeros((1, 2000, 2000, 3), np.uint8))
except SessionOutOfMemoryError as error:
    print("out of memory:", error)
assert np.array_equal(session.restore(small), before)
print("lives on")
"""


def test_memory_that_runs_out_is_the_batches_fault_and_the_session_lives_on() -> None:
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "out of memory: " in done.stdout
    assert "lives on" in done.stdout


# Models on the disk


def blobs(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.blob"))


def test_a_compiled_model_is_kept_and_found_again(cache: Path) -> None:
    batch = photographs(32, 48)
    first = opened().restore(batch)
    kept = blobs(cache)
    assert len(kept) == 1
    before = kept[0].stat().st_mtime_ns
    assert np.array_equal(opened().restore(batch), first)
    assert blobs(cache) == kept
    assert kept[0].stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["empty", "half", "noise", "middle"])
def test_a_damaged_model_costs_nothing_but_time(cache: Path, damage: str) -> None:
    batch = photographs(32, 48)
    first = opened().restore(batch)
    (kept,) = blobs(cache)
    data = kept.read_bytes()
    middle = data[: len(data) // 2] + bytes(64) + data[len(data) // 2 + 64 :]
    kept.write_bytes({"empty": b"", "half": data[: len(data) // 2], "noise": b"noise" * 99, "middle": middle}[damage])
    assert np.array_equal(opened().restore(batch), first)
    assert len(blobs(cache)) == 1
    assert np.array_equal(opened().restore(batch), first)


def test_a_disk_that_takes_nothing_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MIMO_CACHE", str(tmp_path / "file" / "cache"))
    assert opened().restore(photographs(32, 48)).shape == (3, 32, 48, 3)


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    import os

    for age, name in enumerate(("new", "older", "oldest")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.blob").write_bytes(bytes(100))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    prune(tmp_path, 250)
    assert {folder.name for folder in tmp_path.iterdir()} == {"new", "older"}
