"""torchvision's networks and ours with the same weights on the same picture.

At 65 pixels every strided layer sees an odd size, where TensorFlow's SAME padding is as symmetric as PyTorch's, so with
the strides of the last stages taken away the networks are the same function.
"""

from functools import partial

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import torch
import torchvision

from common.system.errors import UserError
from dgl_tf import convert, registry, weights
from tests import fill

SIZE = 65


def drawn(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights and statistics under which activations stay of size one; some gammas are negative."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            sign = torch.where(torch.rand(module.num_features) < 0.1, -1.0, 1.0)
            module.weight.data = sign * (0.5 + torch.rand(module.num_features))
            module.bias.data = 0.1 * torch.randn(module.num_features)
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 0.5 + torch.rand(module.num_features)
        elif isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return network.eval()


def images() -> tuple[np.ndarray, torch.Tensor]:
    """One batch as our networks take it, BGR, and as torchvision's do."""
    values = np.random.RandomState(1).randn(2, SIZE, SIZE, 3).astype(np.float32)
    return values, torch.from_numpy(values[..., ::-1].transpose(0, 3, 1, 2).copy())


def ours(arch: str, state: dict[str, np.ndarray], tap: str | None) -> np.ndarray:
    arrays = convert.from_torchvision(arch, state)
    with tf.Graph().as_default(), tf.Session() as session:
        network = registry.build(arch, tf.constant(images()[0]), 1000)
        session.run(tf.global_variables_initializer())
        shared = {name: variable for name, variable in network.variables.items() if name in arrays}
        assert shared.keys() == arrays.keys()
        weights.load_values(session, shared, arrays)
        return session.run(network.taps[tap] if tap else network.logits)


def numpy_state(network: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def close(found: np.ndarray, expected: torch.Tensor) -> None:
    expected = expected.detach().numpy()
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.slow
def test_resnet50_gives_the_same_logits():
    network = drawn(torchvision.models.resnet50(weights=None))
    for stage in (network.layer3, network.layer4):
        stage[0].conv2.stride = stage[0].downsample[0].stride = (1, 1)
    with torch.no_grad():
        close(ours("resnet50", numpy_state(network), None), network(images()[1]))


@pytest.mark.slow
def test_vgg16_gives_the_same_conv5_3():
    network = drawn(torchvision.models.vgg16(weights=None)).features[:30]
    state = {f"features.{name}": value for name, value in numpy_state(network).items()}
    with torch.no_grad():
        close(ours("vgg", state, "conv5_3"), network(images()[1]).permute(0, 2, 3, 1))


@pytest.mark.slow
def test_inception_v3_gives_the_same_mixed_6e(monkeypatch):
    # torchvision counts the padding of its average pools, TensorFlow doesn't.
    plain = torch.nn.functional.avg_pool2d
    monkeypatch.setattr(torch.nn.functional, "avg_pool2d", partial(plain, count_include_pad=False))
    network = drawn(torchvision.models.inception_v3(weights=None, init_weights=False, aux_logits=False))
    for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_4a_3x3"):
        getattr(network, name).conv.padding = (1, 1)
    first = network.Mixed_6a
    for unit in (first.branch3x3, first.branch3x3dbl_3):
        unit.conv.stride, unit.conv.padding = (1, 1), (1, 1)
    pool = torch.nn.functional.max_pool2d
    with torch.no_grad():
        values = network.Conv2d_2b_3x3(network.Conv2d_2a_3x3(network.Conv2d_1a_3x3(images()[1])))
        values = network.Conv2d_4a_3x3(network.Conv2d_3b_1x1(pool(values, 3, 2, 1)))
        values = network.Mixed_5d(network.Mixed_5c(network.Mixed_5b(pool(values, 3, 2, 1))))
        long = first.branch3x3dbl_3(first.branch3x3dbl_2(first.branch3x3dbl_1(values)))
        values = torch.cat([first.branch3x3(values), long, pool(values, 3, 1, 1)], dim=1)
        for name in "bcde":
            values = getattr(network, f"Mixed_6{name}")(values)
    found = ours("inceptionv3", numpy_state(network), "Mixed_6e")
    close(found, values.permute(0, 2, 3, 1))


@pytest.mark.slow
def test_there_and_back():
    state = numpy_state(drawn(torchvision.models.resnet50(weights=None)))
    back = convert.to_torchvision("resnet50", convert.from_torchvision("resnet50", state))
    kept = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert back.keys() == kept.keys()
    assert all(np.array_equal(back[name], value) for name, value in kept.items())


def test_missing_tensors_are_named():
    with pytest.raises(UserError, match="267 of 267 tensors are missing, such as conv1.weight"):
        convert.from_torchvision("resnet50", {})
    with pytest.raises(UserError, match="torchvision has no resnet50se"):
        convert.from_torchvision("resnet50se", {})


def test_picture_is_the_same_for_both():
    picture = fill.image(8, 9, 0)
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(registry.normalized(tf.constant(picture[None, ..., ::-1].copy())))[0]
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(found[..., ::-1], (picture / 255 - mean) / deviation, atol=1e-5)
