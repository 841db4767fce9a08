import numpy as np
import pytest

from common.datasets import Dataset, DataSource, Sample, lists, wsoleval
from common.system.errors import UserError
from tests import small_cub
from tests.common.datasets import test_ilsvrc


def write(tmp_path, text, name="list.txt"):
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def plain(entries):
    return [(image_id, label, boxes.tolist()) for image_id, label, boxes in entries]


# --------------------------------------------------------------------------------------- lines as the papers have them


def test_bas_cub(tmp_path):
    images = write(tmp_path, "001.A/x_46_18.jpg;0\r\n002.B/y.jpg;1\r\n")
    boxes = write(tmp_path, "60.0 27.0 385.0 331.0 335 500\n14.0 112.0 402.0 298.0 347 500\n", "gt.txt")
    assert plain(lists.read_bas(images, boxes)) == [
        ("001.A/x_46_18.jpg", 0, [[60, 27, 385, 331]]), ("002.B/y.jpg", 1, [[14, 112, 402, 298]]),
    ]  # fmt: skip


def test_bas_ilsvrc(tmp_path):
    images = write(tmp_path, "n01751748/ILSVRC2012_val_00000001.JPEG;65\n")
    boxes = write(tmp_path, "n01751748\\\\ILSVRC2012_val_00000001.JPEG 500 375 ; 111 108 441 193 1 2 3 4\r\n", "gt.txt")
    assert plain(lists.read_bas(images, boxes)) == [
        ("n01751748/ILSVRC2012_val_00000001.JPEG", 65, [[111, 108, 441, 193], [1, 2, 3, 4]])
    ]


def test_spol(tmp_path):
    path = write(tmp_path, "001.A/x.jpg,0,139 30 292 294\n")
    assert plain(lists.read_spol(path)) == [("001.A/x.jpg", 0, [[139, 30, 292, 294]])]
    path = write(tmp_path, "n01440764/n01440764_10026.JPEG 0\nILSVRC2012_val_00000001.JPEG 65\n")
    assert plain(lists.read_spol(path)) == [
        ("n01440764/n01440764_10026.JPEG", 0, []), ("ILSVRC2012_val_00000001.JPEG", 65, []),
    ]  # fmt: skip


@pytest.mark.parametrize("between", [" ", "\t", "\t\t", ","])
def test_a_label_may_stand_after_blank_tab_or_comma(tmp_path, between):
    path = write(tmp_path, f"a b/x 1.jpg{between}3 \t\r\na 5/y.jpg{between}0\n")
    assert plain(lists.read_spol(path)) == [("a b/x 1.jpg", 3, []), ("a 5/y.jpg", 0, [])]


def test_the_sizes_of_bas_are_what_its_boxes_are_pixels_of(tmp_path):
    """HEIGHT WIDTH after a box of CUB's, WIDTH HEIGHT before those of ILSVRC's."""
    for name, boxes in (("cub", "10 20 30 40 60 80\n"), ("ilsvrc", "a\\\\x.jpg 80 60 ; 10 20 30 40\n")):
        source = DataSource("list", tmp_path, list_file=write(tmp_path, "a/x.jpg;0\n"), list_format="bas",
                            boxes=write(tmp_path, boxes, name))  # fmt: skip
        assert source.load().samples[0].declared_size == (80, 60)


@pytest.mark.parametrize("which", ["imagenet", "tiny", "cub"])
def test_recorded_lists_of_dgl(golden, tmp_path, which):
    arrays = golden("dgl/lists")
    entries = lists.read_dgl(write(tmp_path, str(arrays[f"text_{which}"])))
    assert [entry[0] for entry in entries] == arrays[f"names_{which}"].tolist()
    assert [entry[1] for entry in entries] == arrays[f"labels_{which}"].tolist()
    for (_, _, boxes), expected in zip(entries, arrays[f"boxes_{which}"], strict=True):
        if len(boxes):
            np.testing.assert_array_equal(boxes[0], expected.ravel())
        else:  # the original's stand-in for a line without a box
            assert expected.tolist() == [[1, 1], [1, 1]]


