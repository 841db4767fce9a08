"""What every command's `--help` says, and how options and docstrings say it."""

import ast
import contextlib
import importlib
import io
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
    and re.search(r"\b(parse|tyro\.cli)\(\n? *[\w{]", text)
]
HANGING = re.compile(
    r"(Of|In|On|At|By|For|From|To|With|Without|Beside|After|Before|Among|As|Under|Over|Behind|Between|Into|Through|"
    r"Instead|Which|What|Whose|Where|When|How|The command[;,.])\b"
)
"""Beginnings that lean on a name above them, or on a question that nobody asked."""


ONE_NAME = {
    "--checkpoint": {"--load", "--snapshot", "--pretrained-path"},
    "--out": {"--savepath", "--rebuild-val-save-path", "--pseudo-bounding-box-save-path"},
    "--data.root": {"--root", "--datapath"},
    "--data.split": {"--splits"},
    "--data.boxes": {"--boxes"},
    "--data.metadata": {"--metadata"},
    "--data.list-file": {"--list-file", "--list"},
    "--arch": {"--architecture", "--backbone", "--mode"},
    "--layers": {"--clayer"},
    "--alpha": {"--pa", "--label-factor"},
    "--input-size": {"--image-size"},
    "--num-classes": {"--clsnum"},
    "--classes-from": {"--top1top5"},
    "--threshold": {"--th"},
    "--jpeg": {"--decode"},
    "--lr": {"--base-lr"},
    "--epochs": {"--epoch"},
    "--crop": {"--augmentation.crop", "--final-size"},
    "--device": {"--runtime.device"},
    "--workers": {"--runtime.workers", "--num_workers"},
    "--seed": {"--runtime.seed"},
    "--amp": {"--runtime.amp"},
}
"""The name that every command has for one thing, and the names that an original or a group has for it."""
OTHER_MEANING = {
    ("bas.weights", "--epoch"): "the number of one",
    ("common.prepare", "--decode"): "how much of each image is read",
    ("common.ready", "--boxes"): "whether there must be some",
    ("dgl_tf.demo_image", "--clayer"): "one layer: --layer, as wsol localize has it",
    ("grcam.pseudo_bbox.main", "--rebuild-val-save-path"): "the former step's folder, read here",
    ("grcam.revise_bbox", "--pseudo-bounding-box-save-path"): "the former step's file, read here",
    **{(f"spol.{stage}.{step}", "--mode"): "train or val, which turns dropout on or off"
       for stage in ("cam", "seg", "cls") for step in ("train", "test")},
}  # fmt: skip
"""Names above that mean another thing in a command, by command and name."""


def need_its_framework(module: str) -> None:
    if module.startswith(("dgl_tf", "grcam")):
        pytest.importorskip("tensorflow")
    elif not module.startswith("common") or module.startswith("common.pytorch"):
        pytest.importorskip("torch")


@pytest.fixture(scope="module", params=MODULES)
def helps(request) -> tuple[str, list[str]]:
    """A command's module, and what its `--help` says and that of each of its subcommands, on lines of 1000 columns."""
    need_its_framework(request.param)
    text = help_of(request.param)
    return request.param, [text, *(help_of(request.param, name) for name in subcommands(text))]


def help_of(module: str, *words: str) -> str:
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.setattr("sys.argv", ["command", *words, "--help"])
        patch.setattr("tyro._fmtlib._FORCE_UTF8_BOXES", True)  # a StringIO has no encoding, and tyro looks for utf-8
        patch.setenv("COLUMNS", "1000")
        with pytest.raises(SystemExit, match="0"):
            importlib.import_module(module).main()
    return said.getvalue()


def subcommands(usage: str) -> list[str]:
    found = re.search(r"\[-h\] \{([\w,-]+)\}$", usage.split("\n\n")[0].strip())
    return found[1].split(",") if found else []


def test_there_are_commands():
    assert {"bas.train", "common.evaluate", "spol.seg.test", "wsol.photographs", "common.pytorch.cam"} <= set(MODULES)


@pytest.mark.slow
def test_no_default_is_none(helps):
    """An option that is not given has a released value, which is named, or is optional; in subcommands too."""
    for said in helps[1]:
        assert "usage: " in said
        words = " ".join(said.replace("│", " ").split())
        assert "default: None" not in words
        assert "{None" not in words
        assert "(default: )" not in words


def options_of(said: str) -> list[set[str]]:
    """Names of each option that a command's help shows."""
    cells = [cell for line in said.splitlines() for cell in line.split("│")[1:]]  # panels may stand side by side
    return [set(re.findall(r"(?<!\S)--[\w.-]+", cell)) for cell in cells if re.match(r" (-\w, )?--\w", cell)]


def test_options_are_found():
    said = "  --example 3\n│ -h, --help │\n│   Like --other, but --more. │\n│ --out PATH, --no-savepath PATH │\n"
    assert options_of(said) == [{"--help"}, {"--out", "--no-savepath"}]


def test_one_thing_has_one_name_in_every_command(helps):
    """Originals' names stay valid beside it."""
    module, said = helps
    for text in said:
        options = options_of(text)
        assert {"--help"} in options
        for names in options:
            for name, others in ONE_NAME.items():
                own = {other for other in others & names if (module, other) not in OTHER_MEANING}
                assert not own or name in names, f"{module}: {', '.join(sorted(own))} has no name {name}"


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


def test_first_sentences_stand_alone():
    """Verb first or a noun phrase: "SGD momentum (Nesterov).", not "Of SGD, Nesterov."; `--help` shows them so."""
    hanging = [f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
               for path in SOURCES for line, text in texts(path) if HANGING.match(text)]  # fmt: skip
    assert not hanging, "\n".join(hanging)
