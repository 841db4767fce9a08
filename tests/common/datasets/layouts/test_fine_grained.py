import shutil

import numpy as np
import pytest
from scipy.io import savemat

from common.datasets import DataSource, TrainingSource
from common.datasets.checking import check
from common.datasets.classes import imagenet_classes, match
from common.datasets.known import known_as
from common.datasets.layouts import LAYOUTS
from common.datasets.layouts.fine_grained import COUNTS
from common.datasets.trained import TrainedImages, identities
from common.prepare import Prepare
from common.system.errors import UserError
from tests import official_sets
from tests.official_sets import AIRCRAFT, CARS, DOGS, cars_annotations, cells


def boxes(dataset):
    return {sample.image_id: sample.boxes.tolist() for sample in dataset}


@pytest.mark.parametrize("packed", [True, False])
def test_dogs(tmp_path, packed):
    """ImageNet's XML counts from 0, and is taken over unchanged as ILSVRC's; an image may hold several dogs."""
    root = official_sets.dogs(tmp_path, packed=packed)
    train, test = (DataSource("stanford-dogs", root, split).load() for split in ("train", "test"))
    assert train.class_names == test.class_names == DOGS
    assert boxes(train) == {
        "n02085620-Chihuahua/n02085620_0.jpg": [[0, 1, 30, 40]],
        "n02085620-Chihuahua/n02085620_1.jpg": [[0, 0, 9, 9], [1, 1, 30, 40]],
        "n02085782-Japanese_spaniel/n02085782_0.jpg": [[0, 2, 30, 40]],
        "n02085782-Japanese_spaniel/n02085782_1.jpg": [[0, 0, 9, 9], [1, 2, 30, 40]],
    }
    assert [sample.label for sample in train] == [0, 0, 1, 1]
    assert [sample.label for sample in test] == [0, 1]
    assert all(sample.path.is_file() for sample in (*train, *test))
    assert known_as(train) is None


def test_dogs_are_classes_of_an_imagenet_head(tmp_path):
    dataset = DataSource("stanford-dogs", official_sets.dogs(tmp_path)).load()
    found = match(dataset, None, 1000, "imagenet", imagenet=True)
    assert [imagenet_classes()[output] for output in found.outputs] == ["n02085620", "n02085782"]


def test_dogs_without_annotations_have_no_box_and_it_is_said(tmp_path):
    root = official_sets.dogs(tmp_path)
    shutil.rmtree(root / "Annotation")
    dataset = DataSource("stanford-dogs", root).load()
    assert [len(sample.boxes) for sample in dataset] == [0, 0]
    assert dataset.notes == ("no folder Annotation/ is there, so no image has a box",)


def test_cars(tmp_path):
    """Pixels counted from 1, the last one included: `1 1 80 60` is the whole of an 80 x 60 picture."""
    root = official_sets.cars(tmp_path)
    train, test = (DataSource("stanford-cars", root, split).load() for split in ("train", "test"))
    assert boxes(train) == {
        "00001.jpg": [[0, 0, 80, 60]], "00002.jpg": [[10, 5, 50, 40]], "00003.jpg": [[1, 2, 9, 9]],
    }  # fmt: skip
    assert boxes(test) == {"00001.jpg": [[20, 15, 60, 50]], "00002.jpg": [[0, 1, 3, 4]]}
    assert ([sample.label for sample in train], [sample.label for sample in test]) == ([0, 1, 1], [1, 0])
    assert train.class_names == CARS
    assert train.samples[0].path == root / "cars_train/00001.jpg"
    assert test.samples[0].path == root / "cars_test/00001.jpg"


def test_cars_as_kaggle_unpacks_them(tmp_path):
    root = official_sets.cars(tmp_path)
    (root / "cars_test").rename(root / "moved")
    (root / "cars_test").mkdir()
    (root / "moved").rename(root / "cars_test/cars_test")
    assert all(sample.path.is_file() for sample in DataSource("stanford-cars", root).load())


