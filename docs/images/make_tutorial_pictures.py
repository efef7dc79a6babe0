"""Makes the tutorials' pictures: parts of the reports that their commands leave in `tour/`.

.venv/bin/python docs/images/make_tutorial_pictures.py [FOLDER that holds tour/]
"""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
# Name of the picture, report, height of the part that is shown; all begin at the top.
SHOTS = (("archive", "restored", 1180), ("compare", "compared", 860))
WIDTH, SHOWN = 1100, 900


def main() -> None:
    """Write the pictures beside this file."""
    place = Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parent.parent).resolve()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, run, height in SHOTS:
            page = browser.new_page(viewport={"width": WIDTH, "height": height})
            page.goto(f"file://{place}/tour/{run}/report.html")
            page.wait_for_timeout(2000)
            if name == "archive":
                # Speed is no matter of this tutorial.
                page.evaluate("document.querySelector('#speed')?.remove()")
                page.wait_for_timeout(500)
            shot = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
            assert shot is not None
            small = cv2.resize(shot, (SHOWN, height * SHOWN // WIDTH), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(HERE / f"tutorial_{name}.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 82])
        browser.close()


if __name__ == "__main__":
    main()
