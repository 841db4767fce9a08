from common.results.tables import render


def test_tables_render_as_text_and_markdown():
    table = [["a", "b"], ["longer", "1"]]
    assert render(table, "text") == "a       b\n------  -\nlonger  1"
    assert render(table, "markdown") == "| a      | b |\n| ------ | - |\n| longer | 1 |"


def test_long_names_are_broken_where_a_table_is_too_wide():
    """Words stay whole; figures keep their columns, and Markdown its lines."""
    name = "grad-cam mobilenet_v1 features.pointwise_13"
    table = [["method", "bas"], [name, "71.5 (65-77)"], ["cam", "-"]]
    assert render(table, "text", 50).splitlines()[2:] == [
        "grad-cam mobilenet_v1    71.5 (65-77)", "  features.pointwise_13", "cam                      -"
    ]  # fmt: skip
    assert render(table, "text", 80) == render(table, "text")
    assert render(table, "markdown", 50) == render(table, "markdown")
    assert max(map(len, render(table, "text", 10).splitlines())) == len("  features.pointwise_13") + 2 + 12


def test_figures_are_broken_where_names_leave_too_little():
    """Means over seeds have a spread before their interval; the rule stands below a head of two lines too."""
    table = [["GT-known, crop", "threshold", *["bas-extension"] * 4],
             ["cam mobilenet_v1, 3 seeds", "validation", *["83.3 ±16.7 (41-100)"] * 4],
             ["cam", "validation", *["100.0 (61-100)"] * 4]]  # fmt: skip
    told = render(table, "text", 100).splitlines()
    assert max(map(len, told)) <= 100
    assert told[1].replace("-", "").strip() == ""
    assert [told[2].count("83.3 ±16.7"), told[3].count("(41-100)"), told[4].count("100.0 (61-100)")] == [4, 4, 4]
    assert "83.3 ±16.7 (41-100)" in render(table, "text", 112)  # names alone are broken as long as that suffices
    head = render([["classes and pixels", "frame", "PxAP"], ["cam", "crop", "99.2 (99-99)"]], "text", 37)
    assert head.splitlines()[:2] == ["classes and  frame  PxAP", "  pixels"]
