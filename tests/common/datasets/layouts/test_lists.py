import numpy as np
import pytest

from common.datasets import DataSource, Sample
from common.datasets.layouts import lists
from common.system.errors import UserError


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
    ("dgl", "001.A/x.jpg 0 0 0 0 0\n", "list.txt:1: the box 0 0 0 0 is a point; expected a box. Leave its numbers out"),
    ("dgl", "001.A/x.jpg 0 9 9 9 9\n", "list.txt:1: the box 9 9 9 9 is a point; .*Say --data.list-format adl-cub"),
    ("ts-cam", "001.A/x.jpg 0 1 2 3 4 -1 -1 -1 -1\n", "list.txt:1: the box -1 -1 -1 -1 is a point"),
    ("spol", "001.A/x.jpg,0,0 0 0 0\n", "list.txt:1: the box 0 0 0 0 is a point"),
    ("adl-cub", "001.A/x.jpg 0 7 8 0 0\n", "list.txt:1: the box 7 8 7 8 is a point"),
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
