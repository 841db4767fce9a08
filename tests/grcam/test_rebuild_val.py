import pytest

from common.datasets import DataSource
from common.system.errors import UserError
from grcam import handover
from grcam.pseudo_bbox.rebuild_val import Rebuild, rebuild
from tests import small_cub
from tests.grcam.released import golden


@pytest.fixture
def images(tmp_path):
    for name in ("a/one.jpg", "a/two.jpg", "three.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_text(name)
    (tmp_path / "class.txt").write_text("a/one.jpg,1,1,2\na/two.jpg,0,1,0\nthree.jpg,0,0,2\n")
    return tmp_path


def options(folder, **changes):
    return Rebuild(folder / "groups", folder / "class.txt", folder / "images", **{"classes": 3, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg", "resnet50se", "inceptionv3"])
def test_the_recorded_tree(tmp_path, name):
    """Equal: a folder for each of 1,000 classes, and each image in that of its class."""
    recorded = golden(f"e2e_{name}")
    (tmp_path / "class.txt").write_bytes(recorded["file_cls"].tobytes())
    for line in (tmp_path / "class.txt").read_text().splitlines():
        (tmp_path / line.split(",")[0]).write_text(line)
    rebuild(Rebuild(tmp_path / "groups", tmp_path / "class.txt", tmp_path))
    found = sorted(path.relative_to(tmp_path / "groups").as_posix() for path in (tmp_path / "groups").glob("*/*"))
    assert found == sorted(recorded["rebuild_tree"].tolist())
    assert sum(path.is_dir() for path in (tmp_path / "groups").iterdir()) == int(recorded["rebuild_dirs"]) == 1000


@pytest.mark.parametrize("copy", [False, True])
def test_links_or_copies_and_again(images, copy):
    groups = images / "groups"
    rebuild(options(images, copy=copy))
    assert (groups / "2/a/one.jpg").is_symlink() is not copy
    assert (groups / "2/a/one.jpg").read_text() == "a/one.jpg"
    assert sorted(path.name for path in (groups / "1").iterdir()) == []
    (images / "class.txt").write_text("a/one.jpg,0,1,1\na/two.jpg,0,1,0\n")
    rebuild(options(images, copy=copy))
    rebuild(options(images, copy=copy))
    assert (groups / "1/a/one.jpg").read_text() == "a/one.jpg"
    assert sorted(path.relative_to(groups).as_posix() for path in groups.glob("*/**/*.jpg")) == [
        "0/a/two.jpg",
        "1/a/one.jpg",
    ]
    assert (images / "images/three.jpg").read_text() == "three.jpg"


@pytest.mark.slow
def test_classes_beyond_the_releases_have_folders_too(images):
    """A thousand by default; one of a classifier whose classes are not the data set's may be beyond."""
    (images / "class.txt").write_text("a/one.jpg,-,-,1002\nthree.jpg,-,-,0\n")
    rebuild(options(images, classes=None))
    assert (images / "groups/1002/a/one.jpg").exists()
    assert sum(path.is_dir() for path in (images / "groups").iterdir()) == 1003


def test_links_become_copies_and_copies_links(images):
    for copy in (False, True, False):
        rebuild(options(images, copy=copy))
        assert (images / "groups/2/three.jpg").is_symlink() is not copy


@pytest.mark.parametrize(("line", "message"), [
    ("../class.txt,1,1,0", r"class.txt:4: path '../class.txt' is not usable"),
    ("/etc/passwd,1,1,0", r"class.txt:4: path '/etc/passwd' is not usable"),
    ("four.jpg,1,1,0", r"class.txt:4: four.jpg is not in .*images"),
    ("three.jpg,1,1,0", r"class.txt:4: three.jpg stands here twice, first in line 3"),
    ("four.jpg,1,1,3", r"class.txt:4: the predicted class is 3; expected a whole number from 0 to 2"),
    ("four.jpg,1,1,-1", r"class.txt:4: the predicted class is '-1'"),
    ("four.jpg,2,1,0", r"class.txt:4: Top-1 correct is 2; expected a whole number from 0 to 1"),
    ("four.jpg,1", r"class.txt:4: 'four.jpg,1' has 2 cells; expected name,top1,top5,class"),
])  # fmt: skip
def test_lines_that_are_not_right(images, line, message):
    with open(images / "class.txt", "a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=message):
        rebuild(options(images))
    assert not (images / "groups").exists()


def test_a_folder_of_something_else_is_left_alone(images):
    (images / "groups/0").mkdir(parents=True)
    (images / "groups/0/mine.jpg").write_text("mine")
    with pytest.raises(UserError, match="not empty, and not this step's"):
        rebuild(options(images))
    assert (images / "groups/0/mine.jpg").read_text() == "mine"


@pytest.mark.slow
def test_images_of_a_data_set(tmp_path):
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"))
    samples = source.load().samples
    (tmp_path / "class.txt").write_text("".join(f"{sample.image_id},1,1,{sample.label}\n" for sample in samples))
    rebuild(Rebuild(tmp_path / "groups", tmp_path / "class.txt", data=source))
    for sample in samples:
        assert (tmp_path / "groups" / str(sample.label) / sample.image_id).samefile(sample.path)
    with open(tmp_path / "class.txt", "a") as file:
        file.write("other.jpg,1,1,0\n")
    with pytest.raises(UserError, match=r"class.txt:7: other.jpg is not in .*CUB"):
        rebuild(Rebuild(tmp_path / "groups", tmp_path / "class.txt", data=source))


def test_unknown_classes_are_written_and_read_as_such(tmp_path):
    """A class file holds `-` for what nobody knows, never 0 for wrong; the predicted class is always a number."""
    handover.write_classes(tmp_path / "class.txt", {"a.jpg": (None, None, 7), "b.jpg": (True, 1, 2)})
    assert (tmp_path / "class.txt").read_text() == "a.jpg,-,-,7\nb.jpg,1,1,2\n"
    table = handover.read_classes(tmp_path / "class.txt")
    assert (table.first("a.jpg"), table.first("b.jpg")) == ((handover.UNKNOWN, handover.UNKNOWN, 7), (1, 1, 2))
    (tmp_path / "class.txt").write_text("a.jpg,0,0,-\n")
    with pytest.raises(UserError, match="the predicted class is '-'"):
        handover.read_classes(tmp_path / "class.txt")
