"""The benchmarks measure, and are no tests; but each must start."""

import importlib
import io
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tyro
from PIL import Image

from benchmarks import readme, readme_pictures
from benchmarks.__main__ import available
from common.datasets import DataSource
from common.report import Report, build
from common.report.sheet import GAP, WORDS
from common.runs import provenance
from common.system.errors import UserError
from tests import runs, small_cub

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
@pytest.mark.parametrize(
    ("script", "modules"),
    [
        ("benchmarks/table.sh CUB out 3 4", {
            "common.pytorch.cam", "bas.train", "spol.seg.test", "dgl_tf.test", "grcam.generate_predicted_bbox",
            "common.evaluate", "common.compare"}),
        ("benchmarks/scenes.sh out 3 4", {"common.prepare", "bas.segmentation.run", "bas.segmentation.maps", "common.evaluate"}),
    ],
)  # fmt: skip
def test_the_scripts_of_tables_ask_for_what_there_is(script, modules, tmp_path, monkeypatch):
    """Every command that they run, hours apart, takes the options that it is given, and has the layers that they name."""
    pytest.importorskip("torch")
    pytest.importorskip("tensorflow")
    from dgl_tf import registry

    tyros = tyro.cli

    def parsed(*arguments, **keywords):
        tyros(*arguments, **keywords)
        raise ParsedError

    monkeypatch.setattr(tyro, "cli", parsed)
    for folder in ("CUB", "out"):
        (tmp_path / folder).mkdir()
    name, *arguments = script.split()
    places = [tmp_path / each if (tmp_path / each).is_dir() else each for each in arguments]
    asked = command_lines(tmp_path, name, *places)
    assert modules <= {module for module, *_ in asked}
    (arch,) = {words[words.index("--arch") + 1] for module, *words in asked if module == "dgl_tf.train"} or {""}
    for module, *words in asked:
        if "--clayer" in words:
            assert registry.layer_names(arch, [words[words.index("--clayer") + 1]])
        monkeypatch.setattr("sys.argv", [module, *words])
        with pytest.raises(ParsedError):
            importlib.import_module(module).main()


def line(method, protocol, source, gt_known, seeds=1, threshold=0.32):
    return {"method": method, "protocol": protocol, "source": source, "gt_known": gt_known, "seeds": seeds,
            "threshold": threshold, "spread": {"gt_known": 1.25} if seeds > 1 else {}, "intervals": {"gt_known": [gt_known - 4.4, gt_known + 3.4]}}  # fmt: skip


def test_a_readmes_table_is_what_was_measured():
    """The mean over seeds where there is one; no cell for a protocol without such a threshold."""
    rows = [
        {**line("whole image", "bas", "", 37.84, threshold=None), "intervals": {}},
        line("bas mobilenet", "bas", "validation", 90), line("bas mobilenet", "bas", "validation", 92),
        line("bas mobilenet", "bas", "validation", 91.04, seeds=2), line("bas mobilenet", "grcam", "validation", 53),
        line("bas mobilenet", "bas", "oracle", 99),
    ]  # fmt: skip
    results = readme.Results(rows, {"bas": [65.0, 66.0]}, [0, 1], ["abc1234"], 243, ("bf16",))
    written = readme.table(results, ("bas",), ("validation",)).splitlines()
    assert written[0].startswith("Seeds 0, 1; commit abc1234; 243 test images; CAM, BAS and SPOL trained in bfloat16")
    heads, figures = (
        dict(zip(written[2].split(" | "), line.split(" | "), strict=True)) for line in (written[4], written[-1])
    )
    assert heads["bas"] == "37.8"
    assert written[-1].startswith("| BAS | 65.5 |")
    assert figures["bas"] == "91.0 ±1.2 @0.32<br>87 to 94"
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


def test_every_picture_has_its_place_and_its_file():
    for path, places in readme_pictures.PLACES.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        for place in places:
            assert readme.replaced(text, place.name, "a picture", ROOT / path, "picture").count("\na picture\n") == 1
        assert text.count("<!-- picture: ") == len(places)
        assert all(
            (ROOT / path).parent.joinpath(link).is_file() for link in re.findall(r"!\[[^]]*\]\((?!http)([^)]+)", text)
        )
    assert {place.name for places in readme_pictures.PLACES.values() for place in places} == set(
        readme_pictures.PICTURES
    )


def test_pictures_are_drawn_from_a_demo_and_say_its_commits(tmp_path, monkeypatch, capsys):
    """A demo that stopped after its photographs: their picture is drawn; the others stay, and are named."""
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    monkeypatch.setattr(provenance, "_git_commit", lambda: "c0ffee1" + 33 * "0" + "-dirty")
    for name in ("cam-features.pointwise_13", "grad-cam-features.pointwise_11", "dgl-features.pointwise_11",
                 "grcam-features.pointwise_13"):  # fmt: skip
        runs.write(tmp_path / f"demo/photographs/{name}-squash", source, method=name.split("-features")[0])
    ids = tuple(sample.image_id for sample in source.load())[:2]
    with_ids = replace(readme_pictures.PICTURES["photographs"], ids=ids)
    monkeypatch.setitem(readme_pictures.PICTURES, "photographs", with_ids)
    for path in readme_pictures.PLACES:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    (tmp_path / "common/report").mkdir()
    readme.draw_pictures(tmp_path / "demo", tmp_path)
    said = capsys.readouterr().out
    assert "common/report/methods.jpg stays as it is" in said
    assert "no predictions cam/test/squash; expected one" in said
    assert Image.open(tmp_path / "common/report/photographs.jpg").size == (2 * (220 + GAP), 4 * (WORDS + 165 + GAP))
    written = (tmp_path / "grcam/README.md").read_text(encoding="utf-8")
    assert "<!-- picture: photographs -->\n\n![Four photographs" in written
    assert "](../common/report/photographs.jpg)\n\n*Last row: GRCAM's refined map" in written
    assert "its runs are of commit c0ffee1-dirty.* <!-- end of picture -->" in " ".join(written.split())
    assert (tmp_path / "bas/README.md").read_bytes() == (ROOT / "bas/README.md").read_bytes()


@pytest.mark.slow
def test_the_pages_picture_is_what_a_browser_shows(tmp_path):
    with pytest.raises(UserError, match=r"report\.html: no page\. Let run_demo\.sh run to its end"):
        readme_pictures.photographed(tmp_path, (), (), ())
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed in this environment")
    if not any(map(shutil.which, readme_pictures.BROWSERS)):
        pytest.skip("no chromium on PATH (apt-get install chromium)")
    run = runs.write(tmp_path / "cam", DataSource("cub", small_cub.make(tmp_path / "CUB"), "test"))
    (tmp_path / "report.html").write_text(build(Report((run,), resamples=0, workers=1)))
    picture = np.asarray(Image.open(io.BytesIO(readme_pictures.photographed(tmp_path, (), (), ()))), int)
    assert picture.shape == (readme_pictures.WINDOW["height"], readme_pictures.WINDOW["width"], 3)
    coloured = np.ptp(picture, axis=2) > 60  # all else on a light page is grey, but for a slider and two swatches
    assert coloured.sum() > 10_000  # 222,120 here, 439 of them above the cards
