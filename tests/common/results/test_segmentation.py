import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource
from common.datasets.label_maps import true_label_map
from common.evaluate import Evaluate, main
from common.measuring.extraction import largest_component
from common.results.segmentation_scoring import evaluate_segmentation
from common.results.segmentation_tables import class_table, left_out_lines, summary_table, threshold_table
from common.runs.manifest import Manifest
from common.runs.reader import Predictions
from common.runs.segmentation import SegmentationPredictions, SegmentationWriter, map_file
from common.system.errors import UserError
from tests import scenes


@pytest.fixture
def root(tmp_path):
    return scenes.write(tmp_path / "voc", {"train": 3, "val": 2})


def header(root, split="train", kind="maps", **fields):
    source = DataSource("voc", root, split)
    return {
        "kind": kind, "method": "bas-segmentation", "architecture": "resnet50", "classes": list(scenes.NAMES),
        "data": source.described(source.load(multi_label=True)), "checkpoint": {"name": "x"}, "options": {}, **fields,
    }  # fmt: skip


def maps_of(sample, value):
    """Maps that are `value` on each class's pixels and 0.1 elsewhere."""
    truth = true_label_map(sample, 3)
    high = np.stack([np.where(truth == label + 1, value, 0.1) for label in sample.labels]).astype(np.float32)
    return high[:, ::4, ::4].copy(), high


def write(directory, root, split="train", value=0.9, stop=None, **fields):
    writer = SegmentationWriter(directory, header(root, split, **fields))
    for sample in DataSource("voc", root, split).load(multi_label=True):
        if sample.image_id not in writer.done and len(writer.done) != stop:
            writer.write_maps(sample, *maps_of(sample, value))
    return writer.end() if stop is None else writer.close()


def test_maps_come_back_as_written_and_need_no_pickle(root, tmp_path):
    directory = write(tmp_path / "maps", root)
    predictions = SegmentationPredictions.open(directory)
    assert (predictions.kind, predictions.class_names) == ("maps", scenes.NAMES)
    sample = predictions.dataset().samples[0]
    keys, strided, high = predictions.maps(predictions.entries[0])
    expected = maps_of(sample, 0.9)
    np.testing.assert_array_equal(strided, expected[0])
    np.testing.assert_array_equal(high, expected[1])
    assert tuple(keys) == sample.labels


def test_a_stopped_run_continues(root, tmp_path):
    write(tmp_path / "maps", root, stop=1)
    with pytest.raises(UserError, match="has not finished"):
        SegmentationPredictions.open(tmp_path / "maps")
    with open(tmp_path / "maps" / "predictions.jsonl", "a") as file:
        file.write('{"image_id": "tr')  # a killed process
    write(tmp_path / "maps", root)
    assert len(SegmentationPredictions.open(tmp_path / "maps").entries) == 3
    with pytest.raises(UserError, match="holds another run: its options is"):
        SegmentationWriter(tmp_path / "maps", header(root, options={"scales": [1]}))


def test_perfect_maps_have_an_miou_of_one_below_their_value(root, tmp_path):
    write(tmp_path / "maps", root, value=0.35)
    (evaluation,) = evaluate_segmentation([tmp_path / "maps"], workers=1)
    by_threshold = {result.threshold: result.miou for result in evaluation.results}
    assert all((miou == 1.0) == (threshold < 0.35) for threshold, miou in by_threshold.items())
    assert [row.source for row in evaluation.rows] == ["released", "oracle"]


def test_label_maps_of_other_classes_are_said(root, tmp_path, capsys):
    """Of 3 images one has 0 and 255 alone, as other tools write masks: nothing of it but background is counted."""
    directory = write(tmp_path / "maps", root)
    sample = DataSource("voc", root, "train").load(multi_label=True).samples[0]
    Image.fromarray(np.where(true_label_map(sample, 3) > 0, 255, 0).astype(np.uint8)).save(sample.truth)
    evaluate_segmentation([directory], workers=1)
    said = "the label maps of 1 of 3 images hold none of the classes that the images are of, train_0 among them"
    assert f"note: {directory}: {said}" in capsys.readouterr().err


