"""Detection data sets, each read back by the program that it is for."""

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from common.datasets import DataSource, Sample
from common.export import Export, main
from common.exporting import formats
from common.exporting.dataset import DetectionOptions, export_dataset
from common.exporting.detections import (
    STORED,
    LabelledImage,
    Review,
    Rule,
    boxes_of,
    class_probability,
    large_regions,
    rule_on_validation,
    thresholds_of,
)
from common.measuring.extraction import Extractor
from common.measuring.geometry import Frame
from common.measuring.protocols import PROTOCOLS
from common.runs import pseudo
from common.runs.reader import Predictions
from common.runs.record import Prediction
from common.system.errors import UserError
from tests import runs

SIZE = (200, 120)
NAMES = ("Möwe", "tern, common")
BOXES = {"one bird.png": (20, 10, 120, 100), "two,birds.png": (50, 30, 180, 110), "three.png": (0, 0, 90, 60)}


@pytest.fixture
def birds(tmp_path) -> Path:
    """Two classes whose names, and whose files' names, hold blanks, commas and an umlaut; the last file is the odd one."""
    root = tmp_path / "the data"
    lines = ["path,x0,y0,x1,y1,split"]
    for split in ("train", "test"):
        for name in NAMES:
            for file, box in BOXES.items():
                path = root / split / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", SIZE, (90, 120, 60)).save(path)
                lines.append(",".join([f'"{name}/{file}"', *map(str, box), split]))
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture
def directories(tmp_path, birds) -> dict[str, Path]:
    """A run a split; maps are 1 on the box and 0.1 elsewhere."""
    sources = {split: DataSource("folder", birds, split, boxes=tmp_path / "boxes.csv") for split in ("train", "test")}
    return {split: runs.write(tmp_path / "runs" / split, source) for split, source in sources.items()}


def exported(directories, tmp_path, kind, measure=False, **options) -> tuple[Path, list[str]]:
    out = tmp_path / "out"
    asked = Export(tuple(directories.values()), out=out)
    detection = DetectionOptions(**{"threshold": 0.5, **options})
    return out, export_dataset(asked, detection, kind, out, overwrite=False, measure=measure)


def truth(split: str) -> dict[str, tuple[int, tuple]]:
    """Image id to label and box."""
    return {f"{name}/{file}": (label, box) for label, name in enumerate(NAMES) for file, box in BOXES.items()}


def close(found, expected) -> bool:
    """Within a pixel of the frame, which is what the maps were drawn on."""
    return np.abs(np.subtract(found, expected)).max() <= 1


def test_coco_is_read_by_pycocotools(tmp_path, directories):
    coco = pytest.importorskip("pycocotools.coco")
    out, lines = exported(directories, tmp_path, "coco")
    unknown = f"{directories['train']}, {directories['test']}"
    assert lines == [
        *(f"{split}: 6 images, 6 boxes, threshold @0.5 as asked for" for split in ("train", "test")),
        f"test: 6 of its images are in train too, {NAMES[0]}/one bird.png among them",
        f"whether these images were trained on is unknown for: {unknown}",
    ]
    for split in ("train", "test"):
        read = coco.COCO(str(out / "annotations" / f"instances_{split}.json"))
        assert [each["name"] for each in read.loadCats(read.getCatIds())] == list(NAMES)
        expected = truth(split)
        for image in read.loadImgs(read.getImgIds()):
            label, box = expected.pop(image["file_name"])
            (annotation,) = read.loadAnns(read.getAnnIds(image["id"]))
            x, y, width, height = annotation["bbox"]
            assert close([x, y, x + width, y + height], box)
            assert (annotation["category_id"], annotation["score"]) == (label + 1, 0.5)
            assert (image["width"], image["height"]) == SIZE
            assert (out / "images" / split / image["file_name"]).resolve().is_file()
        assert not expected
    assert not list(out.rglob("*.part"))
    said = json.loads((out / "export.json").read_text())
    assert said["rules"] == {"regions": "one", "share": 0.5, "threshold": 0.5, "score": "class", "min_score": 0.0,
                             "review": None, "images": "link"}  # fmt: skip
    for split, path in directories.items():
        found = said["splits"][split]
        assert [found[name] for name in ("predictions", "leakage", "images", "boxes", "threshold", "left_out")] == [
            str(path), "unknown", 6, 6, 0.5, {}
        ]  # fmt: skip


