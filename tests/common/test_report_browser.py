"""The page in a real Chromium. Without one these tests are skipped, except where WSOL_REQUIRE_BROWSER says they mustn't."""

import csv
import importlib.util
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource
from common.report import Report, build
from tests import runs, small_cub

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
if CHROMIUM is None and not os.environ.get("WSOL_REQUIRE_BROWSER"):
    pytest.skip("no chromium on PATH (apt-get install chromium)", allow_module_level=True)

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed in this environment")
pytestmark = pytest.mark.slow


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
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
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


def address(page):
    """The page's own word; playwright hears of a changed one a moment later."""
    return page.evaluate("location.href")


def cards(page):
    return page.locator(".card").count()


def test_every_image_stands_under_every_run_of_the_frame(page):
    assert cards(page) == 6
    assert page.locator(".look").count() == 12
    page.select_option("#frame", "resize 224")
    assert page.locator(".look").count() == 12


def slide(page, run, step):
    page.locator(f"input[data-run='{run}']").evaluate(
        "(slider, step) => { slider.value = step; slider.dispatchEvent(new Event('input', {bubbles: true})) }", step
    )


def test_the_slider_moves_the_box_and_the_count(page):
    look = page.locator(".card").first.locator(".look[data-run='0']")
    page.wait_for_function("document.querySelector('.card .look').dataset.box !== undefined")
    before, hits = look.get_attribute("data-box"), page.locator("output[data-run='0']").text_content()
    assert "6 of 6 hit" in hits
    slide(page, 0, 0)  # at threshold 0 the whole frame is above
    page.wait_for_function("box => document.querySelector('.card .look').dataset.box !== box", arg=before)
    assert look.get_attribute("data-box") == "0 0 224 224"
    assert page.locator("output[data-run='0']").text_content() != hits


def test_filters_filter(page):
    page.select_option("#judge", "2")  # `other` in the first frame
    page.select_option("#outcome", "miss")
    assert cards(page) == 2
    assert "2 of 6" in page.locator("#count").text_content()
    page.select_option("#outcome", "hit")
    assert cards(page) == 4
    page.select_option("#outcome", "differ")
    assert cards(page) == 2
    page.select_option("#outcome", "all")
    page.select_option("#class", "0")
    assert cards(page) == 2
    page.select_option("#class", "")
    page.fill("#find", "bird_3")
    assert 0 < cards(page) < 6


def test_worst_come_first(page):
    page.select_option("#judge", "2")
    page.select_option("#order", "worst")
    page.wait_for_function("document.querySelectorAll('.card')[1].querySelectorAll('.miss').length === 1")
    page.select_option("#order", "best")
    page.wait_for_function("document.querySelector('.card .look[data-run=\"2\"] .hit') !== null")


def test_canvases_show_the_map_and_the_boxes(page):
    page.wait_for_function("document.querySelector('.card canvas').width > 100")
    pixels = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"
    with_map = page.locator(".card canvas").first.evaluate(pixels)
    found = {tuple(with_map[k : k + 3]) for k in range(0, len(with_map), 4)}
    assert (255, 176, 0) in found or (90, 230, 90) in found
    page.uncheck("#heat")
    page.wait_for_timeout(300)
    assert page.locator(".card canvas").first.evaluate(pixels) != with_map


def test_plots_are_read_with_the_pointer_and_the_keys(page):
    chart = page.locator(".chart").first
    chart.scroll_into_view_if_needed()
    chart.hover()
    text = page.locator("#reading").text_content()
    assert text.startswith("BAS 2022 (bas), at 0.4")
    assert "cam mobilenet_v1 100.0" in text
    chart.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#reading").text_content() != text


