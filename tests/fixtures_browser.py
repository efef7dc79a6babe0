"""A real browser without a window, for pages; tests that ask for it are skipped where there is none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


@dataclass
class Opened:
    """A page in the browser, what its console said, and what it asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


class Browser:
    """Opens files as a person would, on a desk or a phone."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser

    @contextmanager
    def open(self, file: Path, *, dark: bool = False, phone: bool = False) -> Iterator[Opened]:
        """The page once its charts are drawn."""
        size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 900}
        context = self._browser.new_context(
            viewport=size, color_scheme="dark" if dark else "light", has_touch=phone, is_mobile=phone
        )
        opened = Opened(context.new_page())
        opened.page.on("console", lambda message: opened.said.append(f"{message.type}: {message.text}"))
        opened.page.on("pageerror", lambda error: opened.said.append(f"error: {error}"))
        opened.page.on("request", lambda request: opened.asked.append(request.url))
        try:
            opened.page.goto(file.as_uri())
            opened.page.wait_for_function(
                "[...document.querySelectorAll('[data-chart]')].every((one) => Number(one.dataset.drawn) > 0)"
            )
            yield opened
        finally:
            context.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, driven by Playwright."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    with playwright.sync_playwright() as driver:
        # Chromium's own sandbox does not work for root, as CI often is.
        running = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield Browser(running)
        running.close()
