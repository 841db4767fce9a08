import shutil
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from common import prepare
from common.datasets import DataSource
from common.datasets.checking import Checked, check
from common.datasets.layouts import LAYOUTS
from common.datasets.layouts.wsoleval import write as write_metadata
from common.prepare import Prepare, write_lists
from common.system.errors import UserError
from tests import small_cub
from tests.common.datasets.layouts import test_ilsvrc


@pytest.fixture
def root(tmp_path):
    return small_cub.make(tmp_path / "CUB")


def report(root, name="cub", **options):
    return check(Prepare(name, root, workers=1, **options))


def test_a_sound_data_set(root):
    found = report(root)
    assert found.problems == []
    assert [row[:5] for row in found.rows] == [["train", "6", "3 of 3", "6", "0"], ["test", "6", "3 of 3", "6", "0"]]
    assert f"{root}: 6 test images, the whole data set has 5794" in found.notes


def test_images_that_are_missing_or_broken(root):
    (root / "images/001.Red_Bird/bird_0.png").unlink()
    (root / "images/001.Red_Bird/bird_2.png").write_bytes(b"")
    problems = report(root).problems
    assert len(problems) == 2
    assert "bird_0.png: no such image" in problems[0]
    assert "bird_2.png: the file is empty" in problems[1]
    assert len(report(root, decode="none").problems) == 0
    assert len(report(root, decode="headers").problems) == 2


def test_masks_of_no_use_are_notes(root):
    Image.new("L", (9, 9)).save(root / "segmentations/001.Red_Bird/bird_0.png")
    (root / "segmentations/001.Red_Bird/bird_2.png").unlink()
    found = report(root)
    assert found.problems == []
    assert any("1 image has a mask that pixel metrics leave out" in note and "9x9" in note for note in found.notes)
    assert "test: 1 of 6 images have no mask, which pixel metrics leave out" in found.notes


