import shutil

import pytest
from PIL import Image

from common.datasets import DataSource
from common.datasets.files.xml_files import read_annotation
from common.datasets.layouts.ilsvrc_classes import class_words
from common.system.errors import UserError
from tests import official_sets

WNIDS = ("n01440764", "n01443537", "n01484850")
WORDS = ("tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark")
VALIDATION = {1: 2, 2: 0, 3: 1, 4: 0}
"""Image number to class."""


def annotation(*objects, size=(50, 40)):
    parts = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in objects
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{parts}</annotation>"


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (50, 40), (90, 120, 150)).save(path, format="JPEG")


def name(number):
    return f"ILSVRC2012_val_{number:08d}"


def make(root, images="", annotations="val_xml", by_class=False):
    for wnid in WNIDS:
        for number in range(3):
            picture(root / images / "train" / wnid / f"{wnid}_{number}.JPEG")
    (root / annotations).mkdir(parents=True)
    for number, label in VALIDATION.items():
        folder = root / images / "val" / WNIDS[label] if by_class else root / images / "val"
        picture(folder / f"{name(number)}.JPEG")
        objects = [(WNIDS[label], (number, 2, 20 + number, 30))] * (2 if number == 3 else 1)
        (root / annotations / f"{name(number)}.xml").write_text(annotation(*objects))
    return root


def load(root, split="val", **options):
    return DataSource("ilsvrc", root, split, **options).load()


@pytest.mark.parametrize(("images", "annotations"), [
    ("", "val_xml"), ("", "box"), ("", "Annotations/CLS-LOC/val"), ("", "ILSVRC2012_bbox_val_v3/val"),
    ("ILSVRC/Data/CLS-LOC", "ILSVRC/Annotations/CLS-LOC/val"),
])  # fmt: skip
@pytest.mark.parametrize("by_class", [False, True])
def test_layouts(tmp_path, images, annotations, by_class):
    root = make(tmp_path, images, annotations, by_class)
    found = {sample.path.stem: sample for sample in load(root)}
    assert {number: found[name(number)].label for number in VALIDATION} == VALIDATION
    assert found[name(1)].boxes.tolist() == [[1, 2, 21, 30]]
    assert len(found[name(3)].boxes) == 2
    assert found[name(1)].image_id == (f"n01484850/{name(1)}.JPEG" if by_class else f"{name(1)}.JPEG")
    train = load(root, "train")
    assert (len(train), train.class_names, len(train.samples[0].boxes)) == (9, WNIDS, 0)


def test_annotations_in_capitals_and_in_folders(tmp_path):
    root = make(tmp_path, by_class=True)
    for path in sorted((root / "val_xml").iterdir()):
        (root / "val_xml" / path.stem[-1]).mkdir()
        path.rename(root / "val_xml" / path.stem[-1] / f"{path.stem}.XML")
    (root / "val_xml" / "._x.xml").touch()
    assert sorted(len(sample.boxes) for sample in load(root)) == [1, 1, 1, 2]
    shutil.copy(root / "val_xml/1" / f"{name(1)}.XML", root / "val_xml/2" / f"{name(1)}.xml")
    with pytest.raises(UserError, match="this annotation is there twice"):
        load(root)


@pytest.mark.parametrize("by_class", [False, True])
def test_what_is_no_image_is_counted(tmp_path, by_class):
    root = make(tmp_path, by_class=by_class)
    for place in (root / "val", root / "train", root / "train" / WNIDS[0]):
        for junk in (".DS_Store", "._x.JPEG", "valprep.sh", "x.tar"):
            (place / junk).touch()
    (root / "train" / "__MACOSX").mkdir()
    val, train = load(root), load(root, "train")
    assert (len(val), len(train), train.class_names) == (4, 9, WNIDS)
    assert val.passed_over == {".DS_Store": 1, "._*": 1, "*.sh": 1, "*.tar": 1}
    assert train.passed_over == {".DS_Store": 2, "._*": 2, "*.sh": 2, "*.tar": 2, "__MACOSX/": 1}


@pytest.mark.parametrize(("file", "labels"), [
    ("synset1.txt", {1: 1, 2: 2, 3: 0, 4: 2}), ("LOC_synset_mapping.txt", VALIDATION)
])  # fmt: skip
def test_synset1_numbers_classes_by_its_lines(tmp_path, file, labels):
    """As GRCAM does; its own file is sorted. Kaggle's is sorted here, as torchvision sorts folders."""
    root = make(tmp_path)
    (root / file).write_text("\n".join(f"{WNIDS[number]} words" for number in (1, 2, 0)))
    found = {sample.path.stem: sample.label for sample in load(root)}
    assert {number: found[name(number)] for number in VALIDATION} == labels


