"""A whole detection data set: thresholds, counts, resuming, overwriting, and how good its boxes are."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource
from common.export import Export, main
from common.exporting import formats
from common.exporting.dataset import DetectionOptions, export_dataset
from common.results import pseudo
from common.system.errors import UserError
from tests import runs
from tests.common.exporting.scene import NAMES, SIZE, exported, truth


def test_all_regions_are_written(tmp_path, birds, directories):
    for directory in directories.values():
        for path in (directory / "maps").rglob("*.npy"):
            picture = np.zeros((224, 224), np.float32)
            picture[0:112, 0:112] = picture[112:224, 168:224] = 1.0
            picture[112, 168] = 0.9
            np.save(path, picture)
    out, lines = exported(directories, tmp_path, "labelme", regions="all", share=0.4, score="map")
    assert lines[0] == "train: 6 images, 12 boxes, threshold @0.5 as asked for"
    content = json.loads((out / "train" / NAMES[0] / "three.json").read_text(encoding="utf-8"))
    first, second = (np.ravel(shape["points"]).tolist() for shape in content["shapes"])
    assert (first, second) == ([0, 0, 100, 60], [150, 60, 200, 120])
    assert content["shapes"][0]["description"] == "score 1.000000"
    assert content["shapes"][1]["description"] == f"score {1 - 0.1 / (112 * 56):.6f}"


@pytest.mark.slow
def test_boxes_of_the_predicted_class_and_parts_of_a_split_are_said(tmp_path, birds):
    """Every second image is there, two of the first class and one of the second; all are called as the second."""
    source = DataSource("folder", birds, "train", shard="1/2")
    boxes = {image_id: np.array([box]) for image_id, (_, box) in truth("train").items()}
    run = runs.write(tmp_path / "run", source, boxes=boxes, options={"map_class": "predicted"})
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    called = [line | {"top5": [1, 0, 2]} for line in lines]
    (run / "predictions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in called), encoding="utf-8")
    _, said = exported({"train": run}, tmp_path, "coco")
    assert said[1:3] == [
        "train: boxes are called as the image's own class, and are of the predicted one, which is another for 2 of 3 "
        f"images, {NAMES[0]}/one bird.png and 1 more",
        "train: the part 1/2 of the split alone; common.merge puts parts together",
    ]
    for top5, ending in ((None, "which is unknown"), ("right", None)):
        again = [line | {"top5": None if top5 is None else [line["label"]], "top5_scores": None} for line in lines]
        (run / "predictions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in again), encoding="utf-8")
        _, said = exported({"train": run}, tmp_path / str(top5), "coco")
        found = [line for line in said if "the predicted one" in line]
        assert len(found) == (ending is not None)
        assert all(line.endswith(ending or "") for line in found)


@pytest.mark.parametrize("threshold", [50, -0.1])
def test_a_threshold_that_cuts_no_map_is_refused_before_anything_is_written(directories, tmp_path, threshold):
    with pytest.raises(UserError, match=f"threshold {threshold}; expected at least 0, below 1"):
        exported(directories, tmp_path, "coco", threshold=threshold)
    assert not (tmp_path / "out").exists()


def test_thresholds_come_from_held_out_images(tmp_path, birds):
    held = DataSource("folder", birds, "held", boxes=tmp_path / "boxes.csv", held_per_class=1)
    unannotated = DataSource("folder", birds, "test")
    boxes = {key: np.array([box], float) for key, (_, box) in truth("test").items()}
    run = runs.write(tmp_path / "run", unannotated, boxes=boxes)
    validation = runs.write(tmp_path / "held", held)
    options = Export((run,), validation=(validation,), out=tmp_path / "out")
    line, trained_on = export_dataset(options, DetectionOptions(), "coco", tmp_path / "out", overwrite=False)
    assert line.startswith("test: 6 images, 6 boxes, threshold @0.0")
    assert f"wsoleval-v1, chosen on {validation}" in line
    assert trained_on == f"whether these images were trained on is unknown for: {run}"
    with pytest.raises(UserError, match="no threshold was chosen"):
        export_dataset(Export((run,)), DetectionOptions(), "coco", tmp_path / "other", overwrite=False)


def test_what_gets_no_box_is_counted(tmp_path, birds, directories):
    left = directories["test"]
    np.save(left / "maps" / NAMES[0] / "one bird.png.npy", np.zeros((224, 224), np.float32))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE).save(birds / "test" / NAMES[0] / "three.png", exif=exif)
    review = tmp_path / "review.json"
    review.write_text(json.dumps({"drop": [f"{NAMES[0]}/two,birds.png"]}), encoding="utf-8")
    out, lines = exported({"test": left}, tmp_path, "yolo", review=review)
    assert lines == [
        "test: 3 images, 3 boxes, threshold @0.5 as asked for",
        "test: 1 image left out: no region found",
        "test: 1 image left out: turned by its EXIF tag, which trainers follow and boxes of stored pixels do not",
        "test: 1 image left out: dropped in the review",
        "data.yaml: val is images/test, images that are trained on: there is no other split",
        f"whether these images were trained on is unknown for: {left}",
    ]
    assert not (out / "images" / "test" / NAMES[0]).exists()


def test_boxes_below_the_least_score_are_counted(tmp_path, directories):
    _, lines = exported(directories, tmp_path, "coco", min_score=0.6)
    assert lines[1] == "train: 6 images left out: no box of the least score"


def test_a_stopped_export_is_finished_by_the_same_command(tmp_path, directories, monkeypatch):
    put, seen = formats.put_image, Counter()

    def stops(source, target, transfer):
        seen["put"] += 1
        if seen["put"] == 4:
            raise KeyboardInterrupt
        put(source, target, transfer)

    monkeypatch.setattr(formats, "put_image", stops)
    with pytest.raises(KeyboardInterrupt):
        exported(directories, tmp_path, "yolo")
    assert (tmp_path / "out" / ".unfinished").is_file()
    monkeypatch.setattr(formats, "put_image", put)
    out, lines = exported(directories, tmp_path, "yolo")
    assert lines[0].startswith("train: 6 images")
    assert len(list((out / "labels").rglob("*.txt"))) == 12
    assert not (out / ".unfinished").exists()
    with pytest.raises(UserError, match="the folder is not empty"):
        exported(directories, tmp_path, "yolo")


def test_a_picture_of_another_size_than_was_localized_is_left_out(tmp_path, birds, directories):
    """As where --root names the same images in another size: boxes would be pixels of the old ones."""
    Image.new("RGB", (400, 240)).save(birds / "test" / NAMES[0] / "three.png")
    _, lines = exported({"test": directories["test"]}, tmp_path, "coco")
    assert lines[:2] == [
        "test: 5 images, 5 boxes, threshold @0.5 as asked for",
        "test: 1 image left out: its picture has another size than the one that was localized",
    ]


def test_annotations_that_changed_since_are_refused(tmp_path, birds, directories):
    (birds / "test" / NAMES[0] / "three.png").unlink()
    with pytest.raises(UserError):
        exported({"test": directories["test"]}, tmp_path, "coco")
    source = DataSource("folder", birds, "test")
    boxes = {sample.image_id: np.array([[0.0, 0, 9, 9]]) for sample in source.load()}
    run = runs.write(tmp_path / "unboxed", source, boxes=boxes)
    (birds / "test" / NAMES[1]).rename(birds / "test" / "a new name")
    with pytest.raises(UserError, match="annotations are not those that were predicted on"):
        exported({"test": run}, tmp_path, "coco")


def test_thresholds_are_chosen_on_pseudo_boxes_where_there_are_no_others(tmp_path, birds):
    source = DataSource("folder", birds, "train")
    boxes = {key: np.array([box], float) for key, (_, box) in truth("train").items()}
    run = runs.write(tmp_path / "run", source, boxes=boxes)
    pseudo.write(tmp_path / "pseudo.csv", {key: box[0] for key, box in boxes.items()})
    asked = Export((run,), validation=(run,), pseudo=(tmp_path / "pseudo.csv",), out=tmp_path / "out", workers=1)
    line, *_ = export_dataset(asked, DetectionOptions(), "coco", tmp_path / "out", False, boxes_at="pseudo")
    assert line.startswith("train: 6 images, 6 boxes, threshold @0.0")
    assert line.endswith(f"wsoleval-v1, chosen on pseudo boxes of {run}")
    with pytest.raises(UserError, match="--boxes-at pseudo without --pseudo"):
        export_dataset(replace(asked, pseudo=()), DetectionOptions(), "coco", tmp_path / "b", False, boxes_at="pseudo")


def test_boxes_measured_where_their_threshold_was_chosen_are_said_to_be(tmp_path, directories):
    run = directories["train"]
    asked = Export((run,), validation=(run,), out=tmp_path / "out", workers=1)
    lines = export_dataset(asked, DetectionOptions(), "coco", tmp_path / "out", False, measure=True)
    assert "train: the threshold was chosen on 6 of these images, so that their figures are optimistic" in lines


def test_overwriting_takes_away_what_the_last_export_wrote_and_nothing_else(tmp_path, directories):
    out, _ = exported(directories, tmp_path, "yolo")
    (out / "notes.txt").write_text("mine")
    asked = Export((directories["train"],), out=out)
    export_dataset(asked, DetectionOptions(threshold=0.5), "coco", out, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == [
        ".exported",
        "annotations",
        "export.json",
        "images",
        "notes.txt",
    ]
    assert not (out / "images" / "test").exists()
    (out / "labels").mkdir()
    with pytest.raises(UserError, match="labels: this was not written by an export"):
        export_dataset(asked, DetectionOptions(threshold=0.5), "yolo", out, overwrite=True)


def test_images_of_two_splits_are_said(tmp_path, birds, directories):
    """Held-out images are training images where the training split was localized whole."""
    for number, path in enumerate(sorted(birds.rglob("*.png"))):  # all alike so far
        Image.new("RGB", SIZE, (number, 120, 60)).save(path)
    source = DataSource("folder", birds, "held", boxes=tmp_path / "boxes.csv", held_per_class=1)
    held = runs.write(tmp_path / "held", source)
    _, lines = exported({"train": directories["train"], "held": held}, tmp_path, "yolo")
    first = source.load().samples[0].image_id
    assert f"held: 2 of its images are in train too, {first} among them" in lines
    shutil.rmtree(tmp_path / "out")
    _, lines = exported(directories, tmp_path, "yolo")
    assert not any("are in train too" in line for line in lines)


def test_an_export_is_not_written_over_the_images_it_is_made_of(tmp_path, directories):
    """As where a detector's boxes on an earlier export are exported again: its images were deleted first."""
    out, _ = exported(directories, tmp_path, "csv", images="copy")
    source = DataSource("folder", out / "images", "train", boxes=out / "boxes.csv")
    run = runs.write(tmp_path / "again", source)
    with pytest.raises(UserError, match="the images to export lie in this very folder"):
        export_dataset(Export((run,), out=out), DetectionOptions(threshold=0.5), "csv", out, overwrite=True)
    assert len(list((out / "images").rglob("*.png"))) == 12


