import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from common import export as command
from common.datasets import DataSource
from common.evaluate import Evaluate
from common.export import Export, export, export_all
from common.measuring.protocols import PROTOCOLS
from common.runs.evaluation import evaluate
from common.system.errors import UserError
from tests import runs, small_cub


@pytest.fixture
def source(tmp_path):
    return DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")


@pytest.fixture
def exported(tmp_path, source):
    run = runs.write(tmp_path / "run", source, "resize 256 crop 224", misses=2)
    options = Export((run,), out=tmp_path / "out")
    (evaluation,), _ = evaluate(options)
    export(evaluation, options.out, options)
    return options, evaluation


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_result_line_can_be_recounted_from_the_audit(exported):
    options, evaluation = exported
    rows = read(options.out / "audit.csv")
    for line in evaluation.rows:
        for criterion in PROTOCOLS[line.protocol].criteria:
            own = [r for r in rows if (r["protocol"], r["source"]) == (line.protocol, line.source)
                   and float(r["criterion"]) == criterion]  # fmt: skip
            counted = [r for r in own if r["counted"] == "1"]
            assert len(counted) == line.images
            assert 100 * sum(r["hit"] == "1" for r in counted) / len(counted) == pytest.approx(line.over_images)
    row = next(r for r in rows if r["protocol"] == "bas" and r["hit"] == "1")
    box, truth = ([float(row[prefix + name]) for name in ("x0", "y0", "x1", "y1")] for prefix in ("", "true_"))
    width, height = (min(box[k + 2], truth[k + 2]) - max(box[k], truth[k]) + 1 for k in (0, 1))
    area = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, truth)]
    assert float(row["iou"]) == pytest.approx(width * height / (sum(area) - width * height), abs=1e-4)


def test_boxes_are_in_pixels_of_the_original(exported):
    options, evaluation = exported
    rows = read(options.out / "boxes.csv")
    hits = rows[2:]  # the first two point elsewhere
    for row in hits:
        box = [float(row[name]) for name in ("x0", "y0", "x1", "y1")]
        truth = evaluation.samples[row["image_id"]].boxes[0]
        seen = evaluation.predictions.entries[0].frame  # what the crop leaves out can't be predicted
        limits = seen.to_original([0, 0, *seen.size])[0]
        expected = np.clip(truth, limits[[0, 1, 0, 1]], limits[[2, 3, 2, 3]])
        np.testing.assert_allclose(box, expected, atol=1e-3)


def test_cocos_files_point_at_each_other(exported):
    options, evaluation = exported
    truth = json.loads((options.out / "coco.json").read_text())
    results = json.loads((options.out / "coco_results.json").read_text())
    assert [image["file_name"] for image in truth["images"]] == list(evaluation.samples)
    ids = {image["id"] for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    assert {result["image_id"] for result in results} == ids == {a["image_id"] for a in truth["annotations"]}
    assert {result["category_id"] for result in results} <= categories
    x0, y0, x1, y1 = evaluation.samples[truth["images"][0]["file_name"]].boxes[0]
    assert truth["annotations"][0]["bbox"] == [x0, y0, x1 - x0, y1 - y0]


def test_wsolevaluation_metadata_reads_back(exported, source):
    options, _ = exported
    again = DataSource("wsoleval", source.root / "images", "test", metadata=options.out / "metadata").load()
    first = source.load()
    assert [sample.image_id for sample in again] == [sample.image_id for sample in first]
    for one, other in zip(again, first, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes)


def test_the_command_names_its_files_and_does_not_overwrite(tmp_path, source):
    run = runs.write(tmp_path / "run", source)
    command = [sys.executable, "-m", "common.export", str(run), "--out", str(tmp_path / "out")]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert len(first.stdout.splitlines()) == 5
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 2
    assert "there already" in second.stderr


def test_stored_boxes_are_audited_as_stored(tmp_path, source):
    run = runs.write(tmp_path / "run", source, maps=False)
    (evaluation,), _ = evaluate(Evaluate((run,)))
    options = Export((run,), out=tmp_path / "out")
    export(evaluation, options.out, options)
    assert {row["source"] for row in read(options.out / "audit.csv")} == {"stored"}


def test_what_is_there_is_kept(tmp_path, exported):
    options, evaluation = exported
    with pytest.raises(UserError, match=r"audit.csv: the file is there already"):
        export(evaluation, options.out, options)


def test_a_stopped_export_is_done_again(tmp_path, source, monkeypatch):
    """What it left is replaced without --overwrite, and only that."""
    directories = [runs.write(tmp_path / name, source) for name in ("one", "two")]
    options = Export(tuple(directories), out=tmp_path / "out")
    evaluations, _ = evaluate(options)
    monkeypatch.setattr(command, "coco", lambda evaluation: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export_all(evaluations, options)
    assert (tmp_path / "out/1-one/audit.csv").is_file()
    monkeypatch.undo()
    assert len(export_all(evaluations, options)) == 10
    with pytest.raises(UserError, match=r"1-one/audit.csv: the file is there already"):
        export_all(evaluations, options)
    assert not (tmp_path / "out/.unfinished").exists()
