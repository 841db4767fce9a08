from dataclasses import replace

import pytest
from PIL import Image

from common.datasets import DataSource, TrainingSource, splits
from common.system.errors import UserError

IDS = [f"{name}/{number}.jpg" for name in "ab" for number in range(4)]
HELD = ["a/2.jpg", "b/2.jpg"]
"""Those of each class whose ids have the smallest sha256, by sha256sum."""


@pytest.mark.parametrize(("name", "expected"), [
    ("test", True), ("VAL", True), ("val_unseen", True), ("test-2", True), ("valid", True), ("held", True),
    ("cub_test", True), ("my-val-list", True), ("fold1 test", True), ("HoldOut", True), ("train_minus_val", False),
    ("train", False), ("trainval", False), ("contest", False), ("train_test", False), ("latest", False), ("all", False), ("2024", False),
])  # fmt: skip
def test_names_of_evaluation_splits(name, expected):
    assert splits.is_evaluation(name) is expected


@pytest.mark.parametrize(("name", "expected"), [
    ("train", "train"), ("Training", "train"), ("cub_train", "train"), ("train_minus_val", "train"), ("val", "val"),
    ("valid", "val"), ("validation-2", "val"), ("val2017", "val"), ("dev", "val"), ("my_val", "val"), ("held", "held"),
    ("test", "test"), ("cub_test", "test"), ("val_unseen", "val"), ("all", None), ("2024", None), ("trainval", None),
])  # fmt: skip
def test_roles_of_splits(name, expected):
    assert splits.role(name) == expected


@pytest.mark.parametrize(("names", "expected"), [
    (["train", "val"], True), (["Train", "boxes", "test"], True), (["val"], True), (["test", "cat"], False),
    (["cat", "dog"], False), ([], False),
])  # fmt: skip
def test_class_folders_that_are_splits(names, expected):
    assert splits.are_splits(names) is expected


@pytest.fixture
def sources(tmp_path):
    """The same eight training images as `folder`, `list` and `wsoleval`."""
    for image_id in IDS:
        path = tmp_path / "train" / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(path)
    (tmp_path / "train.txt").write_text("".join(f"{image_id},{int(image_id[0] == 'b')},1 1 4 4\n" for image_id in IDS))
    (tmp_path / "meta/train").mkdir(parents=True)
    (tmp_path / "meta/train/image_ids.txt").write_text("".join(f"{image_id}\n" for image_id in IDS))
    labels = "".join(f"{image_id},{int(image_id[0] == 'b')}\n" for image_id in IDS)
    (tmp_path / "meta/train/class_labels.txt").write_text(labels)
    images = tmp_path / "train"
    return {
        "folder": DataSource("folder", tmp_path),
        "list": DataSource("list", images, list_file=tmp_path / "train.txt"),
        "wsoleval": DataSource("wsoleval", images, metadata=tmp_path / "meta"),
    }


@pytest.mark.parametrize("name", ["folder", "list", "wsoleval"])
def test_held_is_a_split_of_every_data_set(sources, name):
    source = replace(sources[name], held_per_class=1)
    held, fit = (source.at(split).load() for split in ("held", "train"))
    assert [sample.image_id for sample in held] == HELD
    assert [sample.image_id for sample in fit] == [image_id for image_id in IDS if image_id not in HELD]
    assert held.class_names == fit.class_names == ("a", "b")
    with pytest.raises(UserError, match="the split 'held' is empty. Say how many images a class"):
        sources[name].at("held").load()
    with pytest.raises(UserError, match="4 images a class are to be held out, class 0 has 4"):
        replace(source, held_per_class=4).at("train").load()


def test_what_was_exported_as_held_is_read_again(tmp_path, sources):
    (tmp_path / "meta/train").rename(tmp_path / "meta/held")
    assert len(sources["wsoleval"].at("held").load()) == 8


def test_training_takes_the_training_split(sources):
    listed = sources["list"]
    assert TrainingSource("folder", sources["folder"].root).load().split == "train"
    source = TrainingSource("list", listed.root, list_file=listed.list_file)
    assert (source.load().split, "train_on_evaluation_split" in source.to_json()) == ("train", False)


@pytest.mark.parametrize("split", ["test", "val", "held"])
def test_training_refuses_an_evaluation_split(sources, split):
    root = sources["folder"].root
    (root / "train").rename(root / "test")
    with pytest.raises(UserError, match=f"{split!r} is called as what results are measured on, not as training images"):
        TrainingSource("folder", root, split, held_per_class=1).load()
    asked = TrainingSource("folder", root, "test", train_on_evaluation_split=True)
    assert (len(asked.load()), asked.to_json()["train_on_evaluation_split"]) == (8, True)
    assert "train_on_evaluation_split" not in asked.at("test").to_json()


def test_training_refuses_an_evaluation_list(sources, tmp_path):
    listed = sources["list"]
    listed.list_file.rename(tmp_path / "val.txt")
    with pytest.raises(UserError, match="'val' is called as what results are measured on"):
        TrainingSource("list", listed.root, list_file=tmp_path / "val.txt").load()
