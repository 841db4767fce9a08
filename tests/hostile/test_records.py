"""Manifests and predictions that somebody else wrote: whatever an entry holds is read or refused in one line."""

import json

import pytest

from common.datasets import DataSource
from common.datasets.layouts import demo
from common.evaluate import Evaluate
from common.results.evaluation import evaluate
from common.results.tables import render
from common.runs.reader import Predictions
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError, printable
from tests import runs, small_cub
from tests.hostile.payloads import refused

VALUES = (None, True, -1, 10**400, 1.5, float("nan"), "", "x", "\x1b[2J", [], [5], {}, {"a": 1})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return runs.write(folder / "run", DataSource("cub", small_cub.make(folder / "CUB"), "test"), maps=False)


def survives(call):
    """`call` gives something or refuses in one line; anything else is a traceback."""
    try:
        call()
    except UserError as problem:
        message = str(problem)
    else:
        return
    assert printable(message) == message
    assert len(message) < 2000


@pytest.mark.parametrize("name", ["format", "method", "architecture", "data", "checkpoint", "classifier", "frame", "options", "processes",
                                  "counts", "complete"])  # fmt: skip
def test_every_entry_of_a_manifest_may_be_anything(run, name):
    path = run / "manifest.json"
    good = path.read_text()
    try:
        for value in (..., *VALUES):
            manifest = json.loads(good)
            manifest.pop(name)
            path.write_text(json.dumps(manifest if value is ... else {**manifest, name: value}))
            survives(lambda: evaluate(Evaluate((run,), protocols=("wsoleval-v1",), workers=1)))
            survives(lambda: PredictionsWriter(run, {"method": "cam"}).close())
            path.write_text(json.dumps(manifest if value is ... else {**manifest, name: value}))
            survives(lambda: Predictions.open(run, incomplete=True))
    finally:
        path.write_text(good)


@pytest.mark.parametrize("name", ["name", "root", "split", "classes", "held_per_class", "metadata", "boxes", "list_file", "list_format",
                                  "leave_out", "fingerprint", "images", "left_out"])  # fmt: skip
def test_every_field_of_a_manifests_data_may_be_anything(run, name):
    path = run / "manifest.json"
    good = path.read_text()
    try:
        for value in (..., *VALUES, "../..", "/etc", "a\0b"):
            manifest = json.loads(good)
            manifest["data"].pop(name)
            manifest["data"] |= {} if value is ... else {name: value}
            path.write_text(json.dumps(manifest))
            survives(lambda: evaluate(Evaluate((run,), protocols=("wsoleval-v1",), workers=1)))
    finally:
        path.write_text(good)


@pytest.mark.parametrize(("change", "message"), [
    ({"label": 10**30}, "has label"), ({"label": 2}, "has label 2; expected 0"), ({"size": [10**400, 60]}, "size is"),
    ({"top5": [-1]}, "top5 is"), ({"top5": [10**400]}, "top5 is"), ({"top5_scores": [0.5]}, "top5_scores is"),
    ({"top5_scores": [10**400] * 3}, "top5_scores is"), ({"box": [0, 0, 1, 10**400]}, "box is"), ({"box": [0, 0, 1, 1e300]}, "box is"),
    ({"threshold": 10**400}, "threshold is"), ({"image_id": "../../evil"}, "path '../../evil' is not usable"),
    ({"image_id": "\ud800"}, "not a line of JSON"), ({"image_id": "\x1b[2J"}, "is not usable"),
    ({"frame": {"original": [80, 60], "resized": [10**9, 10**9], "crop": [0, 0, 224, 224]}}, "is too large"),
    ({"frame": {"original": [80, 60], "resized": [10**400, 1], "crop": [0, 0, 1, 1]}}, "is too large"),
    ({"frame": {"original": [80, 60], "resized": [256, 256], "crop": [200, 0, 224, 224]}}, "leaves the image"),
    ({"frame": {"original": [80, 60], "resized": [224, 224], "crop": [-5, 0, 224, 224]}}, "leaves the image"),
    ({"frame": {"original": [80, 60], "resized": [256, 256], "crop": [16, 16, 224, 224]}}, "expected the manifest's 'resize 224'"),
])  # fmt: skip
def test_lines_of_predictions_that_lie(run, change, message):
    path = run / "predictions.jsonl"
    good = path.read_text()
    first, *rest = good.splitlines()
    try:
        path.write_text("\n".join([json.dumps({**json.loads(first), **change}), *rest, ""]))
        with pytest.raises(UserError) as caught:
            evaluate(Evaluate((run,), protocols=("wsoleval-v1",), workers=1))
        assert message in str(caught.value)
    finally:
        path.write_text(good)


def test_a_line_of_predictions_without_an_end(run):
    path = run / "predictions.jsonl"
    good = path.read_text()
    try:
        for content in (good + "x" * 2_000_000, good + "\udcff\n"):
            path.write_bytes(content.encode("utf-8", "surrogateescape"))
            assert "predictions.jsonl:7: " in refused(lambda: Predictions.open(run), path)
    finally:
        path.write_text(good)


def test_tables_show_no_control_characters():
    table = render([["a"], ["\x1b[2J\x07"], ["b\nc"]], "text")
    assert table.replace("\n", "").isprintable()
    assert len(table.splitlines()) == 4


def test_a_record_of_demo_data_that_is_none(tmp_path):
    (tmp_path / demo.RECORD).write_text("[]")
    refused(lambda: demo.render(tmp_path), tmp_path, "other demo data")
