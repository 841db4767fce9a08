"""The README's commands, run as they stand there."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests import small_cub

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SET_UP = ("environments/create.sh", ". .envs/")


def commands() -> list[str]:
    (block,) = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    return [line for line in block.splitlines() if not line.startswith(SET_UP)]


def test_the_first_commands_are_there():
    first = re.findall(r"^    (\./\S+)", README, re.MULTILINE)
    assert first == ["./run_demo.sh", "./run_tests.sh"]
    assert all(os.access(ROOT / name, os.X_OK) for name in first)


def test_links_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("bas/*/README.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page}: {target}"


def test_the_tests_that_readmes_name_exist():
    named = [(page, *name) for page in [*ROOT.glob("*/README.md"), *ROOT.glob("bas/*/README.md")]
             for name in re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text())]  # fmt: skip
    assert named
    for page, file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{page}: no {name} in {file}"


def snippets() -> list[str]:
    """All Python but the module of "Adding a method"."""
    return [
        text
        for text in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if "import wsol" in text or "wsol." in text
    ]


@pytest.mark.slow
def test_the_lines_of_python(tmp_path, monkeypatch):
    """As they stand there, one after another, on a photograph that scikit-image ships."""
    pytest.importorskip("torch")
    first, own = snippets()
    photograph = Path(importlib.util.find_spec("skimage").submodule_search_locations[0]) / "data/chelsea.png"
    monkeypatch.chdir(tmp_path)
    shutil.copy(photograph, "bird.jpg")
    values = {}
    exec(first, values)
    assert "cat" in values["found"].class_name
    assert Image.open("found.jpg").size == (451, 300)
    exec(own, values)
    assert values["found"].map.ndim == 2
    assert "wsoleval-v2" in str(values["result"])


def example() -> tuple[str, list[str]]:
    """The module of "Adding a method", and its commands."""
    section = README.split("## Adding a method")[1].split("\n## ")[0]
    (module,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return module, re.findall(r"^    (python .*)$", section.replace(module, ""), re.MULTILINE)


@pytest.mark.slow
def test_commands_for_ones_own_images_and_a_method_of_ones_own(tmp_path):
    """As they stand there, but that 8 photographs a class stand in for CUB; runs/ and energy.py lie elsewhere."""
    pytest.importorskip("torch")
    environment = {
        **os.environ,
        "CUB": str(small_cub.make(tmp_path / "CUB", train=6, test=2)),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    module, more = example()
    (tmp_path / "energy.py").write_text(module)
    environment["PYTHONPATH"] = str(ROOT)
    script = "\n".join(["set -e", *commands(), *more]).replace("runs/", f"{tmp_path}/runs/")
    script = script.replace("energy.py", str(tmp_path / "energy.py"))
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "best centred box" in done.stdout
    assert "energy mobilenet_v1" in done.stdout
    assert (tmp_path / "runs/cub/report.html").stat().st_size > 50_000