@pytest.mark.slow
def test_images_that_an_exif_tag_turns(root):
    """Of 80 x 60 pixels stored, shown as 60 x 80: the box 0 2 30 42 fits both, 0 30 30 70 the picture on its side alone."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = root / "images/001.Red_Bird/bird_0.png"
    Image.open(path).save(path, exif=exif)
    told = ("train: 1 of 6 images have an EXIF tag that turns them in viewers, 001.Red_Bird/bird_0.png among them; they "
            "are read as stored, and boxes are pixels of the stored picture")  # fmt: skip
    for decode in ("all", "headers"):
        found = report(root, decode=decode)
        assert (found.problems, told in found.notes) == ([], True)
    assert not any("EXIF" in note for note in report(root, splits=("test",)).notes)
    boxes = root / "bounding_boxes.txt"
    boxes.write_text(boxes.read_text().replace("1 0.0 2.0 30.0 40.0", "1 0.0 30.0 30.0 40.0", 1))
    (problem,) = report(root).problems
    assert problem == f"{path}: its boxes fit the picture as its EXIF tag turns it, not the 80 x 60 pixels stored; " \
                      "save the picture turned, without the tag"  # fmt: skip


def test_images_of_two_splits_are_found_behind_links_and_copies(tmp_path):
    """test/ is a link to train/: the same files; with a copy of one of them in place of the link: the same content."""
    images = small_cub.make(tmp_path / "CUB") / "images"
    root = tmp_path / "own"
    root.mkdir()
    shutil.copytree(images, root / "train")
    (root / "test").symlink_to("train")
    assert "12 images stand in both train and test" in report(root, "folder").problems
    (root / "test").unlink()
    for number, name in enumerate(small_cub.CLASSES):
        (root / "test" / name).mkdir(parents=True)
        Image.new("RGB", (30, 20), (number, 0, 0)).save(root / "test" / name / "new.png")
    shutil.copy(root / "train/001.Red_Bird/bird_0.png", root / "test/002.Blue_Bird/copy.png")
    found = report(root, "folder")
    assert found.problems == []
    assert "1 image of test is in train too, by the files' content: 002.Blue_Bird/copy.png" in found.notes


@pytest.mark.parametrize(("change", "said"), [
    (lambda mask: 255 - mask, "test: 6 images have most of their mask's object outside their boxes: 001.Red_Bird/bird_2.png"),
    (lambda mask: mask * 0, "test: 6 images have masks without an object: 001.Red_Bird/bird_2.png and 5 more"),
    (lambda mask: mask, None),
])  # fmt: skip
def test_masks_that_show_something_else_are_noted(root, change, said):
    """A box of 30 x 40 in 80 x 60 pixels is a quarter of the image, so that an inverted mask lies outside it."""
    for path in (root / "segmentations").rglob("*.png"):
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path)
    notes = [note for note in report(root, splits=("test",)).notes if note.startswith("test: ") and "mask" in note]
    assert [note[: len(said or "")] for note in notes] == ([said] if said else [])


def test_held_images_are_checked_with_train(root):
    with pytest.raises(
        UserError, match="the split 'held' is a part of 'train', which is checked whole. Say --splits train"
    ):
        report(root, splits=("held",))


def test_copies_within_a_split_are_noted(tmp_path):
    """One photograph under two classes: whatever is predicted, one of the two is wrong."""
    images = tmp_path / "own"
    shutil.copytree(small_cub.make(tmp_path / "CUB") / "images", images / "test")
    shutil.copy(images / "test/001.Red_Bird/bird_0.png", images / "test/002.Blue_Bird/copy.png")
    (note,) = [note for note in report(images, "folder").notes if "a copy" in note]
    assert note == ("test: 1 image is a copy of another, 1 of another class: "
                    "001.Red_Bird/bird_0.png and 002.Blue_Bird/copy.png")  # fmt: skip


def test_problems_name_this_commands_options(tmp_path):
    """Other commands say --data.root, --data.split."""
    small_cub.make(tmp_path / "CUB")
    (tmp_path / "in").mkdir()
    (problem,) = report(tmp_path / "in", "ilsvrc", splits=("val",)).problems
    assert "--data." not in problem
    assert "--root" in problem


def test_sizes_that_disagree_with_the_images(tmp_path, root):
    write_metadata(DataSource("cub", root, "test").load(), tmp_path / "metadata")
    sizes = tmp_path / "metadata/test/image_sizes.txt"
    sizes.write_text(sizes.read_text().replace("80,60", "60,80", 1))
    (problem,) = report(root / "images", "wsoleval", metadata=tmp_path / "metadata").problems
    assert problem.endswith("bird_2.png: 80 x 60 pixels; its annotations say 60 x 80")


@pytest.mark.parametrize(("box", "message"), [
    ("90.0 2.0 30.0 40.0", "the box 90 2 120 42 lies outside its 80 x 60 pixels"),
    ("0.0 2.0 0.0 40.0", "is empty"),
])  # fmt: skip
def test_boxes_that_make_no_sense(root, box, message):
    text = (root / "bounding_boxes.txt").read_text()
    (root / "bounding_boxes.txt").write_text(text.replace("1 0.0 2.0 30.0 40.0", f"1 {box}", 1))
    (problem,) = report(root).problems
    assert message in problem


def test_boxes_that_stick_out_are_noted(root):
    text = (root / "bounding_boxes.txt").read_text()
    (root / "bounding_boxes.txt").write_text(text.replace("1 0.0 2.0 30.0 40.0", "1 60.0 2.0 30.0 40.0", 1))
    found = report(root)
    assert found.problems == []
    assert any("1 box sticks out" in note for note in found.notes)


def test_a_faulty_line_is_told_once_though_both_splits_read_it(root):
    with open(root / "images.txt", "a") as file:
        file.write("99 004.Ghost/x.png\n")
    assert len(report(root).problems) == 1


def test_an_image_in_both_splits(root):
    first = (root / "images.txt").read_text().splitlines()[0].split()[1]
    text = (root / "images.txt").read_text()
    (root / "images.txt").write_text(text.replace("3 001.Red_Bird/bird_2.png", f"3 {first}"))
    assert "1 image stands in both train and test" in report(root).problems


def test_a_class_without_images(root):
    with open(root / "classes.txt", "a") as file:
        file.write("4 004.Ghost\n")
    assert "train: no image of 1 class: 004.Ghost" in report(root).problems


@pytest.mark.slow
def test_list_files_are_written_and_compared(root, tmp_path):
    options = Prepare("cub", root, workers=1, lists=tmp_path / "lists")
    written = write_lists(options, check(options).splits, options.lists)
    assert (tmp_path / "lists/wsoleval/test/localization.txt").is_file()
    assert len(written) == 9
    for name in ("spol/train.txt", "spol/val.txt", "bas/test_list.txt", "bas/test_gt.txt"):
        (root / name.split("/")[1]).write_bytes((tmp_path / "lists" / name).read_bytes())
    assert report(root).problems == []
    text = (root / "val.txt").read_text()
    (root / "val.txt").write_text(text.replace("bird_2.png,0,2 2 32 42", "bird_2.png,0,2 2 32 43"))
    (problem,) = report(root).problems
    assert problem == f"{root / 'val.txt'}: 1 image differs from the annotations: 001.Red_Bird/bird_2.png"


def test_ilsvrcs_totals_are_known(tmp_path):
    root = test_ilsvrc.make(tmp_path)
    found = report(root, "ilsvrc")
    problems = found.problems
    assert found.notes.count(f"{root}: say --subset where a part of the data set is meant") == 1
    assert f"{root}: 9 train images, the whole data set has 1281167" in problems
    assert f"{root}: 4 val images, the whole data set has 50000" in problems
    assert f"{root}: 5 boxes, the whole data set has 80477" in problems
    assert f"{root}: 3 classes, the whole data set has 1000" in problems


def test_nothing_there(tmp_path):
    (problem,) = report(tmp_path / "nowhere").problems
    assert "no such folder" in problem


FOR_SOME = {
    "--metadata": {"wsoleval", "openimages"}, "--boxes": {"folder", "imagenetv2"}, "--leave-out": {"ilsvrc"},
    "--recipe.seed": {"demo"}, "--scenes.seed": {"demo-scenes"},
}  # fmt: skip


@pytest.mark.parametrize("name", get_args(Checked))
def test_help_shows_what_applies(name, monkeypatch, capsys):
    for words in ([name, "--help"], ["--help", name], ["--root", "voc", name, "-h"]):
        monkeypatch.setattr("sys.argv", ["prepare", *words])
        with pytest.raises(SystemExit, match="0"):
            prepare.main()
        shown = capsys.readouterr().out
        assert {option for option in FOR_SOME if option in shown} == {
            option for option, names in FOR_SOME.items() if name in names
        }
        assert "--decode" in shown


def test_help_without_a_data_set_shows_everything(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["prepare", "--root", "cub", "--help"])
    with pytest.raises(SystemExit, match="0"):
        prepare.main()
    shown = capsys.readouterr().out
    assert all(option in shown for option in FOR_SOME)


def test_options_without_effect_are_parsed(root, monkeypatch, capsys):
    words = ["cub", "--root", root, "--scenes.seed", "3"]
    monkeypatch.setattr("sys.argv", ["prepare", *map(str, words), "--subset", "--workers", "1"])
    assert prepare.main() == 0
    assert capsys.readouterr().out.endswith("is ready\n")


def test_options_that_a_data_set_does_not_read_are_problems(root, monkeypatch, capsys):
    """They are parsed, and the boxes of the file that one names are not those that were checked."""
    for option, value in (("metadata", "m"), ("boxes", "b"), ("leave-out", "odd")):
        monkeypatch.setattr("sys.argv", ["prepare", "cub", "--root", str(root), f"--{option}", value, "--workers", "1"])
        assert prepare.main() == 2
        said = f"problem: --{option} with cub, which does not read it; expected the data set "
        assert said in capsys.readouterr().out


def test_every_data_set_has_a_layout():
    assert LAYOUTS.keys() == {*get_args(DataSource.__annotations__["name"])}
    assert {name for name, layout in LAYOUTS.items() if layout.splits} == {*get_args(Checked)}
    assert {option for layout in LAYOUTS.values() for option in layout.options} <= DataSource.__annotations__.keys()


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "common.prepare", *map(str, arguments)], capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_command(root, tmp_path):
    done = command("cub", "--root", root, "--lists", tmp_path / "lists")
    assert done.returncode == 0
    assert done.stdout.endswith(f"{root} is ready\n")
    (root / "images/001.Red_Bird/bird_0.png").unlink()
    done = command("cub", "--root", root, "--lists", tmp_path / "lists")
    assert done.returncode == 2
    assert [line for line in done.stdout.splitlines() if line.startswith("problem: ")] == [
        f"problem: {root / 'images/001.Red_Bird/bird_0.png'}: no such image",
        "problem: no list files are written before the problems above are mended",
    ]


@pytest.mark.slow
def test_the_command_renders_the_demo_data(tmp_path):
    done = command("demo", "--root", tmp_path / "demo", "--recipe.train-per-class", "1", "--recipe.test-per-class", "1")
    assert done.returncode == 0, done.stderr
    assert "8 of 8" in done.stdout