def test_the_table_says_what_was_trained_on(root, tmp_path):
    said = {"known": True, "images": ["train_0"], "evaluation_split": None, "chosen": []}
    data = {**header(root)["data"], "trained_images": said}
    runs_of = [write(tmp_path / "known", root, data=data), write(tmp_path / "theirs", root)]
    table = summary_table(evaluate_segmentation(runs_of, workers=1))
    assert table[0][-1] == "trained on these"
    assert [row[-1] for row in table[1:]] == [*["trained on 1 of these 3 images"] * 2, *["unknown"] * 2]


def test_runs_of_one_name_and_of_other_classes_are_told_apart(root, tmp_path):
    """Both are `maps`; the second knows a class less, and stood in no column."""
    made = [write(tmp_path / name / "maps", root) for name in ("a", "b")]
    evaluations = evaluate_segmentation(made, workers=1)
    manifest = Manifest(evaluations[1].predictions.manifest, classes=[*scenes.NAMES[:-1], "zebra"])
    evaluations[1] = replace(evaluations[1], predictions=replace(evaluations[1].predictions, manifest=manifest))
    table = class_table(evaluations)
    assert table[0] == ["IoU", *(f"{directory} (released)" for directory in made)]
    cells = {row[0]: row[1:] for row in table[1:]}
    assert cells["background"][0] == cells["background"][1]
    assert (cells[scenes.NAMES[-1]][1], cells["zebra"][0]) == ("-", "-")
    assert threshold_table(evaluations)[0] == ["mIoU at", *map(str, made)]


def test_the_threshold_is_chosen_on_the_validation_run(root, tmp_path):
    write(tmp_path / "maps", root, value=0.35)
    write(tmp_path / "held", root, "val", value=0.41)
    (evaluation,) = evaluate_segmentation([tmp_path / "maps"], [tmp_path / "held"], workers=1)
    found = {row.source: row.result.threshold for row in evaluation.rows}
    assert found == {"released": 0.30, "validation": 0.20, "oracle": 0.20}
    write(tmp_path / "same", root, "train", value=0.41)
    with pytest.raises(UserError, match="validation run has images of the run"):
        evaluate_segmentation([tmp_path / "maps"], [tmp_path / "same"], workers=1)


def test_maps_whose_best_threshold_the_released_sweep_ends_before(root, tmp_path, capsys):
    """Of three images one has 0.5 beside its objects: 0.44 is as good as any below it, and from 0.50 on all is right."""
    directory = tmp_path / "maps"
    writer = SegmentationWriter(directory, header(root))
    for number, sample in enumerate(DataSource("voc", root, "train").load(multi_label=True)):
        strided, high = maps_of(sample, 0.9)
        around = np.where(high == np.float32(0.1), np.float32(0.50 if number == 0 else 0.435), high)
        writer.write_maps(sample, strided, around)
    writer.end()
    (evaluation,) = evaluate_segmentation([directory], workers=1)
    assert evaluation.shown.source == "released"
    assert {row.source: row.result.threshold for row in evaluation.rows} == {"released": 0.30, "oracle": 0.44}
    assert "the best threshold is 0.44, with which the released sweep ends" in capsys.readouterr().err
    (evaluation,) = evaluate_segmentation([directory], workers=1, sweep="whole")
    found = {row.source: (row.result.threshold, row.result.miou) for row in evaluation.rows}
    assert found["oracle"] == (0.50, 1.0)
    assert found["released"][0] == 0.30
    assert len(threshold_table([evaluation])) == 101
    assert "sweep ends" not in capsys.readouterr().err


def test_a_validation_run_that_sets_no_threshold_is_refused(root, tmp_path):
    """It was read, scored, and then not looked at."""
    write(tmp_path / "maps", root)
    other = write(tmp_path / "other", root, "val", options={"scales": [1]})
    with pytest.raises(UserError, match="other: validation predictions of other checkpoints or options"):
        evaluate_segmentation([tmp_path / "maps"], [other], workers=1)
    held = [write(tmp_path / name, root, "val") for name in ("held", "again")]
    with pytest.raises(UserError, match="again: two validation runs are of the same checkpoints"):
        evaluate_segmentation([tmp_path / "maps"], held, workers=1)