def test_class_folders_that_no_class_has_are_counted(tmp_path):
    root = make(tmp_path, by_class=True)
    for split in ("train", "val"):
        picture(root / split / "n09999999" / "a.JPEG")
        picture(root / split / "n09999998" / "b.JPEG")
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} x\n" for wnid in WNIDS))
    assert len(load(root)) == 4
    assert load(root).left_out == {"in folders of val/ that are no known class (2: n09999998 ...)": 2}
    assert load(root, "train").left_out == {"in folders of train/ that are no known class (2: n09999998 ...)": 2}
    for wnid in WNIDS:
        shutil.rmtree(root / "val" / wnid, ignore_errors=True)
    with pytest.raises(UserError, match="none of its 2 folders is a known class"):
        load(root)


def test_images_of_known_class_need_no_annotation(tmp_path):
    root = make(tmp_path, by_class=True)
    (root / "val_xml" / f"{name(4)}.xml").unlink()
    partly = load(root)
    assert sorted(len(sample.boxes) for sample in partly) == [0, 1, 1, 2]
    assert partly.notes[0].startswith("1 image has no annotation, and so no box")
    shutil.rmtree(root / "val_xml")
    assert load(root).notes[0].startswith("no annotations were found, so no image has a box")


def test_tiny_imagenet(tmp_path):
    for wnid in WNIDS:
        picture(tmp_path / "train" / wnid / "images" / f"{wnid}_0.JPEG")
        (tmp_path / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t1\t2\t30\t40\n")
    for number in range(3):
        picture(tmp_path / "val/images" / f"val_{number}.JPEG")
    rows = [f"val_{number}.JPEG\t{WNIDS[2 - number]}\t0\t1\t20\t30\n" for number in range(2)]
    (tmp_path / "val/val_annotations.txt").write_text("".join(rows))
    assert next(sample.image_id for sample in load(tmp_path, "train")) == f"{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG"
    val = load(tmp_path)
    assert [(sample.image_id, sample.label) for sample in val] == [("images/val_0.JPEG", 2), ("images/val_1.JPEG", 1)]
    assert val.samples[0].boxes.tolist() == [[0, 1, 20, 30]]
    assert val.left_out == {"without a line in val_annotations.txt": 1}
    (tmp_path / "val/val_annotations.txt").write_text("val_0.JPEG\tn1\t0\t1\t20\t30\n")
    with pytest.raises(UserError, match="val_annotations.txt:1: class 'n1' is none of the 3"):
        load(tmp_path)


def test_objects_of_other_classes_do_not_count(tmp_path):
    root = make(tmp_path, by_class=True)
    (root / "val_xml" / f"{name(1)}.xml").write_text(annotation((WNIDS[0], (0, 0, 5, 5)), (WNIDS[2], (1, 1, 9, 9))))
    sample = next(sample for sample in load(root) if sample.path.stem == name(1))
    assert sample.boxes.tolist() == [[1, 1, 9, 9]]


def test_an_image_of_unknown_class_is_refused(tmp_path):
    root = make(tmp_path)
    (root / "val_xml" / f"{name(1)}.xml").write_text(annotation((WNIDS[0], (0, 0, 5, 5)), (WNIDS[2], (1, 1, 9, 9))))
    with pytest.raises(UserError, match="its annotation names n01440764 and n01484850"):
        load(root)


def test_classes_from_kaggles_files(tmp_path):
    root = make(tmp_path)
    (root / "val_xml" / f"{name(1)}.xml").write_text(annotation((WNIDS[0], (0, 0, 5, 5)), (WNIDS[2], (1, 1, 9, 9))))
    rows = [f"{name(number)},{WNIDS[label]} 1 2 3 4 " for number, label in VALIDATION.items()]
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "\n".join(rows) + "\n")
    lines = [f"{wnid} {words}" for wnid, words in zip(WNIDS, WORDS, strict=True)]
    (root / "LOC_synset_mapping.txt").write_text("\n".join(lines))
    shutil.rmtree(root / "train")
    found = {sample.path.stem: sample.label for sample in load(root)}
    assert found == {name(number): label for number, label in VALIDATION.items()}
    assert class_words(root) == dict(zip(WNIDS, WORDS, strict=True))


def devkit(root, blacklist="2\n"):
    data = root / "ILSVRC2014_devkit" / "data"
    data.mkdir(parents=True)
    # The devkit numbers classes in an order of its own: here backwards.
    (data / "map_clsloc.txt").write_text("".join(f"{wnid} {3 - i} x\n" for i, wnid in enumerate(WNIDS)))
    (data / "ILSVRC2014_clsloc_validation_ground_truth.txt").write_text(
        "".join(f"{3 - v}\n" for v in VALIDATION.values())
    )
    (data / "ILSVRC2014_clsloc_validation_blacklist.txt").write_text(blacklist)
    return data


def test_classes_and_blacklist_from_the_devkit(tmp_path):
    root = make(tmp_path)
    devkit(root)
    shutil.rmtree(root / "train")
    assert {sample.path.stem: sample.label for sample in load(root)} == {name(k): v for k, v in VALIDATION.items()}
    kept = load(root, leave_out=("blacklist",))
    assert name(2) not in {sample.path.stem for sample in kept}
    assert kept.left_out == {"on the devkit's blacklist": 1}


