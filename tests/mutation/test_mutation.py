"""The list of survivors speaks of code that stands, and the check says what it should of its mutants."""

import ast
import json
from collections.abc import Iterator

import pytest

from tests.mutation import campaign
from tests.mutation.__main__ import check, main
from tests.mutation.campaign import Mutant, Verdict
from tests.mutation.imports import reached_by


def functions(node: ast.AST, outer: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """The module's functions and its classes' methods, by name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield outer + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{child.name}.")


@pytest.mark.parametrize("module", campaign.MODULES)
def test_survivors_are_of_code_that_stands(module):
    source = (campaign.ROOT / f"{module.replace('.', '/')}.py").read_text()
    lines, known = source.splitlines(), dict(functions(ast.parse(source)))
    for row in campaign.rows():
        if row["module"] == module:
            node = known[row["function"]] if row["function"] else None
            standing = {line.strip() for line in (lines[node.lineno - 1 : node.end_lineno] if node else lines)}
            assert set(row["code"].splitlines()) <= standing, "the code changed: python -m tests.mutation says anew"
            assert row["mutant"] != row["code"]
            assert row["why"]


def test_survivors_are_few_and_of_modules_that_are_checked():
    assert {row["module"] for row in campaign.rows()} <= campaign.MODULES.keys()
    assert all(
        (campaign.ROOT / test).exists()
        for tests in (*campaign.MODULES.values(), *campaign.TABLES.values())
        for test in tests
    )


@pytest.mark.slow
@pytest.mark.parametrize("module", campaign.MODULES)
def test_modules_that_are_checked_are_what_commands_run(module):
    """One that stands beside the code that runs, as an own reference of it, guards nothing."""
    assert module in reached_by(campaign.COMMANDS[module])


def mutated(tmp_path, codes):
    """What mutmut leaves behind: the function, its mutants, and pytest's exit code for each."""
    (tmp_path / "common/measuring").mkdir(parents=True)
    (tmp_path / "common/measuring/boxes.py").write_text(
        "class Box:\n"
        "    def xǁBoxǁarea__mutmut_orig(self):\n        return self.a * self.b\n"
        "    def xǁBoxǁarea__mutmut_1(self):\n        return self.a / self.b\n"
        "def x_add__mutmut_orig(a, b=1):\n    return a + b\n"
        "def x_add__mutmut_1(a, b=2):\n    return a + b\n"
        "def x_add__mutmut_2(a, b=1):\n    return a - b\n"
    )
    names = ("xǁBoxǁarea__mutmut_1", "x_add__mutmut_1", "x_add__mutmut_2")
    keys = {f"common.measuring.boxes.{name}": code for name, code in zip(names, codes, strict=True)}
    (tmp_path / "common/measuring/boxes.py.meta").write_text(json.dumps({"exit_code_by_key": keys}))
    return campaign.verdict_of("common.measuring.boxes", tmp_path)


AREA = Mutant("common.measuring.boxes", "Box.area", "return self.a * self.b", "return self.a / self.b")
ADD = Mutant("common.measuring.boxes", "add", "def add(a, b=1):", "def add(a, b=2):")


def test_survivors_are_told_by_their_lines(tmp_path):
    verdict = mutated(tmp_path, (0, 33, 1))  # lives, is reached by no test, fails one
    assert verdict == Verdict("common.measuring.boxes", 1, (AREA, ADD))
    assert verdict.percent == pytest.approx(100 / 3)


def test_mutants_outside_functions_are_added():
    rows = [{"code": "A = 1", "mutant": "A = 2", "status": status} for status in (1, 0, -14)]  # 14: it took too long
    verdict = campaign.with_tables(Verdict("common.measuring.boxes", 1, (AREA,)), rows)
    assert verdict == Verdict(
        "common.measuring.boxes", 3, (AREA, Mutant("common.measuring.boxes", "", "A = 1", "A = 2"))
    )


@pytest.mark.parametrize("code", [None, 2, 35])
def test_a_mutant_that_was_not_tested_is_no_verdict(tmp_path, code):
    with pytest.raises(RuntimeError, match="without a verdict"):
        mutated(tmp_path, (0, code, 1))


def test_new_and_killed_survivors_are_told_apart():
    verdict = Verdict("common.measuring.boxes", 1, (AREA, AREA))
    other = Mutant("common.measuring.metrics", "add", "a", "b")
    assert campaign.compare(verdict, [AREA, ADD, other]) == ([AREA], [ADD])
    assert campaign.compare(verdict, [AREA, AREA, other]) == ([], [])


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(RuntimeError, match="was not made by this command"):
        campaign.install(tmp_path)
    assert (tmp_path / "mine").read_text() == "kept"


def test_modules_that_are_not_checked_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["mutation", "common.pictures.images"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "no mutation check of common.pictures.images, expected of common.measuring.boxes" in capsys.readouterr().err


@pytest.mark.parametrize(("survived", "known", "good"), [
    ([AREA], [AREA], True), ([AREA], [], False), ([], [AREA], False), ([AREA] * 2, [AREA] * 2, False),
])  # fmt: skip
def test_what_fails_the_check(tmp_path, monkeypatch, capsys, survived, known, good):
    """New survivors, listed ones that are killed, and two of eleven, which is below 90 %."""
    monkeypatch.setattr(campaign, "run", lambda module, *_: Verdict(module, 9, tuple(survived)))
    assert check("common.measuring.boxes", known, tmp_path, tmp_path) is good
    said = capsys.readouterr().out
    assert said.startswith(f"common.measuring.boxes: {9 + len(survived)} mutants, 9 killed")
    assert (tmp_path / "common.measuring.boxes.json").exists() == (survived != [] and known == [])
    assert ("listed, but killed or gone: Box.area" in said) == (survived == [])
