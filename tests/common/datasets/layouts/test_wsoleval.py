from dataclasses import replace

import numpy as np
import pytest

from common.datasets import Dataset, DataSource, Sample
from common.datasets.checking import check
from common.datasets.known import known_as
from common.datasets.layouts import LAYOUTS, wsoleval
from common.datasets.masks import object_and_ignore
from common.measuring.geometry import Frame
from common.prepare import Prepare
from common.system.errors import UserError
from tests import official_sets, small_cub

FILES = {
    "image_ids.txt": "a/1.jpg\nb/2.jpg\n",
    "class_labels.txt": "a/1.jpg,0\nb/2.jpg,1\n",
    "image_sizes.txt": "a/1.jpg,80,60\nb/2.jpg,80,60\n",
    "localization.txt": "a/1.jpg,1,2,30,40\na/1.jpg,5,6,7,8\nb/2.jpg,0,0,79,59\n",
}


@pytest.fixture
def metadata(tmp_path):
    folder = tmp_path / "metadata" / "test"
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return tmp_path / "metadata"


def load(metadata, split="test"):
    return DataSource("wsoleval", metadata.parent, split, metadata=metadata).load()


def test_boxes(metadata):
    dataset = load(metadata)
    assert [sample.label for sample in dataset] == [0, 1]
    assert dataset.samples[0].boxes.tolist() == [[1, 2, 30, 40], [5, 6, 7, 8]]
    assert dataset.class_names == ("a", "b")


def test_masks(metadata):
    (metadata / "test" / "localization.txt").write_text(
        "a/1.jpg,m/1.png,m/1_ignore.png\na/1.jpg,m/2.png,\nb/2.jpg,m/3.png,\n"
    )
    first, second = load(metadata).samples
    assert [mask.name for mask in first.masks] == ["1.png", "2.png"]
    assert (first.ignore.name, second.ignore) == ("1_ignore.png", None)


def test_sizes_stand_in_for_images(metadata):
    assert [sample.size for sample in load(metadata)] == [(80, 60), (80, 60)]
    (metadata / "test" / "image_sizes.txt").write_text("a/1.jpg,80,0\n")
    with pytest.raises(UserError, match="the size"):
        load(metadata)
    (metadata / "test" / "image_sizes.txt").write_text("a/1.jpg,80,60\na/1.jpg,81,60\n")
    with pytest.raises(UserError, match="two sizes"):
        load(metadata)


def test_written_and_read_again(tmp_path):
    original = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test").load()
    folder = wsoleval.write(original, tmp_path / "metadata")
    assert (folder / "image_sizes.txt").read_text().splitlines()[0] == "001.Red_Bird/bird_2.png,80,60"
    assert (folder / "localization.txt").read_text().splitlines()[0] == "001.Red_Bird/bird_2.png,2,2,32,42"
    again = DataSource("wsoleval", tmp_path / "CUB/images", "test", metadata=tmp_path / "metadata").load()
    assert again.fingerprint() == original.fingerprint()
    assert again.class_names == original.class_names


@pytest.mark.parametrize(("file", "text", "message"), [
    ("image_ids.txt", "a/1.jpg\na/1.jpg\nb/2.jpg\n", "image_ids.txt:2: a/1.jpg stands here twice"),
    ("class_labels.txt", "a/1.jpg,0\n", "image_ids.txt:2: b/2.jpg has no line in class_labels.txt"),
    ("class_labels.txt", "a/1.jpg,0\nb/2.jpg,-1\n", "class_labels.txt:2: the label is '-1'"),
    ("class_labels.txt", "a/1.jpg,0\na/1.jpg,1\nb/2.jpg,1\n", "a/1.jpg has label 0 and 1"),
    ("class_labels.txt", "a/1.jpg,0\nc/2.jpg,1\n", "class_labels.txt:2: c/2.jpg is not in image_ids.txt"),
    ("localization.txt", "a/1.jpg,1,2,3\n", "localization.txt:1: 4 fields; expected 3 or 5"),
    ("localization.txt", "a/1.jpg,30,2,3,40\n", "localization.txt:1: the box 30 2 3 40 is empty"),
    ("localization.txt", "a/1.jpg,../m.png,\n", "localization.txt:1: path '../m.png' is not usable"),
])  # fmt: skip
def test_faulty_lines_are_named(metadata, file, text, message):
    (metadata / "test" / file).write_text(text)
    with pytest.raises(UserError, match=message):
        load(metadata)


def test_a_path_that_leaves_the_folder(metadata):
    for name, text in FILES.items():
        (metadata / "test" / name).write_text(text.replace("a/1.jpg", "../1.jpg"))
    with pytest.raises(UserError, match=r"image_ids.txt:1: path '../1.jpg' is not usable"):
        load(metadata)


def test_what_is_missing_is_said(metadata):
    with pytest.raises(UserError, match="no image_ids.txt for the split 'val'; expected one of test"):
        load(metadata, "val")
    with pytest.raises(UserError, match="needs --data.metadata"):
        DataSource("wsoleval", metadata).load()
    (metadata / "test" / "class_labels.txt").unlink()
    with pytest.raises(UserError, match="class_labels.txt: no such file"):
        load(metadata)


def test_a_comma_in_a_path_is_read_by_the_paths_that_there_are(tmp_path):
    root = small_cub.make(tmp_path / "CUB")
    text = (root / "images.txt").read_text()
    (root / "images.txt").write_text(text.replace("bird_2.png", "bird,2.png"))
    dataset = DataSource("cub", root, "test").load()
    named = replace(dataset, samples=tuple(replace(sample, declared_size=(80, 60)) for sample in dataset))
    wsoleval.write(named, tmp_path / "metadata")
    assert load(tmp_path / "metadata").fingerprint() == dataset.fingerprint()