def test_everything_has_a_name_for_a_screen_reader(page):
    page.wait_for_function("[...document.querySelectorAll('.card canvas')].every(canvas => canvas.ariaLabel)")
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button')].filter(
            (e) => !(e.ariaLabel || e.labels?.length || e.textContent.trim())).length"""
    )
    assert unnamed == 0
    assert "hit" in page.locator(".card canvas").first.get_attribute("aria-label")


def test_dark_and_print(page):
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(28, 25, 23)"
    page.emulate_media(media="print")
    assert not page.locator("#controls").is_visible()
    assert page.locator("h1").is_visible()


AXE = importlib.util.find_spec("axe_playwright_python")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, scheme):
    if AXE is None:
        pytest.skip("axe-playwright-python is not in this environment")
    page.emulate_media(color_scheme=scheme)
    for summary in page.locator("summary").all():
        summary.evaluate("summary => { summary.parentNode.open = true }")
    page.locator(".card canvas").first.click()
    page.evaluate((Path(AXE.origin).parent / "axe.min.js").read_text())
    found = page.evaluate(
        "axe.run().then((run) => run.violations.map((one) => [one.id, one.impact, one.nodes[0].html.slice(0, 200)]))"
    )
    assert [each for each in found if each[1] in ("serious", "critical")] == []


def test_an_image_opens_large_with_a_map_as_strong_as_one_likes(page):
    page.locator(".card canvas").first.click()
    dialog = page.locator("#large")
    assert dialog.locator("canvas[role=img]").count() == 2
    page.wait_for_function("document.querySelector('#large-looks .look').dataset.box !== undefined")
    title = page.locator("#large-title").text_content()
    pixels = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"
    before = dialog.locator("#large-looks canvas").first.evaluate(pixels)
    page.locator("#opacity").evaluate("slider => { slider.value = 0; slider.dispatchEvent(new Event('input')) }")
    page.wait_for_timeout(200)
    assert dialog.locator("#large-looks canvas").first.evaluate(pixels) != before
    page.locator("#next").click()
    assert page.locator("#large-title").text_content() != title
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_a_link_shows_the_same_view(page):
    page.select_option("#judge", "2")
    page.select_option("#outcome", "miss")
    slide(page, 0, 0)
    page.locator("input[data-run='0']").dispatch_event("change")
    link, count = address(page), page.locator("#count").text_content()
    assert "outcome=miss" in link
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector(".card")
    assert (page.locator("#count").text_content(), page.input_value("#judge")) == (count, "2")
    assert page.locator("input[data-run='0']").input_value() == "0"


def test_a_click_on_a_head_sorts_its_column(page):
    table = page.locator("table[data-name='GT-known by protocol']")

    def cells():
        return [float(text.split()[0]) for text in table.locator("tbody tr td:nth-child(3)").all_text_contents()]

    head = table.locator("thead th").nth(2)
    head.locator("button").click()
    assert cells() == sorted(cells(), reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert cells() == sorted(cells())


def test_the_best_of_a_column_is_marked_and_no_oracle_is(page):
    marked = page.locator("table.best td.top")
    assert marked.count() > 0
    sources = marked.evaluate_all("cells => cells.map((cell) => cell.parentNode.cells[1].textContent)")
    assert set(sources) == {"released"}
    equal = table_with_equal_columns(page)
    assert equal, "no column of equal figures to look at"
    assert not any(page.locator(f"table.best td.top:nth-child({column})").count() for column in equal)


def table_with_equal_columns(page) -> list[int]:
    """Columns, from 1, whose released figures are the same for all runs."""
    rows = page.locator("table.best tbody tr").evaluate_all(
        "rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    released = [row for row in rows if row[1].startswith("released")]
    figures = [[cell.split()[0] if cell.strip() else "" for cell in row] for row in released]
    return [
        place + 1 for place in range(2, len(rows[0])) if len({row[place] for row in figures}) == 1 and figures[0][place]
    ]


def saved(page, click) -> bytes:
    with page.expect_download() as download:
        click()
    return Path(download.value.path()).read_bytes()


def test_tables_and_plots_are_saved(page):
    rows = saved(page, page.locator("button.csv").first.click).decode().splitlines()
    assert rows[0].startswith('"GT-known","threshold","BAS 2022 (bas)"')
    assert len(rows) == 1 + page.locator("table.best tbody tr").count()
    assert saved(page, page.locator("button.svg").first.click).startswith(b"<svg")
    assert saved(page, page.locator("button.png").first.click).startswith(b"\x89PNG")


def test_a_saved_table_holds_numbers(page):
    """A figure, its interval and its threshold have columns of their own, which hold what the page's cells hold."""
    cells = page.locator("table.best tr").evaluate_all(
        "rows => rows.map((row) => [...row.cells].map((c) => c.textContent))"
    )
    rows = list(csv.DictReader(io.StringIO(saved(page, page.locator("button.csv").first.click).decode())))
    assert len(rows) == len(cells) - 1
    for row, (name, source, *shown) in zip(rows, cells[1:], strict=True):
        assert (row["GT-known"], row["threshold"]) == (name, source)
        for protocol, cell in zip(cells[0][2:], shown, strict=True):
            parts = [row[f"{protocol}{part}"] for part in ("", " low", " high", " threshold")]
            again = "-" if not parts[0] else "{} ({}-{})".format(*parts[:3]) + (f" @{parts[3]}" if parts[3] else "")
            assert again == cell
            assert all(np.isfinite(float(part)) for part in parts if part)
    for table in page.locator("table.data").all():
        held = list(csv.reader(io.StringIO(table.evaluate("asCsv"))))
        assert {len(row) for row in held} == {len(held[0])}
        assert not [cell for row in held[1:] for cell in row[1:] if re.match(r"\(?[+-]?\d.* \(|\(", cell)]


