"""Checkpoints: files that a training starts from, and what is said of one that doesn't fit; kinds: test_registry.py."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from common.system.errors import UserError
from dgl_tf import config, registry, training_graph, weights
from tests.dgl_tf.filled import value

SIDE = 32


def built(session, arch="vgg", classes=10, **options):
    network = registry.build(arch, tf.zeros([1, SIDE, SIDE, 3]), classes, **options)
    session.run(tf.global_variables_initializer())
    return network


@pytest.fixture
def session():
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def values(session, network):
    return session.run(network.variables)


@pytest.mark.slow
def test_start_files_keep_fresh_layers(session, tmp_path):
    """What a start file of another class count has for the linear layer, and VGG's Caffe layers, are left out."""
    network = built(session, "vgg", 7)
    arrays = {name: value(name, array.shape, 5, 2.0) for name, array in values(session, network).items()}
    given = {name: array for name, array in arrays.items() if name.startswith("conv")}
    given |= {"fc6/W": np.zeros((2, 2), np.float32), "linear/W": np.zeros((1024, 9), np.float32)}
    np.savez(tmp_path / "vgg16.npz", **given)
    before = values(session, network)
    fresh = training_graph.load_start(session, network, weights.open_checkpoint(tmp_path / "vgg16.npz"))
    after = values(session, network)
    assert sorted(fresh) == ["add/W", "add/b", "linear/W", "linear/b"]
    assert all(np.array_equal(after[name], before[name]) for name in fresh)
    assert all(np.array_equal(after[name], arrays[name]) for name in after if name not in fresh)
    del given["conv3_1/b"]
    np.savez(tmp_path / "vgg16.npz", **given)
    with pytest.raises(UserError, match="such as conv3_1/b"):
        training_graph.load_start(session, network, weights.open_checkpoint(tmp_path / "vgg16.npz"))


@pytest.mark.slow
def test_slims_inception_starts_all_but_the_head(session, tmp_path):
    """TF-Slim's file has an auxiliary head, Mixed_7 and 1001 classes."""
    network = built(session, "inceptionv3", 4)
    given = {name: array + 1 for name, array in values(session, network).items() if "Logits" not in name}
    slim = {
        "InceptionV3/Logits/Conv2d_1c_1x1/weights": (1, 1, 2048, 1001),
        "InceptionV3/AuxLogits/Conv2d_1b_1x1/weights": (1, 1, 768, 128),
    }
    np.savez(tmp_path / "slim.npz", **given, **{name: np.zeros(shape, np.float32) for name, shape in slim.items()})
    fresh = training_graph.load_start(session, network, weights.open_checkpoint(tmp_path / "slim.npz"))
    assert len(fresh) == 6
    assert all(name.startswith(config.FRESH["inceptionv3"]) for name in fresh)


@pytest.mark.slow
def test_imagenet_mobilenet_has_its_own_head(session):
    checkpoint = weights.open_checkpoint(weights.IMAGENET)
    assert checkpoint.head("mobilenetv1").num_classes == 1000
    network = registry.build_for(checkpoint, "mobilenetv1", tf.zeros([1, SIDE, SIDE, 3]))
    session.run(tf.global_variables_initializer())
    registry.load(session, network, checkpoint)
    np.testing.assert_array_equal(
        session.run(network.head)[:, 0], checkpoint.read(f"{network.classifier}/weights")[0, 0, :, 0]
    )


@pytest.mark.slow
def test_files_that_do_not_fit_are_refused_by_name(session, tmp_path):
    network = built(session, "mobilenetv1", 5)
    with pytest.raises(UserError, match="no such checkpoint"):
        registry.load(session, network, tmp_path / "model-1")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UserError, match=r"broken\.npz"):
        registry.load(session, network, tmp_path / "broken.npz")
    (tmp_path / "old.npy").write_bytes(b"")
    with pytest.raises(UserError, match="unpickled"):
        registry.load(session, network, tmp_path / "old.npy")
    np.savez(tmp_path / "part.npz", **{"MobilenetV1/Conv2d_0/weights": np.zeros((3, 3, 3, 32), np.float32)})
    with pytest.raises(UserError, match="of 137 variables are not in the checkpoint"):
        registry.load(session, network, tmp_path / "part.npz")
    np.savez(tmp_path / "shape.npz", **{name: np.zeros((2, 2), np.float32) for name in network.variables})
    with pytest.raises(UserError, match="has shape"):
        registry.load(session, network, tmp_path / "shape.npz")
    with pytest.raises(UserError, match="0 of the classifiers"):
        weights.open_checkpoint(tmp_path / "part.npz").head("vgg")
