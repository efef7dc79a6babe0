"""Every engine in every precision against torch in float32: on the golden inputs, and on real photographs."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import openvino
import pytest

from mimo_core.engines import ENGINES, SessionSpec, open_session
from mimo_core.engines.openvino_session import computes_bf16
from mimo_core.engines.quantization.calibration import observe
from mimo_core.hardware import int8_saturates
from mimo_core.images.pixels import Pixels
from mimo_core.models.int8 import KEY, Quantisation
from mimo_core.models.network import build_network
from mimo_core.models.weights import Weights, load_weights

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "blurred"
CASES = [
    (name, precision)
    for name, engine in ENGINES.items()
    if "cpu" in engine.devices and name != "identity"
    for precision in engine.precisions
]
LEAST_DECIBELS = {"bf16": 50.0, "fp16": 50.0, "int8": 38.0}
FP32_TOLERANCE = 1e-4


def restored(engine: str, precision: str, weights: Weights, batch: Pixels) -> npt.NDArray[np.float32]:
    """The batch by this engine; for int8 with ranges from the batch itself.

    How near a precision comes shows only where the CPU has instructions for it; elsewhere the test is skipped.
    """
    if precision == "bf16" and engine == "openvino" and not computes_bf16(openvino.Core()):
        pytest.skip("this CPU computes no bfloat16")
    if precision == "int8":
        if int8_saturates():
            pytest.skip("this CPU computes no int8 products without overflow")
        seen = observe(build_network(weights), batch)
        ranges = {name: histogram.range("percentile", 99.99) for name, histogram in seen.items()}
        weights = replace(weights, metadata={KEY: Quantisation("percentile 99.99", ranges).text()})
    session = open_session(SessionSpec(engine, "cpu", precision, weights, threads=1))  # type: ignore[arg-type]
    try:
        return session.restore_float(batch)
    finally:
        session.close()


def require_agreement(found: npt.NDArray[np.float32], exact: npt.NDArray[np.float32], precision: str) -> None:
    errors = np.abs(found.astype(np.float64) - exact)
    if precision == "fp32":
        assert errors.max() <= FP32_TOLERANCE
    else:
        assert -10 * np.log10(np.square(errors).mean()) >= LEAST_DECIBELS[precision]
        assert errors.max() > 0, "a lower precision that changes nothing was not used"


@pytest.mark.parametrize(("engine", "precision"), CASES)
@pytest.mark.parametrize(
    ("variant", "interpolation"),
    [("mimo-unet", "nearest"), ("mimo-unet", "bilinear"), ("mimo-unet-plus", "nearest")],
)
def test_golden_inputs(shared_data: Path, engine: str, precision: str, variant: str, interpolation: str) -> None:
    golden = np.load(shared_data / "golden" / f"{variant}-{interpolation}.npz")
    # As 16 bits the input is met almost exactly.
    batch = (golden["input"].transpose(0, 2, 3, 1) * 65535).round().astype(np.uint16)
    exact = np.clip(golden["full"].transpose(0, 2, 3, 1), 0, 1)
    weights = load_weights(f"golden:{variant}", interpolation)
    require_agreement(restored(engine, precision, weights, batch), exact, precision)


@pytest.mark.parametrize(("engine", "precision"), CASES)
def test_photographs(engine: str, precision: str) -> None:
    images = [cv2.imread(str(SAMPLES / name)) for name in ("window.png", "mountains.jpg")]
    batch = np.ascontiguousarray(np.stack([image[100:196, 60:188, ::-1] for image in images]))
    weights = load_weights("mimo-unet-lite")
    exact = restored("torch", "fp32", weights, batch)
    assert np.abs(exact - batch / np.float32(255)).max() > 0.02, "weights that change nothing would test nothing"
    require_agreement(restored(engine, precision, weights, batch), exact, precision)