def test_what_the_format_cant_carry_is_refused_before_anything_is_written(tmp_path):
    box = np.array([[1.0, 2, 3, 4]])
    for ids, boxes in ((("a", "a,1,2"), (box, box)), (("a",), (box * [-1, 1, 1, 1],)), (("a ",), (box,))):
        samples = tuple(Sample(image_id, tmp_path, 0, found) for image_id, found in zip(ids, boxes, strict=True))
        with pytest.raises(UserError):
            wsoleval.write(Dataset("x", "test", samples, ("a",)), tmp_path / "metadata")
    assert not (tmp_path / "metadata").exists()


def several_splits(folder, **splits):
    for split, rows in splits.items():
        (folder / split).mkdir(parents=True)
        (folder / split / "image_ids.txt").write_text("".join(f"{image_id}\n" for image_id, _ in rows))
        (folder / split / "class_labels.txt").write_text("".join(f"{image_id},{label}\n" for image_id, label in rows))
    return folder


def test_every_split_has_the_classes_of_all(tmp_path):
    """ILSVRC's: the folders of train/ name the classes, the one folder of val/ none; the test split lacks the last."""
    meta = several_splits(
        tmp_path / "meta",
        train=[("train/n01440764/a.JPEG", 0), ("train/n01443537/b.JPEG", 1), ("train/n01484850/c.JPEG", 2)],
        test=[("val/ILSVRC2012_val_00000001.JPEG", 1), ("val/ILSVRC2012_val_00000002.JPEG", 0)],
    )
    for split in ("train", "test"):
        assert wsoleval.load(tmp_path, meta, split).class_names == ("n01440764", "n01443537", "n01484850")


def test_a_folder_of_several_classes_names_none(tmp_path):
    meta = several_splits(tmp_path / "meta", test=[("val/1.jpg", 1), ("val/2.jpg", 0), ("val/3.jpg", 3)])
    assert wsoleval.load(tmp_path, meta, "test").class_names == ("0", "1", "2", "3")


def test_boxes_that_are_fractions_of_the_image_are_refused(metadata):
    (metadata / "test" / "localization.txt").write_text("a/1.jpg,0.1,0.2,0.5,0.9\nb/2.jpg,0,0,1,1\n")
    with pytest.raises(UserError, match="all boxes lie within 0 to 1: they are fractions of the image"):
        load(metadata)


def test_openimages_as_wsolevaluation_arranges_it(tmp_path):
    root = official_sets.openimages(tmp_path)
    found = {split: DataSource("openimages", root, split).load() for split in ("train", "val", "test")}
    assert [sample.image_id for sample in found["val"]] == ["val/m_00x/val0.jpg", "val/m_01x/val1.jpg"]
    assert found["train"].class_names == ("m_00x", "m_01x")
    assert [len(sample.masks) for split in found for sample in found[split]] == [0, 0, 1, 1, 1, 1]
    assert known_as(found["test"]) is None
    inside, ignore = object_and_ignore(found["test"].samples[0], Frame.squash((80, 60), 224), 0)
    assert (ignore, round(inside.mean(), 3)) == (None, round(40 * 30 / (80 * 60), 3))
    held = DataSource("openimages", root, "train").load()
    assert len(held) == 2


@pytest.mark.parametrize("place", ["metadata", "metadata/OpenImages", "../metadata/OpenImages"])
def test_openimages_metadata_is_found(tmp_path, place):
    root = official_sets.openimages(tmp_path)
    (root / place).parent.mkdir(exist_ok=True)
    (tmp_path / "metadata/OpenImages").rename(root / place)
    assert len(DataSource("openimages", root).load()) == 2
    (root / place).rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"{root}: no metadata/OpenImages is there or two folders above"):
        DataSource("openimages", root).load()
    assert len(DataSource("openimages", root, metadata=tmp_path / "elsewhere").load()) == 2


@pytest.mark.slow
def test_prepare_knows_openimages_counts(tmp_path):
    assert LAYOUTS["openimages"].counts == {"classes": 100, "train": 29819, "val": 2500, "test": 5000}
    root = official_sets.openimages(tmp_path)
    problems = check(Prepare("openimages", root, workers=1)).problems
    assert problems[:2] == [
        f"{root}: 2 train images, the whole data set has 29819", f"{root}: 2 classes, the whole data set has 100",
    ]  # fmt: skip
    assert check(Prepare("openimages", root, subset=True, workers=1)).problems == []


def test_splits_that_number_the_classes_otherwise(metadata):
    """Of folders a and b, 0 and 1 in test, train makes 1 and 2, as a list that counts from 1 does."""
    (metadata / "train").mkdir()
    for name, text in FILES.items():
        text = text.replace(".jpg,1", ".jpg,2").replace(".jpg,0", ".jpg,1") if name == "class_labels.txt" else text
        (metadata / "train" / name).write_text(text)
    report = check(Prepare("wsoleval", metadata.parent, metadata=metadata, decode="none"))
    assert "images of 'a' have the label 0 in test, 1 in train" in report.problems


def test_labels_from_one_are_said(metadata):
    (metadata / "test" / "class_labels.txt").write_text("a/1.jpg,1\nb/2.jpg, 2\n")
    dataset = load(metadata)
    assert dataset.notes == (f"{metadata}: no image is of class 0; labels are counted from 0, and go from 1 to 2 here",)
    assert [sample.label for sample in dataset] == [1, 2]


def test_one_image_under_two_spellings_of_its_path_is_refused(metadata):
    (metadata / "test" / "image_ids.txt").write_text("a/1.jpg\n./a/1.jpg\nb/2.jpg\n")
    with pytest.raises(UserError, match=r"image_ids.txt:2: ./a/1.jpg stands here twice, first in line 1"):
        load(metadata)
