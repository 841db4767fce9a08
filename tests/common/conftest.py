"""What the tests of `common` share."""

from pathlib import Path

import pytest

from common.datasets import DataSource
from common.report import Report, build
from tests import runs, small_cub


@pytest.fixture
def source(tmp_path: Path) -> DataSource:
    """The test images of a small data set in CUB's layout, two of each of three classes."""
    return DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """Two methods in two frames over six images; method `other` misses two of them."""
    folder = tmp_path_factory.mktemp("page")
    source = DataSource("cub", small_cub.make(folder / "CUB"), "test")
    directories = tuple(
        runs.write(folder / f"{method}-{kind}", source, frame, method=method, misses=misses)
        for method, misses in (("cam", 0), ("other", 2))
        for kind, frame in (("crop", "resize 256 crop 224"), ("squash", "resize 224"))
    )
    path = folder / "page.html"
    path.write_text(build(Report(directories, released_for="cub")))
    return path


@pytest.fixture(scope="module")
def browser():
    from tests import chromium  # skips where there is none

    with chromium.sync_api.sync_playwright() as playwright:
        browser = chromium.launched(playwright)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, page_file):
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.trouble = []
    page.on("console", lambda message: message.type == "error" and page.trouble.append(message.text))
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or page.trouble.append(request.url))
    page.goto(page_file.as_uri())
    page.locator("#controls").scroll_into_view_if_needed()
    page.wait_for_selector(".look[data-box]", state="attached")
    yield page
    assert page.trouble == []
    page.close()
