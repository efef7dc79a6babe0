"""The vacc session on the double of its runtime: torch's pixels, in process and through a child, and every refusal."""

import ast
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from fixtures_vacc import DOUBLES, compiled_folder, interpreter

from mimo_core.engines import Monitored, SessionSpec, open_session
from mimo_core.engines.base import Session
from mimo_core.engines.vacc import count_dies
from mimo_core.engines.vacc import die as die_module
from mimo_core.engines.vacc import session as session_module
from mimo_core.engines.vacc.compiled import CompiledModel, load_compiled
from mimo_core.engines.vacc.die import DieError
from mimo_core.errors import DeviceFaultError, ErrorKind, ImageError, SystemFailure, UsageError
from mimo_core.images.tiling import TilePolicy
from mimo_core.inference.restorer import Restoration, Restorer
from mimo_core.metrics.psnr_ssim import psnr
from mimo_core.models.weights import Weights, load_weights

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "blurred"
SIZE = (64, 96)


@pytest.fixture(scope="module")
def weights(colourful_weights: Path) -> Weights:
    return load_weights(str(colourful_weights))


@pytest.fixture(scope="module")
def residual(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> CompiledModel:
    return load_compiled(compiled_folder(weights, tmp_path_factory.mktemp("residual"), SIZE), "auto")


@pytest.fixture(scope="module")
def image(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> CompiledModel:
    return load_compiled(compiled_folder(weights, tmp_path_factory.mktemp("image"), SIZE, output="image"), "auto")


_OPENED: list[Session] = []


def open_vacc(model: CompiledModel, python: str | None = None, die: int = 0) -> Session:
    spec = SessionSpec("vacc", f"vacc:{die}", model.precision, None, compiled=model, vacc_python=python)
    _OPENED.append(open_session(spec))
    return _OPENED[-1]


@pytest.fixture(autouse=True)
def _give_dies_back() -> Iterator[None]:
    yield
    while _OPENED:
        _OPENED.pop().close()


def open_torch(weights: Weights) -> Session:
    return open_session(SessionSpec("torch", "cpu", "fp32", weights, threads=1, static_shape=SIZE))


def photograph(height: int, width: int, name: str = "window.png") -> npt.NDArray[np.uint8]:
    picture = cv2.cvtColor(cv2.imread(str(SAMPLES / name)), cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(picture[100 : 100 + height, 60 : 60 + width])


def photographs() -> npt.NDArray[np.uint8]:
    return np.stack([photograph(*SIZE, name) for name in ("brushes.png", "mountains.jpg", "seeds.jpg")])


# The pixels


@pytest.mark.parametrize("output", ["residual", "image"])
def test_the_card_gives_torchs_pixels_with_red_and_blue_in_place(
    vaststreamx: ModuleType, weights: Weights, output: str, request: pytest.FixtureRequest
) -> None:
    session, torch, batch = open_vacc(request.getfixturevalue(output)), open_torch(weights), photographs()
    expected, restored = torch.restore(batch), session.restore(batch)
    turned = np.ascontiguousarray(batch[..., ::-1])
    # What a card would give that takes red for blue.
    swapped = np.clip(batch + (torch.restore(turned).astype(int) - turned), 0, 255).astype(np.uint8)
    for one, other, wrong in zip(restored, expected, swapped, strict=True):
        assert psnr(one, other) >= 50
        assert psnr(wrong, other) < 45, "a swap of red and blue would not be seen"
    assert session.device_name == "VA1 die 0"
    session.close()


def test_an_operator_for_bgr_gives_the_same_pixels(vaststreamx: ModuleType, residual: CompiledModel) -> None:
    operator = json.loads(residual.vdsp)
    operator["OpConfig"].update(IimageFormat="BGR888", ColorCvtCode="BGR2RGB")
    turned = replace(residual, vdsp=json.dumps(operator).encode())
    batch = photographs()
    assert np.array_equal(open_vacc(turned, die=1).restore(batch), open_vacc(residual).restore(batch))
    assert turned.compiled_sha256 != residual.compiled_sha256


def test_the_double_swaps_red_and_blue_without_a_word_when_told_otherwise(
    vaststreamx: ModuleType, residual: CompiledModel, tmp_path: Path
) -> None:
    """What the session must not do; else the tests of its colours would show nothing."""
    for ending, data in residual.files.items():
        (tmp_path / f"mod{ending}").write_bytes(data)
    operator = json.loads(residual.vdsp)
    operator["OpConfig"].update(ColorCvtCode="BGR2RGB")
    (tmp_path / "vdsp.json").write_text(json.dumps(operator))
    die = die_module.Die(0, str(tmp_path / "mod"), str(tmp_path / "vdsp.json"), SIZE, interleaved_bgr=False)
    pixels = photograph(*SIZE)
    die.submit(pixels)
    swapped = die.collect().astype(np.float32).transpose(1, 2, 0)
    die.submit(np.ascontiguousarray(pixels[:, :, ::-1]))
    right = die.collect().astype(np.float32).transpose(1, 2, 0)
    session = open_vacc(residual, die=1)
    expected = session.restore_float(pixels[None])[0]
    assert np.abs(np.clip(right + pixels / np.float32(255), 0, 1) - expected).max() < 1e-6
    assert np.abs(np.clip(swapped + pixels / np.float32(255), 0, 1) - expected).mean() > 0.01


def test_through_a_child_process_come_the_same_bytes(
    vaststreamx: ModuleType, residual: CompiledModel, vacc_python: str
) -> None:
    batch = photographs()
    # The double's sums are exact, so that another process has no other last digits.
    inside = open_vacc(residual).restore_float(batch)
    session = open_vacc(residual, vacc_python, die=3)
    assert session.device_name == "VA1 die 3"
    # More images than there are slots to hold them.
    for _ in range(9):
        assert np.array_equal(session.restore_float(batch), inside)
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.restore(batch)


def test_the_child_runs_on_python_3_8(residual: CompiledModel, tmp_path: Path) -> None:
    source = Path(die_module.__file__).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 8))
    names = [alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    packages = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert packages == {"numpy", "vaststreamx"}
    old = _python_with_numpy("python3.8")
    if old is None:
        pytest.skip("there is no Python 3.8 with NumPy to run it")
    session = open_vacc(residual, interpreter(old, tmp_path))
    assert session.restore(photographs()).shape == (3, *SIZE, 3)
    session.close()


def _python_with_numpy(name: str) -> str | None:
    try:
        subprocess.run([name, "-c", "import numpy"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return name


# Sizes


@pytest.mark.parametrize("shape", [(64, 96), (20, 30), (64, 97), (200, 150)])
def test_images_of_any_size_are_padded_and_cut_but_never_resized(
    vaststreamx: ModuleType, weights: Weights, residual: CompiledModel, shape: tuple[int, int]
) -> None:
    """The same tiles through torch give the same image; the card would resize anything else without a word."""
    pixels, policy = photograph(*shape), TilePolicy(SIZE, 16, None, 4)
    (expected,) = Restorer(open_torch(weights), policy).restore([pixels])
    session = open_vacc(residual)
    (restored,) = Restorer(session, policy).restore([pixels])
    assert isinstance(expected, Restoration)
    assert isinstance(restored, Restoration)
    assert restored.tiles == expected.tiles
    assert restored.pixels.shape == pixels.shape
    assert psnr(restored.pixels, expected.pixels) >= 50
    with pytest.raises(UsageError, match=r"takes 64x96 pixels only"):
        session.restore(photograph(96, 64)[None])


def test_the_card_has_always_something_to_do_and_never_too_much(
    vaststreamx: ModuleType, residual: CompiledModel
) -> None:
    session = open_vacc(residual)
    restorer = Restorer(session, TilePolicy(SIZE, 16, None, 4))
    assert restorer.calls == 4
    pixels = photograph(100, 160)
    alone = restorer.restore([pixels])[0]
    assert vaststreamx.deepest == 4
    results: dict[int, Restoration | ImageError] = {}

    def restore(number: int) -> None:
        (results[number],) = restorer.restore([pixels])

    threads = [threading.Thread(target=restore, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert vaststreamx.deepest == 4
    assert isinstance(alone, Restoration)
    for result in results.values():
        assert isinstance(result, Restoration)
        assert np.array_equal(result.pixels, alone.pixels)


# Depth


def test_sixteen_bits_are_kept_with_a_residual_and_refused_without(
    vaststreamx: ModuleType, residual: CompiledModel, image: CompiledModel
) -> None:
    coarse = photographs()
    # Nearest to the same levels of 8 bits.
    fine = np.minimum(coarse.astype(np.uint32) * 257 + 40, 65535).astype(np.uint16)
    session = open_vacc(residual)
    restored = session.restore(fine)
    assert restored.dtype == np.uint16
    floats = session.restore_float(fine)
    less = session.restore_float(coarse)
    inside = (less > 0) & (floats < 1) & (coarse < 255)
    assert np.allclose((floats - less)[inside], 40 / 65535, atol=1e-6)
    assert np.array_equal(restored, np.floor(floats * np.float32(65535) + np.float32(0.5)).astype(np.uint16))
    refusing = open_vacc(image, die=1)
    with pytest.raises(ImageError, match="a 16-bit image: the card takes 8 bits") as caught:
        refusing.restore(fine)
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    assert refusing.restore(coarse).shape == coarse.shape


def test_values_that_are_no_numbers_are_an_error_and_no_pixels(
    vaststreamx: ModuleType, weights: Weights, tmp_path: Path
) -> None:
    state = {**weights.state, "feat_extract.5.main.0.bias": weights.state["feat_extract.5.main.0.bias"] + 1e5}
    session = open_vacc(load_compiled(compiled_folder(replace(weights, state=state), tmp_path / "x", SIZE), "auto"))
    with pytest.raises(ImageError, match="not finite in fp16") as caught:
        session.restore(photographs())
    assert caught.value.kind is ErrorKind.DEVICE


# Faults


@pytest.mark.parametrize("child", [False, True])
def test_a_fault_kills_the_session_and_everything_under_way(
    vaststreamx: ModuleType,
    residual: CompiledModel,
    vacc_python: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    child: bool,
) -> None:
    monkeypatch.setenv("VACC_DOUBLE_FAULT", f"2:5:{tmp_path / 'struck'}")
    session = open_vacc(residual, vacc_python if child else None, die=2)
    batch = photographs()
    assert session.restore(batch).shape == batch.shape
    failures = []

    def restore() -> None:
        with pytest.raises(DeviceFaultError) as caught:
            session.restore(batch)
        failures.append(str(caught.value))

    threads = [threading.Thread(target=restore) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(failures) == 3
    assert all(failure.startswith("VA1 die 2: ") for failure in failures)
    assert all("803012, vafwER_MCU_ERROR_LMCU0" in failure for failure in failures)
    session.close()
    if child:
        # A new process finds the die in order; the fault comes once.
        again = open_vacc(residual, vacc_python, die=2)
        assert again.restore(batch).shape == batch.shape
        again.close()


def test_what_a_child_said_before_its_end_is_heard_by_who_finds_it_gone(
    residual: CompiledModel, vacc_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VACC_DOUBLE_FAULT", f"2:1:{tmp_path / 'struck'}")
    die = session_module._open(residual, 2, vacc_python, tmp_path)

    def submit_on() -> None:
        for _ in range(100_000):
            die.submit(photograph(*SIZE))

    # Nobody collects, so only these calls can tell why the child has ended.
    with pytest.raises(DieError, match="803012, vafwER_MCU_ERROR_LMCU0"):
        submit_on()
    die.close()


def test_a_child_that_dies_takes_only_the_session_along(residual: CompiledModel, vacc_python: str) -> None:
    session = open_vacc(residual, vacc_python)
    session._die._process.kill()  # type: ignore[attr-defined]
    with pytest.raises(DeviceFaultError, match="the child process has ended"):
        session.restore(photographs())
    session.close()


@pytest.mark.parametrize("child", [False, True])
def test_float16_at_720x1280_does_not_fit_and_says_so_at_once(
    vaststreamx: ModuleType, residual: CompiledModel, vacc_python: str, child: bool
) -> None:
    about = json.loads(residual.files[".json"])
    about["input_shape"] = [1, 3, 720, 1280]
    vdsp = json.loads(residual.vdsp)
    for name in vdsp["OpConfig"]:
        if name.endswith(("Height", "HeightPitch")):
            vdsp["OpConfig"][name] = 720
        if name.endswith(("Width", "WidthPitch")):
            vdsp["OpConfig"][name] = 1280
    files = {**residual.files, ".json": json.dumps(about).encode()}
    large = replace(residual, size=(720, 1280), files=files, vdsp=json.dumps(vdsp).encode())
    with pytest.raises(SystemFailure, match=r"720x1280 in fp16 does not fit the die's memory; compile it in int8"):
        open_vacc(large, vacc_python if child else None)
    # The die is free again.
    open_vacc(residual, vacc_python).close()


# What cannot be opened


def test_what_cannot_be_opened_is_refused_in_words(
    residual: CompiledModel, vacc_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="needs a compiled model"):
        open_session(SessionSpec("vacc", "vacc", "fp16", None))
    with pytest.raises(SystemFailure, match="this Python has no vaststreamx; name one that has it with --vacc-python"):
        open_vacc(residual)
    with pytest.raises(SystemFailure, match="--vacc-python /no/such/python: No such file"):
        open_vacc(residual, "/no/such/python")
    with pytest.raises(SystemFailure, match="there is no die 4: vaststreamx lists 4"):
        open_vacc(residual, vacc_python, die=4)
    with pytest.raises(SystemFailure, match="No module named 'vaststreamx'"):
        open_vacc(residual, sys.executable)
    other = replace(residual, size=(64, 100), vdsp=residual.vdsp.replace(b"96", b"100"))
    with pytest.raises(SystemFailure, match="the model takes 1x3x64x96, expected 1x3x64x100"):
        open_vacc(other, vacc_python)


def test_two_workers_never_share_a_die(
    vaststreamx: ModuleType, residual: CompiledModel, vacc_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimo_core.engines.vacc.session._LOCK_SECONDS", 0.0)
    first = open_vacc(residual, die=1)
    with pytest.raises(SystemFailure, match=r"die 1 is taken.*RAY_custom_unit_instance_resources=VACC"):
        open_vacc(residual, vacc_python, die=1)
    open_vacc(residual, vacc_python, die=2).close()
    first.close()
    open_vacc(residual, vacc_python, die=1).close()


# What the die tells


def test_the_die_tells_of_itself(vaststreamx: ModuleType, residual: CompiledModel, vacc_python: str) -> None:
    for python in (None, vacc_python):
        session = open_vacc(residual, python, die=2)
        assert isinstance(session, Monitored)
        told = session.take_telemetry()
        assert told is not None
        assert (told.temperature, told.power, told.utilisation) == (42.0, 22.0, 90.0)
        assert told.memory == 1293 << 20
        assert session.take_telemetry() is None
        double = told + replace(told, samples=3, temperature=50.0, power=10.0)
        assert (double.samples, double.temperature, double.power) == (4, 50.0, 13.0)
        session.close()


def test_dies_are_counted_where_they_can_be_asked(
    vacc_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert count_dies(vacc_python) == 4
    assert count_dies(None) == len(list(Path("/dev").glob("vacc*")))
    monkeypatch.setenv("VACC_DOUBLE_CARDS", "1")
    assert count_dies(vacc_python) == 2
    with pytest.raises(SystemFailure, match="No module named 'vaststreamx'"):
        count_dies(sys.executable)
    with pytest.raises(SystemFailure, match="/no/such/python"):
        count_dies("/no/such/python")
    monkeypatch.setenv("PYTHONPATH", str(DOUBLES))
    listing = subprocess.run([sys.executable, die_module.__file__, "--list"], check=True, capture_output=True)
    assert [one["card"] for one in json.loads(listing.stdout)] == ["double-0", "double-0"]
