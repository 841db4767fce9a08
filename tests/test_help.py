"""What every command's `--help` says, and how options and docstrings say it."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("common", "bas", "spol", "dgl_tf", "grcam", "wsol", "benchmarks")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in SOURCES
    if path.parent.name != "benchmarks"
    and "def main()" in (text := path.read_text())
    and re.search(r"\b(parse|tyro\.cli)\(\n? *\w", text)
]
HANGING = re.compile(
    r"(Of|In|On|At|By|For|From|To|With|Without|Beside|After|Before|Among|As|Under|Over|Behind|Between|Into|Through|"
    r"Instead|Which|What|Whose|Where|When|How|The command[;,.])\b"
)
"""Beginnings that lean on a name above them, or on a question that nobody asked."""


def test_there_are_commands():
    assert {"bas.train", "common.evaluate", "spol.seg.test", "wsol.photographs", "common.pytorch.cam"} <= set(MODULES)


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_no_default_is_none(module, capsys, monkeypatch):
    """An option that is not given has a released value, which is named, or is optional; in subcommands too."""
    if module.startswith(("dgl_tf", "grcam")):
        pytest.importorskip("tensorflow")
    elif not module.startswith("common") or module.startswith("common.pytorch"):
        pytest.importorskip("torch")

    def told(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["command", *words, "--help"])
        with pytest.raises(SystemExit, match="0"):
            importlib.import_module(module).main()
        said = capsys.readouterr().out
        assert "usage: " in said
        words = " ".join(said.replace("│", " ").split())
        assert "default: None" not in words
        assert "{None" not in words
        assert "(default: )" not in words
        return said

    usage = told().split("\n\n")[0]
    subcommands = re.search(r"\[-h\] \{([\w,-]+)\}$", usage.strip())
    for name in subcommands[1].split(",") if subcommands else ():
        told(name)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings of a module, its classes and functions, and of fields and constants, each with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            for statement, following in zip([None, *node.body], node.body, strict=False):
                is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                if is_text and (statement is None or isinstance(statement, ast.Assign | ast.AnnAssign)):
                    yield following.lineno, str(following.value.value)


def test_texts_are_found(tmp_path):
    file = tmp_path / "code.py"
    file.write_text('"""A."""\nB = 1\n"""Of B."""\nclass C:\n    """C."""\n    d: int = 2\n    """D."""\n    x()\n')
    assert list(texts(file)) == [(1, "A."), (3, "Of B."), (5, "C."), (7, "D.")]


@pytest.mark.slow
def test_first_sentences_stand_alone():
    """Verb first or a noun phrase: "SGD momentum (Nesterov).", not "Of SGD, Nesterov."; `--help` shows them so."""
    hanging = [f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
               for path in SOURCES for line, text in texts(path) if HANGING.match(text)]  # fmt: skip
    assert not hanging, "\n".join(hanging)
