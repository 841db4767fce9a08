import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource
from common.datasets.layouts import wsoleval
from common.evaluate import Evaluate
from common.measuring.protocols import PROTOCOLS
from common.results.evaluation import evaluate
from common.results.intervals import Resampling
from common.results.tables import beside_in_short, in_full, in_short, left_out_lines, render, side_by_side
from common.system.errors import UserError
from tests import commands, fill, runs, small_cub


@pytest.fixture
def both(tmp_path, source):
    return tuple(
        runs.write(tmp_path / name, source, frame, misses=1)
        for name, frame in (("crop", "resize 256 crop 224"), ("squash", "resize 224"))
    )


def rows_of(evaluations, **fields):
    rows = [row for evaluation in evaluations for row in evaluation.rows]
    return [row for row in rows if all(getattr(row, name) == value for name, value in fields.items())]


@pytest.mark.slow
def test_every_protocol_side_by_side(both):
    evaluations, baselines = evaluate(Evaluate(both, released_for="cub"))
    assert {row.protocol for row in rows_of(evaluations)} == set(PROTOCOLS)
    assert {row.method for row in baselines} == {"whole image", "best centred box"}
    table = side_by_side(evaluations, baselines)
    assert table[0] == ["GT-known", "threshold", *PROTOCOLS]
    assert [row[:2] for row in table[1:]] == [
        ["whole image", "-"], ["best centred box", "oracle"], ["cam mobilenet_v1", "released"], ["cam mobilenet_v1", "oracle"],
    ]  # fmt: skip


@pytest.mark.slow
def test_a_data_set_is_read_once_for_many_runs(both, monkeypatch):
    reads, load = [], DataSource.load
    monkeypatch.setattr(DataSource, "load", lambda self: reads.append(self) or load(self))
    evaluate(Evaluate(both, workers=1))
    assert len(reads) == 1


@pytest.mark.slow
def test_numbers_by_hand(both):
    # One image of six misses; over classes it is one of the first class's two.
    evaluations, _ = evaluate(Evaluate(both, released_for="cub"))
    (bas,) = rows_of(evaluations, protocol="bas", source="released")
    assert (bas.threshold, bas.images) == (0.15, 6)
    assert bas.gt_known == pytest.approx((50 + 100 + 100) / 3)
    assert bas.over_images == pytest.approx(100 * 5 / 6)
    (grcam,) = rows_of(evaluations, protocol="grcam", source="oracle")
    assert grcam.gt_known == pytest.approx(100 * 5 / 6)
    assert grcam.top1 == grcam.top5 == pytest.approx(100 * 5 / 6)
    assert grcam.classifier == "mobilenet_v1, 10 crop(s)"


@pytest.mark.slow
def test_a_threshold_from_validation_predictions(tmp_path, source):
    held = DataSource("cub", source.root, "train")
    test, validation = runs.write(tmp_path / "test", source), runs.write(tmp_path / "held", held)
    evaluations, _ = evaluate(Evaluate((test,), validation=(validation,)))
    (row,) = rows_of(evaluations, protocol="wsoleval-v1", source="validation")
    (oracle,) = rows_of(evaluations, protocol="wsoleval-v1", source="oracle")
    assert row.gt_known <= oracle.gt_known
    other = runs.write(tmp_path / "other", held, checkpoint={"name": "x", "sha256": "1" * 64})
    with pytest.raises(UserError, match="validation predictions of another checkpoint"):
        evaluate(Evaluate((test,), validation=(other,)))


