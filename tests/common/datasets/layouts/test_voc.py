import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource
from common.datasets.checking import check
from common.datasets.label_maps import true_label_map
from common.datasets.layouts import voc
from common.prepare import Prepare
from common.system.errors import UserError
from tests import scenes


@pytest.fixture
def root(tmp_path):
    return scenes.write(tmp_path / "voc", {"train": 4, "val": 2})


def annotate(root, image_id, names):
    text = "".join(f"<object><name>{name}</name><part><name>head</name></part></object>" for name in names)
    (root / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{text}</annotation>")


def test_labels_of_annotations_are_the_recorded_ones(tmp_path, golden):
    recorded = golden("bas_segmentation/lists_schedule")
    assert recorded["class_names"].tolist() == list(voc.CLASSES)
    for number, (names, labels) in enumerate(zip(recorded["xml_names"], recorded["xml_labels"], strict=True)):
        path = tmp_path / f"{number}.xml"
        text = "".join(f"<name>{name}</name>" for name in str(names).split(","))
        path.write_text(f"<annotation>{text}</annotation>")
        assert voc.image_labels(path) == tuple(np.flatnonzero(labels))


def test_samples_have_several_labels_and_a_label_map(root):
    dataset = DataSource("voc", root, "train").load(multi_label=True)
    assert (dataset.multi_label, dataset.class_names, len(dataset)) == (True, scenes.NAMES, 4)
    for sample in dataset:
        truth = true_label_map(sample, 3)
        assert tuple(np.unique(truth[truth < 255])[1:] - 1) == sample.labels
        assert sample.label == sample.labels[0]
        assert (truth[0] == 255).all()


def test_an_image_of_several_classes_is_refused_where_one_is_wanted(root):
    with pytest.raises(UserError, match="voc's images have several classes. Take bas.segmentation"):
        DataSource("voc", root, "train").load()


def test_a_data_set_of_one_class_an_image_is_no_segmentation(tmp_path):
    Image.new("RGB", (8, 8)).save((tmp_path / "train" / "a").mkdir(parents=True) or tmp_path / "train/a/x.png")
    with pytest.raises(UserError, match="folder's images have one class each"):
        DataSource("folder", tmp_path, "train").load(multi_label=True)


@pytest.mark.parametrize("option", ["class_names", "class_index"])
def test_classes_in_another_order_are_refused(root, option):
    """Label maps keep the numbers that they hold; a file of names renumbered the first class of each image alone."""
    (root / "names.txt").write_text("".join(f"{name}\n" for name in reversed(scenes.NAMES)))
    with pytest.raises(
        UserError, match=f"--data.{option.replace('_', '-')} with images of several classes. Leave it out"
    ):
        DataSource("voc", root, "train", **{option: root / "names.txt"}).load(multi_label=True)


def test_an_image_without_a_class_is_left_out_and_counted(root):
    annotate(root, "train_1", ["unicorn"])
    dataset = voc.load(root, "train")
    assert [sample.image_id for sample in dataset] == ["train_0", "train_2", "train_3"]
    assert dataset.left_out == {"its annotation names no class of the data set": 1}
    assert dataset.notes == ("1 object is of no class and passed over: 1 'unicorn'",)


def test_labels_change_the_fingerprint(root):
    before = voc.load(root, "train").fingerprint()
    labels = voc.load(root, "train").samples[0].labels
    annotate(
        root, "train_0", [scenes.NAMES[labels[0]], *(name for name in scenes.NAMES if name != scenes.NAMES[labels[0]])]
    )
    after = voc.load(root, "train")
    assert (after.samples[0].labels == (0, 1, 2)) == (after.fingerprint() != before or labels == (0, 1, 2))


def test_train_aug_is_train_and_sbd_without_val(root):
    (root / "SBD").mkdir()
    (root / "SBD" / "train.txt").write_text("train_0\nval_0\n")
    (root / "SBD" / "val.txt").write_text("more_0\n")
    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (root / folder / f"more_0.{suffix}").write_bytes((root / folder / f"val_0.{suffix}").read_bytes())
    dataset = voc.load(root, "train_aug")
    assert [sample.image_id for sample in dataset] == ["more_0", "train_0", "train_1", "train_2", "train_3"]
    assert dataset.samples[0].truth is None
    with pytest.raises(UserError, match="more_0 has no label map"):
        true_label_map(dataset.samples[0], 3)


def test_vocs_own_classes_are_compared_with_the_authors_list(root):
    (root / "classes.txt").unlink()
    for image_id in ("val_0", "val_1"):
        annotate(root, image_id, ["cat", "Cat", "person"])
    dataset = voc.load(root, "val")
    assert dataset.samples[0].labels == (7, 14)
    assert dataset.notes == (
        "2 images, not the 1449 that the authors used (another sha256 of their ids)",
        "2 objects are of no class and passed over: 2 'Cat' (the class is 'cat')",
    )


def test_held_out_images(root):
    held = voc.load(root, "held", held_per_class=1)
    train = voc.load(root, "train", held_per_class=1)
    assert {sample.image_id for sample in held} | {sample.image_id for sample in train} == {
        f"train_{n}" for n in range(4)
    }
    assert not {sample.image_id for sample in held} & {sample.image_id for sample in train}


@pytest.mark.parametrize(("pixels", "said"), [
    (np.full((48, 64), 4, np.uint8), "the label map holds 4; expected 0 to 3, or 255"),
    (np.zeros((48, 63), np.uint8), "the label map is 63x48; expected 64x48"),
    (np.zeros((48, 64, 3), np.uint8), "the label map is an image of the kind RGB"),
    (np.zeros((48, 64), bool), "the label map is an image of the kind 1;"),
])  # fmt: skip
def test_label_maps_that_make_no_sense_are_refused(root, pixels, said):
    sample = voc.load(root, "val").samples[0]
    Image.fromarray(pixels).save(sample.truth)
    with pytest.raises(UserError, match=said):
        true_label_map(sample, 3)


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda root: (root / "ImageSets/Segmentation/val.txt").unlink(), "no list of the split 'val'"),
    (lambda root: (root / "ImageSets/Segmentation/val.txt").write_text("../x\n"), "val.txt:1: path '../x' is not usable"),
    (lambda root: (root / "Annotations/val_0.xml").write_text("<a>"), "malformed XML"),
    (lambda root: (root / "Annotations/val_0.xml").unlink(), "no such annotation"),
    (lambda root: (root / "classes.txt").write_text("a\na\n"), "classes.txt:2: a stands here twice"),
])  # fmt: skip
def test_faults_are_named(root, spoil, said):
    spoil(root)
    with pytest.raises(UserError, match=said):
        voc.load(root, "val")


