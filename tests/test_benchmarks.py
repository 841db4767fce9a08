"""The benchmarks measure, and are no tests; but each must start."""

import importlib
import os
import subprocess
from pathlib import Path

import pytest
import tyro

from benchmarks import readme
from benchmarks.__main__ import available
from common.system.errors import UserError

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


def line(method, protocol, source, gt_known, seeds=1, threshold=0.32):
    return {"method": method, "protocol": protocol, "source": source, "gt_known": gt_known, "seeds": seeds,
            "threshold": threshold, "intervals": {"gt_known": [gt_known - 4.4, gt_known + 3.4]}}  # fmt: skip


def test_a_readmes_table_is_what_was_measured():
    """The mean over seeds where there is one; no cell for a protocol without such a threshold."""
    rows = [
        {**line("whole image", "bas", "", 37.84, threshold=None), "intervals": {}},
        line("bas mobilenet", "bas", "validation", 90), line("bas mobilenet", "bas", "validation", 92),
        line("bas mobilenet", "bas", "validation", 91.04, seeds=2), line("bas mobilenet", "grcam", "validation", 53),
        line("bas mobilenet", "bas", "oracle", 99),
    ]  # fmt: skip
    results = readme.Results(rows, {"bas": [65.0, 66.0]}, [0, 1], ["abc1234"], 243)
    written = readme.table(results, ("bas",), ("validation",)).splitlines()
    assert written[0].startswith("Seeds 0, 1; commit abc1234; 243 test images; below each figure its 95 % interval")
    heads, figures = (
        dict(zip(written[2].split(" | "), line.split(" | "), strict=True)) for line in (written[4], written[-1])
    )
    assert heads["bas"] == "37.8"
    assert written[-1].startswith("| BAS | 65.5 |")
    assert figures["bas"] == "91.0 @0.32<br>87 to 94"
    assert figures["grcam, dgl"] == "53.0 @0.32<br>49 to 56"
    assert figures["spol"] == ""
    full = readme.table(results, ("bas",), ("released", "validation", "oracle")).splitlines()
    assert [line.split(" | ")[1] for line in full[6:]] == ["validation", "oracle"]
    with pytest.raises(UserError, match="several runs of bas: bas mobilenet, bas vgg"):
        readme.Results([*rows, line("bas vgg", "bas", "validation", 90)], {}, [0], [], 1).row(
            "bas", "bas", "validation"
        )


def test_every_table_has_its_place():
    for path, (name, _, _) in readme.TABLES.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        assert readme.replaced(text, name, "a table", ROOT / path).count("\na table\n") == 1
    with pytest.raises(UserError, match="not one place <!-- figures: bas -->"):
        readme.replaced("no place", "bas", "a table", ROOT)
