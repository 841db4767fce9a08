import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage
import torch
import torch.nn.functional as F
from torchvision.models import ResNet50_Weights

from common.pictures.images import read_rgb
from common.pictures.inputs import resize
from common.pytorch import backbones
from common.pytorch.cam_classifier import CamClassifier
from common.pytorch.data import normalized
from common.pytorch.mobilenet_v1 import MobileNetV1Features, SameConv, from_tf_slim
from common.system.errors import UserError
from common.weights import load_mobilenet_v1

NAMES = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
PHOTOGRAPHS = {
    Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg": "military uniform",
    Path(skimage.__file__).parent / "data/chelsea.png": "Egyptian cat",
    Path(skimage.__file__).parent / "data/coffee.png": "espresso",
}
"""Photographs that installed packages ship, and what they show."""


def photograph(path, model):
    image = torch.from_numpy(resize(read_rgb(path), (224, 224), "pillow").copy()).permute(2, 0, 1)[None]
    return normalized(image, model.mean, model.std, torch.device("cpu"))


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_the_weights_know_what_photographs_show(path):
    model = backbones.build("mobilenet_v1", 1000).eval()
    with torch.inference_mode():
        top5 = model(photograph(path, model)).scores[0].topk(5).indices.tolist()
    assert PHOTOGRAPHS[path] in [NAMES[index] for index in top5]


def test_the_published_stride_is_surer_still():
    # With the last stride in place, as the weights were trained, the first guess is right on all three.
    state, weight, bias = from_tf_slim(load_mobilenet_v1())
    features = MobileNetV1Features(output_stride=32).eval()
    features.load_state_dict(state)
    model = backbones.build("mobilenet_v1", 1000)
    for path, name in PHOTOGRAPHS.items():
        with torch.inference_mode():
            scores = features(photograph(path, model)).mean(dim=(2, 3)) @ weight.T + bias
        assert NAMES[int(scores.argmax())] == name
        assert scores.softmax(dim=1).max() > 0.7


def test_a_map_covers_what_is_there():
    # The cup stands in the middle of the photograph, and its map is higher there than at the border.
    model = backbones.build("mobilenet_v1", 1000).eval()
    with torch.inference_mode():
        output = model(photograph(list(PHOTOGRAPHS)[2], model))
        (found,) = model.class_activation_map(output.features, torch.tensor([NAMES.index("espresso")]))
    border = torch.cat([found[0], found[-1], found[:, 0], found[:, -1]])
    assert found.shape == (14, 14)
    assert found[4:10, 4:10].mean() > border.mean() + 2 * border.std()


