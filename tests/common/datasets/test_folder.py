import pytest
from PIL import Image

from common.datasets import DataSource
from common.system.errors import UserError


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (50, 40)).save(path)


@pytest.fixture
def root(tmp_path):
    for name in ("cat/1.jpg", "cat/deep/2.png", "dog/1.jpg"):
        picture(tmp_path / "pets" / name)
    (tmp_path / "pets/dog/notes.txt").touch()
    return tmp_path / "pets"


def load(root, split="test", **options):
    return DataSource("folder", root, split, **options).load()


def boxes_file(root, text):
    path = root.parent / "boxes.csv"
    path.write_bytes(text.encode())
    return path


def test_class_folders(root):
    dataset = load(root)
    assert [(sample.image_id, sample.label) for sample in dataset] == [
        ("cat/1.jpg", 0),
        ("cat/deep/2.png", 0),
        ("dog/1.jpg", 1),
    ]
    assert dataset.class_names == ("cat", "dog")
    assert len(dataset.samples[0].boxes) == 0


def test_splits(tmp_path):
    for split in ("train", "test"):
        for number in range(3):
            picture(tmp_path / split / "cat" / f"{number}.jpg")
    assert len(load(tmp_path, "train")) == 3
    assert (len(load(tmp_path, "train", held_per_class=1)), len(load(tmp_path, "held", held_per_class=1))) == (2, 1)


@pytest.mark.parametrize("text", [
    "cat/1.jpg,1,2,30,40\ncat/1.jpg,3,4,5,6\ndog/1.jpg,0,0,50,40\n",
    "\ufeffpath,x0,y0,x1,y1\r\n\"cat/1.jpg\",1,2,30,40\r\ncat/1.jpg, 3, 4, 5, 6\r\ndog/1.jpg,0,0,50,40\r\n",
])  # fmt: skip
def test_boxes(root, text):
    dataset = load(root, boxes=boxes_file(root, text))
    assert [sample.boxes.tolist() for sample in dataset] == [[[1, 2, 30, 40], [3, 4, 5, 6]], [], [[0, 0, 50, 40]]]


def test_quoted_commas(root):
    picture(root / "cat" / "a, b.jpg")
    dataset = load(root, boxes=boxes_file(root, '"cat/a, b.jpg",1,2,3,4\n'))
    assert next(sample for sample in dataset if "," in sample.image_id).boxes.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(("text", "message"), [
    ("cat/1.jpg,1,2,3\n", "boxes.csv:1: 4 cells; expected path,x0,y0,x1,y1"),
    ("cat/1.jpg,30,2,3,40\n", "boxes.csv:1: the box 30 2 3 40 is empty or inside out"),
    ("cat/1.jpg,a,2,3,40\n", "boxes.csv:1: the box is 'a 2 3 40'; expected numbers"),
    ("cat/1.jpg,1,2,inf,40\n", "expected finite numbers"),
    ("../1.jpg,1,2,3,40\n", "boxes.csv:1: path '../1.jpg' is not usable"),
    ("cat/9.jpg,1,2,3,40\n", "1 of its paths are no image there, 'cat/9.jpg' among them"),
    ('"cat/1.jpg,1,2,3,40\n', "boxes.csv:1: not a row of a CSV file"),
    ("," * 99_000 + "\n", "boxes.csv:1: 99001 cells"),
])  # fmt: skip
def test_faulty_boxes_are_named(root, text, message):
    with pytest.raises(UserError, match=message):
        load(root, boxes=boxes_file(root, text))


def test_what_is_missing_is_said(tmp_path, root):
    with pytest.raises(UserError, match="expected train/<class>/<image>"):
        load(root, "train")
    with pytest.raises(UserError, match="no class folder is there"):
        load(root / "dog")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(UserError, match="no image in any class folder"):
        load(tmp_path / "empty")
    with pytest.raises(UserError, match="no such file"):
        load(root, boxes=tmp_path / "gone.csv")
