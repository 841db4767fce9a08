import unicodedata

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


def load(root, split="all", **options):
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


def test_a_split_that_is_not_there_is_refused(tmp_path, root):
    """The root's own folders are never taken in its place: `train` and `val` would become two classes."""
    for split in ("train", "val"):
        picture(tmp_path / "insects" / split / "ants" / "1.jpg")
    with pytest.raises(UserError, match=r"test: no such split; expected one of train, val. Name it with --data.split"):
        load(tmp_path / "insects", "test")
    with pytest.raises(UserError, match="its folders train, val are called as splits, not as classes"):
        load(tmp_path / "insects", "all")
    with pytest.raises(UserError, match=r"Say --data.split all where the class folders lie in .*pets itself"):
        load(root, "test")
    with pytest.raises(UserError, match="'../pets' is not usable"):
        load(root, "../pets")
    assert (load(root).split, load(tmp_path / "insects", "val").class_names) == ("all", ("ants",))


def test_a_folder_of_the_name_all_is_a_split(tmp_path):
    picture(tmp_path / "all" / "ants" / "1.jpg")
    assert load(tmp_path, "all").class_names == ("ants",)


@pytest.mark.parametrize("text", [
    "cat/1.jpg,1,2,30,40\ncat/1.jpg,3,4,5,6\ndog/1.jpg,0,0,50,40\n",
    "\ufeffpath,x0,y0,x1,y1\r\n\"cat/1.jpg\",1,2,30,40\r\ncat/1.jpg, 3, 4, 5, 6\r\ndog/1.jpg,0,0,50,40\r\n",
])  # fmt: skip
def test_boxes(root, text):
    dataset = load(root, boxes=boxes_file(root, text))
    assert [sample.boxes.tolist() for sample in dataset] == [[[1, 2, 30, 40], [3, 4, 5, 6]], [], [[0, 0, 50, 40]]]


ROWS = (("cat/1.jpg", 1, 2, 30, 40), ("dog/1.jpg", 3, 4, 50, 40))


def joined(head, separator=",", rows=ROWS, end="\n"):
    return "".join(f"{line}{end}" for line in [*head, *(separator.join(map(str, row)) for row in rows)])


@pytest.mark.parametrize("content", [
    joined(["path;x0;y0;x1;y1"], ";").encode(),
    joined(["Filename\tXMin\tYMin\tXMax\tYMax"], "\t", end="\r\n").encode("utf-16"),
    joined([], ";").encode(),
    joined(["sep=;", "image_id;x1;y1;x2;y2"], ";").encode(),
    joined(["\ufeffsep=\t", "image\tleft\ttop\tright\tbottom"], "\t").encode(),
    joined(["# made by hand", "path,x0,y0,x1,y1"]).encode(),
    joined(["path,x0,y0,x1,y1,,"], rows=[(*row, "", "") for row in ROWS]).encode(),
    joined([], rows=[(*row, "", "") for row in ROWS]).encode(),
    joined([], rows=[(*row, row[0][:3]) for row in ROWS]).encode(),
    joined(["path,x,y,width,height"], rows=[(p, x, y, r - x, b - y) for p, x, y, r, b in ROWS]).encode(),
    joined(["filename,width,height,class,xmin,ymin,xmax,ymax"], rows=[(p, 50, 40, p[:3], *b) for p, *b in ROWS]).encode(),
    joined(["bbox_x,bbox_y,bbox_w,bbox_h,file_name"], rows=[(x, y, r - x, b - y, p) for p, x, y, r, b in ROWS]).encode(),
    joined(["path,x0,y0,x1,y1"], rows=[(p.replace("/", "\\"), *b) for p, *b in ROWS]).encode(),
    joined(["path,x0,y0,x1,y1"], rows=[("./" + p, *b) for p, *b in ROWS]).encode(),
    joined(["path;x0;y0;x1;y1"], ";", rows=[(p, *(f"{v},0" for v in b)) for p, *b in ROWS]).encode(),
    joined(["path,x0,y0,x1,y1"], end="\r").encode(),
    joined(['"path","x0","y0","x1","y1"'], rows=[(f'"{p}"', *(f'"{v}"' for v in b)) for p, *b in ROWS]).encode(),
])  # fmt: skip
def test_shapes_of_a_boxes_file(root, content):
    path = root.parent / "boxes.csv"
    path.write_bytes(content)
    dataset = load(root, boxes=path)
    assert [sample.boxes.tolist() for sample in dataset] == [[[1, 2, 30, 40]], [], [[3, 4, 50, 40]]]