def test_cars_whose_test_annotations_have_no_classes(tmp_path):
    """As the devkit has them."""
    root = official_sets.cars(tmp_path)
    (labelled,) = root.rglob("cars_test_annos_withlabels.mat")
    labelled.rename(labelled.with_name("cars_test_annos.mat"))
    message = (
        "cars_test_annos.mat: the test images' annotations have no classes; expected cars_test_annos_withlabels.mat"
    )
    with pytest.raises(UserError, match=message):
        DataSource("stanford-cars", root, "test").load()


def test_aircraft(tmp_path):
    root = official_sets.aircraft(tmp_path)
    found = {split: DataSource("fgvc-aircraft", root, split).load() for split in ("train", "val", "trainval", "test")}
    assert {split: len(dataset) for split, dataset in found.items()} == {"train": 6, "val": 3, "trainval": 9, "test": 3}
    assert found["train"].class_names == AIRCRAFT
    assert boxes(found["val"]) == {
        "0000007.jpg": [[6, 1, 60, 40]], "0000008.jpg": [[7, 1, 60, 40]], "0000009.jpg": [[8, 1, 60, 40]],
    }  # fmt: skip
    assert [sample.label for sample in found["train"]] == [0, 0, 1, 1, 2, 2]
    assert found["test"].samples[2].path == root / "data/images/0000012.jpg"
    assert boxes(DataSource("fgvc-aircraft", root / "data", "val").load()) == boxes(found["val"])


@pytest.mark.parametrize("name", ["stanford-dogs", "stanford-cars", "fgvc-aircraft"])
def test_held_images_are_no_training_images(tmp_path, name):
    make = {
        "stanford-dogs": official_sets.dogs,
        "stanford-cars": official_sets.cars,
        "fgvc-aircraft": official_sets.aircraft,
    }
    root = make[name](tmp_path)
    if name == "stanford-cars":
        rows = [(1, 1, 9, 9, 1 + number % 2, f"0000{number + 1}.jpg") for number in range(4)]
        cars_annotations(root / "devkit/cars_train_annos.mat", rows)
    whole, fit, held = (
        {sample.image_id for sample in DataSource(name, root, split, held_per_class=count).load()}
        for split, count in (("train", 0), ("train", 1), ("held", 1))
    )
    assert fit | held == whole
    assert not fit & held
    assert len(held) == {"stanford-dogs": 2, "stanford-cars": 2, "fgvc-aircraft": 3}[name]
    with pytest.raises(UserError, match="the split 'held' is empty"):
        DataSource(name, root, "held").load()
    with pytest.raises(UserError, match="unknown split 'valid'; expected train or"):
        DataSource(name, root, "valid").load()


def test_images_held_out_of_train_are_none_of_trainval_either(tmp_path):
    root = official_sets.aircraft(tmp_path)
    held = {sample.image_id for sample in DataSource("fgvc-aircraft", root, "held", held_per_class=1).load()}
    both = {sample.image_id for sample in TrainingSource("fgvc-aircraft", root, "trainval", held_per_class=1).load()}
    assert (len(both), both & held) == (6, set())


def test_prepare_knows_the_counts(tmp_path):
    """As the official pages give them: 12,000 and 8,580 dogs, 8,144 and 8,041 cars, 10,000 aircraft in three parts."""
    assert LAYOUTS["stanford-dogs"].counts == {"classes": 120, "train": 12000, "test": 8580}
    assert LAYOUTS["stanford-cars"].counts == {"classes": 196, "train": 8144, "test": 8041}
    assert LAYOUTS["fgvc-aircraft"].counts == {
        "classes": 100,
        "train": 3334,
        "val": 3333,
        "trainval": 6667,
        "test": 3333,
    }
    root = official_sets.cars(tmp_path)
    found = check(Prepare("stanford-cars", root, workers=1))
    assert found.problems == [
        f"{root}: 3 train images, the whole data set has 8144", f"{root}: 2 classes, the whole data set has 196",
        f"{root}: 2 test images, the whole data set has 8041",
    ]  # fmt: skip
    assert check(Prepare("stanford-cars", root, subset=True, workers=1)).problems == []