def test_coco_is_read_by_torchvision(tmp_path, directories):
    datasets = pytest.importorskip("torchvision.datasets")
    pytest.importorskip("pycocotools")
    out, _ = exported(directories, tmp_path, "coco")
    read = datasets.CocoDetection(out / "images" / "train", out / "annotations" / "instances_train.json")
    picture, (annotation,) = read[0]
    assert picture.size == SIZE
    assert annotation["category_id"] in (1, 2)


def test_voc_is_read_by_torchvision(tmp_path, directories):
    datasets = pytest.importorskip("torchvision.datasets")
    out, _ = exported(directories, tmp_path, "voc")
    read = datasets.VOCDetection(str(out), year="2012", image_set="train")
    assert len(read) == 6
    for picture, content in read:
        (found,) = content["annotation"]["object"]
        label = NAMES.index(found["name"])
        stem = content["annotation"]["filename"]
        (box,) = [box for file, box in BOXES.items() if stem.endswith(f"/{Path(file).stem}.jpg")]
        x0, y0, x1, y1 = (float(found["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax"))
        assert close([x0 - 1, y0 - 1, x1, y1], box)  # counted from 1, both corners within
        assert f"train/{NAMES[label]}/" in stem
        assert picture.size == SIZE


def test_yolo_is_ultralytics_text(tmp_path, directories):
    out, _ = exported(directories, tmp_path, "yolo", images="copy")
    content = yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))
    assert content == {
        "train": "images/train",
        "test": "images/test",
        "val": "images/test",
        "names": dict(enumerate(NAMES)),
    }
    for image_id, (label, box) in truth("train").items():
        text = (out / "labels" / "train" / image_id).with_suffix(".txt").read_text()
        number, *shares = text.split()
        x, y, width, height = np.array(list(map(float, shares))) * np.tile(SIZE, 2)
        assert int(number) == label
        assert close([x - width / 2, y - height / 2, x + width / 2, y + height / 2], box)
        copied = out / "images" / "train" / image_id
        assert copied.is_file()
        assert not copied.is_symlink()


def test_labelme_lies_beside_its_image(tmp_path, directories):
    out, _ = exported(directories, tmp_path, "labelme")
    for image_id, (label, box) in truth("test").items():
        content = json.loads((out / "test" / image_id).with_suffix(".json").read_text(encoding="utf-8"))
        (shape,) = content["shapes"]
        assert (shape["label"], shape["shape_type"]) == (NAMES[label], "rectangle")
        assert close(np.ravel(shape["points"]), box)
        assert (content["imageWidth"], content["imageHeight"], content["imagePath"]) == (*SIZE, Path(image_id).name)


def test_a_table_is_read_here_as_a_folder(tmp_path, directories):
    out, _ = exported(directories, tmp_path, "csv")
    for split in ("train", "test"):
        read = DataSource("folder", out / "images", split, boxes=out / "boxes.csv").load()
        assert read.class_names == NAMES
        found = {sample.image_id: (sample.label, sample.boxes[0]) for sample in read}
        assert found.keys() == truth(split).keys()
        assert all(close(found[key][1], box) and found[key][0] == label for key, (label, box) in truth(split).items())
    with open(out / "boxes.csv", encoding="utf-8", newline="") as file:
        assert {row["score"] for row in csv.DictReader(file)} == {"0.500000"}