def test_two_directories_of_one_split_are_refused(tmp_path, directories):
    twice = {"a": directories["train"], "b": directories["train"]}
    with pytest.raises(UserError, match="two directories are of the split 'train'"):
        exported(twice, tmp_path, "coco")


def test_measured_boxes(tmp_path, directories):
    """The runs' maps are 1 on the true box, within a pixel of 224; of six images two are wide, two small, two large."""
    _, lines = exported(directories, tmp_path, "csv", measure=True)
    for split in ("train", "test"):
        assert f"{split}: CorLoc 100.00 of 6 images with true boxes" in lines
        assert (
            f"{split}: IoU of at least 0.5, 0.7, 0.9: 100.0 100.0 100.0 % of the best half by score, 100.0 100.0 100.0 % of all 6 boxes"
            in lines
        )


def test_an_image_that_is_left_out_is_a_miss_of_corloc(tmp_path, directories):
    review = tmp_path / "review.json"
    review.write_text(json.dumps({"drop": [f"test/{NAMES[0]}/three.png"]}))
    _, lines = exported(directories, tmp_path, "csv", measure=True, review=review)
    assert f"test: CorLoc {500 / 6:.2f} of 6 images with true boxes" in lines


def test_average_precision_of_all_regions(tmp_path, directories):
    pytest.importorskip("pycocotools")
    _, lines = exported(directories, tmp_path, "csv", measure=True, regions="all")
    assert "test: average precision at IoU 0.5, with the image's own class: 100.00" in lines
    assert "train: average precision at IoU 0.5, with the image's own class: 100.00" in lines


def test_measuring_without_truth_is_refused_before_anything_is_written(tmp_path, birds):
    source = DataSource("folder", birds, "test")
    hit = {sample.image_id: np.array([(0, 0, 9, 9)]) for sample in source.load()}
    run = runs.write(tmp_path / "run", source, boxes=hit)
    with pytest.raises(UserError, match=f"{run}: --measure where no image has a true box"):
        exported({"test": run}, tmp_path, "csv", measure=True)
    assert not (tmp_path / "out").exists()


def test_measuring_is_for_a_detectors_data_set(directories, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["export", str(directories["test"]), "--measure", "--out", str(tmp_path / "out")])
    with pytest.raises(UserError, match="^--measure without a detector's --format; expected --format coco"):
        main()