def test_every_kind_of_a_cell_is_taken_apart(page):
    """Spreads, differences in brackets, counts, thousands; a column with other words, and names, stay as they are."""
    table = [["run", "mean", "of other", "of third", "class", "steps", "told", "none"],
             ["1", "44.0 ±1.2 (37.4-50.6) @0.08", "(+0.5)", "", "50.0 of 4", "1,240", "1,240", "-"],
             ["2, b", "-", "-1.5", "+2.0", "50.0", "30", "240, 30", ""]]  # fmt: skip
    made = page.evaluate(
        """(rows) => {
            const table = document.createElement("table");
            for (const cells of rows) for (const cell of [table.insertRow()]) for (const text of cells) cell.insertCell().textContent = text;
            return asCsv(table);
        }""",
        table,
    )
    assert made.splitlines() == [
        '"run","mean","mean spread","mean low","mean high","mean threshold","of other","of other told apart",'
        '"of third","of third told apart","class","class images counted","steps","told","none"',
        '"1",44.0,1.2,37.4,50.6,0.08,+0.5,no,,,50.0,4,1240,"1,240","-"',
        '"2, b",,,,,,-1.5,yes,+2.0,yes,50.0,,30,"240, 30",""',
    ]  # fmt: skip


def test_a_chart_of_intervals_is_saved_with_its_lines(page):
    chart = page.locator(".plot:has(.whiskers)").first
    drawn = saved(page, chart.locator("button.svg").click).decode()
    assert drawn.startswith("<svg")
    assert ".whisker{stroke:#1c1917}" in drawn
    assert saved(page, chart.locator("button.png").click).startswith(b"\x89PNG")


def test_a_class_leads_to_its_images(page):
    page.locator("#classes + details summary").click()
    page.locator("button.jump").first.click()
    assert page.input_value("#class") == "0"
    assert cards(page) == 2


def test_a_dot_of_a_plot_leads_to_what_its_run_misses(page):
    """`other` misses two images, at its best threshold too; the dots of both runs lie on one another."""
    page.select_option("#class", "0")
    page.locator(".chart[data-protocol='wsoleval-v1'] circle[data-run='other mobilenet_v1']").last.click()
    assert page.input_value("#frame") == "resize 224"
    assert page.locator("#judge option:checked").text_content() == "other mobilenet_v1"
    assert (page.input_value("#outcome"), page.input_value("#class"), cards(page)) == ("miss", "", 2)
    assert "outcome=miss" in address(page)
    page.select_option("#outcome", "all")
    page.locator(".chart[data-judged='bas'] text[data-run='other mobilenet_v1']").click()
    assert (page.input_value("#frame"), page.input_value("#outcome"), cards(page)) == ("resize 256 crop 224", "miss", 2)


def test_a_plot_of_a_protocol_that_the_gallery_does_not_judge_by_leads_nowhere(page):
    chart = page.locator(".chart[data-protocol='spol']")
    before = address(page)
    chart.locator("circle[data-run]").last.click()
    assert (address(page), page.input_value("#outcome")) == (before, "all")
    leads = page.locator(".chart.leads").evaluate_all(
        "all => all.map((one) => one.dataset.protocol ?? one.dataset.judged)"
    )
    assert sorted(leads) == ["bas", "bas", "wsoleval-v1", "wsoleval-v1"]
    assert "The gallery judges by BAS 2022 and MaxBoxAcc 2020" in page.locator("main").text_content()


