import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from common import export as command
from common.datasets import Dataset, DataSource, Sample
from common.datasets.layouts import wsoleval
from common.evaluate import Evaluate
from common.export import Export, boxes_to_export, export, export_all
from common.exporting.evaluated import coco
from common.measuring.geometry import Frame
from common.measuring.protocols import PROTOCOLS
from common.results.evaluation import evaluate
from common.runs.record import Prediction
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError
from tests import commands, runs


@pytest.fixture
def exported(tmp_path, source):
    run = runs.write(tmp_path / "run", source, "resize 256 crop 224", misses=2)
    options = Export((run,), out=tmp_path / "out", released_for="cub")
    (evaluation,), _ = evaluate(options)
    export(evaluation, options.out, options)
    return options, evaluation


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
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


def test_a_predicted_class_that_the_data_set_lacks_becomes_a_category(exported):
    options, evaluation = exported
    entries = [replace(entry, top5=(7, entry.label)) for entry in evaluation.predictions.entries]
    evaluation = replace(evaluation, predictions=replace(evaluation.predictions, entries=tuple(entries)))
    truth, results = coco(evaluation, boxes_to_export(evaluation, options))
    assert {result["category_id"] for result in results} == {7}
    assert [category["id"] for category in truth["categories"]] == [0, 1, 2, 7]


def test_pycocotools_counts_what_the_table_counts(exported, capsys):
    """Two misses of six, and the class of a third is wrong: 3 Top-1, and without the classes 4 GT-known."""
    cocotools, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    options, evaluation = exported
    truth, results = json.loads((options.out / "coco.json").read_text()), read_results(options)
    results[4]["category_id"] = (results[4]["category_id"] + 1) % 3
    ground = cocotools.COCO()
    ground.dataset = truth
    ground.createIndex()
    found = ground.loadRes(results)
    counts = {}
    for classes in (1, 0):
        judge = cocoeval.COCOeval(ground, found, "bbox")
        judge.params.iouThrs, judge.params.useCats, judge.params.maxDets = np.array([0.5]), classes, [1]
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
        counts[classes] = sum(int((one["dtMatches"] > 0).sum()) for one in judge.evalImgs if one)
    row = next(row for row in evaluation.rows if row.protocol == "bas-extension" and row.source == "released")
    assert counts[0] == row.gt_known * row.images / 100 == pytest.approx(4)
    assert counts[1] == 3


def read_results(options):
    return json.loads((options.out / "coco_results.json").read_text())


@pytest.mark.slow
def test_boxes_at_a_chosen_threshold_say_so(tmp_path, source):
    """The stored box is the map's at 0.2; at the oracle's the map, 1 on a box and 0.1 elsewhere, gives the same one."""
    run = runs.write(tmp_path / "run", source, "resize 256 crop 224")
    options = Export((run,), out=tmp_path / "out", boxes_at="released", boxes_of="spol", audit_pixels="original",
                     released_for="cub")  # fmt: skip
    (evaluation,), _ = evaluate(options)
    export(evaluation, options.out, options)
    rows = read(options.out / "boxes.csv")
    assert {(r["source"], r["protocol"], r["threshold"], r["pixels"]) for r in rows} == {
        ("released", "spol", "0.2", "original")
    }
    results = read_results(options)
    assert {(r["threshold"], r["threshold_from"], r["protocol"]) for r in results} == {(0.2, "released", "spol")}
    audit = [r for r in read(options.out / "audit.csv") if (r["protocol"], r["source"]) == ("spol", "released")]
    assert {r["pixels"] for r in audit} == {"original"}
    for box, row in zip(rows, audit, strict=True):
        assert [box[name] for name in ("x0", "y0", "x1", "y1")] == [row[name] for name in ("x0", "y0", "x1", "y1")]
    with pytest.raises(UserError, match="no validation threshold for spol"):
        boxes_to_export(evaluation, replace(options, boxes_at="validation"))


def test_the_true_box_does_not_choose_among_the_contours_of_maxboxaccv2(tmp_path, source):
    """A map of two regions, the smaller of which is the true box: V2 counts a hit, and the box is the larger's."""
    run = runs.write(tmp_path / "run", source)
    for path in (run / "maps").rglob("*.npy"):
        picture = np.load(path)
        picture[160:222, 4:220] = 1.0
        np.save(path, picture)
    options = Export((run,), out=tmp_path / "out", boxes_at="oracle", boxes_of="wsoleval-v2",
                     protocols=("wsoleval-v2",), workers=1, resamples=0)  # fmt: skip
    (evaluation,), _ = evaluate(options)
    assert evaluation.rows[0].gt_known == 100
    for box in boxes_to_export(evaluation, options).by_image.values():
        np.testing.assert_allclose(box * np.tile([224 / 80, 224 / 60], 2), [4, 160, 220, 222])


