"""The scores of the zoo, of the reference repository and of RealBlur's script against transcriptions of their formulas.

Each transcription is written from the formulas of docs/metrics.md with other functions than the program's. The ten
pairs are real; what a network gives of them is a sharpened float, which leaves 0..1 here and there.
"""

import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from inprocess import LITE, run
from scipy.ndimage import correlate1d, gaussian_filter
from skimage.metrics import peak_signal_noise_ratio

from mimo_core.datasets.pairs import list_pairs
from mimo_core.engines import SessionSpec, open_session
from mimo_core.images.resizing import resize_bilinear
from mimo_core.metrics.definitions import ALL
from mimo_core.metrics.protocols import realblur
from mimo_core.metrics.scorer import CpuScorer, score_pair
from mimo_core.metrics.torch_scorer import TorchScorer
from mimo_core.models.weights import load_weights
from mimo_core.runs.config import EvaluateConfig
from mimo_core.runs.recipe import given_fields

Image8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]
ZOO, REALBLUR = ("psnr_zoo", "ssim_zoo"), ("psnr_realblur", "ssim_realblur")
SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def read(path: Path) -> Image8:
    return np.asarray(cv2.imread(str(path))[..., ::-1], np.uint8)


def sharpened(image: Image8) -> Float:
    """What a network might give: float, not rounded, and outside 0..1 here and there."""
    values = image.astype(np.float32) / np.float32(255)
    return np.asarray(values + 0.8 * (values - cv2.GaussianBlur(values, (0, 0), 1.5)), np.float32)


@pytest.fixture(scope="module")
def pairs(shared_data: Path) -> list[tuple[Image8, Image8]]:
    """Ten real pairs, five of REDS and five of GoPro, blurred and sharp."""
    files = list_pairs(shared_data / "reds_pairs")[::12] + list_pairs(shared_data / "gopro_pairs")[::9]
    assert len(files) == 10
    return [(read(blurred), read(sharp)) for blurred, sharp in files]


# -- the zoo ----------------------------------------------------------------------------------------------------------


