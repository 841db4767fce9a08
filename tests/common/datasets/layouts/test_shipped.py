"""The photographs of installed packages, and what MobileNetV1's own ImageNet head says of them."""

import importlib.util
import json

import pytest

from common.datasets import DataSource
from common.datasets.layouts import shipped
from common.datasets.layouts.ilsvrc_classes import class_words
from common.pictures.images import read_size
from common.pytorch import cam
from common.system.errors import UserError

WORDS = ["military uniform", "missile", "moped", "tabby, tabby cat", "espresso"]
LABELS = [652, 657, 665, 281, 967]
"""Where Keras, torchvision and timm have these classes in their lists of ImageNet's."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "photographs"
    shipped.gather(folder)
    return folder


def test_they_are_read_as_ilsvrc_is(root):
    dataset = DataSource("photographs", root, "val").load()
    assert (dataset.name, len(dataset.class_names)) == ("photographs", 1000)
    found = {sample.label: sample for sample in dataset}
    assert sorted(found) == sorted(LABELS)
    words = class_words(root)
    assert [words[dataset.class_names[label]] for label in LABELS] == WORDS
    for sample in dataset:
        (box,), (width, height) = sample.boxes, read_size(sample.path)
        x0, y0, x1, y1 = box
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
    assert found[657].boxes.tolist() == [[308, 125, 338, 408]]


def test_a_folder_that_is_there_is_left_alone(root):
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    shipped.gather(root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="skimage with data/chelsea.png is not installed"):
        shipped.gather(tmp_path / "photographs")
    assert not (tmp_path / "photographs").exists()


@pytest.mark.slow
def test_mobilenet_knows_them(root, tmp_path):
    """Every class is among the best five of the network's own head; it takes the tabby for an Egyptian cat."""
    source = DataSource("photographs", root, "val")
    cam.localize(cam.Localize(data=source, out=tmp_path, checkpoint="imagenet:mobilenet_v1", frames=("squash",)))
    rows = [json.loads(line) for line in (tmp_path / "squash" / "predictions.jsonl").read_text().splitlines()]
    best = {row["label"]: row["top5"] for row in rows}
    assert all(label in top5 for label, top5 in best.items())
    assert {label for label, top5 in best.items() if top5[0] == label} == {652, 657, 967}
    assert best[281][0] == 285
