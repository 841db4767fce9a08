import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from common.datasets import DataSource, hold_out
from common.system.errors import UserError
from tests import small_cub


@pytest.fixture
def root(tmp_path):
    return small_cub.make(tmp_path / "CUB")


def load(root, split="test", **options):
    return DataSource("cub", root, split, **options).load()


def change(root, name, old, new):
    path = root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_split(root):
    dataset = load(root)
    assert (len(dataset), dataset.class_names, dataset.split) == (6, small_cub.CLASSES, "test")
    sample = dataset.samples[0]
    assert sample.image_id == "001.Red_Bird/bird_2.png"
    assert (sample.label, sample.size, sample.boxes.tolist()) == (0, (80, 60), [[2, 2, 32, 42]])
    assert sample.path.is_file()
    assert sample.masks[0].is_file()


def test_train_and_test_share_nothing(root):
    ids = [{sample.image_id for sample in load(root, split)} for split in ("train", "test")]
    assert len(ids[0] | ids[1]) == 12


def test_the_folder_may_be_called_image(root):
    (root / "images").rename(root / "image")
    assert load(root).samples[0].path.is_file()


def test_segmentations_may_lie_beside_or_be_missing(root):
    shutil.move(root / "segmentations", root.parent / "segmentations")
    assert load(root).samples[0].masks[0].is_file()
    shutil.rmtree(root.parent / "segmentations")
    assert load(root).samples[0].masks == ()


def test_first_classes(root):
    dataset = load(root, classes=2)
    assert (len(dataset), len(dataset.class_names)) == (4, 2)
    with pytest.raises(UserError, match="4 classes were asked for; expected 1 to 3"):
        load(root, classes=4)


def test_held_images_leave_the_training_split(root):
    fit, held = load(root, "train", held_per_class=1), load(root, "held", held_per_class=1)
    assert (len(fit), len(held)) == (3, 3)
    assert {sample.label for sample in held} == {0, 1, 2}
    both = {sample.image_id for sample in fit} | {sample.image_id for sample in held}
    assert both == {sample.image_id for sample in load(root, "train")}


def test_held_images_do_not_depend_on_other_classes_or_order(root):
    samples = load(root, "train").samples
    held = {sample.image_id for sample in hold_out(samples, 1)[1]}
    fewer = {sample.image_id for sample in hold_out([s for s in reversed(samples) if s.label != 1], 1)[1]}
    assert fewer < held


@pytest.mark.parametrize(("split", "held", "message"), [
    ("held", 0, "--data.held-per-class"), ("held", 2, "class 0 has 2"), ("validation", 0, "expected train or test or held"),
    ("train", -1, "held-per-class is -1"),
])  # fmt: skip
def test_splits_that_are_refused(root, split, held, message):
    with pytest.raises(UserError, match=message):
        load(root, split, held_per_class=held)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "old", "new", "message"), [
    ("images.txt", "1 001.Red_Bird/bird_0.png", "1 ../bird_0.png", r"images.txt:1: path '../bird_0.png' is not usable"),
    ("images.txt", "1 001.Red_Bird/bird_0.png", "1 /etc/passwd", r"images.txt:1: path '/etc/passwd' is not usable"),
    ("images.txt", "2 001.Red_Bird/bird_1.png", "1 001.Red_Bird/bird_1.png", "images.txt:2: image 1 stands here twice"),
    ("images.txt", "1 001.Red_Bird/bird_0.png", "one 001.Red_Bird/bird_0.png", "images.txt:1: the first column is 'one'"),
    ("images.txt", "1 001.Red_Bird/bird_0.png", "1", "images.txt:1: 1 columns; expected 2"),
    ("image_class_labels.txt", "1 1", "1 4", "image_class_labels.txt:1: the class is 4; expected a whole number from 1 to 3"),
    ("image_class_labels.txt", "1 1", "1 2", "image_class_labels.txt:1: 001.Red_Bird/bird_0.png is of class 2, 002.Blue_Bird; expected 001.Red_Bird"),
    ("classes.txt", "2 002.Blue_Bird", "2 001.Red_Bird", "classes.txt:2: 001.Red_Bird stands here twice, first in line 1"),
    ("images.txt", "1 001.Red_Bird/bird_0.png", "1 001.Red_Bird\\\\bird_0.png", "is not usable; expected a path that stays inside .*. Write / in place of"),
    ("image_class_labels.txt", "1 1\n", "", "images.txt:1: image 1 has no line in image_class_labels.txt"),
    ("train_test_split.txt", "1 1", "1 2", "train_test_split.txt:1: the split is '2'"),
    ("bounding_boxes.txt", "1 0.0 2.0 30.0 40.0", "1 0.0 2.0 -3.0 40.0", "bounding_boxes.txt:1: the box 0.0 2.0 -3.0 40.0 is empty"),
    ("bounding_boxes.txt", "1 0.0 2.0 30.0 40.0", "1 0.0 2.0 nan 40.0", "expected finite numbers"),
    ("bounding_boxes.txt", "1 0.0 2.0 30.0 40.0", "1 0.0 2.0 x 40.0", "bounding_boxes.txt:1: the box is '0.0 2.0 x 40.0'"),
    ("bounding_boxes.txt", "1 0.0 2.0 30.0 40.0", "1 0.0 2.0 30.0", "bounding_boxes.txt:1: 4 columns; expected 5"),
    ("classes.txt", "3 003.Grey_Bird", "4 003.Grey_Bird", "3 classes not numbered 1 to 3"),
])  # fmt: skip
def test_faulty_lines_are_named(root, file, old, new, message):
    change(root, file, old, new)
    with pytest.raises(UserError, match=message):
        load(root, "train")