def test_wsolevaluations_folders_are_read_here(tmp_path, birds, directories):
    for path in list(birds.rglob("two,birds.png")):
        path.unlink()
    sources = {split: DataSource("folder", birds, split) for split in ("train", "test")}
    boxes = {key: np.array([box], float) for key, (_, box) in truth("train").items()}
    again = {split: runs.write(tmp_path / "again" / split, source, boxes=boxes) for split, source in sources.items()}
    out, _ = exported(again, tmp_path, "wsoleval")
    read = DataSource("wsoleval", out / "images" / "test", "test", metadata=out / "metadata").load()
    assert len(read) == 4
    assert all(close(sample.boxes[0], truth("test")[sample.image_id][1]) for sample in read)


def test_every_large_region_gets_a_box():
    picture = np.full((60, 100), 0.1, np.float32)
    picture[10:30, 10:30] = 0.9  # 400 pixels
    picture[35:55, 60:76] = 0.8  # 320
    picture[5:9, 80:90] = 1.0  # 40
    rule = Extractor("value", "largest-component", "exclusive")
    assert large_regions(picture, rule, 0.5, 0.5).tolist() == [[10, 10, 30, 30], [60, 35, 76, 55]]
    assert large_regions(picture, rule, 0.5, 0.05).tolist() == [[10, 10, 30, 30], [60, 35, 76, 55], [80, 5, 90, 9]]
    assert large_regions(picture, rule, 0.95, 0.5).tolist() == [[80, 5, 90, 9]]
    assert large_regions(np.zeros((4, 4), np.float32), rule, 0.5, 0.5).shape == (0, 4)


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


@pytest.mark.parametrize(("content", "complaint"), [
    ({"drop": ["no such image"]}, "1 of its images are in no predictions, no such image among them"),
    ({"drop": [f"{NAMES[0]}/three.png"], "keep": [f"{NAMES[0]}/three.png"]}, "is to be kept and to be dropped"),
    ({"delete": []}, "not a review"),
    ({"keep": []}, "the review keeps no image"),
    ([1], "not a review"),
])  # fmt: skip
def test_a_review_that_makes_no_sense_is_refused(tmp_path, content, complaint):
    path = tmp_path / "review.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=complaint):
        Review.read(path, {"test": truth("test").keys()})


def test_a_review_of_kept_images_keeps_no_other():
    review = Review(keep={("test", "a")}, drop={("test", "b")})
    assert [review.says_no("test", name) for name in "abc"] == [None, "dropped in the review", "not kept in the review"]
    assert review.says_no("train", "a") == "not kept in the review"


def test_a_review_says_which_split_an_image_is_of_where_two_have_its_id(tmp_path):
    path, known = tmp_path / "review.json", {"train": ["a/1.png", "a/2.png"], "test": ["a/1.png"]}
    path.write_text('{"drop": ["a/1.png"]}')
    with pytest.raises(UserError, match=r"a/1.png is an image of 2 splits. Write test/a/1.png or train/a/1.png"):
        Review.read(path, known)
    path.write_text('{"drop": ["test/a/1.png", "a/2.png"]}')
    review = Review.read(path, known)
    said = [review.says_no(split, name) for split, names in known.items() for name in names]
    assert said == [None, "dropped in the review", "dropped in the review"]


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


@pytest.mark.parametrize(("names", "content", "said"), [
    (["train", "valid", "test"],
     {"train": "images/train", "val": "images/valid", "test": "images/test"}, None),
    (["training", "validation"], {"train": "images/training", "val": "images/validation"}, None),
    (["Train", "held", "test"], {"train": "images/Train", "val": "images/held", "test": "images/test"}, None),
    (["train", "test"], {"train": "images/train", "val": "images/test", "test": "images/test"},
     "data.yaml: val is images/test, as test is: the best epoch is chosen on it"),
    (["all"], {"train": "images/all", "val": "images/all"},
     "data.yaml: val is images/all, images that are trained on: there is no other split"),
    (["held", "test"], {"train": "images/held", "val": "images/test", "test": "images/test"},
     "data.yaml: val is images/test, as test is: the best epoch is chosen on it"),
    (["train", "val", "held"], {"train": "images/train", "val": "images/val"},
     "data.yaml: images/held is none of train, val and test"),
    (["north", "south", "dev"], {"train": ["images/north", "images/south"], "val": "images/dev"}, None),
])  # fmt: skip
def test_ultralytics_is_told_which_split_is_which(tmp_path, names, content, said):
    """Roboflow calls it valid, and others validation: an unknown name was left out, and val was train."""
    picture = tmp_path / "1.jfif"
    Image.new("RGB", SIZE).save(picture, "JPEG")
    writer = formats.Yolo(tmp_path / "out", NAMES, "link")
    sample = Sample("a/1.jfif", picture, 0)
    for name in names:
        writer.add(name, LabelledImage(sample, SIZE, np.array([[0.0, 0, 100, 60]]), np.array([1.0])))
    assert writer.finish() == ([said] if said else [])
    read = yaml.safe_load((tmp_path / "out/data.yaml").read_text(encoding="utf-8"))
    assert {key: value for key, value in read.items() if key != "names"} == content
    assert (tmp_path / "out/images" / names[0] / "a/1.jpg").is_file()
    assert (
        tmp_path / "out/labels" / names[0] / "a/1.txt"
    ).read_text() == "0 0.25000000 0.25000000 0.50000000 0.50000000\n"


