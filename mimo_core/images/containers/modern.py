"""AVIF, HEIF and JPEG XL, by Pillow and its plug-ins; samples of more than 8 bits by the libraries below them.

They come with the extra `formats`. What the decoders of a format turn upright stays as they give it.
"""

import importlib
import io
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mimo_core.errors import ErrorKind, ImageError
from mimo_core.images.containers import colour
from mimo_core.images.containers.base import Header, Metadata, boxes, check_size, truncated, unsupported

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

NAMES = {"avif": "AVIF", "heif": "HEIF", "jxl": "JPEG XL"}
_PILLOW = {"avif": "AVIF", "heif": "HEIF", "jxl": "JXL"}
_PLUGINS = {"heif": "pillow_heif", "jxl": "pillow_jxl"}
_PACKAGES = {"avif": "'pillow>=11.3'", "heif": "pillow-heif", "jxl": "pillow-jxl-plugin"}
_QUALITY = 95


def prepare(container: str) -> Any:
    """Return Pillow's module `Image`, which reads and writes the container.

    Raises:
        ImageError: UNSUPPORTED, it is not installed.
    """
    try:
        if plugin := _PLUGINS.get(container):
            module = importlib.import_module(plugin)
            if container == "heif":
                module.register_heif_opener()
        pillow = importlib.import_module("PIL.Image")
        supported = container != "avif" or importlib.import_module("PIL.features").check("avif")
    except ImportError:
        supported = False
    if not supported:
        raise unsupported(f"the format {NAMES[container]} without its library", f"pip install {_PACKAGES[container]}")
    return pillow


def inspect(container: str, data: bytes) -> Header:
    """Header of an AVIF, HEIF or JPEG XL file with one picture."""
    pillow, name = prepare(container), NAMES[container]
    try:
        picture: Picture = pillow.open(io.BytesIO(data), formats=(_PILLOW[container],))
    except pillow.DecompressionBombError as error:
        raise ImageError(ErrorKind.TOO_LARGE, str(error)) from error
    except pillow.UnidentifiedImageError as error:
        raise truncated(name, "its structure cannot be read") from error
    except (OSError, ValueError, SyntaxError, RuntimeError, EOFError) as error:
        raise truncated(name, str(error)[:200]) from error
    width, height = picture.size
    check_size(name, width, height)
    frames = int(getattr(picture, "n_frames", 1))
    if frames > 1 and container != "heif":
        raise unsupported(f"an animated {name}", "only still images are restored")
    info = picture.info
    bits = _bits(container, data, info)
    exif, icc, xmp = (_bytes(info.get(key)) for key in ("exif", "icc_profile", "xmp"))
    lost = ["a further picture"] if frames > 1 else []
    if container == "jxl" and data.startswith(b"\0\0\0\x0c"):
        # Its plug-in does not tell of XMP, nor of what is compressed.
        for kind, begin, end in boxes(data, 0, len(data), name):
            xmp = data[begin:end] if kind == b"xml " else xmp
            lost += ["compressed metadata"] if kind == b"brob" else []
    gray = picture.mode in ("L", "LA", "I;16")
    metadata = Metadata(exif.removeprefix(b"Exif\0\0"), icc, xmp)
    read = partial(_read_deep if bits > 8 else _read, container, data)
    return Header(container, width, height, gray, False, read, metadata, tuple(lost))


def _bytes(value: object) -> bytes:
    return value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else b""


def _bits(container: str, data: bytes, info: dict[Any, Any]) -> int:
    if container == "heif":
        return int(info.get("bit_depth") or 8)
    if container == "avif":
        # AV1CodecConfigurationRecord: the third byte's second and third bit (AV1-ISOBMFF, 2.3.3).
        at = data.find(b"av1C")
        flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
        return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    # A codestream tells its depth in a packed header; the decoder is asked instead.
    return 16


def _read(container: str, data: bytes) -> Any:
    pillow, name = prepare(container), NAMES[container]
    try:
        picture = pillow.open(io.BytesIO(data), formats=(_PILLOW[container],))
        mode = picture.mode if picture.mode in ("L", "RGB", "RGBA") else "RGBA" if "A" in picture.mode else "RGB"
        pixels: Any = np.asarray(picture.convert(mode))
    except (OSError, ValueError, SyntaxError, RuntimeError, EOFError) as error:
        raise truncated(name, str(error)[:200]) from error
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis])


def _read_deep(container: str, data: bytes) -> Any:
    import imagecodecs

    name = NAMES[container]
    try:
        if container == "heif":
            opened = importlib.import_module("pillow_heif").open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
            pixels: Any = np.asarray(opened)
        elif container == "avif":
            pixels = imagecodecs.avif_decode(data)
        else:
            pixels = imagecodecs.jpegxl_decode(data)
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        raise truncated(name, str(error)[:200]) from error
    if pixels.dtype not in (np.uint8, np.uint16):
        raise unsupported(f"a {name} of {pixels.dtype} samples")
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if pixels.ndim != 3:
        raise unsupported(f"an animated {name}", "only still images are restored")
    if container == "avif" and pixels.dtype == np.uint16:
        pixels = colour.widened(pixels, _bits("avif", data, {}))
    if pixels.shape[2] == 2:
        pixels = pixels[:, :, [0, 0, 0, 1]]
    return np.ascontiguousarray(pixels)


def encode(container: str, pixels: Any, metadata: Metadata, quality: int | None) -> bytes:
    """Return an AVIF, HEIF or JPEG XL file of 8 bits.

    What JPEG XL holds may have been lossless, so it is written so unless a quality is given.

    Args:
        container: `avif`, `heif` or `jxl`.
        pixels: HWC uint8, gray, RGB or RGBA.
        metadata: what goes with it: EXIF, profile, XMP.
        quality: 1 to 100; None for 95, and for a lossless JPEG XL.
    """
    pillow = prepare(container)
    picture = pillow.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    options: dict[str, Any] = {"quality": quality or _QUALITY}
    if container == "jxl":
        options |= {"lossless": quality is None, "effort": 3}
    else:
        options["subsampling" if container == "avif" else "chroma"] = "4:4:4" if container == "avif" else 444
    for key, value in (("exif", metadata.exif), ("icc_profile", metadata.icc), ("xmp", metadata.xmp)):
        if value:
            options[key] = b"Exif\0\0" + value if key == "exif" and container != "jxl" else value
    out = io.BytesIO()
    picture.save(out, _PILLOW[container], **options)
    return out.getvalue()