def tensorflow_same(size, kernel, stride):
    """Output size and padding before, by TensorFlow's documentation."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return out, total // 2


@pytest.mark.parametrize("size", [224, 225, 127, 7, 1])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding(size, stride):
    convolution = SameConv(2, 2, 3, stride, groups=2)
    image = torch.randn(1, 2, size, size + 3)
    out, before = tensorflow_same(size, 3, stride)
    out_x, before_x = tensorflow_same(size + 3, 3, stride)
    padded = F.pad(image, (before_x, 4, before, 4))
    expected = F.conv2d(padded, convolution.weight, stride=stride, groups=2)[:, :, :out, :out_x]
    torch.testing.assert_close(convolution(image), expected)


def test_stride_2_on_an_even_size_pads_after_only():
    convolution = SameConv(1, 1, 3, 2)
    with torch.no_grad():
        convolution.weight.fill_(0)
        convolution.weight[0, 0, 0, 0] = 1  # picks the upper left pixel of each window
        picture = torch.arange(16.0).reshape(1, 1, 4, 4)
        assert convolution(picture)[0, 0].tolist() == [[0, 2], [8, 10]]


def test_output_stride_16_keeps_every_weight():
    narrow, wide = MobileNetV1Features(32), MobileNetV1Features(16)
    assert {k: v.shape for k, v in narrow.state_dict().items()} == {k: v.shape for k, v in wide.state_dict().items()}
    assert narrow(torch.zeros(1, 3, 224, 224)).shape == (1, 1024, 7, 7)
    assert wide(torch.zeros(1, 3, 224, 224)).shape == (1, 1024, 14, 14)
    with pytest.raises(ValueError, match="expected 16 or 32"):
        MobileNetV1Features(8)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "side", "channels"), [
    ("mobilenet_v1", 14, 1024), ("resnet50", 14, 2048), ("vgg16", 14, 1024), ("inception_v3", 12, 1024),
])  # fmt: skip
def test_every_backbone_gives_maps(architecture, side, channels):
    torch.manual_seed(0)
    model = backbones.build(architecture, 5, pretrained=False).eval()
    with torch.inference_mode():
        output = model(torch.randn(2, 3, 224, 224))
        maps = model.class_activation_map(output.features, torch.tensor([3, 0]))
    assert output.scores.shape == (2, 5)
    assert output.features.shape == (2, channels, side, side)
    # Zhou et al.: the map's mean is the class's score without its bias.
    scores = output.scores[[0, 1], [3, 0]] - model.head.bias[[3, 0]]
    torch.testing.assert_close(maps.mean(dim=(1, 2)), scores, rtol=1e-4, atol=1e-4)


def test_a_map_by_hand():
    model = CamClassifier(torch.nn.Identity(), 2, 3)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[0.0, 0], [1, 2], [5, 5]]))
    features = torch.tensor([[[[1.0, 0]], [[0, 3.0]]]])
    assert model.class_activation_map(features, torch.tensor([1])).tolist() == [[[1, 6]]]


def test_unknown_architectures():
    with pytest.raises(UserError, match="unknown architecture 'alexnet'; expected mobilenet_v1"):
        backbones.build("alexnet", 5)


def test_without_timm_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="timm is not installed here"):
        backbones.build("timm:resnet18", 5)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["resnet50", "vgg16", "inception_v3"])
def test_without_a_network_the_weight_file_and_its_place_are_named(architecture, tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_WEIGHTS", str(tmp_path))

    def no_network(*_, **__):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(UserError, match="can't be downloaded") as caught:
        backbones.build(architecture, 5)
    file_name = backbones.TORCHVISION_FILES[architecture][0]
    assert file_name in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.slow
def test_a_weight_file_that_was_put_there_is_taken(tmp_path, monkeypatch):
    from torchvision.models import resnet50

    monkeypatch.setenv("WSOL_WEIGHTS", str(tmp_path))
    trunk = resnet50(weights=None)
    torch.save(trunk.state_dict(), tmp_path / backbones.TORCHVISION_FILES["resnet50"][0])
    model = backbones.build("resnet50", 1000)
    torch.testing.assert_close(model.features.layer4[2].conv3.weight, trunk.layer4[2].conv3.weight)
    torch.testing.assert_close(model.head.weight, trunk.fc.weight)
    fresh = backbones.build("resnet50", 5)
    assert fresh.head.weight.shape == (5, 2048)


def test_tf_slims_kernels_are_turned():
    arrays = load_mobilenet_v1()
    state, weight, bias = from_tf_slim(arrays)
    kernel = arrays["MobilenetV1/Conv2d_1_depthwise/depthwise_weights"]
    assert state["depthwise_1.0.weight"][5, 0, 1, 2] == kernel[1, 2, 5, 0]
    kernel = arrays["MobilenetV1/Conv2d_2_pointwise/weights"]
    assert state["pointwise_2.0.weight"][7, 3, 0, 0] == kernel[0, 0, 3, 7]
    head = arrays["MobilenetV1/Logits/Conv2d_1c_1x1/weights"]
    assert weight.shape == (1000, 1024)
    np.testing.assert_array_equal(weight[0], head[0, 0, :, 1])  # the unused class 0 is gone
    assert bias.shape == (1000,)


@pytest.mark.parametrize("architecture", ["vgg16", "inception_v3"])
def test_networks_with_fresh_layers_have_no_imagenet_head(architecture):
    with pytest.raises(UserError, match=f"{architecture} has no ImageNet head here: its last convolutions are fresh"):
        backbones.imagenet(architecture)


@pytest.mark.parametrize(("architecture", "channels"), [("mobilenet_v1", 1024), ("resnet50", 2048)])
def test_the_released_stride_gives_maps_of_half_the_side(architecture, channels):
    published = backbones.build(architecture, 3, pretrained=False, stride="released").eval()
    with torch.inference_mode():
        assert published(torch.zeros(1, 3, 64, 64)).features.shape == (1, channels, 2, 2)
    assert backbones.strides(architecture) == ("removed", "released")


def test_a_stride_that_a_network_has_not_is_refused():
    with pytest.raises(UserError, match="vgg16 with stride removed; expected released"):
        backbones.build("vgg16", 3, stride="removed")
    with pytest.raises(UserError, match="timm:resnet18 has no stride removed"):
        backbones.build("timm:resnet18", 3, stride="removed")