def test_boxes_of_objects_count_from_0_and_end_exclusively(tmp_path):
    """Pixels 1 to 64 and 1 to 48 are the whole of a 64 x 48 picture; what is difficult, of no class, or without a box
    that makes sense has none, and parts of an object are no objects.
    """
    root = scenes.write(tmp_path / "voc", {"train": 1})
    whole = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>64</xmax><ymax>48</ymax></bndbox>"
    small = "<bndbox><ymin>11.0</ymin><xmin>5.5</xmin><xmax>20</xmax><ymax>30</ymax></bndbox>"
    wrong = "<bndbox><xmin>9</xmin><ymin>1</ymin><xmax>4</xmax><ymax>48</ymax></bndbox>"
    objects = [
        f"<name>green</name><difficult>0</difficult>{whole}<part><name>head</name>{small}</part>", f"<name>red</name>{small}",
        f"<name>green</name><difficult>1</difficult>{small}", f"<name>owl</name>{small}", f"<name>red</name>{wrong}", "<name>red</name>",
    ]  # fmt: skip
    texts = "".join(f"<object>{each}</object>" for each in objects)
    (root / "Annotations/train_0.xml").write_text(f"<annotation>{texts}</annotation>")
    (sample,) = DataSource("voc", root, "train").load(multi_label=True)
    assert sample.labels == (0, 1)
    assert sample.objects == ((1, (0, 0, 64, 48)), (0, (4.5, 10, 20, 30)))


def test_lines_of_the_background_before_the_classes_are_none(root):
    """As labelme writes class_names.txt; in label maps 0 is background and 1 the first class."""
    before = voc.load(root, "train")
    text = (root / "classes.txt").read_text()
    (root / "classes.txt").write_text(f"__ignore__\n_background_\n{text}")
    after = voc.load(root, "train")
    assert after.class_names == before.class_names
    assert after.fingerprint() == before.fingerprint()


def test_blanks_around_a_name_are_not_part_of_it(root):
    annotate(root, "train_1", [f"\n {scenes.NAMES[0]} "])
    assert next(sample for sample in voc.load(root, "train") if sample.image_id == "train_1").labels == (0,)


def test_images_of_other_endings_are_found(root):
    jpeg = root / "JPEGImages" / "train_1.jpg"
    with Image.open(jpeg) as image:
        image.save(jpeg.with_suffix(".PNG"))
    jpeg.unlink()
    paths = [sample.path.name for sample in voc.load(root, "train")]
    assert paths == ["train_0.jpg", "train_1.PNG", "train_2.jpg", "train_3.jpg"]


