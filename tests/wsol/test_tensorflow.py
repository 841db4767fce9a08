"""The front door's numbers are those of the commands, for the methods that run in TensorFlow."""

import pickle

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import wsol
from common.datasets import DataSource
from common.runs.reader import Predictions
from common.system.errors import UserError
from dgl_tf.demo_image import Demo, demo
from dgl_tf.test import Localize, localize
from grcam.generate_predicted_bbox import Generate, generate
from tests import small_cub
from tests.dgl_tf.filled import mobilenet_of_three
from tests.wsol import pictures
from wsol import loading

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorflow")
    return mobilenet_of_three(folder / "three.npz"), small_cub.make(folder / "CUB")


def test_dgl(made, tmp_path):
    """Maps and boxes equal."""
    checkpoint, root = made
    (directory, *_) = localize(Localize(
        load=str(checkpoint), data=DataSource("cub", root), out=tmp_path, mode="mobilenetv1", crops=1,
        methods=("dgl",), map_class="predicted", batch_size=3,
    ))  # fmt: skip
    stored = Predictions.open(directory)
    localizer = wsol.load(checkpoint, "dgl", arch="mobilenet_v1", class_names=small_cub.CLASSES)
    found = localizer.many([root / "images" / entry.image_id for entry in stored.entries], batch_size=3)
    for entry, one in zip(stored.entries, found, strict=True):
        np.testing.assert_array_equal(one.map, stored.map(entry))
        np.testing.assert_array_equal(one.rule.of(one.map), entry.box)
        assert one.class_name == small_cub.CLASSES[entry.top5[0]]


def test_grcam(made, tmp_path):
    """Maps and boxes of the true classes equal."""
    checkpoint, root = made
    (directory, *_) = generate(Generate(
        load=str(checkpoint), data=DataSource("cub", root), out=tmp_path / "out", mode="mobilenetv1", crops=1,
        bounding_box_save_path=f"{tmp_path}/boxes/", classify_save_path=tmp_path / "class.txt", batch_size=1,
    ))  # fmt: skip
    stored = Predictions.open(directory)
    localizer = wsol.load(checkpoint, "grcam", arch="mobilenetv1")
    for entry in stored.entries:
        one = localizer(root / "images" / entry.image_id, label=entry.label)
        np.testing.assert_array_equal(one.map, stored.map(entry))
        np.testing.assert_array_equal(one.rule.of(one.map), entry.box)


@pytest.mark.parametrize("method", ["dgl", "grcam"])
def test_a_localizer_says_why_it_can_t_be_sent_to_another_process(made, method):
    """What it found can."""
    localizer = wsol.load(made[0], method, arch="mobilenet_v1")
    with pytest.raises(UserError, match="can't be copied or sent to another process.*Call wsol.load there"):
        pickle.dumps(localizer)
    found = localizer(np.zeros((30, 40, 3), np.uint8))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).map, found.map)


@pytest.mark.parametrize("method", ["dgl", "grcam"])
def test_one_picture_in_many_shapes_has_one_box(made, tmp_path, method):
    localizer = wsol.load(made[0], method, arch="mobilenetv1")
    found = [localizer(path) for path in pictures.write(tmp_path)]
    for one in found:
        np.testing.assert_array_equal(one.map, found[0].map)
        assert one.image.shape == (90, 60, 3)


def test_the_demo_turns_a_lying_photograph(made, tmp_path):
    """Overlays equal to the byte."""
    drawn = []
    for number, path in enumerate(pictures.write(tmp_path)[:2]):
        demo(Demo((path,), str(made[0]), "mobilenetv1", out=tmp_path / str(number)))
        drawn.append([file.read_bytes() for file in sorted((tmp_path / str(number)).iterdir())])
    assert len(drawn[0]) == 2
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(("checkpoint", "layer", "taken"), [
    ("three.npz", None, 2), ("three.npz", 0, 0), ("imagenet:mobilenet_v1", None, 0), ("imagenet:mobilenet_v1", 5, 5),
])  # fmt: skip
def test_the_layer_that_is_not_asked_for(monkeypatch, checkpoint, layer, taken):
    """A published classifier's is the last, as in PyTorch, a TensorFlow checkpoint's the release's."""
    asked = []
    monkeypatch.setattr("wsol.tensorflow_methods.Dgl", lambda _checkpoint, _name, number, *_: asked.append(number))
    loading._of_tensorflow(checkpoint, "dgl", layer, "mobilenetv1")
    assert asked == [taken]


def test_refusals(made):
    with pytest.raises(UserError, match="no record says which network this is"):
        wsol.load(made[0], "dgl")
    with pytest.raises(UserError, match="a TensorFlow checkpoint has no bas"):
        wsol.load(made[0], "bas")
    with pytest.raises(UserError, match="layer 3 for cam of this checkpoint. Leave layer out"):
        wsol.load(made[0], "cam", arch="mobilenetv1", layer=3)
    with pytest.raises(UserError, match="input_size 324 for a checkpoint that says what its images are"):
        wsol.load(made[0], "dgl", arch="mobilenetv1", input_size=324)
    with pytest.raises(UserError, match="2 class names; expected 3"):
        wsol.load(made[0], "dgl", arch="mobilenetv1", class_names=["a", "b"])