def test_images_that_ultralytics_passes_over_are_said(tmp_path):
    picture = tmp_path / "1.gif"
    Image.new("RGB", SIZE).save(picture)
    writer = formats.Yolo(tmp_path / "out", NAMES, "link")
    for split in ("train", "val"):
        writer.add(split, LabelledImage(Sample("a/1.gif", picture, 0), SIZE, np.array([[0.0, 0, 9, 9]]), np.ones(1)))
    assert writer.finish() == ["2 images end in .gif, which Ultralytics passes over"]


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


def entry_of(localization_map: np.ndarray, extractor: Extractor, threshold: float) -> Prediction:
    (found,) = extractor.boxes(localization_map, [threshold])
    return Prediction("1", 0, (224, 224), Frame.squash((224, 224)), None, None, found[0], threshold)


def boxes_by(localization_map: np.ndarray, entry: Prediction, rule: Rule) -> list:
    predictions = SimpleNamespace(has_maps=True, map=lambda _: localization_map)
    return boxes_of(predictions, entry, rule)[0].tolist()


def test_a_region_in_the_last_column_has_a_width():
    """A protocol's box ends on the last pixel, x 223: its width was 0."""
    picture = np.zeros((224, 224), np.float32)
    picture[10:30, 223] = 1.0
    rule = PROTOCOLS["wsoleval-v1"].extractor
    entry = entry_of(picture, rule, 0.5)
    assert entry.boxes.tolist() == [[223, 10, 223, 30]]
    for asked in (Rule(rule, 0.5, ""), Rule(None, 0.5, ""), Rule(rule, 0.5, "", "all"), Rule(None, 0.5, "", "all")):
        assert boxes_by(picture, entry, asked) == [[223, 10, 224, 30]]


def test_all_regions_are_cut_as_the_stored_box_was():
    """A map from 0.3 to 0.9, which DGL's and GRCAM's rule stretches: above 0.2 as it stands lies everything."""
    picture = np.full((224, 224), 0.3, np.float32)
    picture[10:60, 10:60] = picture[100:140, 100:140] = 0.9
    entry = entry_of(picture, PROTOCOLS["grcam"].extractor, 0.2)
    assert boxes_by(picture, entry, Rule(None, 0.2, "", "all", 0.5)) == [[10, 10, 60, 60], [100, 100, 140, 140]]


def test_the_largest_contour_is_taken_where_a_protocol_lets_any_count(tmp_path, birds):
    """OpenCV names the lowest contour first."""
    source = DataSource("folder", birds, "held", boxes=tmp_path / "boxes.csv", held_per_class=1)
    held = runs.write(tmp_path / "held", source)
    chosen = thresholds_of(Export((held,), validation=(held,), workers=1), "wsoleval-v2")
    extractor, found = rule_on_validation(Predictions.open(held), chosen)
    assert (extractor.region, found.protocol) == ("largest-contour", "wsoleval-v2")
    picture = np.zeros((224, 224), np.float32)
    picture[10:100, 10:100] = picture[200:210, 200:210] = 1.0
    entry = entry_of(picture, STORED, 0.5)
    assert boxes_by(picture, entry, Rule(extractor, 0.5, "")) == [[10, 10, 100, 100]]


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