def test_masks_are_scored_without_a_threshold_and_what_is_left_out_is_counted(root, tmp_path):
    dataset = DataSource("voc", root, "train").load(multi_label=True)
    writer = SegmentationWriter(tmp_path / "masks", header(root, kind="masks"))
    writer.write_mask(dataset.samples[0], true_label_map(dataset.samples[0], 3))
    writer.write_mask(dataset.samples[1], np.zeros((48, 64)))
    writer.skip("train_2", "unreadable")
    writer.end()
    (evaluation,) = evaluate_segmentation([tmp_path / "masks"], workers=1)
    assert evaluation.left_out == {"unreadable": 1}
    (row,) = evaluation.rows
    assert (row.source, row.result.images) == ("none", 2)
    assert row.result.iou[1 + dataset.samples[1].labels[0]] < 1


def test_evaluate_prints_and_stores_the_mean_iou(root, tmp_path, capsys, monkeypatch):
    write(tmp_path / "maps", root)
    monkeypatch.setattr(
        "sys.argv", ["x", str(tmp_path / "maps"), "--json", str(tmp_path / "out.json"), "--workers", "1"]
    )
    main()
    printed = capsys.readouterr().out
    assert "mIoU" in printed
    assert "background" in printed
    stored = json.loads((tmp_path / "out.json").read_text())["segmentation"][0]
    assert stored["rows"][0]["miou"] == 1.0
    assert len(stored["thresholds"]) == 25
    assert Evaluate(runs=()).split is None


def test_box_commands_refuse_a_segmentation_run(root, tmp_path):
    with pytest.raises(UserError, match='predictions of another task, "segmentation"'):
        Predictions.open(write(tmp_path / "maps", root))


def spoiled(directory, **arrays):
    entry = SegmentationPredictions.open(directory).entries[0]
    path = map_file(directory, entry.image_id)
    stored = dict(np.load(path))
    np.savez(path, **{**stored, **{name: change(stored[name]) for name, change in arrays.items()}})
    return SegmentationPredictions.open(directory), entry


@pytest.mark.parametrize(("change", "said"), [
    ({"high_res": lambda a: a[:, 1:]}, "high_res is float32"),
    ({"high_res": lambda a: a * 3}, "values outside 0 to 1"),
    ({"cam": lambda a: np.full_like(a, np.nan)}, "values outside 0 to 1"),
    ({"keys": lambda a: a + 1}, "its classes are"),
    ({"cam": lambda a: a.astype(object)}, "cam is object"),
])  # fmt: skip
def test_maps_that_are_not_right_are_refused(root, tmp_path, change, said):
    predictions, entry = spoiled(write(tmp_path / "maps", root), **change)
    with pytest.raises(UserError, match=said):
        predictions.maps(entry)


def test_damaged_files_are_named(root, tmp_path):
    directory = write(tmp_path / "maps", root)
    predictions = SegmentationPredictions.open(directory)
    path = map_file(directory, predictions.entries[0].image_id)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"not a readable .npz file"):
        predictions.maps(predictions.entries[0])
    path.unlink()
    with pytest.raises(UserError, match="no such maps"):
        predictions.maps(predictions.entries[0])