def test_classes_of_other_numbers_are_said(tmp_path, capsys):
    """Twelve images of three classes, which the classifier calls as the next class."""
    source = DataSource("cub", small_cub.make(tmp_path / "more", test=4), "test")
    run = runs.write(tmp_path / "run", source)
    options = Evaluate((run,), protocols=("wsoleval-v1",))
    evaluate(options)
    assert "labels were" not in capsys.readouterr().err
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    moved = [line | {"top5": [line["label"] + 1], "top5_scores": [0.9]} for line in lines]
    (run / "predictions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in moved))
    evaluate(options)
    said = f"note: {run}: the best class is right for 0% of the images, and would be for 100% if labels were one higher"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("map_class", ["label", "predicted"])
def test_maps_of_the_predicted_class_are_named(tmp_path, source, map_class, capsys):
    run = runs.write(tmp_path / map_class, source, options={"map_class": map_class})
    evaluate(Evaluate((run,), protocols=("grcam",), workers=1, resamples=0))
    said = f"{run}: maps and boxes are of the predicted class" in capsys.readouterr().err
    assert said == (map_class == "predicted")


def test_boxes_without_maps_are_scored_as_they_are(tmp_path, source):
    run = runs.write(tmp_path / "run", source, maps=False, misses=3)
    evaluations, _ = evaluate(Evaluate((run,)))
    assert {row.source for row in rows_of(evaluations)} == {"stored"}
    assert rows_of(evaluations, protocol="wsoleval-v1")[0].gt_known == 50
    assert rows_of(evaluations, protocol="wsoleval-v1")[0].threshold == pytest.approx(0.2)


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(both):
    results = [evaluate(Evaluate(both, workers=workers))[0] for workers in (1, 3)]
    for one, other in zip(*results, strict=True):
        assert one.rows == other.rows


@pytest.mark.slow
def test_a_moved_data_set_is_found_with_root(tmp_path, source, both):
    source.root.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"no such folder\. Name it with --root"):
        evaluate(Evaluate(both))
    assert evaluate(Evaluate(both, root=tmp_path / "moved"))[0][0].rows


@pytest.fixture
def folder(tmp_path):
    """Eight images of two classes in own/test, the boxes of five in boxes.csv; one is said to hold no object."""
    rows = []
    for number in range(8):
        image_id = f"{'ab'[number % 2]}/{number}.png"
        (tmp_path / "own/test" / image_id).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(fill.image(60, 80, number)).save(tmp_path / "own/test" / image_id)
        rows.append(f"{image_id},{number},2,{number + 30},42" if number < 5 else f"{image_id},,,,")
    (tmp_path / "boxes.csv").write_text("".join(f"{row}\n" for row in rows[:6]))
    return DataSource("folder", tmp_path / "own", "test", boxes=tmp_path / "boxes.csv")


def boxes_of(source):
    return {s.image_id: s.boxes if len(s.boxes) else np.array([[1, 2, 31, 42]]) for s in source.load()}


def test_a_partly_annotated_set_is_scored_on_what_has_boxes(tmp_path, folder):
    run = runs.write(tmp_path / "run", folder, boxes=boxes_of(folder), misses=1)
    (evaluation,), baselines = evaluate(Evaluate((run,), protocols=("grcam",)))
    (row,) = evaluation.rows
    assert (row.images, row.gt_known) == (5, pytest.approx(80))
    assert row.left_out == {"no object in the image (negative)": 1, "no ground-truth box": 2}
    assert {baseline.images for baseline in baselines} == {5}
    assert all(baseline.left_out == row.left_out for baseline in baselines)
    assert in_full([evaluation], baselines)[-1][5:7] == ["5", "3"]


def test_no_box_at_all_is_refused_and_the_report_is_not(tmp_path, folder):
    bare = replace(folder, boxes=None)
    run = runs.write(tmp_path / "run", bare, boxes=boxes_of(folder))
    with pytest.raises(UserError, match="none of the 8 images has a ground-truth box"):
        evaluate(Evaluate((run,)))
    assert evaluate(Evaluate((run,)), need_boxes=False)[0][0].rows == ()