@pytest.mark.parametrize("kind", formats.WRITERS)
@pytest.mark.parametrize("images", ["link", "copy"])
def test_nothing_is_written_where_the_data_lie(tmp_path, birds, directories, kind, images):
    """A data set may lie on a disk that can only be read; who runs the tests may be allowed to write anywhere."""
    before = {path: path.lstat() for path in (birds, *birds.rglob("*"))}
    exported(directories, tmp_path, kind, images=images)
    after = {path: path.lstat() for path in (birds, *birds.rglob("*"))}
    assert after.keys() == before.keys()
    assert all((after[path].st_mtime_ns, after[path].st_ino, after[path].st_nlink)
               == (stat.st_mtime_ns, stat.st_ino, stat.st_nlink) for path, stat in before.items())  # fmt: skip


def test_names_that_would_share_a_file_are_refused_before_anything_is_written(tmp_path, birds, directories):
    with pytest.raises(UserError, match=r"a/1.jpg and a/1.png of the split 'train' would share one annotation file"):
        formats.check_names({"train": ["a/1.jpg", "b/1.jpg", "a/1.png"]}, "yolo")
    formats.check_names({"train": ["a/1 .jpg"]}, "yolo")
    with pytest.raises(UserError, match=r"'a/1 .jpg' of the split 'train' has a blank before its ending"):
        formats.check_names({"train": ["a/1 .jpg"]}, "voc")


def run_of_odd_names(tmp_path) -> dict[str, Path]:
    """Classes ` a`, `b` and `images`: a leading blank, and the word that Ultralytics replaces in paths."""
    for name in (" a", "b", "images"):
        path = tmp_path / "odd" / "test" / name / "1.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", SIZE).save(path)
    source = DataSource("folder", tmp_path / "odd", "test")
    boxes = {sample.image_id: np.array([[20, 10, 120, 100]], float) for sample in source.load()}
    return {"test": runs.write(tmp_path / "run", source, boxes=boxes)}


def test_ultralytics_finds_the_labels_of_a_class_called_images(tmp_path):
    out, _ = exported(run_of_odd_names(tmp_path), tmp_path, "yolo")
    for path in (out / "images").rglob("*.png"):
        looked_for = "/labels/".join(str(path).rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"
        assert Path(looked_for).is_file()
    assert (out / "labels/test/b/1.txt").is_file()


def test_leading_blanks_are_read_again(tmp_path):
    directories = run_of_odd_names(tmp_path)
    out, _ = exported(directories, tmp_path, "csv")
    read = DataSource("folder", out / "images", "test", boxes=out / "boxes.csv").load()
    assert [(sample.image_id, len(sample.boxes)) for sample in read] == [(" a/1.png", 1), ("b/1.png", 1),
                                                                         ("images/1.png", 1)]  # fmt: skip
    shutil.rmtree(out)
    out, _ = exported(directories, tmp_path, "wsoleval")
    read = DataSource("wsoleval", out / "images" / "test", "test", metadata=out / "metadata").load()
    assert read.class_names == (" a", "b", "images")


def test_two_directories_of_one_split_are_refused(tmp_path, directories):
    twice = {"a": directories["train"], "b": directories["train"]}
    with pytest.raises(UserError, match="two directories are of the split 'train'"):
        exported(twice, tmp_path, "coco")


def test_a_class_outside_the_five_best_has_no_probability(directories):
    from common.runs.reader import Predictions

    entry = Predictions.open(directories["train"]).entries[0]
    assert class_probability(entry) == 0.5
    assert class_probability(type(entry)(**{**vars(entry), "top5": (7, 8), "top5_scores": (0.6, 0.4)})) == 0.0
    assert class_probability(type(entry)(**{**vars(entry), "top5": None, "top5_scores": None})) == 1.0


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
