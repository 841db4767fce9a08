"""The notebooks run from top to bottom, and keep what they printed."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
executor = importlib.util.module_from_spec(spec)
spec.loader.exec_module(executor)


def test_there_are_two():
    assert [path.stem for path in NOTEBOOKS] == ["compare", "localize"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept_and_small(path):
    cells = json.loads(path.read_text())["cells"]
    assert any(cell["outputs"] for cell in cells if cell["cell_type"] == "code")
    assert path.stat().st_size < 100_000


def test_a_cell_shows_what_jupyter_would():
    assert executor.run("print(1)\nx = 2\nx + 1", {}) == ("1\n", 3)
    assert executor.outputs("", None) == []
    shown = executor.outputs("a\n", "b")
    assert [output["output_type"] for output in shown] == ["stream", "execute_result"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    values = executor.execute(path)
    if path.stem == "compare":
        assert values["by_hand"] == values["row"].gt_known
    else:
        assert "cat" in values["found"].class_name