@pytest.mark.slow
@pytest.mark.parametrize(("known", "others"), [(True, "0"), (False, "")])
def test_what_was_trained_on_stands_in_every_file(tmp_path, source, known, others):
    """Two of six images were: 1 in their lines, 0 or nothing in the others', the count in all; and the same in JSON."""
    images = [sample.image_id for sample in source.load()][:2]
    said = {"known": known, "images": images, "evaluation_split": None, "chosen": images[:1]}
    run = runs.write(tmp_path / "run", source, data={**source.described(source.load()), "trained_images": said})
    options = Export((run,), out=tmp_path / "out")
    (evaluation,), _ = evaluate(options)
    export(evaluation, options.out, options)
    text = f"trained on {'' if known else 'at least '}2 of these 6 images; the best epoch was chosen on 1 of these 6 images"
    for name in ("audit.csv", "boxes.csv"):
        for row in read(options.out / name):
            assert (row["trained_on"], row["leakage"]) == ("1" if row["image_id"] in images else others, text)
    results = read_results(options)
    assert [result["trained_on"] for result in results] == [True, True, *[False if known else None] * 4]
    assert json.loads((options.out / "coco.json").read_text())["info"]["leakage"] == text
    split = json.loads((options.out / "export.json").read_text())["splits"]["test"]
    assert (split["leakage"], split["trained_on"], split["chosen_on"]) == (text, images, images[:1])


def test_metadata_holds_whole_numbers(tmp_path):
    boxes = np.array([[1.4, 2.6, 10.5, 11.5], [3.2, 3.2, 3.3, 3.4]])
    sample = Sample("a/1.png", tmp_path / "a/1.png", 0, boxes, declared_size=(20, 20))
    folder = wsoleval.write(Dataset("list", "test", (sample,), ("a",)), tmp_path / "meta")
    assert (folder / "localization.txt").read_text().splitlines() == ["a/1.png,1,3,10,12", "a/1.png,3,3,4,4"]


def test_wsolevaluation_metadata_reads_back(exported, source):
    options, _ = exported
    again = DataSource("wsoleval", source.root / "images", "test", metadata=options.out / "metadata").load()
    first = source.load()
    assert [sample.image_id for sample in again] == [sample.image_id for sample in first]
    for one, other in zip(again, first, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes)


@pytest.mark.slow
def test_the_command_names_its_files_and_does_not_overwrite(tmp_path, source):
    run = runs.write(tmp_path / "run", source)
    arguments = [run, "--out", tmp_path / "out"]
    first = subprocess.run([sys.executable, "-m", "common.export", *arguments], capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert len(first.stdout.splitlines()) == 6
    second = commands.run("common.export", *arguments)
    assert second.returncode == 2
    assert "there already" in second.stderr


def test_stored_boxes_are_audited_as_stored(tmp_path, source):
    run = runs.write(tmp_path / "run", source, maps=False)
    (evaluation,), _ = evaluate(Evaluate((run,)))
    options = Export((run,), out=tmp_path / "out")
    export(evaluation, options.out, options)
    assert {row["source"] for row in read(options.out / "audit.csv")} == {"stored"}


def test_the_true_box_of_an_image_without_a_region_is_the_one_that_the_iou_is_with(tmp_path):
    """BAS takes the whole frame in place of a missing box; it was shown beside the first true box, whichever counted."""
    (tmp_path / "images/test").mkdir(parents=True)
    folder = tmp_path / "metadata/test"
    folder.mkdir(parents=True)
    Image.new("RGB", (256, 256)).save(tmp_path / "images/test/a.png")
    for name, text in (("image_ids", "test/a.png\n"), ("class_labels", "test/a.png,0\n"),
                       ("image_sizes", "test/a.png,256,256\n"),
                       ("localization", "test/a.png,20,20,60,60\ntest/a.png,0,0,256,256\n")):  # fmt: skip
        (folder / f"{name}.txt").write_text(text)
    source = DataSource("wsoleval", tmp_path / "images", "test", metadata=tmp_path / "metadata")
    frame = Frame.centre_crop((256, 256))
    writer = PredictionsWriter(tmp_path / "run", runs.header(source, frame.kind))
    writer.write(
        Prediction("test/a.png", 0, (256, 256), frame, None, None, None, 0.2), np.zeros((224, 224), np.float32)
    )
    writer.finish()
    options = Export((tmp_path / "run",), out=tmp_path / "out", protocols=("bas",))
    (evaluation,), _ = evaluate(options)
    export(evaluation, options.out, options)
    for row in read(options.out / "audit.csv"):
        assert (row["x0"], row["iou"], row["hit"]) == ("", "1.000000", "1")
        assert [row[name] for name in ("true_x0", "true_y0", "true_x1", "true_y1")] == ["0", "0", "224", "224"]


def test_what_is_there_is_kept(tmp_path, exported):
    options, evaluation = exported
    with pytest.raises(UserError, match=r"export.json: the file is there already"):
        export(evaluation, options.out, options)


@pytest.mark.slow
def test_a_stopped_export_is_done_again(tmp_path, source, monkeypatch):
    """What it left is replaced without --overwrite, and only that."""
    directories = [runs.write(tmp_path / name, source) for name in ("one", "two")]
    options = Export(tuple(directories), out=tmp_path / "out")
    evaluations, _ = evaluate(options)
    monkeypatch.setattr(command, "coco", lambda evaluation, boxes: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export_all(evaluations, options)
    assert (tmp_path / "out/1-one/audit.csv").is_file()
    monkeypatch.undo()
    assert len(export_all(evaluations, options)) == 12
    with pytest.raises(UserError, match=r"1-one/export.json: the file is there already"):
        export_all(evaluations, options)
    assert not (tmp_path / "out/.unfinished").exists()
