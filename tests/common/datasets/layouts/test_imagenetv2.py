import pytest

from common.datasets import DataSource, TrainingSource
from common.datasets.checking import check
from common.datasets.classes import imagenet_classes, match
from common.datasets.known import known_as
from common.datasets.layouts import LAYOUTS
from common.prepare import Prepare
from common.system.errors import UserError
from tests import official_sets


def test_a_folders_number_is_the_output(tmp_path):
    """Folders sort as 0, 10, 2; their numbers, not their places, are the labels."""
    dataset = DataSource("imagenetv2", official_sets.imagenetv2(tmp_path)).load()
    assert [sample.label for sample in dataset] == [0, 0, 2, 2, 10, 10]
    assert dataset.class_names == imagenet_classes()
    assert dataset.samples[2].image_id == f"2/{0:040x}.jpeg"
    for imagenet in (True, False):  # the true head, and an authors' file without names
        assert match(dataset, None, 1000, "imagenet", imagenet=imagenet).outputs == tuple(range(1000))
    assert match(dataset, imagenet_classes()[::-1], 1000, "a checkpoint of ILSVRC").outputs[:2] == (999, 998)
    assert known_as(dataset) is None


def test_boxes_of_a_table(tmp_path):
    root = official_sets.imagenetv2(tmp_path / "v2")
    (tmp_path / "boxes.csv").write_text(f"path,x0,y0,x1,y1\n10/{1:040x}.jpeg,1,2,30,40\n")
    dataset = DataSource("imagenetv2", root, boxes=tmp_path / "boxes.csv").load()
    assert [sample.boxes.tolist() for sample in dataset if len(sample.boxes)] == [[[1, 2, 30, 40]]]
    assert dataset.samples[-1].boxes.tolist() == [[1, 2, 30, 40]]


@pytest.mark.parametrize("name", ["1000", "n01440764", "01", "-1"])
def test_folders_that_are_no_number_are_refused(tmp_path, name):
    root = official_sets.imagenetv2(tmp_path)
    official_sets.picture(root / name / "x.jpg")
    with pytest.raises(UserError, match=f"the folder '{name}' is no number of a class; expected folders 0 to 999"):
        DataSource("imagenetv2", root).load()


def test_there_is_nothing_to_train_on(tmp_path):
    root = official_sets.imagenetv2(tmp_path)
    for split in ("train", "held", "val"):
        with pytest.raises(
            UserError, match=f"unknown split '{split}'; expected test: ImageNetV2 is there to be measured on"
        ):
            DataSource("imagenetv2", root, split, held_per_class=1).load()
    with pytest.raises(UserError, match="'test' is called as what results are measured on"):
        TrainingSource("imagenetv2", root, "test").load()


def test_what_lies_beside_the_images_is_counted(tmp_path):
    root = official_sets.imagenetv2(tmp_path)
    (root / "2/.DS_Store").touch()
    (root / "README.md").touch()
    dataset = DataSource("imagenetv2", root).load()
    assert (len(dataset), dataset.passed_over) == (6, {".DS_Store": 1, "*.md": 1})


def test_prepare_knows_the_counts(tmp_path):
    assert LAYOUTS["imagenetv2"].counts == {"classes": 1000, "test": 10000}
    root = official_sets.imagenetv2(tmp_path)
    found = check(Prepare("imagenetv2", root, workers=1))
    assert found.problems == [
        f"{root}: 6 test images, the whole data set has 10000", "test: no image of 997 classes: n01443537 and 996 more",
    ]  # fmt: skip
    assert check(Prepare("imagenetv2", root, subset=True, workers=1)).problems == []
