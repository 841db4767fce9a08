"""Lists, tables and folders that somebody else wrote: each fault is refused at its line, and none passes silently."""

import os
from dataclasses import replace

import pytest

from common.datasets import DataSource
from common.datasets.checking import check
from common.datasets.layouts import lists, wsoleval
from common.datasets.layouts.ilsvrc_classes import class_wnids
from common.datasets.sample import MAX_CLASSES
from common.prepare import Prepare
from common.system.errors import UserError, inside, printable
from tests import small_cub
from tests.hostile.payloads import refused
from tests.hostile.readers import BY_NAME, attempt, fault

PATHS = ("../evil.jpg", "a/../../evil.jpg", "/etc/passwd", "..", ".", "a/..", "a/.", "a/", "C:/evil.jpg", "a\\..\\evil.jpg",
         "a" * 300 + ".jpg", "x/" * 1500 + "a.jpg", "ä" * 130 + ".jpg")  # fmt: skip
BOXES = {"reversed": "40 40 2 2", "one side reversed": "40 2 2 40", "NaN": "nan 2 30 40", "infinite": "1 2 inf 40",
         "overflowing": "1 2 1e400 40", "huge": "1 2 1e300 40", "words": "a b c d", "three": "1 2 3", "five": "1 2 3 4 5",
         "underscores": "1_0 2 30 40", "other digits": "\u0661 2 30 40", "hexadecimal": "0x1 2 30 40", "empty": "   "}  # fmt: skip
"""x0 y0 x1 y1; every reader must refuse each."""


def row(reader: str, path: str = "001.Red_Bird/bird_1.png", label: str = "0", box: str = "1 2 30 40") -> str:
    """A line as each list has it."""
    return {
        "cub-images": f"2 {path}", "wsoleval-image_ids": path, "wsoleval-class_labels": f"{path},{label}",
        "wsoleval-localization": f"{path},{','.join(box.split(' '))}", "folder-boxes": f"{path},{','.join(box.split(' '))}",
        "list-bas": f"{path};{label}", "list-bas-boxes": f"{box} 60 80", "list-spol": f"{path},{label},{box}",
        "list-dgl": "\t".join([path, label, *box.split(" ")]), "list-ts-cam": "\t".join([path, label, *box.split(" ")]),
    }[reader]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("reader", ["cub-images", "folder-boxes", "list-bas", "list-spol", "list-dgl", "list-ts-cam"])
def test_paths_that_leave_the_folder(world, reader, path):
    assert f"{BY_NAME[reader].place}:2: " in fault(BY_NAME[reader], world, 2, row(reader, path))


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_leave_a_metadata_folder(world, path):
    reader = BY_NAME["wsoleval-image_ids"]
    labels = world / "metadata/test/class_labels.txt"
    kept = labels.read_text()
    labels.write_text(f"{kept}{path},0\n")
    try:
        rows = (world / reader.place).read_text()
        outcome = attempt(reader, world, f"{rows}{path}\n".encode())
    finally:
        labels.write_text(kept)
    assert outcome.kind == "refused"
    assert "image_ids.txt:7: path" in outcome.message


@pytest.mark.parametrize("wnid", ["../..", "/etc", "..", "a/../../b"])
def test_classes_that_leave_the_folder(tmp_path, wnid):
    """Their folders are listed, whatever lies in them."""
    (tmp_path / "ILSVRC" / "train" / "n01440764").mkdir(parents=True)
    (tmp_path / "secret.JPEG").touch()
    names = tmp_path / "ILSVRC" / "LOC_synset_mapping.txt"
    names.write_text(f"n01440764 tench\n{wnid} goldfish\n")
    assert "mapping.txt:2: the class" in refused(
        lambda: DataSource("ilsvrc", tmp_path / "ILSVRC", "train").load(), names
    )


def test_a_class_that_is_listed_twice(tmp_path):
    names = tmp_path / "LOC_synset_mapping.txt"
    names.write_text("n01440764 tench\nn01443537 goldfish\nn01440764 tench\n")
    assert "mapping.txt:3: n01440764 stands here twice" in refused(lambda: class_wnids(tmp_path), names)


@pytest.mark.parametrize(
    "name", [b"\xff.png", b"\x1b[2J.png", b"a\nb.png", "\u2028.png".encode(), "\u202e.png".encode()]
)
def test_names_on_the_disk_that_no_manifest_can_hold(tmp_path, name):
    (tmp_path / "images" / "a").mkdir(parents=True)
    open(os.path.join(os.fsencode(tmp_path / "images" / "a"), name), "wb").close()
    with pytest.raises(UserError, match="is not usable") as caught:
        DataSource("folder", tmp_path / "images", "all").load()
    assert printable(str(caught.value)) == str(caught.value)
    os.rename(tmp_path / "images" / "a", os.path.join(os.fsencode(tmp_path / "images"), name))
    with pytest.raises(UserError, match="is not usable"):
        DataSource("folder", tmp_path / "images", "all").load()


def test_links_in_the_image_folder_are_its_owners(tmp_path):
    """CUB and ILSVRC are often put together from links; what a *file* names is another matter, and refused above."""
    cub = small_cub.make(tmp_path / "CUB")
    (tmp_path / "elsewhere").mkdir()
    (cub / "images" / "001.Red_Bird").rename(tmp_path / "elsewhere" / "birds")
    (cub / "images" / "001.Red_Bird").symlink_to(tmp_path / "elsewhere" / "birds")
    assert all(sample.size == (80, 60) for sample in DataSource("cub", cub, "test").load())


