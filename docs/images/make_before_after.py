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
# Name of the sample, left, top and width of the part that is shown.
PARTS = (("street.jpg", 0, 0, 640), ("window.png", 8, 140, 240))
WIDTH, HEIGHT, GAP = 480, 300, 6
SMALLER, LARGER = cv2.INTER_AREA, cv2.INTER_CUBIC


def main() -> None:
    """Write the picture beside this file."""
    white = np.full((HEIGHT, GAP, 3), 255, np.uint8)
    rows = []
    for name, left, top, width in PARTS:
        cells = []
        for folder in COLUMNS:
            image = cv2.imread(str(folder / name))
            if image is None:
                raise SystemExit(f"{folder / name} is missing: run `python3 dev.py demo` first")
            part = image[top : top + width * HEIGHT // WIDTH, left : left + width]
            cells += [cv2.resize(part, (WIDTH, HEIGHT), interpolation=SMALLER if width > WIDTH else LARGER), white]
        rows += [np.hstack(cells[:-1]), np.full((GAP, 3 * WIDTH + 2 * GAP, 3), 255, np.uint8)]
    cv2.imwrite(str(HERE / "before_after.jpg"), np.vstack(rows[:-1]), [cv2.IMWRITE_JPEG_QUALITY, 92])


if __name__ == "__main__":
    main()