def zoo_by_hand(values: Float, truth: Image8) -> tuple[float, float]:
    shown = np.minimum(np.minimum(np.maximum(values, 0), 1) + np.float32(0.5 / 255), np.float32(np.inf))
    shown = np.minimum(shown * np.float32(255), np.float32(255)).astype(np.float64)
    x, y = shown, truth.astype(np.float64)
    psnr = 20 * math.log10(255 / math.sqrt(((x - y) ** 2).mean()))
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(part: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(correlate1d(correlate1d(part, window, 0), window, 1)[5:-5, 5:-5])

    ux, uy, c1, c2 = blur(x), blur(y), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    vx, vy, vxy = blur(x * x) - ux * ux, blur(y * y) - uy * uy, blur(x * y) - ux * uy
    return psnr, float((((2 * ux * uy + c1) * (2 * vxy + c2)) / ((ux**2 + uy**2 + c1) * (vx + vy + c2))).mean())


def test_zoo(pairs: list[tuple[Image8, Image8]]) -> None:
    for number, pair in enumerate(pairs):
        blurred, sharp = (resize_bilinear(image, (360, 640)) for image in pair)
        values = sharpened(blurred)
        psnr, ssim = zoo_by_hand(values, np.asarray(cv2.resize(pair[1], (640, 360)), np.uint8))
        for scorer in (CpuScorer(ZOO), TorchScorer(ZOO, "cpu")):
            scores = scorer.score(blurred, blurred, sharp, values)
            assert set(scores) == set(ZOO), number
            assert scores["psnr_zoo"] == pytest.approx(psnr, abs=1e-9)
            assert scores["ssim_zoo"] == pytest.approx(ssim, abs=1e-9)


def test_half_a_level_counts_as_an_error_there(pairs: list[tuple[Image8, Image8]]) -> None:
    grey = np.full((32, 32, 3), 100, np.uint8)
    assert score_pair(ZOO, grey, grey)["psnr_zoo"] == pytest.approx(20 * math.log10(255 / 0.5), abs=1e-4)
    assert score_pair(ZOO, grey[:8], grey[:8])["ssim_zoo"] is None
    blurred, sharp = pairs[0]
    usual, zoo = (score_pair((name,), blurred, sharp)[name] for name in ("psnr", "psnr_zoo"))
    assert usual is not None
    assert zoo is not None
    assert 0.001 < abs(usual - zoo) < 0.1


# -- the reference repository -----------------------------------------------------------------------------------------


def test_reference(pairs: list[tuple[Image8, Image8]]) -> None:
    for blurred, sharp in pairs:
        values = sharpened(blurred)
        truth = np.true_divide(sharp, 255, dtype=np.float32)
        expected = peak_signal_noise_ratio(truth, np.clip(values, 0, 1), data_range=1)
        by_hand = -10 * math.log10(np.mean((truth - np.clip(values, 0, 1)) ** 2, dtype=np.float64))
        for scorer in (CpuScorer(("psnr_float",)), TorchScorer(("psnr_float",), "cpu")):
            score = scorer.score(blurred, blurred, sharp, values)["psnr_float"]
            assert score == pytest.approx(expected, abs=1e-9)
            assert score == pytest.approx(by_hand, abs=1e-9)


# -- RealBlur ---------------------------------------------------------------------------------------------------------


def realblur_by_hand(output: Image8, truth: Image8) -> tuple[float, float]:
    z, x = (image.astype("float32") / 255 for image in (output, truth))
    z = z * ((x * z).sum() / (z * z).sum())
    gray = np.array([[0.299, 0.587, 0.114]], np.float32)
    template, moved = cv2.transform(x, gray), cv2.transform(z, gray)
    warp = np.eye(3, dtype=np.float32)
    stop = (cv2.TermCriteria_EPS + cv2.TermCriteria_COUNT, 100, 0.0)
    warp = cv2.findTransformECC(template, moved, warp, cv2.MOTION_HOMOGRAPHY, stop, None, 5)[1]
    height, width = x.shape[:2]
    flags = cv2.WARP_INVERSE_MAP
    z = cv2.warpPerspective(z, warp, (width, height), flags=flags | cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    nearest = cv2.warpPerspective(
        np.ones((height, width), np.float32), warp, (width, height), flags=flags | cv2.INTER_NEAREST
    )
    mask = nearest.astype(np.float64)[..., np.newaxis]
    x, z = x * mask, z * mask
    psnr = 10 * math.log10(3 * mask.sum() / ((x - z) ** 2).sum())

    def blur(part: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(gaussian_filter(part, (1.5, 1.5, 0), truncate=3.5)[5:-5, 5:-5])

    ux, uy, c1, c2 = blur(x), blur(z), 0.01**2, 0.03**2
    vx, vy, vxy = blur(x * x) - ux * ux, blur(z * z) - uy * uy, blur(x * z) - ux * uy
    found = ((2 * ux * uy + c1) * (2 * vxy + c2)) / ((ux**2 + uy**2 + c1) * (vx + vy + c2))
    inner = mask[5:-5, 5:-5]
    return psnr, float((found * inner).sum() / (3 * inner.sum()))


def moved(image: Image8, seed: int) -> Image8:
    """Darker, and seen by a camera that turned and shifted a little."""
    numbers = np.random.default_rng(seed)
    warp = np.eye(3) + numbers.normal(0, [[2e-3, 2e-3, 1.5], [2e-3, 2e-3, 1.5], [1e-6, 1e-6, 0]])
    size = (image.shape[1], image.shape[0])
    seen = cv2.warpPerspective(image, warp, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(np.rint(seen * numbers.uniform(0.8, 0.97)), np.uint8)


def test_realblur(pairs: list[tuple[Image8, Image8]]) -> None:
    # Alignment takes seconds for a whole image; parts do.
    for number, pair in enumerate(pairs):
        blurred, sharp = (np.ascontiguousarray(image[:160, :208]) for image in pair)
        output = moved(blurred, number)
        psnr, ssim = realblur(output, sharp)
        expected = realblur_by_hand(output, sharp)
        assert psnr == pytest.approx(expected[0], abs=1e-6)
        assert ssim == pytest.approx(expected[1], abs=1e-9)
        plain = score_pair(("psnr",), output, sharp)["psnr"]
        assert plain is not None
        assert psnr > plain, "darker and moved is no error there"


def test_realblur_has_no_score_where_nothing_can_be_aligned() -> None:
    flat, black = np.full((40, 40, 3), 9, np.uint8), np.zeros((40, 40, 3), np.uint8)
    textured = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    for output, sharp in ((flat, textured), (textured, flat), (black, textured)):
        assert score_pair(REALBLUR, output, sharp) == {"psnr_realblur": None, "ssim_realblur": None}


# -- the command ------------------------------------------------------------------------------------------------------


def config(**options: object) -> EvaluateConfig:
    return EvaluateConfig.model_validate({"source": "in", "reference": "sharp", "output": "out", **options})


def test_a_protocol_adds_its_scores_and_its_size() -> None:
    assert config().chosen_metrics == ALL
    assert config(protocol="zoo").chosen_metrics == (*ALL, *ZOO)
    assert config(protocol="realblur", metrics="ssim,psnr").chosen_metrics == ("psnr", "ssim", *REALBLUR)
    assert config(protocol="reference", metrics="psnr").chosen_metrics == ("psnr", "psnr_float")
    sizes = {name: given_fields(config(protocol=name))["size"] for name in ("zoo", "reference", "realblur")}
    assert sizes == {"zoo": (360, 640), "reference": None, "realblur": None}
    assert given_fields(config(protocol="zoo", size="720x1280"))["size"] == (720, 1280)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "zoo", "size": "native"}, "--protocol zoo resizes the images"),
        ({"protocol": "reference", "size": "360x640"}, "--protocol reference is for images of their own size"),
        ({"protocol": "realblur", "size": "360x640"}, "--protocol realblur is for images of their own size"),
        ({"protocol": "zoo", "restored": "made"}, "--protocol zoo scores values before they are rounded"),
        ({"protocol": "reference", "restored": "made"}, "--protocol reference scores values before they are rounded"),
        ({"metrics": "psnr_zoo"}, "expected all, or some of psnr, ssim"),
    ],
)
def test_what_a_protocol_does_not_do_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**options)
    assert config(protocol="realblur", restored="made").restored_elsewhere == "made"


def test_a_run_has_the_zoos_scores_of_what_the_network_gives(tmp_path: Path) -> None:
    names = ("window.png", "brushes.png")
    for side in ("blurred", "sharp"):
        (tmp_path / side).mkdir()
        for name in names:
            (tmp_path / side / name).write_bytes((SAMPLES / side / name).read_bytes())
    size = (120, 160)
    done = run(
        tmp_path / "blurred",
        tmp_path / "out",
        weights=LITE,
        reference=tmp_path / "sharp",
        evaluates=True,
        saves_images=False,
        size=size,
        metrics=("psnr", *ZOO),
    )
    session = open_session(SessionSpec("torch", "cpu", "fp32", load_weights(LITE), threads=1))
    for name in names:
        blurred, sharp = (resize_bilinear(read(tmp_path / side / name), size) for side in ("blurred", "sharp"))
        psnr, ssim = zoo_by_hand(session.restore_float(blurred[np.newaxis])[0], sharp)
        record = done.records[name]
        assert record.psnr_zoo == pytest.approx(psnr, abs=1e-6)
        assert record.ssim_zoo == pytest.approx(ssim, abs=1e-6)
        assert record.psnr_float is record.ssim_realblur is None
    session.close()