def test_dots_say_where_they_lead(page):
    """The gallery judges by two of the protocols; a pointer shows which dots and names are links."""
    look = "mark => [mark.querySelector('title').textContent, getComputedStyle(mark).cursor]"
    dots = {name: page.locator(f".chart[data-protocol='{name}'] .curve + .dot").first for name in ("spol", "bas")}
    assert dots["spol"].evaluate(look) == [
        "cam mobilenet_v1: 100.0 at 0.1. No link: the gallery does not judge this run by this protocol.", "help"
    ]  # fmt: skip
    words, cursor = dots["bas"].evaluate(look)
    assert (words.split(". ", 1)[1], cursor) == ("Leads to the images that this run misses here.", "pointer")
    names = {name: page.locator(f".chart[data-protocol='{name}'] .key").first for name in ("spol", "bas")}
    line = "name => getComputedStyle(name).textDecorationLine"
    assert {name: key.evaluate(line) for name, key in names.items()} == {"spol": "none", "bas": "underline"}
    assert page.locator(".chart:not(.leads) .dot[tabindex], .whiskers .dot[tabindex]").count() == 0


def test_a_dot_is_reached_by_keys(page):
    """Each plot that leads somewhere has one dot that Tab stops at; arrow keys go to the others."""
    stops = page.locator(".chart.leads").evaluate_all(
        "all => all.map((one) => one.querySelectorAll('.dot[tabindex=\"0\"]').length)"
    )
    assert stops == [1] * 4
    focused = "(document.activeElement.dataset.run ?? '') + ' ' + document.activeElement.getAttribute('role')"
    page.locator(".chart[data-protocol='wsoleval-v1']").focus()
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "cam mobilenet_v1 link"
    page.keyboard.press("ArrowUp")  # the first has none before it
    assert page.evaluate(focused) == "cam mobilenet_v1 link"
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == "other mobilenet_v1 link"
    assert page.evaluate("document.activeElement.ariaLabel").startswith("other mobilenet_v1: 66.7 at ")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "svg"  # the button below the plot
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(focused) == "other mobilenet_v1 link"
    page.keyboard.press("Enter")
    assert (page.input_value("#frame"), page.input_value("#outcome"), cards(page)) == ("resize 224", "miss", 2)
    assert page.locator("#judge option:checked").text_content() == "other mobilenet_v1"
    assert page.evaluate("document.activeElement.id") == "gallery"
    drawn = saved(page, page.locator(".plot:has(.chart.leads) button.svg").first.click).decode()
    assert 'role="img"' in drawn
    assert 'role="link"' not in drawn


def test_an_empty_reading_covers_nothing(page):
    """It sticks to the window's lower edge, above tables and plots too."""
    under = "getComputedStyle(document.getElementById('reading')).backgroundColor"
    assert page.evaluate(under) == "rgba(0, 0, 0, 0)"
    page.locator(".chart").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(under) == "rgb(250, 250, 249)"


def test_a_run_has_one_colour_throughout(page):
    """In plots, intervals, sliders and captions."""
    page.wait_for_function("document.querySelector('.card .look .swatch') !== null")
    paint = "all => [...new Set(all.map((one) => getComputedStyle(one).getPropertyValue('--own')))]"
    for number, name in enumerate(("cam mobilenet_v1", "other mobilenet_v1")):
        seen = [
            page.locator(f".chart .dot[data-run='{name}']").evaluate_all(paint),
            page.locator(f"#sliders span:has-text('{name}') .swatch").evaluate_all(paint),
            page.locator(f".card .look[data-run='{2 * number}'] .swatch").evaluate_all(paint),
            page.locator(f".whiskers .dot.run{number}").evaluate_all(paint),
        ]
        assert all(one == seen[0] for one in seen), (name, seen)
        assert len(seen[0]) == 1


def test_every_legend_lies_within_its_plot(page):
    outside = page.evaluate(
        """() => [...document.querySelectorAll('.plot svg text')].filter((text) => {
            const box = text.getBBox(), size = text.ownerSVGElement.viewBox.baseVal;
            return box.x < 0 || box.x + box.width > size.width + 1 || box.y + box.height > size.height;
        }).map((text) => text.textContent)"""
    )
    assert outside == []


def test_frames_are_named_in_words(page):
    assert page.locator("#frame option").all_text_contents() == [
        "the image's centre (resize 256 crop 224)", "the whole image (resize 224)"
    ]  # fmt: skip


