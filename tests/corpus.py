"""What the program makes of the image files of public test suites, beside what Pillow makes of them.

    python tests/corpus.py FOLDER --fetch     # Pillow's source from the package index, the others from Debian
    python tests/corpus.py FOLDER

Prints a Markdown table: by format, how many files are read with the pixels that Pillow sees, read where Pillow reads
nothing or less (deep colours), read otherwise, and how many are refused, by kind. Lists every file of the third group.
Ends with 1 if a decoder crashed the process or raised anything but an ImageError.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

SUITES = (
    *("libpng1.6", "exiv2", "tiff", "libjpeg-turbo", "vips", "libimage-exiftool-perl"),
    *("graphicsmagick", "libwebp", "libheif", "openjpeg2"),
)
DEBIAN = "deb-src [trusted=yes] http://deb.debian.org/debian stable main\n"
CLOSE = 3
"""Levels by which decoders of lossy formats and of palettes with 16-bit entries may differ."""


def fetch(folder: Path) -> None:
    """Download and unpack the sources below the folder; needs `pip` and, for those of Debian, `apt-get`."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(folder)]
    subprocess.run([*pip, "pillow"], check=True)
    listed = folder / "sources.list"
    listed.write_text(DEBIAN)
    options = ["-o", f"Dir::Etc::sourcelist={listed.resolve()}", "-o", "Dir::Etc::sourceparts=-"]
    subprocess.run(["apt-get", *options, "update", "-q"], check=True)
    for suite in SUITES:
        # A mirror that is being renewed lacks a file now and then; most suites are more than none.
        if subprocess.run(["apt-get", *options, "source", "-q", "--download-only", suite], cwd=folder).returncode:
            print(f"{suite} cannot be had from Debian at the moment", file=sys.stderr)
    for packed in sorted(folder.glob("*.tar.*")):
        if not packed.name.endswith(".asc") and "debian" not in packed.name.split("orig")[-1]:
            with tarfile.open(packed) as archive:
                archive.extractall(folder / packed.name.split("_")[0].split("-")[0], filter="data")


def format_of(data: bytes, name: str) -> str | None:
    """Return which format a file is, by its first bytes."""
    begins = {
        "png": (b"\x89PNG",),
        "jpeg": (b"\xff\xd8\xff",),
        "gif": (b"GIF8",),
        "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        "jpeg2000": (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
        "jpegxl": (b"\0\0\0\x0cJXL ",),
    }
    for format_name, magics in begins.items():
        if data.startswith(magics):
            return format_name
    if data[:2] == b"BM" and name.lower().endswith((".bmp", ".dib")):
        return "bmp"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3] in b" \t\r\n#" and len(data) > 2:
        return "pnm"
    if data[4:8] == b"ftyp":
        return {b"hei": "heif", b"hev": "heif", b"mif": "heif", b"avi": "avif"}.get(data[8:11])
    return "jpegxl" if data[:2] == b"\xff\x0a" and name.endswith(".jxl") else None


def judge(path: Path) -> tuple[str, str, str]:
    """Return (file, format, outcome)."""
    from mimo_core.errors import ImageError
    from mimo_core.images.codecs import decode

    data = path.read_bytes()
    kind = format_of(data, path.name) or ""
    try:
        image = decode(data)
    except ImageError as error:
        return str(path), kind, f"{error.kind.value}: {error}"
    seen = _by_pillow(data, image.channels)
    if seen is None:
        return str(path), kind, "alone"
    ours = image.pixels if image.bit_depth == 8 else (image.pixels >> 8).astype(np.uint8)
    if ours.shape != seen.shape:
        return str(path), kind, f"other: {ours.shape}, Pillow sees {seen.shape}"
    if ours.shape[2] == 4:
        hidden = (ours[:, :, 3:] == 0) & (seen[:, :, 3:] == 0)
        ours, seen = np.where(hidden, 0, ours), np.where(hidden, 0, seen)
    worst = int(np.abs(ours.astype(np.int16) - seen).max())
    return str(path), kind, "as Pillow" if worst <= CLOSE else f"other: differs by up to {worst} levels"


def _by_pillow(data: bytes, channels: int) -> "np.ndarray | None":  # type: ignore[type-arg]
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    warnings.simplefilter("ignore")
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
        if picture.mode.startswith("I"):
            deep = np.asarray(picture).astype(np.int64)
            return np.clip(deep >> (8 if deep.max() > 255 or "16" in picture.mode else 0), 0, 255).astype(np.uint8)[
                :, :, np.newaxis
            ]
        if picture.mode in ("F", "LAB"):
            return None
        pixels = np.asarray(picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, ArithmeticError, MemoryError):
        # Whatever Pillow fails with, there is nothing to compare with.
        return None
    return pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels


def files_of(folder: Path) -> list[Path]:
    """Return the image files below the folder, each content once."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 50_000_000:
            data = path.read_bytes()
            if format_of(data, path.name) is not None:
                found.setdefault(hashlib.sha256(data).hexdigest(), path)
    return list(found.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fetch", action="store_true", help="download the suites first")
    arguments = parser.parse_args()
    if arguments.fetch:
        fetch(arguments.folder)
    table: dict[str, Counter[str]] = {}
    others = []
    with ProcessPoolExecutor(2) as pool:
        for path, kind, outcome in pool.map(judge, files_of(arguments.folder), chunksize=8):
            table.setdefault(kind, Counter())[outcome.split(":")[0]] += 1
            if outcome.startswith(("other", "internal")):
                others.append(f"{path}: {outcome}")
    outcomes = ["as Pillow", "alone", "other", "unsupported", "truncated", "not_an_image", "too_large", "empty"]
    print("| format | files | " + " | ".join(outcomes) + " |\n|---|" + "---|" * (len(outcomes) + 1))
    for kind, counted in sorted(table.items()):
        print(f"| {kind} | {counted.total()} | " + " | ".join(str(counted[name]) for name in outcomes) + " |")
    print("\n" + "\n".join(others))
    return 0


if __name__ == "__main__":
    sys.exit(main())
