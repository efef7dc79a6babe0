"""Sessions: the network's pixels against an independent transcription, every precision, and every refusal."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import plain_torch
import pytest
import torch

from mimo_core.engines import ENGINES, SessionLimits, SessionSpec
from mimo_core.engines import open_session as open_any
from mimo_core.engines.base import Session, check_batch
from mimo_core.errors import DeviceFaultError, ErrorKind, ImageError, SessionOutOfMemoryError, SystemFailure, UsageError
from mimo_core.metrics.psnr_ssim import psnr
from mimo_core.models.network import MimoUNet, arrays_of
from mimo_core.models.weights import ModelSpec, Weights, load_weights

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "blurred"


def open_torch(weights: Weights | str, precision: str = "fp32", **options: object) -> Session:
    loaded = load_weights(weights) if isinstance(weights, str) else weights
    return open_any(SessionSpec("torch", "cpu", precision, loaded, threads=1, **options))  # type: ignore[arg-type]


def photograph(name: str = "window.png", height: int = 128, width: int = 192) -> npt.NDArray[np.uint8]:
    image = cv2.cvtColor(cv2.imread(str(SAMPLES / name)), cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(image[100 : 100 + height, 60 : 60 + width])


def photographs(height: int = 128, width: int = 192) -> npt.NDArray[np.uint8]:
    return np.stack([photograph(name, height, width) for name in ("window.png", "mountains.jpg", "seeds.jpg")])


def changed(weights: Weights, **factors: float) -> Weights:
    """The weights with some parameters multiplied; `__` stands for a dot."""
    state = dict(weights.state)
    for name, factor in factors.items():
        key = name.replace("__", ".")
        state[key] = state[key] * factor
    return replace(weights, state=state)


def without_residual(weights: Weights) -> Weights:
    return changed(weights, feat_extract__5__main__0__weight=0.0, feat_extract__5__main__0__bias=0.0)


def tiny() -> Weights:
    torch.manual_seed(1)
    return Weights(ModelSpec(8, 1, "nearest"), arrays_of(MimoUNet(8, 1).state_dict()), "", "tiny")


def every_level(kind: type[np.uint8] | type[np.uint16]) -> npt.NDArray:
    """A batch of one image in which every level of the type occurs in every channel, and in other places in each."""
    levels = np.arange(np.iinfo(kind).max + 1, dtype=kind)
    side = 16 if kind is np.uint8 else 256
    return np.stack([levels, levels[::-1], np.roll(levels, 77)], axis=-1).reshape(1, side, -1, 3)


# Against other implementations


@pytest.mark.parametrize("variant", ["mimo-unet", "mimo-unet-plus"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_the_session_gives_the_pixels_of_the_reference_network(
    shared_data: Path, variant: str, interpolation: str
) -> None:
    golden = np.load(shared_data / "golden" / f"{variant}-{interpolation}.npz")
    weights = load_weights(f"golden:{variant}", interpolation)
    # The golden input is no whole levels: compare with a transcription that meets the golden output on it.
    with torch.inference_mode():
        outputs = plain_torch.network(weights.state, torch.from_numpy(golden["input"]), interpolation)
    for name, output in zip(("quarter", "half", "full"), outputs, strict=True):
        assert np.abs(output.numpy() - golden[name]).max() < 1e-5
    rgb = (golden["input"][0].transpose(1, 2, 0) * 255).round().astype(np.uint8)
    session = open_torch(weights)
    restored = session.restore(rgb[np.newaxis])[0].astype(int)
    expected = plain_torch.restore(weights.state, rgb, interpolation).astype(int)
    assert np.abs(restored - expected).max() <= 1
    assert np.mean(restored == expected) >= 0.999
    # As 16 bits the input is met almost exactly, and so must be the golden output itself.
    fine = (golden["input"][0].transpose(1, 2, 0) * 65535).round().astype(np.uint16)
    full = np.clip(golden["full"][0].transpose(1, 2, 0), 0, 1)
    assert np.abs(session.restore_float(fine[np.newaxis])[0] - full).max() < 1e-4


def test_a_batch_of_photographs_equals_the_plain_loop_to_a_level() -> None:
    weights = load_weights("golden:mimo-unet-lite")
    batch = photographs()
    restored = open_torch(weights).restore(batch)
    assert restored.dtype == np.uint8
    assert restored.shape == batch.shape
    expected = np.stack([plain_torch.restore(weights.state, image) for image in batch])
    assert np.abs(expected.astype(int) - batch).mean() > 1, "weights that change nothing would test nothing"
    assert np.abs(restored.astype(int) - expected).max() <= 1
    assert np.mean(restored == expected) >= 0.999


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_an_image_has_the_same_bits_whatever_its_neighbours(engine: str) -> None:
    """In batches of one size; openvino, which computes one by one, in every batch."""
    batch = photographs(64, 96)
    with closing(open_any(SessionSpec(engine, "cpu", "fp32", load_weights("golden:mimo-unet-lite"), threads=1))) as one:
        together = one.restore_float(batch)
        backwards = one.restore_float(batch[::-1].copy())[::-1]
        repeated = [one.restore_float(np.repeat(image[np.newaxis], len(batch), axis=0))[0] for image in batch]
        alone = np.concatenate([one.restore_float(image[np.newaxis]) for image in batch])
    assert len(batch) > 1
    assert np.array_equal(together, backwards)
    assert np.array_equal(together, repeated)
    if engine == "openvino":
        assert np.array_equal(together, alone)
    # Torch's own libraries take other kernels for another size of batch.
    assert np.abs(together - alone).max() < 1e-6


def test_float_and_rounded_results_are_the_same() -> None:
    session = open_torch("golden:mimo-unet-lite")
    batch = photographs(64, 96)
    floats = session.restore_float(batch)
    assert floats.dtype == np.float32
    assert floats.min() >= 0
    assert floats.max() <= 1
    assert np.array_equal(session.restore(batch), np.floor(floats * 255 + 0.5).astype(np.uint8))


# Precisions


@pytest.mark.parametrize(("weights", "size"), [("golden:mimo-unet-lite", (64, 96)), ("golden:mimo-unet", (32, 48))])
def test_bfloat16_stays_within_50_db_of_float32_on_photographs(weights: str, size: tuple[int, int]) -> None:
    batch = photographs(*size)
    exact, fast = open_torch(weights).restore(batch), open_torch(weights, "bf16").restore(batch)
    assert psnr(exact.reshape(-1, size[1], 3), fast.reshape(-1, size[1], 3)) >= 50


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_image_itself_is_never_rounded(precision: str, kind: type[np.uint8] | type[np.uint16]) -> None:
    """With a residual of nothing each level must come back: bfloat16 has 8 bits of mantissa, float16 has 11."""
    batch = every_level(kind)
    session = open_torch(without_residual(tiny()), precision)
    assert np.array_equal(session.restore(batch), batch)


def test_the_sum_of_image_and_residual_is_float32_in_every_precision() -> None:
    """A residual of 2**-9 everywhere is exact in all of them, and so must be the sum; in bfloat16 few sums are."""
    weights = without_residual(tiny())
    weights.state["feat_extract.5.main.0.bias"] = np.full(3, 2.0**-9, np.float32)
    batch = every_level(np.uint8)
    exact = np.minimum(batch / np.float32(255) + np.float32(2.0**-9), np.float32(1))
    for precision in ("fp32", "bf16", "fp16"):
        assert np.array_equal(open_torch(weights, precision).restore_float(batch), exact)
    rounded = torch.from_numpy(exact).to(torch.bfloat16).float().numpy()
    assert np.mean(rounded == exact) < 0.1, "this test would not see a rounded sum"


def test_sixteen_bits_stay_sixteen_bits() -> None:
    session = open_torch("golden:mimo-unet-lite")
    coarse = photographs(64, 96)
    fine = coarse.astype(np.uint16) * np.uint16(257)
    restored = session.restore(fine)
    assert restored.dtype == np.uint16
    assert np.array_equal(session.restore_float(fine), session.restore_float(coarse))
    assert np.array_equal(np.floor(restored / 257 + 0.5), session.restore(coarse))
    assert len(np.unique(restored)) > 5000, "more levels than 8 bits have"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("call", ["restore", "restore_float"])
def test_a_network_gone_wild_is_an_error_and_no_pixels(value: float, call: str) -> None:
    weights = changed(load_weights("golden:mimo-unet-lite"), feat_extract__5__main__0__bias=value)
    with pytest.raises(ImageError, match="not finite, even in fp32") as caught:
        getattr(open_torch(weights), call)(photographs(16, 16))
    assert caught.value.kind is ErrorKind.DEVICE


def test_an_overflow_of_float16_names_the_remedy_and_the_session_lives_on() -> None:
    session = open_torch(changed(load_weights("golden:mimo-unet-lite"), feat_extract__0__main__0__weight=1e5), "fp16")
    bright, dark = np.full((1, 16, 16, 3), 255, np.uint8), np.zeros((1, 16, 16, 3), np.uint8)
    with pytest.raises(ImageError, match="too large for fp16; start a run with --precision fp32"):
        session.restore(bright)
    assert session.restore(dark).shape == dark.shape


# Memory and faults


def test_memory_that_the_cpu_does_not_have_is_the_batches_fault_not_the_sessions() -> None:
    session = open_torch("golden:mimo-unet-lite")
    # More than any address space holds, made of one byte.
    vast = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (1, 4_000_000, 4_000_000, 3), (0, 0, 0, 0))
    with pytest.raises(SessionOutOfMemoryError, match="memory"):
        session.restore(vast)
    assert session.restore(photographs(16, 16)).shape == (3, 16, 16, 3)


def test_faults_survive_the_way_between_processes() -> None:
    import pickle

    fault = pickle.loads(pickle.dumps(DeviceFaultError("the card fell off the bus")))
    assert isinstance(fault, DeviceFaultError)
    assert fault.kind is ErrorKind.DEVICE
    assert str(fault) == "the card fell off the bus"


# Identity


def test_identity_returns_what_it_gets() -> None:
    session = open_any(SessionSpec("identity", "cpu", "fp32", None))
    for kind in (np.uint8, np.uint16):
        batch = every_level(kind)
        assert np.array_equal(session.restore(batch), batch)
        floats = session.restore_float(batch)
        assert floats.dtype == np.float32
        assert np.array_equal(floats, (batch / np.float32(np.iinfo(kind).max)).astype(np.float32))
    session.close()
    session.close()


# Refusals


@pytest.mark.parametrize(
    ("batch", "limits", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), SessionLimits(), r"\(N, H, W, 3\), got \(8, 8, 3\)"),
        (np.zeros((1, 8, 8, 4), np.uint8), SessionLimits(), r"got \(1, 8, 8, 4\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), SessionLimits(), r"got \(0, 8, 8, 3\)"),
        (np.zeros((1, 8, 8, 3), np.float32), SessionLimits(), "expected uint8 or uint16, got float32"),
        (np.zeros((1, 8, 6, 3), np.uint8), SessionLimits(multiple_of=4), "multiples of 4, got 8x6"),
        (np.zeros((1, 8, 8, 3), np.uint8), SessionLimits(static_shape=(8, 12)), "takes 8x12 pixels only, got 8x8"),
        (np.zeros((3, 8, 8, 3), np.uint8), SessionLimits(max_batch=2), "at most 2 images at once, got 3"),
        (np.zeros((3, 8, 8, 3), np.uint8), SessionLimits(max_pixels=128), "at most 128 pixels at once, got 3 images"),
    ],
)
def test_a_batch_beyond_the_limits_is_refused_by_name(batch: npt.NDArray, limits: SessionLimits, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_batch(batch, limits)


def test_what_cannot_be_opened_is_refused_in_words() -> None:
    lite = load_weights("golden:mimo-unet-lite")
    with pytest.raises(UsageError, match="no engine is named 'abacus'; there are identity, openvino, torch, vacc"):
        open_any(SessionSpec("abacus", "cpu", "fp32", None))
    with pytest.raises(UsageError, match="needs weights"):
        open_any(SessionSpec("torch", "cpu", "fp32", None))
    with pytest.raises(UsageError, match="computes in fp32, bf16, fp16, not in int8"):
        open_any(SessionSpec("torch", "cpu", "int8", lite))
    with pytest.raises(UsageError, match="at least one thread, got 0"):
        SessionSpec("torch", "cpu", "fp32", lite, threads=0)
    with pytest.raises(UsageError, match="static shape must be a multiple of 4"):
        open_torch(lite, static_shape=(30, 64))
    if not torch.cuda.is_available():
        with pytest.raises(SystemFailure, match=r"no CUDA device is usable here.*--device cpu"):
            open_any(SessionSpec("torch", "cuda", "fp32", lite))


def test_a_closed_session_is_closed_for_good() -> None:
    session = open_torch("golden:mimo-unet-lite")
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.restore(photographs(16, 16))


def test_a_static_shape_is_the_only_one_taken() -> None:
    session = open_torch("golden:mimo-unet-lite", static_shape=(32, 64))
    assert session.limits.static_shape == (32, 64)
    assert session.restore(photographs(32, 64)).shape == (3, 32, 64, 3)
    with pytest.raises(UsageError, match="32x64 pixels only"):
        session.restore(photographs(64, 32))


def test_sessions_import_their_engine_only_when_opened() -> None:
    import subprocess
    import sys

    code = "import mimo_core.engines, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
    assert set(ENGINES) >= {"identity", "torch"}