def test_a_link_opens_the_protocols_in_words(page):
    page.locator("nav a[href='#protocols']").click()
    page.wait_for_function("document.getElementById('protocols').getBoundingClientRect().height > 0")
    assert page.locator("#protocols").is_visible()


def test_a_plot_takes_its_threshold_to_the_sliders(page):
    page.locator(".chart[data-protocol='bas']").first.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")  # at 0.5 + 20 * 0.01
    threshold = float(address(page).split("t0=")[1].split("&")[0])
    assert abs(threshold - 0.7) < 0.02


def test_a_review_is_saved_as_the_export_reads_it(page):
    page.check("#reviewing")
    page.locator(".card .drop").nth(1).click()
    assert page.locator(".card.dropped").count() == 1
    content = json.loads(saved(page, page.locator("#save-review").click))
    assert len(content["drop"]) == 1
    assert content["drop"][0] in page.locator(".card.dropped figcaption").text_content()


def test_two_splits_stand_apart_and_a_review_names_them(browser, tmp_path):
    """Both splits have a/0.png; no run has looked at an image of the other split, so none differ."""
    made = []
    for split in ("train", "val"):
        path = tmp_path / "data" / split / "a/0.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (80, 60), (len(made) * 90, 9, 9)).save(path)
        source = DataSource("folder", tmp_path / "data", split)
        made.append(runs.write(tmp_path / split, source, boxes={"a/0.png": np.array([[9.0, 9, 40, 40]])}))
    (tmp_path / "page.html").write_text(build(Report(tuple(made), workers=1)))
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.goto((tmp_path / "page.html").as_uri())
    assert [text.strip() for text in page.locator(".card figcaption").all_text_contents()] == [
        "a: train/a/0.png", "a: val/a/0.png"
    ]  # fmt: skip
    assert page.locator(".look").count() == 2
    page.select_option("#outcome", "differ")
    assert cards(page) == 0
    page.select_option("#outcome", "all")
    page.check("#reviewing")
    page.locator(".card .drop").nth(1).click()
    assert page.locator(".card.dropped").count() == 1
    assert json.loads(saved(page, page.locator("#save-review").click)) == {"drop": ["val/a/0.png"]}
    page.close()


def test_on_a_phone_the_filters_are_shut(browser, page_file):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(page_file.as_uri())
    page.wait_for_selector(".card")
    assert not page.locator("#frame").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    names = page.locator("table.best tbody tr:first-child > :first-child")
    assert 110 < names.bounding_box()["width"] < 150  # of some 340, so that figures are in view beside whole words
    page.close()


def many(page_file, path, count):
    """The page with its images repeated under new ids, all with one small photograph."""
    before, rest = page_file.read_text().split('<script type="application/json" id="data">')
    content, after = rest.split("</script>", 1)
    data = json.loads(content)
    first = data["images"]
    small = {"picture": first[0]["picture"]}
    data["images"] = [{**first[number % len(first)], **small, "id": f"many/{number:04}"} for number in range(count)]
    text = json.dumps(data).replace("<", "\\u003c")
    path.write_text(f'{before}<script type="application/json" id="data">{text}</script>{after}')


def test_5000_images_are_found_ordered_and_opened(browser, page_file, tmp_path):
    """Cards are made a page at a time; `other`, the third run, misses two of every six images."""
    many(page_file, tmp_path / "many.html", 5000)
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    trouble = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto((tmp_path / "many.html").as_uri())
    page.locator("#controls").scroll_into_view_if_needed()
    assert "5000 of 5000" in page.locator("#count").text_content()
    assert cards(page) < 100
    page.select_option("#judge", "2")
    page.select_option("#outcome", "miss")
    misses = int(page.locator("#count").text_content().split()[0])
    assert 1666 <= misses <= 1668
    page.select_option("#outcome", "all")
    page.select_option("#order", "worst")
    page.wait_for_function("document.querySelector('.card .look[data-run=\"2\"] .miss') !== null")
    page.fill("#find", "many/4999")
    assert cards(page) == 1
    page.locator(".card canvas").first.click()
    assert "many/4999" in page.locator("#large-title").text_content()
    page.wait_for_function("document.querySelector('#large-looks canvas').width > 100")
    assert trouble == []
    page.close()
