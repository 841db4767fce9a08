"""The same classifiers in TensorFlow and PyTorch, each through its own automatic differentiation, on real photographs.

MobileNetV1 with Google's weights; the photographs are those that installed packages ship.
"""

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("torch")

import torch

from common.datasets.layouts import shipped
from common.measuring.protocols import PROTOCOLS
from common.pictures.images import read_rgb
from common.pictures.inputs import resize
from common.pytorch import maps, twins
from common.pytorch.maps.dual_gradients import enhanced
from common.tensorflow_files.architectures import LAYERS
from dgl_tf import localization, registry, sessions, weights
from grcam import graph

pytestmark = pytest.mark.slow

tf = sessions.tf
NAMES = LAYERS["mobilenetv1"]


@pytest.fixture(scope="module")
def pictures():
    """(N, 224, 224, 3) float32 RGB on TensorFlow 1's grid."""
    paths = [shipped._shipped(one.package, one.path) for one in shipped.PHOTOGRAPHS]
    return np.stack([resize(read_rgb(path), (224, 224), "tensorflow1") for path in paths])


@pytest.fixture(scope="module")
def in_tensorflow(pictures):
    with sessions.new_graph(), sessions.session(1) as session:
        images = registry.normalized(tf.constant(pictures[..., ::-1].copy()))
        checkpoint = weights.open_checkpoint(weights.IMAGENET)
        network = registry.build_for(checkpoint, "mobilenetv1", images)
        registry.load(session, network, checkpoint)
        label = localization.best_classes(tf.nn.softmax(network.logits))
        dual = localization.dual_gradients(network, NAMES, label)
        refined = graph.maps(network.features, network.logits, network.head, tf.argmax(label, 1))
        wanted = {
            "scores": network.logits, "cam": refined.plain, "grcam": refined.refined,
            "layers": {one.layer: (one.selection, one.gradient, one.enhanced, one.localization) for one in dual},
            "grad-cam": {name: localization.grad_cam(network, name, label) for name in NAMES},
        }  # fmt: skip
        return session.run(wanted)


@pytest.fixture(scope="module")
def in_pytorch(pictures):
    model = twins.load(weights.IMAGENET, "mobilenetv1")
    images = torch.from_numpy(np.ascontiguousarray((pictures / 255).transpose(0, 3, 1, 2))) * 2 - 1
    layers = {name: twins.layer("mobilenetv1", name) for name in NAMES}
    scores, found = maps.evidence(model, images, list(layers.values()))
    mapped = maps.Mapper(model, ("dgl", "cam", "grad-cam", "grcam"), list(layers.values()))(images).maps
    return scores, {name: found[module] for name, module in layers.items()}, mapped, layers


def close(found, expected, tolerance=1e-4):
    """Of each image's greatest value."""
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


def test_scores_cam_and_refined_map(in_tensorflow, in_pytorch):
    """1e-4 of each image's greatest value."""
    scores, _, mapped, layers = in_pytorch
    close(scores, in_tensorflow["scores"])
    close(mapped["cam", layers[NAMES[0]]], in_tensorflow["cam"])
    close(mapped["grcam", layers[NAMES[0]]], in_tensorflow["grcam"])


@pytest.mark.parametrize("name", NAMES)
def test_every_layers_d_g_a_and_m(in_tensorflow, in_pytorch, name):
    """In the mean 2e-3 of each image's greatest value; no value of D, G and A by more than 5e-2, of M by 5e-3.

    At the last map none by more than 1e-4. Before it, a unit at its ReLU6's zero or six makes a jump: each framework
    is as far from the same network in float64 as they are from each other.
    """
    _, found, mapped, layers = in_pytorch
    one = found[name]
    ours = [
        values.permute(0, 2, 3, 1) for values in (one.selection, one.gradient, enhanced(one.features, one.gradient))
    ]
    pairs = list(zip((*ours, mapped["dgl", layers[name]]), in_tensorflow["layers"][name], strict=True))
    pairs.append((mapped["grad-cam", layers[name]], in_tensorflow["grad-cam"][name]))
    for place, (values, theirs) in enumerate(pairs):
        for image, other in zip(values.numpy(), theirs, strict=True):
            greatest = np.abs(other).max() or 1.0  # Grad-CAM of an image may be zero everywhere, then so must ours
            apart = np.abs(image - other) / greatest
            assert apart.mean() <= (1e-4 if name == NAMES[0] else 2e-3)
            assert apart.max() <= (1e-4 if name == NAMES[0] else 5e-3 if place >= 3 else 5e-2)


def test_boxes_are_equal(in_tensorflow, in_pytorch):
    """At all nine thresholds of GRCAM: of CAM, the refined map and DGL's of the last three layers.

    Before them a value that lies a rounding beside a threshold may give another box, which one depends on the number of
    threads: of the 45 boxes of a layer one or two, and three in all.
    """
    _, _, mapped, layers = in_pytorch
    pairs = {name: (mapped["dgl", layers[name]].numpy(), in_tensorflow["layers"][name][3]) for name in NAMES}
    pairs |= {method: (mapped[method, layers[NAMES[0]]].numpy(), in_tensorflow[method]) for method in ("cam", "grcam")}
    differing = {name: sum(different_boxes(*both) for both in zip(*maps, strict=True)) for name, maps in pairs.items()}
    assert not any(differing[name] for name in (*NAMES[:3], "cam", "grcam")), differing
    assert sum(differing.values()) <= 3


def different_boxes(one: np.ndarray, other: np.ndarray) -> int:
    """At how many thresholds two raw maps give different boxes."""
    rule = PROTOCOLS["grcam"]
    both = [rule.extractor.boxes(localization.enlarged(raw, (224, 224)), rule.sweep) for raw in (one, other)]
    return sum(not np.array_equal(*boxes) for boxes in zip(*both, strict=True))
