"""How much damage passes for a whole image, and what decoding and encoding cost, by format.

    python tests/damage.py [FOLDER]

FOLDER holds photographs (`samples/sharp` unless given). Prints two Markdown tables: of files with 512 zeroed bytes, cut
at each sixteenth and with one flipped bit, how many are taken for whole; and milliseconds of CPU at 1280x720, the least
of nine. Put another version of the program first on PYTHONPATH to compare.
"""

import io
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import cv2
import tifffile
from PIL import Image as Pillow

from mimo_core.errors import ImageError
from mimo_core.images.codecs import decode, encode

TIMES, FLIPS, ROUNDS = 40, 60, 9


def files_of(photograph: Any) -> dict[str, bytes]:
    """The photograph in each format and compression."""
    picture = Pillow.fromarray(photograph)
    bilevel = picture.convert("1")
    files = {
        "JPEG": by_pillow(picture, "JPEG", quality=92),
        "JPEG, progressive": by_pillow(picture, "JPEG", quality=92, progressive=True),
        "PNG": by_pillow(picture, "PNG"),
        "WebP": by_pillow(picture, "WEBP", quality=92),
        "BMP": by_pillow(picture, "BMP"),
        "PNM": by_pillow(picture, "PPM"),
        "GIF": by_pillow(picture.convert("P"), "GIF"),
        "TIFF, fax 3": by_pillow(bilevel, "TIFF", compression="group3"),
        "TIFF, fax 4": by_pillow(bilevel, "TIFF", compression="group4"),
    }
    for name in ("none", "lzw", "packbits", "deflate", "jpeg", "zstd", "lzma"):
        out = io.BytesIO()
        compression = None if name == "none" else name
        tifffile.imwrite(out, photograph, photometric="rgb", compression=compression, rowsperstrip=64)
        files[f"TIFF, {name}"] = out.getvalue()
    return files


def by_pillow(picture: Any, name: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, name, **options)
    return out.getvalue()


def passes(data: bytes) -> bool:
    try:
        decode(data)
    except ImageError:
        return False
    return True


def zeroed(data: bytes) -> Iterator[bytes]:
    for seed in range(TIMES):
        size = min(512, len(data) // 8)
        at = random.Random(seed).randrange(len(data) // 4, len(data) * 3 // 4 - size)
        yield data[:at] + bytes(size) + data[at + size :]


def cut(data: bytes) -> Iterator[bytes]:
    for sixteenth in range(1, 16):
        yield data[: len(data) * sixteenth // 16]


def flipped(data: bytes) -> Iterator[bytes]:
    for seed in range(FLIPS):
        chance = random.Random(seed)
        damaged = bytearray(data)
        damaged[chance.randrange(len(data) // 10, len(data))] ^= 1 << chance.randrange(8)
        yield bytes(damaged)


def least(act: Callable[[], object]) -> float:
    found = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        act()
        found.append(time.process_time() - begun)
    return 1000 * min(found)


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "samples" / "sharp")
    pixels = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in sorted(folder.iterdir())]
    small = cv2.resize(pixels[0], (480, 320), interpolation=cv2.INTER_AREA)
    print(f"| format | sound | zeroed, of {TIMES} | cut, of 15 | one bit, of {FLIPS} |\n|---|---|---|---|---|")
    for name, data in files_of(small).items():
        counts = [str(sum(map(passes, damage(data)))) for damage in (zeroed, cut, flipped)]
        print(f"| {name} | {'read' if passes(data) else 'refused'} | {' | '.join(counts)} |")
    large = cv2.resize(pixels[0], (1280, 720), interpolation=cv2.INTER_AREA)
    print("\n| format | decode, ms | encode, ms |\n|---|---|---|")
    for name, data in files_of(large).items():
        if not passes(data):
            continue
        image = decode(data)
        writes = (image.container != "gif" and not name.startswith("TIFF, ")) or name == "TIFF, lzw"
        encoding = f"{least(lambda image=image: encode(image, image.container)):.1f}" if writes else ""
        print(f"| {name} | {least(lambda data=data: decode(data)):.1f} | {encoding} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
