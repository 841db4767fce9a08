"""The project's own figures are those that are written down, and CHANGES.md says so."""

import copy
import importlib
import re
import sys

import pytest

from common.datasets import DataSource
from common.results import audit, scoring  # noqa: F401, looked up by name
from common.results.evaluation import EvaluationOptions, evaluate
from tests import runs, small_cub
from tests.mutation.imports import reached_by, source_of
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


@pytest.mark.parametrize("begins", record.figures.PATHS)
def test_figures_guard_what_a_command_runs(begins):
    """Each figure's functions lie in modules that the command imports, and one of those names them."""
    command, functions = record.figures.PATHS[begins]
    reached = reached_by(command)
    for function in functions:
        module = next(name for name in sorted(reached, key=len, reverse=True) if function.startswith(f"{name}."))
        inner = function.removeprefix(f"{module}.").split(".")
        name = inner[0]
        others = (source_of(one) for one in reached - {module})
        assert any(re.search(rf"\b{name}\b", text) for text in others), f"{command} never names {function}"


def test_many_images_are_scored_to_the_same_figures():
    """Few images are scored box by box, many by a sweep over all thresholds: both are what the figures guard."""
    swept = record.figures.protocols(sweeping=True)
    stored = {name: record.read()["common"][name] for name in swept}
    assert record.differences({"common": stored}, {"common": swept}) == []


def test_every_figure_has_a_path():
    for group in record.read().values():
        for name in group:
            assert sum(name.startswith(begins) for begins in record.figures.PATHS) >= 1, name


def test_evaluate_runs_the_functions_whose_figures_stand_here(tmp_path, monkeypatch):
    """Counted while three images are scored: what the figures of protocols and boxes call, the command calls too."""
    ran = []
    for function in {each for command, each_of in record.figures.PATHS.values() if command == "common.evaluate"
                     for each in each_of}:  # fmt: skip
        owner, _, name = function.rpartition(".")
        *module, kind = owner.split(".") if owner.split(".")[-1][0].isupper() else [*owner.split("."), None]
        place = importlib.import_module(".".join(module))
        place = getattr(place, kind) if kind else place
        counted = counter(getattr(place, name), function, ran)
        for one in {place, *(sys.modules[name_] for name_ in ("common.results.scoring", "common.results.audit"))}:
            if hasattr(one, name):
                monkeypatch.setattr(one, name, counted)
    source = DataSource("cub", small_cub.make(tmp_path / "CUB", train=1, test=1), "test")
    evaluate(EvaluationOptions((runs.write(tmp_path / "run", source),), protocols=("grcam",), workers=1))
    expected = {each for command, functions in record.figures.PATHS.values() if command == "common.evaluate"
                for each in functions}  # fmt: skip
    assert set(ran) == expected


def counter(function, name, ran):
    def counted(*given, **named):
        ran.append(name)
        return function(*given, **named)

    return counted


@pytest.mark.slow
def test_a_factor_in_grcams_graph_is_seen(monkeypatch):
    """The graph that the command runs is the one whose figures stand here, and a factor does not hide in a stretch."""
    pytest.importorskip("tensorflow")
    from grcam import graph

    plain = graph.maps
    monkeypatch.setattr(graph, "maps", lambda *given: graph.Maps(*(0.9 * each for each in plain(*given))))
    lines = record.differences({"tensorflow": record.read()["tensorflow"]}, {"tensorflow": record.figures.dgl()})
    assert [line.split(":")[:2] for line in lines] == [["changed", " GRCAM, unstretched"]]