def test_other_encodings_say_what_is_read(root):
    path = root.parent / "boxes.csv"
    path.write_bytes("path,x0,y0,x1,y1\nBär/1.jpg,1,2,3,4\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"boxes.csv:2: the file is not UTF-8 text; expected a text file in UTF-8"):
        load(root, boxes=path)


def test_either_unicode_form_is_one_name(tmp_path):
    picture(tmp_path / "pets" / unicodedata.normalize("NFD", "Bär") / "1.jpg")
    for form in ("NFC", "NFD"):
        path = boxes_file(tmp_path / "pets", unicodedata.normalize(form, "Bär/1.jpg") + ",1,2,30,40\n")
        assert load(tmp_path / "pets", boxes=path).samples[0].boxes.tolist() == [[1, 2, 30, 40]]


def test_images_without_an_object_are_a_kind_of_their_own(root):
    dataset = load(root, boxes=boxes_file(root, "cat/1.jpg,1,2,30,40\ndog/1.jpg,,,,\n"))
    assert [(len(sample.boxes), sample.negative) for sample in dataset] == [(1, False), (0, False), (0, True)]
    unsaid = load(root, boxes=boxes_file(root, "cat/1.jpg,1,2,30,40\n"))
    assert dataset.fingerprint() != unsaid.fingerprint()


@pytest.fixture
def two(tmp_path):
    """train/ and test/ with images of the same names."""
    for split in ("train", "test"):
        for number in range(3):
            picture(tmp_path / "own" / split / "cat" / f"{number}.jpg")
    return tmp_path / "own"


def counts(two, split, boxes, **options):
    return [len(sample.boxes) for sample in load(two, split, boxes=boxes, **options)]


def test_a_path_in_two_splits_is_never_a_training_images(two):
    boxes = boxes_file(two, "cat/0.jpg,1,2,30,40\n")
    assert counts(two, "test", boxes) == [1, 0, 0]
    assert "taken as test's; write test/cat/0.jpg to say so" in load(two, "test", boxes=boxes).notes[0]
    assert counts(two, "train", boxes) == [0, 0, 0]
    with pytest.raises(UserError, match="'cat/0.jpg' among them, are images of train and of test; expected paths that"):
        load(two, "held", boxes=boxes, held_per_class=1)
    picture(two / "val" / "cat" / "0.jpg")
    with pytest.raises(UserError, match="are images of test and of val"):
        load(two, "test", boxes=boxes)


@pytest.mark.parametrize("text", [
    "train/cat/0.jpg,1,2,3,4\ntest/cat/1.jpg,1,2,3,4\n",
    "path,split,x0,y0,x1,y1\ncat/0.jpg,train,1,2,3,4\ncat/1.jpg,test,1,2,3,4\n",
])  # fmt: skip
def test_one_file_for_two_splits(two, text):
    boxes = boxes_file(two, text)
    assert counts(two, "train", boxes) == [1, 0, 0]
    assert counts(two, "test", boxes) == [0, 1, 0]
    assert load(two, "held", boxes=boxes, held_per_class=1).notes == ()


def test_a_file_for_one_split_is_no_fault_of_another(two):
    (two / "train/cat/0.jpg").rename(two / "train/cat/9.jpg")
    boxes = boxes_file(two, "cat/0.jpg,1,2,30,40\n")
    assert counts(two, "train", boxes) == [0, 0, 0]
    with pytest.raises(UserError, match="1 of its paths is no image there: 'dog/0.jpg'"):
        load(two, "train", boxes=boxes_file(two, "dog/0.jpg,1,2,30,40\n"))


def test_what_is_no_image_is_counted_by_kind(root, capsys):
    for name in ("cat/._1.jpg", "cat/.DS_Store", "cat/Thumbs.db", "__MACOSX/a/._1.jpg", "cat/.ipynb_checkpoints/1.jpg",
                 "cat/@eaDir/1.jpg/THUMB.jpg", "cat/@__thumb/1.jpg", "#snapshot/a/1.jpg", "stray.jpg"):  # fmt: skip
        picture(root / name) if name.endswith("jpg") else (root / name).touch()
    picture(root / "dog/2.JPG")
    Image.new("RGB", (5, 4)).save(root / "dog/3.JFIF", format="JPEG")
    dataset = load(root)
    assert dataset.class_names == ("cat", "dog")
    ids = [sample.image_id for sample in dataset]
    assert ids == ["cat/1.jpg", "cat/deep/2.png", "dog/1.jpg", "dog/2.JPG", "dog/3.JFIF"]
    assert dataset.passed_over == {
        "__MACOSX/": 1, "*.jpg": 1, "._*": 1, ".DS_Store": 1, "Thumbs.db": 1, ".ipynb_checkpoints/": 1, "@eaDir/": 1,
        "*.txt": 1, "@__thumb/": 1, "#snapshot/": 1,
    }  # fmt: skip
    assert "10 files and folders" in capsys.readouterr().err
    assert "1 @eaDir/" in dataset.all_notes(root)[0]


def test_quoted_commas(root):
    picture(root / "cat" / "a, b.jpg")
    dataset = load(root, boxes=boxes_file(root, '"cat/a, b.jpg",1,2,3,4\n'))
    assert next(sample for sample in dataset if "," in sample.image_id).boxes.tolist() == [[1, 2, 3, 4]]


@pytest.mark.slow
@pytest.mark.parametrize(("text", "message"), [
    ("cat/1.jpg,1,2,3\n", "boxes.csv:1: 4 cells; expected path,x0,y0,x1,y1"),
    ("cat/1.jpg,30,2,3,40\n", "boxes.csv:1: the box 30 2 3 40 is empty or inside out"),
    ("cat/1.jpg,a,2,3,40\n", "boxes.csv:1: the box is 'a 2 3 40'; expected numbers"),
    ("cat/1.jpg,1,2,inf,40\n", "expected finite numbers"),
    ("../1.jpg,1,2,3,40\n", "boxes.csv:1: path '../1.jpg' is not usable"),
    ("cat/9.jpg,1,2,3,40\n", "1 of its paths is no image there: 'cat/9.jpg'"),
    ('"cat/1.jpg,1,2,3,40\n', "boxes.csv:1: not a row of a CSV file"),
    ("," * 99_000 + "\n", "boxes.csv:1: path '' is not usable"),
    ("cat/1.jpg,1,2,3,4,5,6\n", "boxes.csv:1: 7 cells; expected path,x0,y0,x1,y1"),
    ("path,xmin,ymin,xmax,ymax\ncat/1.jpg,1,2,3\n", "boxes.csv:2: 4 cells; expected the cells that the head names"),
    ("path,x,y,width,height\ncat/1.jpg,1,2,0,9\n", "boxes.csv:2: the box 1 2 0 9 is empty"),
    ("path,x_center,y_center,width,height\ncat/1.jpg,1,2,3,4\n", "boxes.csv:1: the head 'path,x_center,y_center,width,height' names no box"),
    ("cat/1.jpg,,2,3,4\n", "boxes.csv:1: the box is ' 2 3 4'; expected numbers"),
    ("cat/1.jpg,,,,\ncat/1.jpg,1,2,3,4\n", "cat/1.jpg has a box in one line and none in another"),
    ("cat/1.jpg,0.1,0.2,0.5,0.9\ndog/1.jpg,0,0,1,1\n", "boxes.csv:1: all boxes lie within 0 to 1: they are fractions"),
])  # fmt: skip
def test_faulty_boxes_are_named(root, text, message):
    with pytest.raises(UserError, match=message):
        load(root, boxes=boxes_file(root, text))


def test_what_is_missing_is_said(tmp_path, root):
    with pytest.raises(UserError, match=r"no such split; expected train/<class>/<image>. Say --data.split all where"):
        load(root, "train")
    with pytest.raises(UserError, match="no class folder is there"):
        load(root / "dog")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(UserError, match="no image in any class folder"):
        load(tmp_path / "empty")
    with pytest.raises(UserError, match="no such file"):
        load(root, boxes=tmp_path / "gone.csv")


def test_boxes_of_other_classes_are_left_out_and_counted(root, capsys):
    """Of cat/1.jpg's two boxes one is a dog's; where no line names a class folder, the column is about something else."""
    rows = (
        "path,class,xmin,ymin,xmax,ymax\ncat/1.jpg,Cat,1,2,30,40\ncat/1.jpg,dog,5,6,20,30\ndog/1.jpg,person,1,2,3,4\n"
    )
    assert [sample.boxes.tolist() for sample in load(root, boxes=boxes_file(root, rows))] == [[[1, 2, 30, 40]], [], []]
    assert "2 boxes of other classes than their images left out: dog in cat/1.jpg" in capsys.readouterr().err
    headless = "cat/1.jpg,1,2,30,40,cat\ncat/1.jpg,5,6,20,30,dog\n"
    assert load(root, boxes=boxes_file(root, headless)).samples[0].boxes.tolist() == [[1, 2, 30, 40]]
    other = rows.replace("Cat", "animal").replace("dog,", "animal,")
    assert [len(sample.boxes) for sample in load(root, boxes=boxes_file(root, other))] == [2, 0, 1]


@pytest.mark.parametrize(("text", "expected"), [
    ("path,width,height,x0,y0,x1,y1\ncat/1.jpg,100,80,10,20,60,80\n", (100, 80)),
    ("path,image_width,image_height,x,y,width,height\ncat/1.jpg,100,80,10,20,50,60\n", (100, 80)),
    ("path,x0,y0,x1,y1,width,height\ncat/1.jpg,10,20,60,80,50,60\n", None),
    ("path,x0,y0,x1,y1,width,height\ncat/1.jpg,10,20,60,80,30,30\n", None),
])  # fmt: skip
def test_sizes_of_images_in_a_file_are_what_its_boxes_are_pixels_of(root, text, expected):
    """Unless they are the box's own sides, or too small to hold it; the picture stored is 50 x 40."""
    sample = load(root, boxes=boxes_file(root, text)).samples[0]
    assert (sample.declared_size, sample.boxes.tolist()) == (expected, [[10, 20, 60, 80]])


def test_an_image_of_two_sizes_is_refused(root):
    rows = "path,width,height,x0,y0,x1,y1\ncat/1.jpg,100,80,10,20,60,80\ncat/1.jpg,50,40,10,20,30,40\n"
    with pytest.raises(UserError, match=r"boxes.csv:3: cat/1.jpg is 50 x 40, and 100 x 80 above"):
        load(root, boxes=boxes_file(root, rows))


def test_one_class_in_two_unicode_forms_is_refused(tmp_path):
    for form in ("NFC", "NFD"):
        picture(tmp_path / "train" / unicodedata.normalize(form, "Bär") / "1.jpg")
    with pytest.raises(UserError, match="two folders are called .*, in the two Unicode forms of its accents"):
        load(tmp_path, "train")


def test_folders_that_differ_in_blanks_alone_are_refused(tmp_path):
    picture(tmp_path / "test/cat/1.png")
    picture(tmp_path / "test/cat /2.png")
    with pytest.raises(UserError, match="two folders are called cat, in blanks alone"):
        load(tmp_path, "test")


def test_images_beside_their_masks_are_no_two_classes(tmp_path):
    picture(tmp_path / "images/1.png")
    picture(tmp_path / "masks/1.png")
    with pytest.raises(UserError, match="its folders images, masks are called as a data set's parts, not as classes"):
        load(tmp_path, "all")


def test_folders_below_a_class_that_may_be_classes_are_said(tmp_path):
    for name in ("bird/gull/1.png", "bird/tern/1.png", "cat/images/1.png", "dog/1.png"):
        picture(tmp_path / "test" / name)
    dataset = load(tmp_path, "test")
    assert [sample.label for sample in dataset] == [0, 0, 1, 2]
    assert dataset.notes == (
        "the class bird has images in several folders of its own, gull, tern, which are no classes; 1 of 3 classes are so",
    )


def test_classes_in_two_cases_and_masks_among_images_are_said(tmp_path):
    for name in ("A/1.png", "a/1.png", "b/masks/1.png", "b/1.png"):
        picture(tmp_path / "test" / name)
    dataset = load(tmp_path, "test")
    assert (len(dataset), dataset.class_names) == (4, ("A", "a", "b"))
    assert dataset.notes == (
        "the classes A and a differ in case alone, and are two classes",
        "1 image lies in a folder called as one of masks: b/masks/1.png",
    )


@pytest.mark.parametrize(
    ("column", "value", "said"), [("confidence", "0.93", True), ("threshold", "0.2", True), ("score", "1.0", False)]
)
def test_predicted_boxes_that_are_taken_as_the_truth_are_said(root, column, value, said):
    """As common.export and detectors write them; OpenImages' own boxes have a confidence of 1."""
    boxes = boxes_file(root, f"path,x0,y0,x1,y1,{column}\ncat/1.jpg,1,2,30,20,{value}\n")
    notes = load(root, boxes=boxes).notes
    assert notes == (
        (f"{boxes}: 1 box has a score or threshold, as predicted ones have; all are taken as the truth",)
        if said
        else ()
    )


def test_lines_that_say_a_box_again_are_one_box(root):
    """As where two tables were put together; another class's box, and another image's, is one of its own."""
    rows = [
        "cat/1.jpg,1,2,30,20,cat",
        "cat/1.jpg,1,2,30,20,cat",
        "cat/1.jpg,1.0,2,30,20,cat",
        "cat/1.jpg,1,2,30,21,cat",
    ]
    boxes = boxes_file(root, "path,x0,y0,x1,y1,class\n" + "\n".join(rows) + "\n")
    dataset = load(root, boxes=boxes)
    (sample,) = (sample for sample in dataset if sample.image_id == "cat/1.jpg")
    assert sample.boxes.tolist() == [[1, 2, 30, 20], [1, 2, 30, 21]]
    said = f"{boxes}: 2 lines repeat boxes of an earlier one, of cat/1.jpg and 1 more; each counts once"
    assert dataset.notes == (said,)