def test_images_that_are_gone_can_be_scored(tmp_path, folder, capsys):
    """Sizes stand in the predictions; an image that localize left out has none, and stops nothing."""
    run = runs.write(tmp_path / "run", folder, boxes=boxes_of(folder))
    lines = (run / "predictions.jsonl").read_text().splitlines()
    gone = json.loads(lines[0])["image_id"]
    lines[0] = json.dumps({"image_id": gone, "skipped": "the file is empty"})
    (run / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    for sample in folder.load():
        sample.path.write_bytes(b"")
    (evaluation,), baselines = evaluate(Evaluate((run,), protocols=("grcam",)))
    assert evaluation.rows[0].left_out["skipped: the file is empty"] == 1
    assert (evaluation.rows[0].images, baselines[0].images) == (4, 4)
    assert baselines[0].left_out["its size is not known"] == 1
    (folder.root / "test" / gone).unlink()
    with pytest.raises(UserError, match=f"1 of its paths is no image there: '.*{gone}'; expected paths relative"):
        evaluate(Evaluate((run,)))
    text = folder.boxes.read_text()
    folder.boxes.write_text(text.replace(f"{gone},0,2,30,42\n", ""))
    (again,), _ = evaluate(Evaluate((run,), protocols=("grcam",)))  # as the advice was, in two steps
    assert again.rows == evaluation.rows
    assert (
        f"gone from the data set: 1 image that was left out when localizing, {gone}; its labels"
        in capsys.readouterr().err
    )
    second = json.loads(lines[1])["image_id"]
    (folder.root / "test" / second).unlink()
    rows = folder.boxes.read_text().splitlines(keepends=True)
    folder.boxes.write_text("".join(row for row in rows if not row.startswith(second)))
    with pytest.raises(UserError, match="annotations are not those that were predicted on"):
        evaluate(Evaluate((run,), protocols=("grcam",)))


def test_boxes_that_moved_are_found_with_boxes(tmp_path, folder):
    run = runs.write(tmp_path / "run", folder, boxes=boxes_of(folder))
    folder.boxes.rename(tmp_path / "elsewhere.csv")
    with pytest.raises(UserError, match=r"its boxes lie in .*boxes.csv, no such file\. Name it with --boxes"):
        evaluate(Evaluate((run,)))
    assert evaluate(Evaluate((run,), boxes=tmp_path / "elsewhere.csv"))[0][0].rows
    with pytest.raises(UserError, match="without --data.metadata, so --metadata names nothing"):
        evaluate(Evaluate((run,), boxes=tmp_path / "elsewhere.csv", metadata=tmp_path))


def test_metadata_that_moved_are_found_with_metadata(tmp_path, source):
    wsoleval.write(source.load(), tmp_path / "metadata")
    moving = DataSource("wsoleval", source.root / "images", "test", metadata=tmp_path / "metadata")
    run = runs.write(tmp_path / "run", moving)
    (tmp_path / "metadata").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"no such folder\. Name it with --metadata"):
        evaluate(Evaluate((run,)))
    assert evaluate(Evaluate((run,), metadata=tmp_path / "elsewhere"))[0][0].rows


def test_a_list_that_moved_is_found_with_list_file(tmp_path, source):
    rows = [f"{s.image_id},{s.label},{' '.join(f'{v:.0f}' for v in s.boxes[0])}\n" for s in source.load()]
    (tmp_path / "list.txt").write_text("".join(rows))
    moving = DataSource("list", source.root / "images", "test", list_file=tmp_path / "list.txt")
    run = runs.write(tmp_path / "run", moving)
    (tmp_path / "list.txt").rename(tmp_path / "elsewhere.txt")
    with pytest.raises(UserError, match=r"no such file\. Name it with --list-file"):
        evaluate(Evaluate((run,)))
    assert evaluate(Evaluate((run,), list_file=tmp_path / "elsewhere.txt"))[0][0].rows


def test_changed_annotations_are_noticed(source, both):
    text = (source.root / "bounding_boxes.txt").read_text()
    (source.root / "bounding_boxes.txt").write_text(text.replace("3 2.0 2.0", "3 2.0 3.0"))
    with pytest.raises(UserError, match="annotations are not those that were predicted on"):
        evaluate(Evaluate(both))


