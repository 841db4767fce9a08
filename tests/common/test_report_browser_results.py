"""The page's tables and plots, in a real Chromium; see `tests.chromium`."""

import csv
import io
import re

import numpy as np
import pytest

from tests.chromium import address, cards, saved

pytestmark = pytest.mark.slow


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


def test_a_plot_takes_its_threshold_to_the_sliders(page):
    page.locator(".chart[data-protocol='bas']").first.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")  # at 0.5 + 20 * 0.01
    threshold = float(address(page).split("t0=")[1].split("&")[0])
    assert abs(threshold - 0.7) < 0.02
