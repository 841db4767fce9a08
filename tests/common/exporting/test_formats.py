"""Each format of a detection data set, read back by the program that it is for."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from common.datasets import DataSource, Sample
from common.exporting import formats
from common.exporting.detections import (
    LabelledImage,
)
from common.system.errors import UserError
from tests import runs
from tests.common.exporting.scene import BOXES, NAMES, SIZE, close, exported, truth


def run_of_odd_names(tmp_path) -> dict[str, Path]:
    """Classes ` a`, `b` and `images`: a leading blank, and the word that Ultralytics replaces in paths."""
    for name in (" a", "b", "images"):
        path = tmp_path / "odd" / "test" / name / "1.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", SIZE).save(path)
    source = DataSource("folder", tmp_path / "odd", "test")
    boxes = {sample.image_id: np.array([[20, 10, 120, 100]], float) for sample in source.load()}
    return {"test": runs.write(tmp_path / "run", source, boxes=boxes)}


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


def test_ultralytics_finds_the_labels_of_a_class_called_images(tmp_path):
    out, _ = exported(run_of_odd_names(tmp_path), tmp_path, "yolo")
    for path in (out / "images").rglob("*.png"):
        looked_for = "/labels/".join(str(path).rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"
        assert Path(looked_for).is_file()
    assert (out / "labels/test/b/1.txt").is_file()


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


def test_names_that_would_share_a_file_are_refused_before_anything_is_written(tmp_path, birds, directories):
    with pytest.raises(UserError, match=r"a/1.jpg and a/1.png of the split 'train' would share one annotation file"):
        formats.check_names({"train": ["a/1.jpg", "b/1.jpg", "a/1.png"]}, "yolo")
    formats.check_names({"train": ["a/1 .jpg"]}, "yolo")
    with pytest.raises(UserError, match=r"'a/1 .jpg' of the split 'train' has a blank before its ending"):
        formats.check_names({"train": ["a/1 .jpg"]}, "voc")


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
