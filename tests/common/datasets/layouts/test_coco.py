import json

import numpy as np
import pytest

from common.datasets import DataSource
from common.datasets.label_maps import drawn, true_label_map
from common.datasets.layouts import coco
from common.datasets.sample import Outlines
from common.system.errors import UserError

IMAGE = {"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "width": 6, "height": 4}
SQUARE = [[0, 0, 3, 0, 3, 2, 0, 2]]


def write(tmp_path, annotations, images=(IMAGE,)):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train2014").mkdir()
    content = {
        "images": list(images),
        "annotations": [{"id": number, "image_id": 9, "area": 1.0, **each} for number, each in enumerate(annotations)],
        "categories": [{"id": 51, "name": "bowl"}, {"id": 3, "name": "car"}, {"id": 55, "name": "orange"}],
    }
    (tmp_path / "annotations" / "instances_train2014.json").write_text(json.dumps(content))
    return tmp_path


def test_labels_are_the_ranks_of_category_ids(tmp_path):
    root = write(tmp_path, [{"category_id": 55, "segmentation": SQUARE}, {"category_id": 3, "segmentation": SQUARE}])
    dataset = DataSource("coco", root, "train").load(multi_label=True)
    assert dataset.class_names == ("car", "bowl", "orange")
    assert (dataset.samples[0].image_id, dataset.samples[0].labels) == ("COCO_train2014_000000000009", (0, 2))
    assert dataset.samples[0].size == (6, 4)


def test_small_objects_lie_on_large_ones_and_crowds_are_ignored(tmp_path):
    runs = [16, 4, 4]  # down the columns: the fifth column of four rows
    root = write(tmp_path, [
        {"category_id": 3, "segmentation": SQUARE, "area": 2},
        {"category_id": 51, "segmentation": [[0, 0, 5, 0, 5, 3, 0, 3]], "area": 20},
        {"category_id": 51, "segmentation": {"counts": runs, "size": [4, 6]}, "iscrowd": 1, "area": 1},
    ])  # fmt: skip
    labels = true_label_map(coco.load(root, "train").samples[0], 3)
    expected = np.zeros((4, 6))
    expected[:3, :5] = 2
    expected[:2, :3] = 1
    expected[:, 4] = 255
    np.testing.assert_array_equal(labels, expected)


def test_images_without_an_object_are_left_out_and_counted(tmp_path):
    other = {**IMAGE, "id": 10, "file_name": "b.jpg"}
    root = write(tmp_path, [{"category_id": 3, "segmentation": SQUARE}], (IMAGE, other))
    assert coco.load(root, "train").left_out == {"no object is annotated": 1}


@pytest.mark.parametrize(("annotation", "said"), [
    ({"category_id": 4, "segmentation": SQUARE}, "the annotation 0 is not one of an object"),
    ({"category_id": 3, "segmentation": [[0, 0]]}, "a polygon of fewer than three points"),
    ({"category_id": 3, "segmentation": {"counts": "abc"}}, "compressed run lengths"),
    ({"category_id": 3, "segmentation": [[0, 0, 3, 0, 3, float("nan"), 0, 2]]}, "or beyond any image"),
    ({"category_id": 3, "segmentation": [[0, 0, 3, 0, 3, float("inf"), 0, 2]]}, "or beyond any image"),
    ({"category_id": 3, "segmentation": {"counts": [16, 4, 5]}}, "000000000009.jpg has run lengths of another size than the image's; expected 24 pixels"),
    ({"category_id": 3, "segmentation": {"counts": [16, 9, -1]}}, "run lengths of another size"),
    ({"category_id": 3, "segmentation": {"counts": [16.5, 7.5]}}, "'16.5' is no whole number"),
    ({"category_id": 3, "segmentation": SQUARE, "area": float("nan")}, "its area is nan"),
    ({"category_id": 3, "segmentation": SQUARE, "image_id": 9.5}, "'9.5' is no whole number"),
    ({"category_id": 3, "segmentation": SQUARE, "image_id": float("inf")}, "'inf' is no whole number"),
    ({"category_id": 3, "segmentation": SQUARE, "image_id": True}, "'True' is no whole number"),
])  # fmt: skip
def test_faulty_annotations_are_named(tmp_path, annotation, said):
    with pytest.raises(UserError, match=said):
        coco.load(write(tmp_path, [annotation]), "train")


def test_paths_stay_inside(tmp_path):
    root = write(tmp_path, [{"category_id": 3, "segmentation": SQUARE}], ({**IMAGE, "file_name": "../x.jpg"},))
    with pytest.raises(UserError, match="not usable"):
        coco.load(root, "train")


def test_run_lengths_of_another_size(tmp_path):
    root = write(tmp_path, [{"category_id": 3, "segmentation": {"counts": [3, 4]}}])
    with pytest.raises(UserError, match="run lengths of another size than the image's; expected 24 pixels"):
        true_label_map(coco.load(root, "train").samples[0], 3)


@pytest.mark.parametrize(("change", "said"), [
    ({"width": float("inf")}, "an image's entry can't be read .'inf' is no whole number"),
    ({"width": 6.5}, "'6.5' is no whole number"),
    ({"file_name": "b.jpg"}, "COCO_train2014_000000000009.jpg and b.jpg have the same id"),
    ({"id": 10, "file_name": "COCO_train2014_000000000009.png"}, "009.jpg and COCO_train2014_000000000009.png have the same name"),
])  # fmt: skip
def test_faulty_images_are_named(tmp_path, change, said):
    root = write(tmp_path, [{"category_id": 3, "segmentation": SQUARE}], (IMAGE, {**IMAGE, **change}))
    with pytest.raises(UserError, match=said):
        coco.load(root, "train")


def test_sizes_with_a_fraction_of_0_are_read(tmp_path):
    root = write(tmp_path, [{"category_id": 3, "segmentation": SQUARE}], ({**IMAGE, "width": 6.0, "height": 4.0},))
    assert coco.load(root, "train").samples[0].size == (6, 4)


def test_categories_of_one_id_are_refused(tmp_path):
    root = write(tmp_path, [{"category_id": 3, "segmentation": SQUARE}])
    path = root / "annotations/instances_train2014.json"
    path.write_text(path.read_text().replace('"id": 51', '"id": 3'))
    with pytest.raises(UserError, match=f"{path}: two categories have the same id"):
        coco.load(root, "train")


def test_objects_of_images_that_are_not_listed_are_counted(tmp_path):
    objects = [{"category_id": 3, "segmentation": SQUARE, "image_id": number} for number in (9, 12, 12)]
    dataset = coco.load(write(tmp_path, objects), "train")
    assert dataset.notes == ("the objects of 1 images that the file does not list are passed over",)
    assert len(dataset) == 1


def test_boxes_of_objects(tmp_path):
    root = write(tmp_path, [
        {"category_id": 3, "segmentation": SQUARE, "bbox": [0, 1, 3, 2.5], "area": 9},
        {"category_id": 55, "segmentation": SQUARE, "bbox": [1, 1, 0, 2], "area": 8},
        {"category_id": 55, "segmentation": SQUARE, "bbox": [1, float("nan"), 2, 2], "area": 7},
        {"category_id": 55, "segmentation": SQUARE, "area": 6},
        {"category_id": 51, "segmentation": {"counts": [16, 4, 4]}, "iscrowd": 1, "bbox": [4, 0, 1, 4], "area": 4},
    ])  # fmt: skip
    (sample,) = coco.load(root, "train")
    assert sample.labels == (0, 1, 2)
    assert sample.objects == ((0, (0, 1, 3, 3.5)),)


@pytest.mark.parametrize("outline", [[], None])
def test_an_object_without_an_outline_leaves_its_image_without_a_label_map(tmp_path, outline):
    """As files for detectors have them: drawn, it would be background everywhere."""
    root = write(tmp_path, [{"category_id": 3, "segmentation": outline, "bbox": [0, 0, 3, 2]},
                            {"category_id": 51, "segmentation": SQUARE}])  # fmt: skip
    (sample,) = coco.load(root, "train")
    assert (sample.labels, sample.truth, sample.objects) == ((0, 1), None, ((0, (0, 0, 3, 2)),))


def test_outlines_that_are_fractions_of_the_image_are_refused(tmp_path):
    outline = [[0.1, 0.1, 0.5, 0.1, 0.5, 0.9]]
    with pytest.raises(UserError, match="all outlines lie within 0 to 1: they are fractions of the image"):
        coco.load(write(tmp_path, [{"category_id": 3, "segmentation": outline}]), "train")


def test_run_lengths_of_the_image_on_its_side_are_refused(tmp_path):
    """Equally many pixels, of columns of another length."""
    rle = {"counts": [16, 4, 4], "size": [6, 4]}
    with pytest.raises(UserError, match=r"run lengths of height and width \[6, 4\], not \[4, 6\]"):
        coco.load(write(tmp_path, [{"category_id": 3, "segmentation": rle}]), "train")


@pytest.mark.parametrize(("file", "images"), [
    ("annotations/instances_train2017.json", "train2017"), ("annotations/instances_train2017.json", "images/train2017"),
    ("annotations/instances_train.json", "train"), ("annotations/instances_train.json", "images/train"),
    ("annotations/instances_train.json", "images"), ("train/_annotations.coco.json", "train"),
])  # fmt: skip
def test_layouts(tmp_path, file, images):
    root = write(tmp_path, [{"category_id": 3, "segmentation": SQUARE}])
    (root / images).mkdir(parents=True, exist_ok=True)
    (root / "annotations/instances_train2014.json").rename(root / file)
    assert coco.load(root, "train").samples[0].path == root / images / IMAGE["file_name"]


@pytest.mark.parametrize(("polygon", "rows"), [
    ([1, 1, 4, 1, 4, 3, 1, 3], [".......", ".###...", ".###..."]),
    ([0.5, 0.5, 6.2, 1.1, 8.9, 4.4, 3.3, 6.7],
     ["..........", ".######...", "..#####...", "..######..", "..#######.", "...###....", "...#......"]),
    ([-3, -2, 12, 3.5, 4, 9.2],
     ["####......", "######....", "#########.", ".#########", ".#########", "..#######.", "..######.."]),
    ([1, 1, 1, 1, 9, 1, 9, 6, 5, 2.5, 1, 6],
     ["..........", ".########.", ".########.", ".###..###.", ".##....##.", "..........", ".........."]),
    ([4.49, 0.51, 4.49, 6.51, 4.62, 6.51],
     ["..........", "..........", "..........", "....#.....", "....#.....", "....#.....", "....#....."]),
])  # fmt: skip
def test_outlines_are_filled_as_pycocotools_fills_them(polygon, rows):
    """Recorded of pycocotools 2.0.11: `decode(frPyObjects([polygon], height, width))`."""
    labels = drawn(Outlines((len(rows[0]), len(rows)), ((5, (tuple(polygon),), False),)))
    assert ["".join(".#"[value // 5] for value in row) for row in labels] == rows


def test_an_outline_too_long_for_any_image_is_refused():
    with pytest.raises(UserError, match="an outline of 3,999,999 pixels' length"):
        drawn(Outlines((6, 4), ((1, ((-1e6, 0, 1e6, 0, 0, 3),), False),)))


def test_objects_without_an_area_lie_by_what_they_enclose(tmp_path):
    root = write(tmp_path, [
        {"category_id": 3, "segmentation": SQUARE},
        {"category_id": 55, "segmentation": {"counts": [20, 1, 3], "size": [4, 6]}},
        {"category_id": 51, "segmentation": [[0, 0, 5, 0, 5, 3, 0, 3]]},
    ])  # fmt: skip
    path = root / "annotations/instances_train2014.json"
    path.write_text(path.read_text().replace('"area": 1.0, ', ""))
    (sample,) = coco.load(root, "train")
    assert [label for label, *_ in sample.truth.objects] == [2, 1, 3]


def test_which_of_two_years_is_read_is_said(tmp_path):
    root = write(tmp_path, [{"category_id": 3, "segmentation": SQUARE}])
    content = (root / "annotations/instances_train2014.json").read_text()
    (root / "annotations/instances_train2017.json").write_text(content.replace("train2014_", "train2017_"))
    dataset = coco.load(root, "train")
    assert dataset.notes == ("instances_train2014.json is read; say --data.split train2017 for that year's",)
    other = coco.load(root, "train2017")
    assert (other.samples[0].image_id, other.notes) == ("COCO_train2017_000000000009", ())