@pytest.mark.parametrize(
    "path", ["./a.jpg", "a//b.jpg", "a/./b.jpg", "..a.jpg", "a b.jpg", "=1+1.jpg", "鳥/鳥.jpg", "%2e%2e/a.jpg"]
)
def test_odd_paths_that_are_fine(tmp_path, path):
    assert inside(tmp_path, path).is_relative_to(tmp_path)


# -------------------------------------------------------------------------------------------------------------- twice


@pytest.mark.parametrize("reader", ["list-bas", "list-spol", "list-dgl", "list-ts-cam"])
@pytest.mark.parametrize("same", ["001.Red_Bird/bird_1.png", "./001.Red_Bird/bird_1.png", "001.Red_Bird//bird_1.png"])
def test_an_image_that_stands_twice(world, reader, same):
    """A second line would be localized too, and its map written over the first one's."""
    assert "2: " in (message := fault(BY_NAME[reader], world, 2, row(reader, same)))
    assert "stands here twice, first in line 1" in message


def test_an_image_under_two_numbers(world):
    rows = (world / "cub/images.txt").read_text().splitlines()
    path = rows[1].split()[1]
    assert "images.txt:3: " in (message := fault(BY_NAME["cub-images"], world, 3, f"3 {path}"))
    assert "stands here twice, first in line 2" in message


def test_a_row_of_kaggles_solution_without_a_class(world):
    for text in (
        "ILSVRC2012_val_00000001",
        "ILSVRC2012_val_00000001,",
        "ILSVRC2012_val_00000001,n01440764 1 2 3 4,more",
    ):
        assert "LOC_val_solution.csv:2: " in fault(BY_NAME["ilsvrc-solution"], world, 2, text)
    assert "stands here twice" in fault(
        BY_NAME["ilsvrc-solution"], world, 1, "ILSVRC2012_val_00000001,n01440764 1 2 3 4"
    )


# -------------------------------------------------------------------------------------------------------------- boxes


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize(
    "reader", ["wsoleval-localization", "folder-boxes", "list-bas-boxes", "list-spol", "list-dgl", "list-ts-cam"]
)
def test_boxes_that_are_none(world, reader, box):
    text = row(reader, "001.Red_Bird/bird_2.png", box=box)
    if reader in ("list-dgl", "list-ts-cam", "folder-boxes") and box == "   ":
        text += "1"  # blanks alone say there that there is no box
    assert f"{BY_NAME[reader].place}:2: " in fault(BY_NAME[reader], world, 2, text)


@pytest.mark.parametrize(
    "box", ["nan 2 3 4", "1 2 inf 4", "1 2 0 4", "1 2 -3 4", "1 2 3", "a b c d", "1 2 1e300 4", "1_0 2 3 4"]
)
def test_boxes_of_cub_that_are_none(world, box):
    assert "bounding_boxes.txt:2: " in fault(BY_NAME["cub-bounding_boxes"], world, 2, f"2 {box}")


def test_a_negative_box_in_metadata(world):
    assert "inside out or negative" in fault(
        BY_NAME["wsoleval-localization"], world, 2, row("wsoleval-localization", box="-5 2 30 40")
    )


def test_a_box_outside_its_image_is_a_problem_of_prepare(tmp_path):
    cub = small_cub.make(tmp_path / "CUB")
    text = (cub / "bounding_boxes.txt").read_text().replace("1 0.0 2.0 30.0 40.0", "1 900.0 2.0 30.0 40.0")
    (cub / "bounding_boxes.txt").write_text(text)
    problems = check(Prepare("cub", cub, workers=1)).problems
    assert any("lies outside its 80 x 60 pixels" in problem for problem in problems)


def test_adls_training_lists_hold_sides(tmp_path):
    """Their `x y width height` looks like corners inside out, or, worse, does not."""
    for name, text, why in (
        ("train", "27\t0\t65\t47", "may be two corners"),
        ("test", "27\t0\t65\t47", "may be two corners"),
        ("val", "300\t50\t100\t80", "inside out"),
    ):
        path = tmp_path / f"{name}.txt"
        path.write_text(f"a.jpg\t0\t{text}\n")
        assert len(lists.load(tmp_path, path, "adl-cub", "test")) == 1
        refused(lambda: lists.load(tmp_path, path, "dgl", "test"), path, ".txt:1: ", why, "adl-cub")  # noqa: B023


# ------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    "label", ["-1", "1.0", "nan", "", "+1", "1_0", "\u0661", str(MAX_CLASSES), "999999999999", "9" * 5000]
)
@pytest.mark.parametrize("reader", ["list-bas", "list-spol", "list-dgl", "list-ts-cam", "wsoleval-class_labels"])
def test_labels_that_are_none(world, reader, label):
    """A label of a million millions would have as many class names made."""
    text = row(reader, "001.Red_Bird/bird_2.png", label)
    assert f"{BY_NAME[reader].place}:2: " in fault(BY_NAME[reader], world, 2, text)


@pytest.mark.parametrize("size", ["0,60", "-80,60", "80", "80.0,60", "80,60,3", "999999999999,60", ","])
def test_sizes_that_are_none(world, size):
    assert "image_sizes.txt:2: " in fault(BY_NAME["wsoleval-image_sizes"], world, 2, f"001.Red_Bird/bird_2.png,{size}")


# ------------------------------------------------------------------------------------------------------------- written


def test_metadata_whose_commas_could_be_two_images_are_not_written(tmp_path):
    """A box of `a` would be a mask of `a,1,2`."""
    dataset = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test").load()
    named = (replace(sample, image_id=name) for sample, name in zip(dataset, ("a", "a,2,2"), strict=False))
    with pytest.raises(UserError, match="the line may be"):
        wsoleval.write(replace(dataset, samples=tuple(named)), tmp_path / "metadata")
    assert not (tmp_path / "metadata").exists()