def test_skipped_images_are_counted_and_named(tmp_path, source):
    run = runs.write(tmp_path / "run", source)
    lines = (run / "predictions.jsonl").read_text().splitlines()
    lines[0] = json.dumps({"image_id": json.loads(lines[0])["image_id"], "skipped": "the file is empty"})
    (run / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    evaluations, _ = evaluate(Evaluate((run,), protocols=("grcam",)))
    (row,) = rows_of(evaluations)
    assert (row.images, row.left_out) == (5, {"skipped: the file is empty": 1})


def test_spols_missing_boxes_leave_or_count(tmp_path, source):
    run = runs.write(tmp_path / "run", source, "resize 256 crop 224")
    path = next((run / "maps").rglob("*.npy"))
    np.save(path, np.zeros((224, 224), np.float32))
    asked = Evaluate((run,), protocols=("spol",), released_for="cub")
    (faithful,) = rows_of(evaluate(asked)[0], source="released")
    (counted,) = rows_of(evaluate(replace(asked, count_missing=True))[0], source="released")
    assert (faithful.images, faithful.gt_known) == (5, 100)
    assert faithful.left_out == {"no region above the threshold": 1}
    assert (counted.images, counted.gt_known) == (6, pytest.approx(100 * 5 / 6))


@pytest.mark.parametrize(("options", "message"), [
    ({"protocols": ("voc",)}, "unknown protocol 'voc'"),
    ({"protocols": ("bas",)}, "no protocol asked for measures in the frame 'resize 224'"),
])  # fmt: skip
def test_refusals(tmp_path, source, options, message):
    run = runs.write(tmp_path / "run", source)
    with pytest.raises(UserError, match=message):
        evaluate(Evaluate((run,), **options))


def test_missing_and_broken_maps_are_refused(tmp_path, source):
    run = runs.write(tmp_path / "run", source)
    path = next((run / "maps").rglob("*.npy"))
    path.write_bytes(b"")
    with pytest.raises(UserError, match="not a readable"):
        evaluate(Evaluate((run,)))
    path.unlink()
    with pytest.raises(UserError, match="no such map"):
        evaluate(Evaluate((run,)))


def test_thresholds_of_other_classes_are_said(tmp_path, source, capsys):
    other = small_cub.make(tmp_path / "other", height=62)
    (other / "classes.txt").write_text("1 oak\n2 elm\n3 ash\n")
    held = runs.write(tmp_path / "held", DataSource("cub", other, "train"))
    run = runs.write(tmp_path / "run", source)
    evaluate(Evaluate((run,), validation=(held,), protocols=("wsoleval-v1",), workers=1, resamples=0))
    said = f"note: {held}: thresholds are chosen on images of other classes than those that are scored: oak is none of"
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_no_threshold_is_chosen_on_no_image(tmp_path, source):
    """SPOL leaves out boxes of 4 x 3 in the corner, which lie outside the centre crop: of no image there is no best."""
    other = small_cub.make(tmp_path / "other", height=62)
    rows = (other / "bounding_boxes.txt").read_text().splitlines()
    (other / "bounding_boxes.txt").write_text("".join(f"{row.split()[0]} 0 0 4 3\n" for row in rows))
    train = DataSource("cub", other, "train")
    hits = {sample.image_id: np.array([[20, 20, 60, 50]]) for sample in train.load()}
    held = runs.write(tmp_path / "held", train, "resize 256 crop 224", boxes=hits)
    run = runs.write(tmp_path / "run", source, "resize 256 crop 224")
    asked = Evaluate((run,), validation=(held,), protocols=("spol", "bas"), workers=1, resamples=0)
    sources = {(row.protocol, row.source) for row in evaluate(asked)[0][0].rows}
    assert ("bas", "validation") in sources
    assert ("spol", "validation") not in sources


def test_each_data_set_of_a_table_has_its_own_baselines(tmp_path, source):
    train = DataSource("cub", source.root, "train")
    made = runs.write(tmp_path / "a", source), runs.write(tmp_path / "b", train)
    evaluations, baselines = evaluate(Evaluate(made, protocols=("wsoleval-v1",), workers=1, resamples=0))
    counts = [len(each.dataset) for each in evaluations]
    assert [(row.label, row.images) for row in baselines] == [
        (f"{name} ({count} of cub {split})", count) for split, count in zip(("test", "train"), counts, strict=True)
        for name in ("whole image", "best centred box")
    ]  # fmt: skip
    (short,) = in_short(evaluations, baselines)
    assert len(short) == 1 + 4 + 2


def test_boxes_that_leave_many_images_are_said(tmp_path, source, capsys):
    """Corners 30 20 70 50 read as a corner and sides, 30 20 100 70, leave the 80 x 60 pixels; one of six is enough."""
    boxes = source.root / "bounding_boxes.txt"
    rows = boxes.read_text().splitlines()
    boxes.write_text("".join(f"{row}\n" for row in [*rows[:2], "3 30 20 70 50", *rows[3:]]))
    run = runs.write(tmp_path / "corners", source)
    evaluate(Evaluate((run,), protocols=("grcam",), workers=1))
    assert (
        "the true boxes of 1 of 6 images stick out of the image, of 001.Red_Bird/bird_2.png" in capsys.readouterr().err
    )
    boxes.write_text("".join(f"{row}\n" for row in rows))
    evaluate(Evaluate((runs.write(tmp_path / "right", source),), protocols=("grcam",), workers=1))
    assert "stick out" not in capsys.readouterr().err


@pytest.mark.slow
def test_full_lines_are_sorted_by_protocol(both):
    evaluations, baselines = evaluate(Evaluate(both))
    names = [row[0] for row in in_full(evaluations, baselines)[1:]]
    assert names == sorted(names, key=list(PROTOCOLS).index)


@pytest.mark.slow
def test_the_short_tables_hold_a_line_a_run_and_fit_a_terminal(both):
    evaluations, baselines = evaluate(Evaluate(both, released_for="cub"))
    crop, squash = in_short(evaluations, baselines)
    assert crop[0] == ["GT-known, crop", "threshold", "bas", "bas-extension", "spol", "adl"]
    assert [line[:2] for line in crop[1:]] == [
        ["whole image", "-"], ["best centred box", "oracle"], ["cam mobilenet_v1", "released"]
    ]  # fmt: skip
    assert [line[:2] for line in squash[1:]][-1] == ["cam mobilenet_v1", "oracle"]  # no threshold was released there
    rows = {(row.protocol, row.source): row for row in evaluations[0].rows}
    assert crop[-1][2].startswith(f"{rows['bas', 'released'].gt_known:.1f} (")
    beside = beside_in_short(evaluations, Resampling(50))
    assert [line[:2] for line in beside[1:]] == [["cam mobilenet_v1", "crop"], ["cam mobilenet_v1", "squash"]]
    assert beside[1][2].startswith("100.0 (")
    assert [line[4].split(" ")[0] for line in beside[1:]] == [f"{each.pixels.piou:.1f}" for each in evaluations]
    for table in (crop, squash, beside):
        assert max(map(len, render(table, "text").splitlines())) <= 100


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "common.evaluate", *map(str, arguments)], capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_command(tmp_path, both):
    done = command(*both, "--json", tmp_path / "out.json", "--format", "markdown")
    assert done.returncode == 0
    assert "| whole image" in done.stdout
    assert "over images" not in done.stdout
    assert "over images" in commands.run("common.evaluate", *both, "--full").stdout
    stored = json.loads((tmp_path / "out.json").read_text())
    assert len(stored["curves"]) == len(PROTOCOLS)
    assert {row["protocol"] for row in stored["rows"]} == set(PROTOCOLS)


