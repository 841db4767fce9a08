import doctest
import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import wsol
from wsol import command

ROOT = Path(__file__).resolve().parents[2]
BLOCKED = (
    "import sys\nfor name in ('torch', 'torchvision', 'timm', 'tensorflow', 'tensorpack'): sys.modules[name] = None\n"
)


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "wsol", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_help_lists_every_command_and_imports_nothing_large():
    code = "import sys, wsol.command as c\nassert not {'numpy', 'cv2', 'tyro', 'torch'} & set(sys.modules)\nprint(c.overview())"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(f"  {name} " in shown for name in command.COMMANDS)
    assert run("--help").stdout == shown
    assert run("--version").stdout.strip() == wsol.__version__


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_has_a_module_with_main(name):
    path = Path(find_spec(command.COMMANDS[name].module).origin)
    assert "\ndef main()" in path.read_text()


@pytest.mark.slow
def test_a_command_takes_its_modules_options():
    done = run("evaluate", "nowhere")
    assert done.returncode == 2
    assert "error: nowhere" in done.stderr
    shown = run("evaluate", "--help").stdout
    assert "usage: " in shown
    assert "--validation" in shown


def test_words_of_a_command_are_its_name():
    assert command.found(["test", "dgl", "--checkpoint", "a"]) == ("test dgl", ["--checkpoint", "a"])
    done = run("trian", "bas")
    assert done.returncode == 2
    assert "no command 'trian bas'; expected one of train bas, train cam" in done.stderr


@pytest.mark.slow
def test_scoring_needs_no_framework():
    code = (
        BLOCKED + "import numpy as np, wsol\nprint(wsol.score([np.ones((224, 224))], [(9, 9)], [[[0, 0, 9, 9]]], [0]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("wsoleval-v2: GT-known 100.00 %"), done.stderr
    code = BLOCKED + "import wsol\nwsol.load('a.pth', 'bas')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "torch is not installed here. Take the environment bas or spol, or all" in done.stderr


@pytest.mark.parametrize("module", ["common.measuring.metrics", "common.measuring.pixel_metrics", "wsol.scoring"])
def test_the_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted
    assert not found.failed


def test_the_licence_is_there():
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    assert f"version: {wsol.__version__}" in (ROOT / "CITATION.cff").read_text()
