"""Whole-set localization and the demo, on a network of random weights."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from common.datasets import DataSource
from common.evaluate import Evaluate
from common.results.evaluation import evaluate
from common.runs.reader import Predictions
from common.system.errors import UserError
from dgl_tf.demo_image import Demo, demo
from dgl_tf.registry import layer_names, released_layer
from dgl_tf.test import Localize, localize
from tests import small_cub
from tests.dgl_tf.filled import mobilenet_of_three


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dgl")
    return mobilenet_of_three(folder / "three.npz"), small_cub.make(folder / "CUB")


def options(made, out, **changes):
    checkpoint, root = made
    fields = {"load": str(checkpoint), "data": DataSource("cub", root), "out": out, "mode": "mobilenetv1", "crops": 1}
    return Localize(**{**fields, **changes})


@pytest.mark.slow
def test_every_layer_in_one_pass(made, tmp_path):
    directories = localize(options(made, tmp_path / "out", clayer=("all",), methods=("dgl", "cam", "grad-cam")))
    assert len(directories) == 2 * 14 + 1
    maps = {d.name: Predictions.open(d).map(Predictions.open(d).entries[0]) for d in directories}
    np.testing.assert_allclose(maps["dgl-Conv2d_13_pointwise-squash"], maps["cam-squash"], atol=2e-3)
    assert np.abs(maps["dgl-Conv2d_9_pointwise-squash"] - maps["cam-squash"]).max() > 0.05
    (evaluation,), _ = evaluate(Evaluate((tmp_path / "out/dgl-Conv2d_11_pointwise-squash",)))
    assert {row.protocol for row in evaluation.rows} == {"dgl", "grcam", "wsoleval-v1", "wsoleval-v2"}


@pytest.mark.slow
def test_batches_and_frames_change_nothing(made, tmp_path):
    one = localize(options(made, tmp_path / "one", batch_size=1, crops=10, frames=("squash", "crop")))
    many = localize(options(made, tmp_path / "many", batch_size=5, crops=10, frames=("crop", "squash")))
    assert {d.name for d in one} == {d.name for d in many}
    for directory in one:
        ours, theirs = Predictions.open(directory), Predictions.open(tmp_path / "many" / directory.name)
        for entry, other in zip(ours.entries, theirs.entries, strict=True):
            assert entry.top5 == other.top5
            np.testing.assert_allclose(entry.top5_scores, other.top5_scores, atol=1e-5)
            assert np.abs(ours.map(entry) - theirs.map(other)).mean() < 1e-3


@pytest.mark.slow
def test_a_stopped_run_goes_on(made, tmp_path, monkeypatch):
    whole = localize(options(made, tmp_path / "whole", batch_size=2))
    from dgl_tf import test as module

    calls, original = [], module._look

    def dies(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(None)
        return original(*arguments)

    monkeypatch.setattr(module, "_look", dies)
    with pytest.raises(KeyboardInterrupt):
        localize(options(made, tmp_path / "again", batch_size=2))
    monkeypatch.setattr(module, "_look", original)
    again = localize(options(made, tmp_path / "again", batch_size=2))
    for one, other in zip(whole, again, strict=True):
        assert (one / "predictions.jsonl").read_text() == (other / "predictions.jsonl").read_text()


@pytest.mark.slow
def test_classifications_are_taken_over(made, tmp_path):
    first = localize(options(made, tmp_path / "a", crops=10))[0]
    second = localize(options(made, tmp_path / "b", crops=10, clayer=("0",), classes_from=first))[0]
    pairs = zip(Predictions.open(first).entries, Predictions.open(second).entries, strict=True)
    assert all(one.top5_scores == other.top5_scores for one, other in pairs)
    with pytest.raises(UserError, match="classified with 10 crops"):
        localize(options(made, tmp_path / "c", crops=1, classes_from=first))


@pytest.mark.slow
def test_scales_and_closing(made, tmp_path):
    plain, scaled, closed = (
        Predictions.open(localize(options(made, tmp_path / name, methods=("dgl",), **changes))[0])
        for name, changes in (
            ("plain", {}), ("scaled", {"scales": (1.0, 1.5), "image_size": 160}), ("closed", {"close": 15})
        )
    )  # fmt: skip
    first, wide, gaps = (found.map(found.entries[0]) for found in (plain, scaled, closed))
    assert wide.min() == 0
    assert wide.max() == 1
    assert np.abs(first - wide).max() > 0.01
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))
    expected = cv2.morphologyEx((first * 255).astype(np.uint8), cv2.MORPH_CLOSE, ellipse)
    np.testing.assert_array_equal((gaps * 255).round(), expected)


@pytest.mark.slow
def test_images_that_cannot_be_read_are_counted(made, tmp_path):
    root = small_cub.make(tmp_path / "CUB")
    broken = next((root / "images").rglob("*.png"))
    sample = DataSource("cub", root).load().samples[0]
    sample.path.write_bytes(sample.path.read_bytes()[:100])
    assert broken.exists()
    directory = localize(options(made, tmp_path / "out", data=DataSource("cub", root)))[0]
    manifest = Predictions.open(directory).manifest
    assert sum(manifest["counts"]["skipped"].values()) == 1


def test_layers_by_number_and_name():
    assert layer_names("inceptionv3", ["2"]) == ["Mixed_6e"]
    assert layer_names("resnet50", ["2", "group1/block3"]) == ["group3/block0", "group1/block3"]
    assert layer_names("resnet50", ["group3/block0_shortcut"]) == ["group3/block0"]  # as the release has it
    assert len(layer_names("vgg", ["all"])) == 18
    with pytest.raises(UserError, match="vgg has no layer '18'"):
        layer_names("vgg", ["18"])
    with pytest.raises(UserError, match="names a layer twice"):
        layer_names("vgg", ["0", "add"])


def test_pictures_are_called_after_the_releases_layers():
    assert released_layer("resnet50se", "group3/block0") == "group3/block0_shortcut"
    assert [released_layer(arch, "add") for arch in ("vgg", "inceptionv3")] == ["add", "add"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "auto"}, "no record says which network this is"),
        ({"mode": "vgg"}, "0 of the classifiers that vgg may have are in the file"),
        ({"frames": ()}, "--frames"),
        ({"pa": 0.0}, "must be positive"),
    ],
)
def test_refusals(made, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        localize(options(made, tmp_path / "out", **changes))


@pytest.mark.slow
def test_the_demo_writes_the_releases_pictures(made, tmp_path):
    checkpoint, root = made
    images = sorted((root / "images").rglob("*.png"))[:2]
    first = demo(Demo((images[0],), load=str(checkpoint), mode="mobilenetv1", out=tmp_path / "one"))
    assert [path.name for path in first] == ["mobilenetv1_Conv2d_11_pointwise_dgl.png", "mobilenetv1_cam.png"]
    assert all(cv2.imread(str(path)).shape == (224, 224, 3) for path in first)
    last = demo(Demo((images[0],), load=str(checkpoint), mode="mobilenetv1", clayer="0", out=tmp_path / "two"))
    dual, cam = (cv2.imread(str(path)).astype(int) for path in last)
    assert (np.abs(dual - cam) > 8).mean() < 0.02
    both = demo(Demo(tuple(images), load=str(checkpoint), mode="mobilenetv1", out=tmp_path / "three", image_size=160))
    assert [path.parent.name for path in both[::2]] == [path.name for path in images]


@pytest.mark.slow
def test_the_command_line(made, tmp_path):
    checkpoint, root = made
    script = [
        "dgl_tf/run_test.sh", str(checkpoint), str(root), str(tmp_path / "out"), "--mode", "mobilenetv1", "--crops", "1"
    ]  # fmt: skip
    environment = {**os.environ, "WSOL_PYTHON": sys.executable}
    done = subprocess.run(script, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-1500:]
    assert "dgl mobilenet_v1 Conv2d_11_pointwise" in done.stdout
    assert "cam mobilenet_v1" in done.stdout
    missing = subprocess.run([script[0], "nothing", *script[2:]], capture_output=True, text=True, env=environment)
    assert missing.returncode == 2
    assert "no such checkpoint" in missing.stderr


@pytest.mark.slow
def test_photographs_with_imagenets_own_head(tmp_path):
    """A cat, with Google's weights."""
    skimage = pytest.importorskip("skimage")
    cat = os.path.join(os.path.dirname(skimage.__file__), "data", "chelsea.png")
    command = [sys.executable, "-m", "dgl_tf.demo_image", "--data_path", cat, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
    assert "class 285" in done.stdout