@pytest.mark.slow
def test_the_commands_errors_are_one_line(tmp_path):
    done = command(tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert os.fspath(tmp_path) in done.stderr
    assert command().returncode == 2


def test_no_figure_is_a_dash_and_the_reason_stands_below(both):
    evaluations, _ = evaluate(Evaluate(both[:1]))
    nobody = {name: float("nan") for name in ("gt_known", "over_images")}
    row = replace(evaluations[0].rows[0], images=0, top1=None, top5=None, intervals={}, **nobody)
    evaluations = [replace(evaluations[0], rows=(row,))]
    for table in (side_by_side(evaluations, []), in_full(evaluations, [])):
        assert "nan" not in render(table, "text")
        assert any(cell.startswith("-") for cell in table[1])
    assert f"{row.run}, {row.protocol} ({row.source}): no figure, since no image is counted" in left_out_lines(
        evaluations
    )


@pytest.mark.parametrize(("name", "content", "what"), [
    ("final.pth", b"PK", "this is a PyTorch checkpoint"), ("run.zip", b"PK", "this is an archive"),
    ("page.html", b"<html>", "this is a page"), ("mine", b"", "this is a file"),
    ("crop/manifest.json", b"{}", "this is a JSON file"), ("folder", None, "this folder holds no manifest.json"),
    ("nothing", ..., "no such folder"),
])  # fmt: skip
def test_what_is_no_predictions_directory_is_told_by_name(tmp_path, name, content, what):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if content is None:
        path.mkdir()
    elif content is not ...:
        path.write_bytes(content)
    with pytest.raises(
        UserError, match=f"{re.escape(str(path))}: {what}; expected a predictions directory, which holds"
    ):
        evaluate(Evaluate((path,)))


def test_a_folder_of_runs_names_them(tmp_path, both):
    with pytest.raises(UserError, match=rf"holds no manifest.json; .* Name {re.escape(f'{both[0]} or {both[1]}')}\."):
        evaluate(Evaluate((tmp_path,)))
