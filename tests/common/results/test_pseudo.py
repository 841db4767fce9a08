"""Pseudo boxes: read, written, chosen, and thresholds that are chosen on them."""

import cv2
import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource
from common.evaluate import Evaluate
from common.pseudo_boxes import PseudoBoxes, make
from common.results import pseudo
from common.results.evaluation import evaluate, held_out
from common.system.errors import UserError
from tests import fill, runs


def test_the_box_that_agrees_most_is_the_one_around_the_map():
    localization_map = np.zeros((10, 10))
    localization_map[2:5, 3:7] = 1
    boxes = np.array([[0, 0, 10, 10], [3, 2, 7, 5], [2, 2, 7, 5], [4, 2, 7, 5], [1, 1, 1, 1]])
    assert pseudo.most_agreeing(localization_map, boxes) == 1
    assert pseudo.most_agreeing(localization_map, boxes[[0, 4]]) is None


def test_boxes_are_read_as_written(tmp_path):
    boxes = {'a, "b".jpg': np.array([1.5, 2, 30, 40]), "c.jpg": np.array([0, 0, 1, 1.25])}
    pseudo.write(tmp_path / "boxes.csv", boxes)
    found = pseudo.read(tmp_path / "boxes.csv")
    assert found.keys() == boxes.keys()
    for name, box in boxes.items():
        np.testing.assert_array_equal(found[name], box)
    (tmp_path / "boxes.csv").write_text("a.jpg,3,0,2,5\n")
    with pytest.raises(UserError, match="boxes.csv:1: the box 3 0 2 5 is empty"):
        pseudo.read(tmp_path / "boxes.csv")


@pytest.mark.parametrize(("text", "said"), [
    ("a.jpg,0,0,2,5\nb.jpg,0,0,2,5\na.jpg,0,0,3,5\n", "boxes.csv:3: a.jpg stands here twice"),
    ("a.jpg,0.1,0.1,0.5,0.9\n", "boxes.csv: all boxes lie within 0 to 1: they are fractions"),
])  # fmt: skip
def test_boxes_that_are_no_pixels_or_twice_there_are_refused(tmp_path, text, said):
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        pseudo.read(tmp_path / "boxes.csv")


def test_boxes_of_one_image_in_two_files_are_refused(tmp_path):
    """The last file's were taken."""
    for number, names in enumerate(("ab", "bc")):
        pseudo.write(tmp_path / f"{number}.csv", {name: np.array([0, 0, 9, 9 + number]) for name in names})
    assert pseudo.read_all([tmp_path / "0.csv"]).keys() == {"a", "b"}
    with pytest.raises(UserError, match=r"1.csv: 1 of its images have boxes in another file too, b among them"):
        pseudo.read_all([tmp_path / "0.csv", tmp_path / "1.csv"])


def test_descriptor_boxes_are_moved_to_the_original_image(tmp_path):
    """x0, x1, y0, y1 in 224 x 224; the image is 448 wide and 112 high."""
    (tmp_path / "pseudo.txt").write_text("a,b.jpg,10, 100, 20, 60\n")
    found = pseudo.read_descriptor_boxes(tmp_path / "pseudo.txt", {"a,b.jpg": (448, 112)})
    np.testing.assert_allclose(found["a,b.jpg"], [20, 10, 200, 30])
    with pytest.raises(UserError, match=r"pseudo.txt:1: .* is no line about one of the images"):
        pseudo.read_descriptor_boxes(tmp_path / "pseudo.txt", {})
    (tmp_path / "pseudo.txt").write_text("a.jpg,10, 100, 20, 60\na.jpg,10, 100, 20, 61\n")
    with pytest.raises(UserError, match="pseudo.txt:2: a.jpg stands here twice; expected one box an image"):
        pseudo.read_descriptor_boxes(tmp_path / "pseudo.txt", {"a.jpg": (448, 112)})


def test_pseudo_boxes_of_another_frame_are_said(tmp_path, source, capsys):
    """Boxes in a tenth of the images' pixels, as those of thumbnails are."""
    train = DataSource("cub", source.root, "train")
    test, held = runs.write(tmp_path / "test", source), runs.write(tmp_path / "held", train)
    for scale in (1, 0.1):
        whole = {sample.image_id: np.array([0, 0, *sample.size]) * scale for sample in train.load()}
        pseudo.write(tmp_path / f"{scale}.csv", whole)
        evaluate(Evaluate((test,), validation=(held,), pseudo=(tmp_path / f"{scale}.csv",), protocols=("wsoleval-v1",)))
        said = f"note: {held}: the pseudo boxes of 6 images lie in the upper left"
        assert (said in capsys.readouterr().err) == (scale == 0.1)


