"""What the pipeline sees of images: the model's input, the restored image, names and wrong use."""

import concurrent.futures
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pictures import (
    WHOLE,
    alpha,
    scene,
    with_pillow,
)

from mimo_core.errors import UsageError
from mimo_core.images.codecs import Image, container_of, decode, encode, model_input, with_restored
from mimo_core.images.containers import Metadata
from mimo_core.images.extensions import IMAGE_EXTENSIONS, RAW_EXTENSIONS


def image_of(pixels: npt.NDArray[Any], container: str = "png", gray: bool | None = None) -> Image:
    return Image(pixels, Metadata(), container, pixels.shape[2] == 1 if gray is None else gray, True)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_unchanged_restoration_gives_the_image_back(channels: int, kind: type[np.uint8] | type[np.uint16]) -> None:
    generator = np.random.default_rng(3)
    image = image_of(generator.integers(0, np.iinfo(kind).max + 1, (64, 64, channels)).astype(kind))
    given_to_model = model_input(image)
    assert given_to_model.shape == (64, 64, 3)
    assert given_to_model.dtype == kind
    assert given_to_model.flags.c_contiguous
    assert np.array_equal(with_restored(image, given_to_model).pixels, image.pixels)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_every_level_of_gray_survives(kind: type[np.uint8] | type[np.uint16]) -> None:
    levels = np.arange(np.iinfo(kind).max + 1, dtype=kind).reshape(16, -1, 1)
    image = image_of(levels)
    assert np.array_equal(with_restored(image, model_input(image)).pixels, levels)


def test_gray_stays_gray_though_the_network_tints_it() -> None:
    image = decode(with_pillow(scene(channels=1), "PNG"))
    tinted = model_input(image).copy()
    tinted[..., 0] = np.clip(tinted[..., 0].astype(int) + 9, 0, 255)
    restored = with_restored(image, tinted)
    assert restored.channels == 1
    assert decode(encode(restored, "png")).gray


def test_gray_with_alpha_stays_gray_with_alpha() -> None:
    image = decode(with_pillow(np.dstack([scene(), alpha()]), "PNG", "LA"))
    assert image.gray
    tinted = model_input(image).copy()
    tinted[..., 2] //= 2
    restored = with_restored(image, tinted).pixels
    assert np.array_equal(restored[..., 0], restored[..., 1])
    assert np.array_equal(restored[..., 0], restored[..., 2])
    assert np.array_equal(restored[..., 3], image.pixels[..., 3])


def test_alpha_follows_the_size_and_depth_of_the_restored_image() -> None:
    deep = image_of(np.dstack([scene(), alpha()]).astype(np.uint16) * 257)
    eight = with_restored(deep, scene())
    assert eight.bit_depth == 8
    assert np.array_equal(eight.pixels[..., 3], alpha())
    assert np.array_equal(with_restored(eight, deep.pixels[..., :3]).pixels, deep.pixels)
    small = with_restored(deep, np.ascontiguousarray(deep.pixels[:30, :40, :3]))
    assert small.pixels.shape == (30, 40, 4)


def test_many_threads_decode_and_encode_alike() -> None:
    expected = {name: decode(data).pixels.tobytes() for name, data in WHOLE.items()}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            results = dict(
                zip(WHOLE, pool.map(lambda data: decode(data).pixels.tobytes(), WHOLE.values()), strict=True)
            )
            assert results == expected


def test_containers_by_name() -> None:
    assert container_of("a/b.c/IMG_1.JPG") == "jpg"
    assert container_of("x.tif") == container_of("x.TIFF") == "tiff"
    assert container_of("x.pgm") == "pnm"
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"} <= IMAGE_EXTENSIONS
    for extension in IMAGE_EXTENSIONS:
        assert extension == extension.lower()
        assert extension in RAW_EXTENSIONS or container_of(f"x{extension}")
    for name in ("notes.txt", "x.dng", "jpg", ".png", "x.jpg/y"):
        with pytest.raises(UsageError, match="not named as an image"):
            container_of(name)


def test_wrong_use_is_refused_in_words() -> None:
    image = image_of(scene())
    with pytest.raises(UsageError, match=r"unknown container 'jpeg'.*jpg"):
        encode(image, "jpeg")
    for quality in (0, 101):
        with pytest.raises(UsageError, match="quality is 1 to 100"):
            encode(image, "jpg", quality=quality)
    with pytest.raises(UsageError, match="uint8 or uint16 with 1, 3 or 4 channels"):
        image_of(scene().astype(np.float32))
    with pytest.raises(UsageError, match="1, 3 or 4 channels"):
        image_of(scene(channels=2))
    with pytest.raises(UsageError, match="at least one pixel"):
        image_of(scene()[:0])
    with pytest.raises(UsageError, match="HWC RGB"):
        with_restored(image, scene(channels=1))
