"""The project's own figures are those that are written down, and CHANGES.md says so."""

import copy

import pytest

from tests.own import record


@pytest.fixture(scope="module")
def found():
    return record.figures.compute()


def test_no_figure_changed_unnoticed(found):
    assert record.differences(record.read(), found) == [], "python -m tests.own shows and stores it"


def test_changes_name_the_figures_that_are_stored():
    newest = next(line for line in record.CHANGES.read_text().splitlines() if line.startswith("| 20"))
    assert record.fingerprint() in newest


def test_changes_are_seen(found):
    stored = copy.deepcopy(record.read())
    name = "spol: gt_known"
    stored["common"][name][2] += 1.0
    del stored["common"]["boxes value, largest-contour, clamped"]
    stored["common"]["older"] = 1.0
    lines = record.differences(stored, {"common": found["common"]})
    assert [line.split(":")[0] for line in lines] == ["new", "gone", "changed"]
    assert name in lines[2]


@pytest.mark.slow
def test_a_factor_in_grcams_graph_is_seen(monkeypatch):
    """The graph that the command runs is the one whose figures stand here, and a factor does not hide in a stretch."""
    pytest.importorskip("tensorflow")
    from grcam import graph

    plain = graph.maps
    monkeypatch.setattr(graph, "maps", lambda *given: graph.Maps(*(0.9 * each for each in plain(*given))))
    lines = record.differences({"tensorflow": record.read()["tensorflow"]}, {"tensorflow": record.figures.dgl()})
    assert [line.split(":")[:2] for line in lines] == [["changed", " GRCAM, unstretched"]]
