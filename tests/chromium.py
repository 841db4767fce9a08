"""A real Chromium for tests of the page. Importing it skips a module without one, except where WSOL_REQUIRE_BROWSER says that
it mustn't.
"""

import os
import shutil
from pathlib import Path

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
if CHROMIUM is None and not os.environ.get("WSOL_REQUIRE_BROWSER"):
    pytest.skip("no chromium on PATH (apt-get install chromium)", allow_module_level=True)

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed in this environment")


def launched(playwright):
    """A headless browser; the caller closes it."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


def address(page):
    """The page's own word; playwright hears of a changed one a moment later."""
    return page.evaluate("location.href")


def cards(page):
    return page.locator(".card").count()


def saved(page, click) -> bytes:
    with page.expect_download() as download:
        click()
    return Path(download.value.path()).read_bytes()