@pytest.mark.slow
def test_a_threshold_is_chosen_on_pseudo_boxes(tmp_path, source):
    """Maps are 1 on the true box and 0.1 elsewhere: true boxes want a threshold above 0.1, whole images one below."""
    train = DataSource("cub", source.root, "train")
    test, held = runs.write(tmp_path / "test", source), runs.write(tmp_path / "held", train)
    for name, boxes in (("true", {sample.image_id: sample.boxes[0] for sample in train.load()}),
                        ("whole", {sample.image_id: np.array([0, 0, *sample.size]) for sample in train.load()})):  # fmt: skip
        pseudo.write(tmp_path / f"{name}.csv", boxes)
        options = Evaluate((test,), validation=(held,), pseudo=(tmp_path / f"{name}.csv",), protocols=("wsoleval-v1",))
        (evaluation,), _ = evaluate(options)
        rows = {row.source: row for row in evaluation.rows}
        assert set(rows) == {"validation", "pseudo", "oracle"}
        assert (rows["pseudo"].threshold == rows["validation"].threshold) == (name == "true")
        assert rows["pseudo"].gt_known == pytest.approx(100 if name == "true" else 0)
    with pytest.raises(UserError, match="--pseudo without --validation"):
        evaluate(Evaluate((test,), pseudo=(tmp_path / "true.csv",)))


def test_the_command_takes_descriptors(tmp_path, source):
    run = runs.write(tmp_path / "run", source)
    ids = [sample.image_id for sample in source.load()]
    (tmp_path / "pseudo.txt").write_text("".join(f"{image_id},0, 112, 0, 112\n" for image_id in ids))
    made = make(PseudoBoxes(run, tmp_path / "out.csv", tmp_path / "pseudo.txt"))
    np.testing.assert_allclose(made[ids[0]], [0, 0, 40, 30])
    assert pseudo.read(tmp_path / "out.csv").keys() == set(ids)
    with pytest.raises(UserError, match="the file is there already"):
        make(PseudoBoxes(run, tmp_path / "out.csv", tmp_path / "pseudo.txt"))


def test_selective_search_proposes_or_says_what_it_lacks(tmp_path, source):
    if hasattr(cv2, "ximgproc"):
        found = pseudo.proposals(fill.image(60, 80, 1))
        assert found.shape[1] == 4
        assert (found >= 0).all()
        assert (found[:, 2] <= 80).all()
    else:
        with pytest.raises(UserError, match="Install opencv-contrib-python-headless"):
            make(PseudoBoxes(runs.write(tmp_path / "run", source), tmp_path / "out.csv"))


def test_boxes_are_pixels_of_the_size_that_annotations_declare(tmp_path, monkeypatch):
    """Pictures of 80 x 60 whose boxes were drawn on 160 x 120: the proposal 10 10 40 30 is 20 20 80 60 there."""
    path = tmp_path / "data/a/1.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (80, 60)).save(path)
    (tmp_path / "boxes.csv").write_text("path,x0,y0,x1,y1,width,height\na/1.png,20,20,80,60,160,120\n")
    source = DataSource("folder", tmp_path / "data", "all", boxes=tmp_path / "boxes.csv")
    run = runs.write(tmp_path / "run", source, boxes={"a/1.png": np.array([[20.0, 20, 80, 60]])})
    lines = run / "predictions.jsonl"
    lines.write_text(lines.read_text().replace("[160, 120]", "[80, 60]"))  # as a method that reads the picture has it
    monkeypatch.setattr(pseudo, "proposals", lambda image: np.array([[0.0, 0, 80, 60], [10, 10, 40, 30], [0, 0, 9, 9]]))
    (made,) = make(PseudoBoxes(run, tmp_path / "pseudo.csv")).values()
    np.testing.assert_allclose(made, [20, 20, 80, 60], atol=1e-6)
    (tmp_path / "pseudo.txt").write_text("a/1.png,0, 112, 0, 112\n")
    (made,) = make(PseudoBoxes(run, tmp_path / "descriptors.csv", tmp_path / "pseudo.txt")).values()
    np.testing.assert_allclose(made, [0, 0, 80, 60])


def test_boxes_of_other_images_of_the_same_names_are_said(tmp_path, capsys):
    """Two folders of which both have a/1.png: the boxes of one set the other's threshold."""
    runs_of = {}
    for name in ("one", "two"):
        path = tmp_path / name / "a/1.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (80, 60)).save(path)
        (tmp_path / f"{name}.csv").write_text(f"path,x0,y0,x1,y1\na/1.png,20,20,{len(runs_of) + 50},50\n")
        source = DataSource("folder", tmp_path / name, "all", boxes=tmp_path / f"{name}.csv")
        runs_of[name] = runs.write(tmp_path / f"run-{name}", source)
    (tmp_path / "pseudo.txt").write_text("a/1.png,0, 112, 0, 112\n")
    make(PseudoBoxes(runs_of["one"], tmp_path / "pseudo.csv", tmp_path / "pseudo.txt"))
    assert pseudo.read(tmp_path / "pseudo.csv").keys() == {"a/1.png"}
    said = "the pseudo boxes were made of other images"
    for name, run in runs_of.items():
        asked = Evaluate((run,), validation=(run,), pseudo=(tmp_path / "pseudo.csv",), protocols=("grcam",), workers=1)
        held_out(asked)
        assert (said in capsys.readouterr().err) == (name == "two")