def test_label_maps_of_other_classes_are_said(root):
    """0 and 255, as other tools write masks: 255 is what is not counted."""
    sample = voc.load(root, "train").samples[0]
    labels = np.array(Image.open(sample.truth))
    Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8)).save(sample.truth)
    (note,) = [note for note in check(Prepare("voc", root, splits=("train",), workers=1)).notes if "hold none" in note]
    assert note.startswith("train: the label maps of 1 image hold none of the classes that the images are of, train_0")


def test_objects_of_no_class_are_said(root):
    annotate(root, "train_0", ["Red", "red", "owl", "owl", "Blue", "imp", "elf"])
    (note,) = voc.load(root, "train").notes
    assert note == ("6 objects are of no class and passed over: 1 'Blue' (the class is 'blue'), "
                    "1 'Red' (the class is 'red'), 2 'owl' and 2 more")  # fmt: skip


@pytest.mark.parametrize("line", [
    "train_1", " train_1 \t\r", "train_1.jpg", "train_1.PNG", "JPEGImages/train_1.jpg", "train_1 1", "train_1.jpg train_1.png",
    "/JPEGImages/train_1.jpg /SegmentationClassAug/train_1.png",
])  # fmt: skip
def test_lines_of_lists_name_an_image_with_ending_folder_and_more_columns(root, line):
    (root / "ImageSets/Segmentation/train.txt").write_bytes(f"\ufeff\r\n{line}\r\n".encode())
    (sample,) = voc.load(root, "train")
    assert (sample.image_id, sample.path.name) == ("train_1", "train_1.jpg")


def test_names_with_blanks_and_endings_of_their_own_are_ids(root):
    for folder, ending in (("JPEGImages", "jpg"), ("Annotations", "xml"), ("SegmentationClass", "png")):
        for name in ("train_1 b", "train_1.png"):
            (root / folder / f"{name}.{ending}").write_bytes((root / folder / f"train_1.{ending}").read_bytes())
    listed = ["train_1 b", "train_1.png", "train_1"]
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(listed))
    assert [sample.image_id for sample in voc.load(root, "train")] == listed
    (root / "ImageSets/Segmentation/train.txt").write_text("train_1\ntrain_1.jpg\n")
    with pytest.raises(UserError, match="train.txt:2: train_1 stands here twice, first in line 1"):
        voc.load(root, "train")


def label_map_as(root, ending, **options):
    """The first training image's label map under another ending, the PNG removed; its numbers before."""
    path = voc.load(root, "train").samples[0].truth
    with Image.open(path) as image:
        image.save(path.with_suffix(ending), **options)
        before = np.array(image)
    if ending != ".png":
        path.unlink()
    return before


@pytest.mark.parametrize("ending", [".PNG", ".bmp", ".tif"])
def test_label_maps_of_other_endings_are_read(root, ending):
    before = label_map_as(root, ending)
    np.testing.assert_array_equal(true_label_map(voc.load(root, "train").samples[0], 3), before)


@pytest.mark.parametrize(
    ("ending", "options"), [(".jpg", {}), (".png", {"format": "JPEG"}), (".png", {"format": "WEBP"})]
)
def test_label_maps_that_blur_their_numbers_are_refused(root, ending, options):
    label_map_as(root, ending, **options)
    with pytest.raises(
        UserError, match=f"train_0{ending}: the label map is an image of the kind .*, which blurs numbers"
    ):
        true_label_map(voc.load(root, "train").samples[0], 3)


def test_grey_of_four_bits_is_refused(root):
    """Label 1 of four bits is read as 17, label 15 as 255. A palette of four bits is read as it is."""
    sample = voc.load(root, "train").samples[0]
    width, height = sample.size
    content = b"".join(b"\0" + bytes([0x12] * (width // 2)) for _ in range(height))
    for kind, palette in ((0, b""), (3, bytes(48))):
        parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 4, kind, 0, 0, 0)), (b"PLTE", palette),
                 (b"IDAT", zlib.compress(content)), (b"IEND", b"")]  # fmt: skip
        chunks = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
                  for name, data in parts if data or name == b"IEND")  # fmt: skip
        sample.truth.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
        if kind:
            np.testing.assert_array_equal(true_label_map(sample, 3), np.tile([1, 2], (height, width // 2)))
        else:
            with pytest.raises(UserError, match="grey of fewer than 8 bits"):
                true_label_map(sample, 3)


def test_label_maps_that_scoring_refuses_are_problems(root):
    path = voc.load(root, "train").samples[2].truth
    Image.fromarray(np.full((48, 64), 4, np.uint8)).save(path)
    report = check(Prepare("voc", root, splits=("train",), workers=1))
    assert f"{path}: the label map holds 4; expected 0 to 3, or 255" in report.problems