def test_prepare_takes_trainval_beside_its_parts(tmp_path):
    options = Prepare(
        "fgvc-aircraft",
        official_sets.aircraft(tmp_path),
        subset=True,
        splits=("train", "val", "trainval", "test"),
        workers=1,
    )
    found = check(options)
    assert found.problems == []
    assert [row[:4] for row in found.rows][2] == ["trainval", "9", "3 of 3", "9"]


def test_prepare_names_a_missing_image(tmp_path):
    root = official_sets.dogs(tmp_path)
    (root / "Images" / DOGS[0] / "n02085620_0.jpg").unlink()
    (problem,) = check(Prepare("stanford-dogs", root, subset=True, workers=1)).problems
    assert "n02085620_0.jpg: no such image" in problem


def test_a_count_that_is_known_has_a_split():
    for name, counts in COUNTS.items():
        assert set(counts) - {"classes"} <= {"train", "val", "trainval", "test"}, name


@pytest.mark.parametrize(("name", "place"), [
    ("stanford-dogs", "test_list.mat"), ("stanford-dogs", "Images"), ("stanford-cars", "cars_test"),
    ("stanford-cars", "devkit/cars_meta.mat"), ("stanford-cars", "cars_test_annos_withlabels.mat"),
    ("fgvc-aircraft", "data/variants.txt"), ("fgvc-aircraft", "data/images_box.txt"), ("fgvc-aircraft", "data/images_variant_test.txt"),
])  # fmt: skip
def test_what_is_missing_is_named(tmp_path, name, place):
    root = {
        "stanford-dogs": official_sets.dogs,
        "stanford-cars": official_sets.cars,
        "fgvc-aircraft": official_sets.aircraft,
    }[name](tmp_path)
    (root / place).rename(root / "elsewhere")
    with pytest.raises(UserError) as caught:
        DataSource(name, root).load()
    assert str(caught.value).startswith(str(root))
    assert place.rpartition("/")[2] in str(caught.value)


@pytest.mark.parametrize(("row", "message"), [
    ((1, 1, 9, 9, 3, "00001.jpg"), "the class of 00001.jpg is 3; expected a whole number from 1 to 2"),
    ((1, 1, 9, 9, 1.5, "00001.jpg"), "the class of 00001.jpg is 1.5"),
    ((1, 1, 9, 9, "1", "00001.jpg"), "the class of 00001.jpg is no number"),
    ((1, 1, 9, 9, 1, "../00001.jpg"), "path '../00001.jpg' is not usable"),
    ((1, 1, 9, 9, 1, "/etc/passwd"), "path '/etc/passwd' is not usable"),
    ((1, 1, 9, 9, 1, "00002.jpg"), "00002.jpg stands here twice"),
    ((1, 1, 9, 9, 1, ""), "the name of entry 2 is no text"),
    ((1, 1, 9, 9, 1, 7), "the name of entry 2 is no text"),
    ((9, 1, 1, 9, 1, "00001.jpg"), "the box 9 1 1 9 is inside out"),
    ((1, 1, np.inf, 9, 1, "00001.jpg"), "the box of 00001.jpg is no number"),
    ((1, 1, 1e300, 9, 1, "00001.jpg"), "a box lies beyond any image"),
    ((1, np.array([1, 2]), 9, 9, 1, "00001.jpg"), "the box of 00001.jpg is no number"),
])  # fmt: skip
def test_faulty_entries_of_cars(tmp_path, row, message):
    path = official_sets.cars(tmp_path) / "cars_test_annos_withlabels.mat"
    cars_annotations(path, [(1, 1, 5, 5, 1, "00002.jpg"), row])
    with pytest.raises(UserError, match=message) as caught:
        DataSource("stanford-cars", tmp_path).load()
    assert str(caught.value).startswith(f"{path}: ")
    problems = []
    dataset = DataSource("stanford-cars", tmp_path).load(on_problem=problems.append)
    assert (len(dataset), len(problems)) == (1, 1)


