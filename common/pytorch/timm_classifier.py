"""timm's networks as classifiers for CAM, split into features and head; their scores are checked to stay timm's own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from common.pytorch.cam_classifier import CamClassifier
from common.system.errors import UserError


def build(name: str, num_classes: int, pretrained: bool) -> "TimmClassifier":
    """The timm network of a name, as `timm.create_model` knows it; arguments as of `TimmClassifier`.

    Raises:
        UserError: timm is not installed, has no such network or weights, or CAM can't read the network.
    """
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
            self.take_head(head.weight, head.bias)

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
