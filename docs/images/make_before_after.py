"""Makes before_after.jpg: parts of the samples as blurred, as the demo restored them, and as they were.

python3 dev.py demo
.venv/bin/python docs/images/make_before_after.py
"""

from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COLUMNS = (ROOT / "samples" / "blurred", ROOT / "out" / "demo" / "images", ROOT / "samples" / "sharp")
# Name of the sample, left and top of the part that is shown.
PARTS = (("window.png", 10, 145), ("mountains.jpg", 180, 60))
WIDTH, HEIGHT, GAP = 160, 120, 6
ZOOM = 2


def main() -> None:
    """Write the picture beside this file."""
    white = np.full((ZOOM * HEIGHT, GAP, 3), 255, np.uint8)
    rows = []
    for name, left, top in PARTS:
        cells = []
        for folder in COLUMNS:
            image = cv2.imread(str(folder / name))
            if image is None:
                raise SystemExit(f"{folder / name} is missing: run `python3 dev.py demo` first")
            part = image[top : top + HEIGHT, left : left + WIDTH]
            cells += [cv2.resize(part, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC), white]
        rows += [np.hstack(cells[:-1]), np.full((GAP, 3 * ZOOM * WIDTH + 2 * GAP, 3), 255, np.uint8)]
    cv2.imwrite(str(HERE / "before_after.jpg"), np.vstack(rows[:-1]), [cv2.IMWRITE_JPEG_QUALITY, 92])


if __name__ == "__main__":
    main()
