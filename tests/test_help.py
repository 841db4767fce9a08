"""What every command's `--help` says."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("common", "bas", "spol", "dgl_tf", "grcam")
    for path in (ROOT / package).rglob("*.py")
    if "system.options import parse\n" in (text := path.read_text()) or re.search(r"tyro\.cli\($", text, re.MULTILINE)
)


def test_there_are_commands():
    assert {"bas.train", "common.evaluate", "spol.seg.test"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_no_default_is_none(module, capsys, monkeypatch):
    """An option that is not given has a released value, which is named, or is optional."""
    if module.startswith("dgl_tf"):
        pytest.importorskip("tensorflow")
    elif not module.startswith("common") or module.startswith("common.pytorch"):
        pytest.importorskip("torch")
    monkeypatch.setattr("sys.argv", ["command", "--help"])
    with pytest.raises(SystemExit, match="0"):
        importlib.import_module(module).main()
    said = capsys.readouterr().out
    assert "usage: " in said
    assert "default: None" not in said
