"""DGL in TensorFlow against the same written a second time in PyTorch, on Google's MobileNetV1.

Two networks that share nothing but the weights, and two automatic differentiations.
"""

import numpy as np
import pytest
import torch

from common.measuring.extraction import min_max
from common.pytorch import backbones
from dgl_tf import localization, registry, sessions, weights
from tests import fill

tf = sessions.tf
LAYERS, ALPHA = (0, 2, 6, 9), 10.0


@pytest.fixture(scope="module")
def results():
    """Each framework's logits, CAM and DGL's maps of the best classes, the latter by layer's name."""
    pictures = np.stack([fill.image(160, 160, seed) for seed in (3, 4)])
    with sessions.new_graph(), sessions.session(1) as session:
        images = registry.normalized(tf.constant(pictures[..., ::-1].astype(np.float32)))
        checkpoint = weights.open_checkpoint(weights.IMAGENET)
        network = registry.build_for(checkpoint, "mobilenetv1", images)
        registry.load(session, network, checkpoint)
        label = localization.best_classes(tf.nn.softmax(network.logits))
        dual = localization.dual_gradients(network, LAYERS, label, ALPHA)
        maps = {one.layer: one.localization for one in dual}
        ours = session.run((network.logits, localization.class_activation(network, label), maps))
    return ours, in_pytorch(pictures, list(maps))


def in_pytorch(pictures: np.ndarray, layers: list[str]) -> tuple:
    model = backbones.build("mobilenet_v1", 1000).eval()
    features, taps = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1, {}
    for name, unit in model.features.named_children():
        features = unit(features)
        taps[f"Conv2d_{name.split('_')[1]}_{name.split('_')[0]}"] = features
    logits = model.head(features.mean(dim=(2, 3)))
    best = logits.argmax(dim=1)
    maps = {layer: dual_gradients(logits, best, taps[layer]) for layer in layers}
    return logits.detach().numpy(), model.class_activation_map(features, best).detach().numpy(), maps


def dual_gradients(logits, best, tap) -> np.ndarray:
    """M straight from the paper's lines, with the release's p - alpha y."""
    label = torch.nn.functional.one_hot(best, logits.shape[1]).float()
    delta = (logits.softmax(dim=1) - ALPHA * label).detach()
    gradient, selection = (torch.autograd.grad(logits, tap, start, retain_graph=True)[0] for start in (delta, label))
    tap_norm, gradient_norm = (values.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for values in (tap, gradient))
    return (selection * (tap / tap_norm - gradient / gradient_norm)).sum(dim=1).detach().numpy()


@pytest.mark.slow
def test_logits_and_cam_agree(results):
    (logits, cam, _), (their_logits, their_cam, _) = results
    np.testing.assert_allclose(logits, their_logits, atol=1e-4 * np.abs(logits).max())
    np.testing.assert_allclose(cam, their_cam, atol=1e-4 * np.abs(cam).max())


@pytest.mark.slow
@pytest.mark.parametrize("layer", [registry.LAYERS["mobilenetv1"][number] for number in LAYERS])
def test_dual_gradient_maps_agree(results, layer):
    """Stretched: at most 2e-2 apart, 1e-3 in the mean; a unit at its ReLU's zero makes a jump."""
    (_, _, maps), (_, _, theirs) = results
    for one, other in zip(maps[layer], theirs[layer], strict=True):
        apart = np.abs(min_max(one) - min_max(other))
        assert apart.max() < 2e-2
        assert apart.mean() < 1e-3
        assert one.max() > one.min()


def test_the_last_layers_map_is_cam_in_both(results):
    for _, cam, maps in results:
        for one, other in zip(maps[registry.LAYERS["mobilenetv1"][0]], cam, strict=True):
            np.testing.assert_allclose(min_max(one), min_max(other), atol=1e-4)
