"""The page's gallery, filters and addresses, in a real Chromium; see `tests.chromium`."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource
from common.report import Report, build
from tests import runs
from tests.chromium import address, cards, saved

pytestmark = pytest.mark.slow


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


def test_a_class_leads_to_its_images(page):
    page.locator("#classes + details summary").click()
    page.locator("button.jump").first.click()
    assert page.input_value("#class") == "0"
    assert cards(page) == 2


def test_frames_are_named_in_words(page):
    assert page.locator("#frame option").all_text_contents() == [
        "the image's centre (resize 256 crop 224)", "the whole image (resize 224)"
    ]  # fmt: skip


def test_a_link_opens_the_protocols_in_words(page):
    page.locator("nav a[href='#protocols']").click()
    page.wait_for_function("document.getElementById('protocols').getBoundingClientRect().height > 0")
    assert page.locator("#protocols").is_visible()


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