def test_odd_files_are_left_out_only_on_request(tmp_path):
    root = make(tmp_path)
    picture(root / "train" / WNIDS[0] / "n02105855_2933.JPEG")
    assert len(load(root, "train")) == 10
    kept = load(root, "train", leave_out=("odd",))
    assert (len(kept), kept.left_out) == (9, {"a PNG under a JPEG's name": 1})


def test_held_images_are_drawn_from_annotated_ones(tmp_path):
    root = make(tmp_path)
    for wnid in WNIDS:
        folder = root / "Annotations/CLS-LOC/train" / wnid
        folder.mkdir(parents=True)
        for number in range(2):
            (folder / f"{wnid}_{number}.xml").write_text(annotation((wnid, (1, 2, 3, 4 + number))))
    held, train = load(root, "held", held_per_class=1), load(root, "train", held_per_class=1)
    assert (len(held), len(train)) == (3, 6)
    assert all(len(sample.boxes) == 1 for sample in held)
    assert not {sample.image_id for sample in held} & {sample.image_id for sample in train}


@pytest.mark.parametrize(("text", "message"), [
    ("<annotation>", "malformed XML"),
    ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares a document type"),
    (annotation((WNIDS[2], (30, 2, 3, 40))), "inside out"),
    (annotation((WNIDS[2], ("x", 2, 3, 40))), "bndbox 1 is 'x 2 3 40'"),
    ("<annotation><object><name>a</name></object></annotation>", "bndbox 1"),
    ("", "malformed XML"),
])  # fmt: skip
def test_broken_annotations(tmp_path, text, message):
    root = make(tmp_path)
    path = root / "val_xml" / f"{name(1)}.xml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_annotation(path)
    assert str(path) in str(caught.value)
    problems = []
    dataset = DataSource("ilsvrc", root, "val").load(on_problem=problems.append)
    assert (len(dataset), len(problems)) == (3, 1)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(UserError, match="no list of classes is there"):
        load(tmp_path)
    root = make(tmp_path / "a")
    (root / "val_xml" / f"{name(4)}.xml").unlink()
    with pytest.raises(UserError, match="no such annotation"):
        load(root)
    shutil.rmtree(root / "val_xml")
    with pytest.raises(
        UserError, match="classes of the validation images are unknown; expected annotations in val_xml/"
    ):
        load(root)
    with pytest.raises(UserError, match="no training image has an annotation"):
        load(root, "held", held_per_class=1)
    with pytest.raises(UserError, match="the devkit's blacklist is not there"):
        load(root, "train", leave_out=("blacklist",))
    shutil.rmtree(root / "val")
    with pytest.raises(UserError, match="val/ is not there"):
        load(root)


def test_the_devkit_of_2012_numbers_classes_in_meta_mat(tmp_path):
    """Its numbers are another order than the sorted wnids': the ground truth 2, 1, 3 is the labels 1, 2, 0."""
    root = official_sets.devkit(tmp_path)
    dataset = load(root)
    assert dataset.class_names == ("n01440764", "n01443537", "n01484850")
    assert [sample.label for sample in dataset] == [1, 2, 0]
    assert [len(sample.boxes) for sample in dataset] == [0, 0, 0]
    (root / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt").write_text("2\n4\n")
    with pytest.raises(UserError, match="ground_truth.txt:2: class number '4' is not in meta.mat"):
        load(root)


def test_a_damaged_meta_mat_is_named(tmp_path):
    root = official_sets.devkit(tmp_path)
    path = root / "ILSVRC2012_devkit_t12/data/meta.mat"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(UserError, match=f"{path}: no MATLAB file that can be read .it is cut off."):
        load(root)
    path.unlink()
    shutil.rmtree(root / "val")
    (root / "ILSVRC2012_devkit_t12/data").rename(root / "elsewhere")
    (root / "ILSVRC2012_devkit_t12").rmdir()
    official_sets.devkit(root, ("n01440764", "n01440764"))
    with pytest.raises(UserError, match="the class 2, n01440764, stands here twice or is no wnid"):
        load(root)


def test_annotations_without_an_object_of_the_images_class_are_said(tmp_path):
    """As where images were sorted into wrong folders: the boxes are of what the annotation names, not of the class."""
    root = make(tmp_path, by_class=True)
    (root / "val_xml" / f"{name(2)}.xml").write_text(annotation((WNIDS[1], (2, 2, 22, 30))))
    dataset = load(root)
    assert dataset.notes == (
        f"1 image has no box of its class in its annotation: {WNIDS[0]}/{name(2)}.JPEG, which is of "
        f"{WNIDS[0]}: its annotation names {WNIDS[1]}",
    )
    assert sorted(len(sample.boxes) for sample in dataset) == [0, 1, 1, 2]