def test_adls_training_list_holds_sides(tmp_path):
    path = write(tmp_path, "001.A/x.jpg\t0\t60.0\t27.0\t325.0\t304.0\n")
    assert plain(lists.read_dgl(path, sides=True)) == [("001.A/x.jpg", 0, [[60, 27, 385, 331]])]


def test_what_a_box_is_is_said_by_the_format(tmp_path):
    """27 0 65 47 is a box either way."""
    text = "001.A/x.jpg\t0\t27.0\t0.0\t65.0\t47.0\n"

    def boxes(list_format, split):
        source = DataSource("list", tmp_path, split, list_file=write(tmp_path, text), list_format=list_format)
        return source.load().samples[0].boxes.tolist()

    assert boxes("adl-cub", "train") == boxes("adl-cub", "test") == [[27, 0, 92, 47]]
    assert boxes("dgl", "test") == boxes("ts-cam", "train") == [[27, 0, 65, 47]]
    with pytest.raises(
        UserError, match="list.txt:1: a box of a list like this may be two corners, or a corner and sides"
    ):
        boxes("dgl", "train")


def test_several_boxes_a_line(tmp_path):
    path = write(tmp_path, "ILSVRC2012_val_00000001.JPEG 65 111 108 441 193 1 2 3 4\nILSVRC2012_val_00000002.JPEG 3\n")
    assert plain(lists.read_dgl(path, several=True)) == [
        ("ILSVRC2012_val_00000001.JPEG", 65, [[111, 108, 441, 193], [1, 2, 3, 4]]), ("ILSVRC2012_val_00000002.JPEG", 3, []),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------- written, and read again

NAMES = ("a b/c d.jpg", "a, b/c,1,2 3.jpg", "a;b/c;1.jpg", "a/'q' \"r\".jpg", "B\u00e4r/1.jpg", "Ba\u0308r/1.jpg", " a/1.jpg",
         "a/7 1.jpg", "a/1,0,1 2 3 4.jpg", "a/#1 & %20 = +.jpg", "\u9ce5/\u9ce5 (1).jpg")  # fmt: skip


def named(tmp_path, boxes=1):
    box = np.array([[1.0, 2, 30, 40], [3, 4, 5, 6]])[:boxes]
    return tuple(Sample(name, tmp_path / name, 1, box, declared_size=(50, 40)) for name in NAMES)


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_legal_name_is_read_as_it_was_written(tmp_path, split):
    dataset = Dataset("cub", split, named(tmp_path), ("a", "b"))
    lists.write_all({split: dataset}, tmp_path, "cub")
    if split == "test":
        same(lists.read_bas(tmp_path / "bas/test_list.txt", tmp_path / "bas/test_gt.txt"), dataset)
    name = "train" if split == "train" else "val"
    same(lists.read_spol(tmp_path / f"spol/{name}.txt"), dataset)
    same(lists.read_dgl(tmp_path / f"dgl/labels/CUB/{name}.txt", sides=split == "train"), dataset)
    wsoleval.write(dataset, tmp_path / "metadata")
    again = DataSource("wsoleval", tmp_path, split, metadata=tmp_path / "metadata").load()
    assert again.fingerprint() == dataset.fingerprint()


@pytest.mark.parametrize("boxes", [0, 1, 2])
def test_every_legal_name_of_ilsvrc(tmp_path, boxes):
    different = tuple({sample.path.name: sample for sample in named(tmp_path, boxes)}.values())
    test = Dataset("ilsvrc", "test", different, ("n1 x", "n2,y"))
    lists.write_all(
        {"train": Dataset("ilsvrc", "train", named(tmp_path), ("n1", "n2")), "test": test}, tmp_path, "ilsvrc"
    )
    read = {
        "spol": lists.read_spol(tmp_path / "spol/val.txt"), "dgl": lists.read_dgl(tmp_path / "dgl/labels/ILSVRC12/val.txt"),
        "bas": lists.read_bas(tmp_path / "bas/val_list.txt", tmp_path / "bas/val_gt.txt"),
    }  # fmt: skip
    for form, entries in read.items():
        ends = sorted(image_id.rsplit("/", 1)[-1] for image_id, _, _ in entries)
        assert (form, ends) == (form, sorted(sample.path.name for sample in different))
    assert {len(found) for _, _, found in read["bas"]} == {boxes}
    for entries in (
        lists.read_spol(tmp_path / "spol/train.txt"),
        lists.read_dgl(tmp_path / "dgl/labels/ILSVRC12/train.txt"),
    ):
        assert [image_id for image_id, _, _ in entries] == list(NAMES)


def test_nothing_is_written_where_a_name_cant_be(tmp_path):
    """A name that looks like a line of the other form; the good split's lists are not written either."""
    odd = Sample("a/1,0,1 2", tmp_path / "a/1,0,1 2", 0, np.array([[1.0, 2, 3, 4]]), declared_size=(5, 5))
    splits = {
        "train": Dataset("ilsvrc", "train", (odd,), ("a", "b")),
        "test": Dataset("ilsvrc", "test", named(tmp_path)[:2], ("a", "b")),
    }
    with pytest.raises(UserError, match=r"spol/train.txt can't hold the name 'a/1,0,1 2'"):
        lists.write_all(splits, tmp_path / "out", "ilsvrc")
    with pytest.raises(UserError, match="1.jpg is the name of two images"):
        lists.write_all({"test": Dataset("ilsvrc", "test", named(tmp_path), ("a", "b"))}, tmp_path / "out", "ilsvrc")
    assert not (tmp_path / "out").exists()


def same(entries, dataset):
    expected = {sample.image_id: (sample.label, sample.boxes.tolist()) for sample in dataset}
    assert {image_id: (label, boxes.tolist()) for image_id, label, boxes in entries} == expected


def test_lists_of_a_cub_like_data_set(tmp_path):
    root = small_cub.make(tmp_path / "CUB")
    splits = {split: DataSource("cub", root, split).load() for split in ("train", "test")}
    out = tmp_path / "lists"
    written = lists.write_all(splits, out, "cub")
    assert {path.relative_to(out).as_posix() for path in written} == {
        "spol/train.txt", "spol/val.txt", "dgl/labels/CUB/train.txt", "dgl/labels/CUB/val.txt",
        "bas/test_list.txt", "bas/test_gt.txt", "bas/test_bounding_box.txt",
    }  # fmt: skip
    same(lists.read_spol(out / "spol/train.txt"), splits["train"])
    same(lists.read_spol(out / "spol/val.txt"), splits["test"])
    same(lists.read_bas(out / "bas/test_list.txt", out / "bas/test_gt.txt"), splits["test"])
    same(lists.read_dgl(out / "dgl/labels/CUB/val.txt"), splits["test"])
    same(lists.read_dgl(out / "dgl/labels/CUB/train.txt", sides=True), splits["train"])
    assert (out / "bas/test_list.txt").read_bytes().startswith(b"001.Red_Bird/bird_2.png;0\r\n")
    assert (out / "bas/test_gt.txt").read_bytes().startswith(b"2.0 2.0 32.0 42.0 60 80\n")
    assert (out / "spol/val.txt").read_bytes().startswith(b"001.Red_Bird/bird_2.png,0,2 2 32 42\n")
    assert (
        (out / "dgl/labels/CUB/val.txt").read_bytes().startswith(b"001.Red_Bird/bird_2.png\t0\t2.0\t2.0\t32.0\t42.0\n")
    )


def test_lists_of_ilsvrc(tmp_path):
    root = test_ilsvrc.make(tmp_path / "ILSVRC")
    splits = {"train": DataSource("ilsvrc", root, "train").load(), "test": DataSource("ilsvrc", root, "val").load()}
    out = tmp_path / "lists"
    lists.write_all(splits, out, "ilsvrc", dict(zip(test_ilsvrc.WNIDS, test_ilsvrc.WORDS, strict=True)))
    assert (out / "spol/val.txt").read_text().splitlines()[0] == "ILSVRC2012_val_00000001.JPEG 2"
    assert (out / "bas/val_list.txt").read_text().splitlines()[0] == "n01484850/ILSVRC2012_val_00000001.JPEG;2"
    first = (out / "bas/val_gt.txt").read_bytes().split(b"\r\n")[0]
    assert first == b"n01484850\\\\ILSVRC2012_val_00000001.JPEG 50 40 ; 1 2 21 30"
    assert (out / "grcam/synset1.txt").read_text().endswith("n01484850 great white shark")
    assert (out / "spol/name.txt").read_text().splitlines()[0] == "tench, Tinca tinca"
    entries = lists.read_bas(out / "bas/val_list.txt", out / "bas/val_gt.txt")
    assert [(label, len(boxes)) for _, label, boxes in entries] == [(2, 1), (0, 1), (1, 2), (0, 1)]
    numbering = np.load(out / "spol/cls2idx.npy", allow_pickle=True).item()  # as SPOL's code reads it
    assert numbering == {wnid: label for label, wnid in enumerate(test_ilsvrc.WNIDS)}


def test_a_list_as_a_data_set(tmp_path):
    root = small_cub.make(tmp_path / "CUB")
    splits = {"test": DataSource("cub", root, "test").load()}
    lists.write_all(splits, tmp_path / "lists", "cub")
    sources = (
        ("spol", "spol/val.txt", None),
        ("dgl", "dgl/labels/CUB/val.txt", None),
        ("bas", "bas/test_list.txt", "bas/test_gt.txt"),
    )
    for list_format, file, boxes in sources:
        dataset = DataSource(
            "list", root / "images", "test", list_file=tmp_path / "lists" / file, list_format=list_format,
            boxes=boxes and tmp_path / "lists" / boxes,
        ).load()  # fmt: skip
        assert dataset.fingerprint() == splits["test"].fingerprint()
        assert dataset.class_names == small_cub.CLASSES


# ------------------------------------------------------------------------------------------------------- faulty lines


@pytest.mark.parametrize(("list_format", "text", "message"), [
    ("bas", "001.A/x.jpg 0\n", "list.txt:1: '001.A/x.jpg 0' has 0 semicolons"),
    ("bas", "001.A/x.jpg;zero\n", "list.txt:1: the label is 'zero'"),
    ("spol", "001.A/x.jpg,0,1 2 3\n", "list.txt:1: 3 box numbers"),
    ("spol", "001.A/x.jpg,0,1 2 3 4,5\n", "list.txt:1: 1 box numbers"),
    ("spol", "a b zero\n", "is no line of SPOL's"),
    ("dgl", "001.A/x.jpg 0 50 1 2 3\n", "list.txt:1: the box 50 1 2 3 is inside out; .*Say --data.list-format adl-cub"),
    ("dgl", "001.A/x.jpg 0 1 2 3 4 1 2 3 4\n", "list.txt:1: 10 fields; expected 2 or 6"),
    ("ts-cam", "001.A/x.jpg 0 1 2 3 4 1 2 3\n", "list.txt:1: 9 fields; expected 2 and 4 for each box"),
    ("adl-cub", "001.A/x.jpg 0 1 2 -3 4\n", "list.txt:1: a side is negative"),
    ("dgl", "001.A/x.jpg 0 1 2 3\n", "list.txt:1: 5 fields; expected 2 or 6"),
    ("dgl", "001.A/x.jpg 0 1 2 3 nan\n", "expected finite numbers"),
    ("dgl", "../x.jpg 0\n", "path '../x.jpg' is not usable"),
])  # fmt: skip
def test_faulty_lines_are_named(tmp_path, list_format, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=message):
        DataSource("list", tmp_path, list_file=path, list_format=list_format).load()


@pytest.mark.parametrize(("text", "message"), [
    ("1 2 3 4 5\n", "gt.txt:1: 5 numbers; expected x0 y0 x1 y1 HEIGHT WIDTH"),
    ("a\\\\y.jpg 50 40 ; 1 2 3 4\n", "gt.txt:1: the boxes are a/y.jpg's; expected a/x.jpg"),
    ("a\\\\x.jpg 50 40 ; 1 2 3\n", "gt.txt:1: 3 box numbers"),
    ("1 2 3 4 5 6\n1 2 3 4 5 6\n", "2 lines; expected 1, as list.txt has"),
])  # fmt: skip
def test_bas_box_files_that_disagree(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        lists.read_bas(write(tmp_path, "a/x.jpg;0\n"), write(tmp_path, text, "gt.txt"))


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="unknown style 'voc'"):
        lists.write_all({"test": Dataset("cub", "test", (), ())}, tmp_path, "voc")
    with pytest.raises(UserError, match="unknown list format 'voc'"):
        lists.load(tmp_path, tmp_path, "voc", "test")
    with pytest.raises(UserError, match="needs --data.list-file"):
        DataSource("list", tmp_path).load()
    assert Sample("a", tmp_path, 0).boxes.shape == (0, 4)


@pytest.mark.parametrize(("file_format", "text", "box"), [
    ("spol", "a/1.jpg,0,{}\n", "0.1 0.2 0.5 0.9"), ("ts-cam", "a/1.jpg\t0\t{}\n", "0\t0\t1\t1"),
    ("adl-cub", "a/1.jpg\t0\t{}\n", "0.1\t0.2\t0.5\t0.7"),
])  # fmt: skip
def test_boxes_that_are_fractions_of_the_image_are_refused(tmp_path, file_format, text, box):
    source = DataSource("list", tmp_path, list_file=write(tmp_path, text.format(box)), list_format=file_format)
    with pytest.raises(UserError, match="list.txt: all boxes lie within 0 to 1: they are fractions of the image"):
        source.load()
    pixels = "\t".join(("0", "0", "40", "50")) if "\t" in box else "0 0 40 50"
    write(tmp_path, text.format(box) + text.replace("a/1", "a/2").format(pixels))
    assert len(source.load()) == 2


def test_numbers_between_path_and_label_are_no_part_of_the_path(tmp_path):
    """SPOL's `path label` would take a line of ADL's for the path `a/1.jpg 0 27 0 65` of class 47; blanks are fine."""
    (tmp_path / "list.txt").write_text("a/1.jpg 0 27 0 65 47\n")
    with pytest.raises(UserError, match=r"list.txt:1: 'a/1.jpg 0 27 0 65 47' has numbers between path and label"):
        lists.read_spol(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("a/my photo 1.jpg 0\na/2 3.png 1\n")
    assert [entry[:2] for entry in lists.read_spol(tmp_path / "list.txt")] == [
        ("a/my photo 1.jpg", 0),
        ("a/2 3.png", 1),
    ]


def test_labels_that_do_not_begin_at_0_are_said(tmp_path):
    (tmp_path / "list.txt").write_text("a/1.jpg 1\nb/2.jpg 2\n")
    dataset = lists.load(tmp_path, tmp_path / "list.txt", "spol", "train")
    assert dataset.class_names == ("0", "a", "b")
    assert dataset.notes == (f"{tmp_path / 'list.txt'}: no image is of class 0; labels are counted from 0, and go from 1 "
                             "to 2 here",)  # fmt: skip
    (tmp_path / "list.txt").write_text("a/1.jpg 0\nb/2.jpg 2\n")
    assert lists.load(tmp_path, tmp_path / "list.txt", "spol", "train").notes == ()


@pytest.mark.parametrize(("labels", "said"), [
    ("0011", False), ("1100", False), ("0101", True), ("0012", False), ("0000", False),
])  # fmt: skip
def test_labels_in_another_order_than_the_folders_are_named(tmp_path, labels, said):
    paths = ("a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.jpg")
    (tmp_path / "list.txt").write_text("".join(f"{path} {label}\n" for path, label in zip(paths, labels, strict=True)))
    notes = lists.load(tmp_path, tmp_path / "list.txt", "dgl", "val").notes
    assert notes == ((f"{tmp_path}/list.txt: there are as many folders as classes, 2, but images of one folder are of "
                      "several classes in 2 of them: a has the labels 0, 1",) if said else ())  # fmt: skip