@pytest.mark.parametrize(("files", "labels", "message"), [
    ([f"{DOGS[0]}/a.jpg", f"{DOGS[1]}/b.jpg"], [1, 1], "n02085782-Japanese_spaniel/b.jpg has the class 1, as n02085620-Chihuahua has"),
    ([f"{DOGS[0]}/a.jpg", f"{DOGS[0]}/b.jpg"], [1, 2], "n02085620-Chihuahua is of several classes"),
    ([f"{DOGS[0]}/a.jpg"], [1, 2], "1 file and 2 labels"),
    ([f"{DOGS[0]}/a.jpg", "n02085936-Maltese_dog/b.jpg"], [1, 4], "no image has the class 3; expected all from 1 to 3"),
    ([f"{DOGS[0]}/../../a.jpg"], [1], "is not usable"),
    ([f"{DOGS[0]}/a.jpg", 5], [1, 2], "file 2 is no text"),
    ([f"{DOGS[0]}/a.jpg"], [0], "label 1 is 0"),
])  # fmt: skip
def test_faulty_lists_of_dogs(tmp_path, files, labels, message):
    path = official_sets.dogs(tmp_path) / "test_list.mat"
    savemat(path, {"file_list": cells(files), "labels": np.array(labels, float)[:, None]})
    shutil.rmtree(tmp_path / "Annotation")
    with pytest.raises(UserError, match=message) as caught:
        DataSource("stanford-dogs", tmp_path).load()
    assert str(caught.value).startswith(f"{path}: ")


def test_a_broken_annotation_of_a_dog_is_named(tmp_path):
    path = official_sets.dogs(tmp_path) / "Annotation" / DOGS[0] / "n02085620_2"
    path.write_text("<annotation><object>")
    with pytest.raises(UserError, match=f"{path}: malformed XML"):
        DataSource("stanford-dogs", tmp_path).load()
    path.unlink()
    with pytest.raises(UserError, match=f"{path}: no such annotation"):
        DataSource("stanford-dogs", tmp_path).load()


@pytest.mark.parametrize(("file", "line", "message"), [
    ("images_variant_test", "0000098 707-321", "'707-321' is none of the 3 variants"),
    ("images_variant_test", "0000099 707-320", "0000099 has no line in images_box.txt"),
    ("images_variant_test", "../../x 707-320", "is not usable"),
    ("images_variant_test", "0000012 707-320", "0000012.jpg stands here twice"),
    ("images_box", "0000010 1 2 3", "4 columns; expected 5"),
    ("images_box", "0000012 1 2 3 4", "0000012 stands here twice"),
    ("images_box", "0000098 60 2 5 40", "the box 60 2 5 40 is inside out"),
    ("images_box", "0000098 a 2 5 40", "the box is 'a 2 5 40'"),
    ("variants", "707-320", "707-320 stands here twice"),
])  # fmt: skip
def test_faulty_lines_of_aircraft(tmp_path, file, line, message):
    path = official_sets.aircraft(tmp_path) / f"data/{file}.txt"
    count = len(path.read_text().splitlines())
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(UserError, match=message) as caught:
        DataSource("fgvc-aircraft", tmp_path).load()
    assert str(caught.value).startswith(f"{path}:{count + 1}: ")


def test_the_bytes_of_a_picture_with_its_banner_are_what_is_read(tmp_path):
    """Nothing is cut off an aircraft: sizes are the stored picture's, whose boxes they are."""
    sample = DataSource("fgvc-aircraft", official_sets.aircraft(tmp_path)).load().samples[0]
    assert sample.size == (80, 60)


def test_what_was_trained_on_is_known_by_ids_that_are_one_images_own(tmp_path):
    """A dog encoded anew is the same one. Cars of both splits are called 00001.jpg, and are not the same."""
    for name, make, shared in (("stanford-cars", official_sets.cars, 0), ("stanford-dogs", official_sets.dogs, 4)):
        root = make(tmp_path / name)
        train, test = (DataSource(name, root, split).load() for split in ("train", "test"))
        record = TrainedImages(name, "train", False, identities(train.samples))
        assert record.among(test) == []
        for sample in train:
            official_sets.picture(sample.path, 99)
        assert len(record.among(DataSource(name, root, "train").load())) == shared
