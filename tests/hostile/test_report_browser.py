"""Hostile names in a real Chromium: nothing of what they say runs. Skipped and required as tests/common's is."""

from common.datasets import DataSource
from common.report import Report, build
from tests import chromium, runs
from tests.hostile.test_report import EVIL, renamed


def test_no_name_runs(tmp_path):
    cub = renamed(tmp_path / "CUB", 0, "<img src=x onerror=window.ran=1>")
    source = DataSource("cub", cub, "test")
    made = tuple(
        runs.write(
            tmp_path / f"run{number}", source, method=evil, architecture=evil, options={evil: evil}, misses=number % 3
        )
        for number, evil in enumerate(EVIL)
    )
    path = tmp_path / "page.html"
    path.write_text(build(Report(made, workers=1)))
    with chromium.sync_api.sync_playwright() as playwright:
        browser = chromium.launched(playwright)
        page = browser.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.locator("#controls").scroll_into_view_if_needed()
        page.wait_for_selector(".look[data-box]", state="attached")
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true })")
        page.locator("#class").select_option(index=1)
        page.locator("#outcome").select_option("differ")
        page.locator(".chart").first.hover()
        page.wait_for_timeout(200)
        assert page.evaluate("window.ran") is None
        assert page.locator("#class option").nth(1).text_content().startswith("<img")
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        browser.close()