@pytest.mark.parametrize(("line", "said"), [
    ({"image_id": "../x", "size": [4, 4], "labels": [0]}, "not usable"),
    ({"image_id": "x", "size": [4, 0], "labels": [0]}, "size is"),
    ({"image_id": "x", "size": [4, 4], "labels": [3]}, "labels is"),
    ({"image_id": "x", "size": [4, 4], "labels": [1, 0]}, "labels is"),
])  # fmt: skip
def test_lines_that_make_no_sense_are_refused(root, tmp_path, line, said):
    directory = write(tmp_path / "maps", root)
    (directory / "predictions.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=said):
        SegmentationPredictions.open(directory)


def test_the_page_shows_image_maps_mask_and_truth(root, tmp_path):
    from common.report.page import Report, build

    write(tmp_path / "maps", root)
    page = build(Report(runs=(tmp_path / "maps",), gallery=2, picture=40, workers=1))
    samples = DataSource("voc", root, "train").load(multi_label=True).samples
    shown = [samples[0], samples[2]]
    assert page.count("<h3>") == 2
    assert page.count('alt="') == sum(3 + len(sample.labels) for sample in shown)
    for sample in shown:
        for label in sample.labels:
            assert f'alt="{sample.image_id}: map of {scenes.NAMES[label]}"' in page
    assert "maps above 0.30 (released)" in page


def with_boxes(root, split="train"):
    """Every object gets the box of its class's pixels; one image's first class is said to lie elsewhere."""
    pairs = 0
    for number, sample in enumerate(DataSource("voc", root, split).load(multi_label=True)):
        objects, truth = "", true_label_map(sample, 3)
        for place, label in enumerate(sample.labels):
            (box,) = largest_component((truth == label + 1).astype(np.uint8))
            x0, y0, x1, y1 = (0, 0, 1, 1) if (number, place) == (0, 0) else box.astype(int)
            corners = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
            objects += f"<object><name>{scenes.NAMES[label]}</name><bndbox>{corners}</bndbox></object>"
            pairs += 1
        (root / "Annotations" / f"{sample.image_id}.xml").write_text(f"<annotation>{objects}</annotation>")
    return pairs


@pytest.mark.parametrize("kind", ["maps", "masks"])
def test_corloc_counts_each_class_of_an_image(root, tmp_path, kind, capsys, monkeypatch):
    pairs = with_boxes(root)
    directory = tmp_path / kind
    if kind == "maps":
        write(directory, root)
    else:
        writer = SegmentationWriter(directory, header(root, kind=kind))
        for sample in DataSource("voc", root, "train").load(multi_label=True):
            writer.write_mask(sample, true_label_map(sample, 3))
        writer.end()
    (evaluation,) = evaluate_segmentation([directory], workers=1, boxes=True)
    assert (evaluation.pairs, evaluation.corloc) == (pairs, pytest.approx(100 * (pairs - 1) / pairs))
    (plain,) = evaluate_segmentation([directory], workers=1)
    assert plain.corloc is None
    monkeypatch.setattr("sys.argv", ["evaluate", str(directory), "--workers", "1", "--full"])
    main()
    source = "released" if kind == "maps" else "none"
    assert (
        f"{directory}: CorLoc {100 * (pairs - 1) / pairs:.2f} of {pairs} pairs of image and class, the largest region of each class "
        f"at the threshold from {source}\n"
    ) in capsys.readouterr().out


def test_no_boxes_no_corloc(root, tmp_path):
    write(tmp_path / "maps", root)
    (evaluation,) = evaluate_segmentation([tmp_path / "maps"], workers=1, boxes=True)
    assert (evaluation.corloc, evaluation.pairs) == (None, 0)


def test_images_of_a_split_that_the_run_is_not_on_are_counted(root, tmp_path):
    write(tmp_path / "maps", root)
    (root / "ImageSets/Segmentation/some.txt").write_text("train_0\nval_0\nval_1\n")
    (evaluation,) = evaluate_segmentation([tmp_path / "maps"], workers=1, split="some")
    assert evaluation.rows[0].result.images == 1
    assert evaluation.left_out == {"not in the split train that the run is on": 2}
    assert left_out_lines([evaluation]) == [
        f"{tmp_path / 'maps'}: 2 left out: not in the split train that the run is on"
    ]


def test_validation_maps_without_a_pixel_that_counts_choose_nothing(root, tmp_path):
    write(tmp_path / "maps", root)
    write(tmp_path / "held", root, "val")
    for path in (root / "SegmentationClass").glob("val_*.png"):
        Image.fromarray(np.full((48, 64), 255, np.uint8)).save(path)
    (evaluation,) = evaluate_segmentation([tmp_path / "maps"], [tmp_path / "held"], workers=1)
    assert [row.source for row in evaluation.rows] == ["released", "oracle"]


def test_photographs_that_exif_turns_are_said(root, tmp_path, capsys):
    """Half a turn keeps the size, so that nothing else would show a label map of the turned picture."""
    directory = write(tmp_path / "maps", root)
    path = root / "JPEGImages/train_1.jpg"
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 3
        image.save(path, exif=exif)
    evaluate_segmentation([directory], workers=1)
    said = "1 of 3 images has an EXIF tag that viewers obey: train_1; pictures are read as stored, and their label maps"
    assert f"note: {directory}: {said}" in capsys.readouterr().err
