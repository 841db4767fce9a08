"""The benchmarks measure, and are no tests; but each must start."""

import importlib
import os
import subprocess
from pathlib import Path

import pytest
import tyro

from benchmarks.__main__ import available

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", available())
def test_a_benchmark_can_be_imported(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").main)


class ParsedError(Exception):
    """A command has taken its options."""


def command_lines(tmp_path, script, *arguments) -> list[list[str]]:
    """Every `python -m` of a script, run with an interpreter that only writes down what it was asked."""
    log = tmp_path / "asked"
    stub = tmp_path / "python"
    stub.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" "$@" --end-- >>{log}\n')
    stub.chmod(0o755)
    subprocess.run([ROOT / script, *arguments], check=True, env={**os.environ, "WSOL_PYTHON": str(stub)})
    lines = [text.splitlines() for text in log.read_text().split("--end--\n")[:-1]]
    assert all(words[0] == "-m" for words in lines)
    return [words[1:] for words in lines]


@pytest.mark.slow
def test_the_tables_script_asks_for_what_there_is(tmp_path, monkeypatch):
    """Every command that benchmarks/table.sh runs, hours apart, takes the options that it is given."""
    pytest.importorskip("torch")
    pytest.importorskip("tensorflow")
    tyros = tyro.cli

    def parsed(*arguments, **keywords):
        tyros(*arguments, **keywords)
        raise ParsedError

    monkeypatch.setattr(tyro, "cli", parsed)
    (tmp_path / "CUB").mkdir()
    (tmp_path / "out").mkdir()
    asked = command_lines(tmp_path, "benchmarks/table.sh", tmp_path / "CUB", tmp_path / "out", "3", "4")
    assert {"common.pytorch.cam", "bas.train", "spol.seg.test", "dgl_tf.test", "grcam.generate_predicted_bbox",
            "common.evaluate", "common.compare"} <= {module for module, *_ in asked}  # fmt: skip
    for module, *words in asked:
        monkeypatch.setattr("sys.argv", [module, *words])
        with pytest.raises(ParsedError):
            importlib.import_module(module).main()