def test_faulty_lines_can_be_collected(root):
    change(root, "bounding_boxes.txt", "1 0.0 2.0 30.0 40.0", "1 0.0 2.0 -3.0 40.0")
    change(root, "image_class_labels.txt", "6 2", "6 9")
    problems = []
    dataset = DataSource("cub", root, "train").load(on_problem=problems.append)
    assert len(dataset) == 4
    assert [problem.line for problem in problems] == [1, 6]


@pytest.mark.parametrize(("content", "message"), [
    (b"1 \xff\xfe", "not UTF-8"), (b"1 a\0b\n", "NUL byte"), (b"1 " + b"x" * 200_000, "longer than 100,000 characters"),
])  # fmt: skip
def test_files_that_are_no_lists(root, content, message):
    (root / "images.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(root)


def test_windows_files_are_read(root):
    for name in ("images.txt", "bounding_boxes.txt", "classes.txt"):
        text = (root / name).read_text()
        (root / name).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert len(load(root)) == 6


def test_missing_parts_say_what_to_do(root):
    (root / "images.txt").unlink()
    with pytest.raises(UserError, match=r"images.txt: no such file\. Name the folder that holds images.txt"):
        load(root)
    shutil.rmtree(root / "images")
    with pytest.raises(UserError, match="neither images/ nor image/ is there"):
        load(root)
    with pytest.raises(UserError, match=r"no such folder\. Name the data set's folder"):
        load(root / "nowhere")


def test_fingerprints_follow_annotations_not_places(root, tmp_path):
    copied = shutil.copytree(root, tmp_path / "elsewhere")
    assert load(root).fingerprint() == load(copied).fingerprint()
    change(copied, "bounding_boxes.txt", "3 2.0", "3 2.5")
    assert load(root).fingerprint() != load(copied).fingerprint()


def test_sources_are_stored_and_read(root):
    source = DataSource("cub", root, "held", classes=2, held_per_class=1)
    assert DataSource.from_json(source.to_json(), root) == source
    with pytest.raises(UserError, match="record is not readable"):
        DataSource.from_json({"name": "cub", "root": ".", "shell": "rm"}, root)
    for shard in ("", "x", "5/4", "0/4", "1/2/3", 5):
        with pytest.raises(UserError, match=rf"^{re.escape(str(root))}: the data set's shard is "):
            DataSource.from_json({"name": "cub", "root": ".", "shard": shard}, root)


def test_an_option_that_the_data_set_does_not_read_is_refused(root):
    """CUB's own boxes would be taken for those of the file; manifests that hold such an option are read without it."""
    for name, value in (("boxes", root / "mine.csv"), ("metadata", root), ("list_file", root / "list.txt"),
                        ("leave_out", ("odd",)), ("list_format", "dgl")):  # fmt: skip
        source = replace(DataSource("cub", root, "test"), **{name: value})
        option = f"--data.{name.replace('_', '-')}"
        with pytest.raises(UserError, match=f"^{option} with cub, which does not read it; expected the data set "):
            source.load()
        assert DataSource.from_json(source.to_json(), root) == DataSource("cub", root, "test")


def test_sizes_are_read_from_headers(root):
    sample = load(root).samples[0]
    sample.path.unlink()
    with pytest.raises(UserError, match="no such image"):
        _ = sample.size
    assert np.asarray(sample.boxes).dtype == np.float64


def test_a_folder_of_other_masks_is_said(root):
    """Masks in one flat folder, or with another ending, are no image's."""
    for path in list((root / "segmentations").rglob("*.png")):
        path.rename(root / "segmentations" / path.name)
    dataset = load(root)
    assert not any(sample.masks for sample in dataset)
    assert dataset.notes == (
        f"{root / 'segmentations'}: none of its files is an image's mask, such as 001.Red_Bird/bird_2.png, so no image has one",
    )
