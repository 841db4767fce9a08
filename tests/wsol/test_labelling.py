"""From class folders without boxes to a detection data set, by one command."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.exporting.dataset import DetectionOptions
from common.system.errors import UserError
from tests import small_cub

pytest.importorskip("torch")

from wsol import labelling
from wsol.labelling import Label, label


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> tuple[Path, Path]:
    """A small classifier of three classes, one of which is called as no folder."""
    import timm
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    path = folder / "mine.pth"
    torch.save(timm.create_model("mobilenetv3_small_050.lamb_in1k", num_classes=3).state_dict(), path)
    names = folder / "names.txt"
    names.write_text("blue\nred\nviolet\n")
    return path, names


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("red", "blue", "green"):
            for number in range(2):
                path = tmp_path / "colours" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "colours/train/red/turned.png", exif=exif)
    (tmp_path / "colours/train/red/broken.png").write_bytes(b"no image")
    return tmp_path / "colours"


def options(folder, weights, out, **more) -> Label:
    path, names = weights
    arch = "timm:mobilenetv3_small_050.lamb_in1k"
    return Label(folder, str(path), out, method="grad-cam", arch=arch, class_names=names, batch_size=4, **more)


def test_a_folder_becomes_a_data_set(tmp_path, folder, weights):
    out = tmp_path / "out"
    lines = label(options(folder, weights, out))
    text = "\n".join(lines)
    assert "train: the network knows no class called as 1 of 3 folders" in text
    assert "train: 1 image left out: skipped by the method: turned by its EXIF tag" in text
    assert len(re.findall(r"train: 1 image left out: skipped by the method", text)) == 2  # the broken one too
    boxes = sum(int(found) for found in re.findall(r"(\d+) boxes", text))
    files = list((out / "dataset/labels").rglob("*.txt"))
    assert sum(len(path.read_text().splitlines()) for path in files) == boxes
    rows = [json.loads(line) for line in (out / "predictions/train/predictions.jsonl").read_text().splitlines()]
    scored = {row["image_id"]: row for row in rows if "skipped" not in row}
    assert len(scored) == 6
    # Of the folders blue 0, green 1 and red 2 the network knows two, which it calls 0 and 1.
    assert set(scored["red/0.png"]["top5"]) == {0, 2}
    assert (out / "page.html").stat().st_size > 30_000
    assert lines[-1].endswith("page.html#gallery?order=unsure")


def test_a_stopped_run_goes_on_and_a_review_is_taken(tmp_path, folder, weights, monkeypatch):
    out, seen = tmp_path / "out", []

    def stops(samples, size):
        for number, items in enumerate(batches(samples, size)):
            if number == 1:
                raise KeyboardInterrupt
            yield items

    batches = labelling._batches
    monkeypatch.setattr(labelling, "_batches", stops)
    with pytest.raises(KeyboardInterrupt):
        label(options(folder, weights, out))
    monkeypatch.setattr(
        labelling, "_batches", lambda samples, size: seen.append(len(samples)) or batches(samples, size)
    )
    first = label(options(folder, weights, out))
    assert seen == [4, 6]  # of 8 training images, 4 stand there already
    review = tmp_path / "review.json"
    review.write_text(json.dumps({"drop": ["train/blue/0.png"]}))
    from common.exporting.dataset import DetectionOptions

    again = label(options(folder, weights, out, detection=DetectionOptions(review=review)))
    assert "train: 1 image left out: dropped in the review" in again
    assert not any("dropped" in line for line in first)
    assert not (out / "dataset/labels/train/blue/0.txt").exists()
    assert (out / "dataset/labels/val/blue/0.txt").is_file()  # another image of the same name


def test_images_of_one_name_in_two_splits_are_two_on_the_page(tmp_path, folder, weights):
    """The page showed the boxes of both splits on the training image, and dropped both."""
    out = tmp_path / "out"
    label(options(folder, weights, out))
    page = (out / "page.html").read_text(encoding="utf-8")
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert len(data["images"]) == 12
    assert {image["review"] for image in data["images"]} == {
        f"{split}/{name}/{number}.png" for split in ("train", "val") for name in ("red", "blue", "green")
        for number in range(2)
    }  # fmt: skip
    for image in data["images"]:
        looks = [look is not None for look in image["looks"]]
        assert looks == [image["review"].startswith(split) for split in ("train", "val")]
    assert len({image["picture"] for image in data["images"]}) == 12


def test_what_changes_the_maps_is_not_gone_on_with(tmp_path, folder, weights):
    """The same classes in another order: every folder's map was of another class."""
    out = tmp_path / "out"
    label(options(folder, weights, out))
    with pytest.raises(UserError, match="the folder holds another run: its options"):
        label(options(folder, weights, out, mean=(0.5, 0.5, 0.5)))
    weights[1].write_text("red\nblue\nviolet\n")
    try:
        with pytest.raises(UserError, match="the folder holds another run: its options"):
            label(options(folder, weights, out))
        weights[1].write_text("red\nred\nviolet\n")
        with pytest.raises(UserError, match="the network has 2 classes that are called 'red'"):
            label(options(folder, weights, tmp_path / "other"))
    finally:
        weights[1].write_text("blue\nred\nviolet\n")


def test_splits_of_different_classes_are_refused_before_anything_is_localized(tmp_path, folder, weights):
    shutil.rmtree(folder / "val" / "green")
    with pytest.raises(UserError, match="train and val have different classes: green is one of train alone"):
        label(options(folder, weights, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_no_data_set_can_be_made_of_is_refused_before_anything_is_localized(tmp_path, folder, weights):
    """Names that a format can't tell apart, unless one of two is left out; a review of no image; rules."""
    shutil.copy(folder / "train/red/turned.png", folder / "train/red/0.jpg")
    out, review = tmp_path / "out", tmp_path / "review.json"
    review.write_text('{"drop": ["red/nothing.png"]}')
    for said, more in (
        ("1 of its images are in no predictions, red/nothing.png", {"detection": DetectionOptions(review=review)}),
        ("--share 2", {"detection": DetectionOptions(share=2)}),
    ):
        with pytest.raises(UserError, match=said):
            label(options(folder, weights, out, **more))
    Image.new("RGB", (60, 40)).save(folder / "train/red/1.jpg")
    with pytest.raises(UserError, match=r"red/1.jpg and red/1.png of the split 'train' would share one annotation"):
        label(options(folder, weights, out))
    assert not (out / "predictions").exists()
    label(options(folder, weights, out, format="csv"))


def test_results_among_the_class_folders_are_refused(folder, weights):
    """The second time they were a class."""
    with pytest.raises(UserError, match="--out lies among the class folders"):
        label(options(folder / "train", weights, folder / "train" / "labelled"))
    assert not (folder / "train" / "labelled").exists()


def test_a_folder_without_classes_is_refused(tmp_path, weights):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        label(options(tmp_path / "empty", weights, tmp_path / "out"))


def test_its_own_data_set_is_replaced_and_no_other(tmp_path, folder, weights):
    out = tmp_path / "out"
    small_cub.make(out / "dataset")
    with pytest.raises(UserError, match="the folder is not empty"):
        label(options(folder, weights, out))
    assert not (out / "predictions").exists()
