"""DGL's and GRCAM's classifiers in PyTorch, TensorFlow's padding included, from the same checkpoints.

    model = twins.load("model-240000", "inceptionv3")     # the authors' files: no TensorFlow is needed
    mapper = maps.Mapper(model, layers=(twins.layer("inceptionv3", 2),))

Images come in as every `CamClassifier` wants them, RGB by `model.mean` and `model.std`; the release feeds BGR, so that
the first kernel is turned round when it is read. Modules are called as the release's layers are, `/` being `.`.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.pytorch.cam_classifier import HALF, CamClassifier
from common.pytorch.mobilenet_v1 import MobileNetV1Features, SameConv, same_padding
from common.system.errors import UserError
from common.tensorflow_files.architectures import (
    ARCHITECTURES,
    INCEPTION_BLOCKS,
    INCEPTION_STEM,
    LAYERS,
    RESNET_BLOCKS,
    RESNET_STRIDES,
    VGG_LAYERS,
)
from common.tensorflow_files.checkpoint import Checkpoint, open_checkpoint, values_for

CHANNELS = {"vgg": 1024, "resnet50": 2048, "resnet50se": 2048, "inceptionv3": 1024, "mobilenetv1": 1024}
"""Channels of the last map."""
_SLIM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_TENSORPACK = _SLIM | {"running_mean": "mean/EMA", "running_var": "variance/EMA"}
_CLASSIFIER = {
    "inceptionv3": "InceptionV3/Logits/Conv2d_1c_1x1_1000", "mobilenetv1": "MobilenetV1/Logits/Conv2d_1c_1x1",
}  # fmt: skip


def build(
    arch: str, num_classes: int = 1000, classifier: str | None = None, head_batch_norm: bool = False
) -> CamClassifier:
    """A network with random weights.

    Args:
        arch: one of `ARCHITECTURES`.
        num_classes: of the linear layer.
        classifier: the linear layer's scope in checkpoints; by default the release's for ImageNet.
        head_batch_norm: GRCAM's Inception, whose `add1` and `add2` have batch norm instead of biases.

    Raises:
        UserError: an unknown architecture.
    """
    if arch not in ARCHITECTURES:
        raise UserError(f"unknown architecture {arch!r}", expected=f"one of {', '.join(ARCHITECTURES)}")
    if arch == "vgg":
        features = _vgg()
    elif arch == "inceptionv3":
        features = _inception(head_batch_norm)
    elif arch == "mobilenetv1":
        features = _mobilenet()
    else:
        features = _resnet(squeeze=arch == "resnet50se")
    centred = {"mean": HALF, "std": HALF} if arch == "mobilenetv1" else {}
    model = CamClassifier(features, CHANNELS[arch], num_classes, **centred)
    scope = classifier or _CLASSIFIER.get(arch, "linear")
    leaves = ("weights", "biases") if arch in _CLASSIFIER else ("W", "b")
    _named(model.head, {leaf: f"{scope}/{theirs}" for leaf, theirs in zip(("weight", "bias"), leaves, strict=True)})
    return model


def load(path: Path | str | Checkpoint, arch: str) -> CamClassifier:
    """A network with a checkpoint's weights, in eval mode; class count, classifier and kind of head are read off it.

    Args:
        path: whatever `open_checkpoint` takes: the authors' TensorFlow checkpoint, tensorpack's `.npz`, safetensors.
        arch: one of `ARCHITECTURES`.

    Raises:
        UserError: no such checkpoint, or one of another network; names what is missing.
    """
    checkpoint = path if isinstance(path, Checkpoint) else open_checkpoint(path)
    head = checkpoint.head(arch)
    model = build(arch, head.num_classes, head.classifier, head.batch_norm)
    names = variables(model)
    state = model.state_dict()
    values = values_for({theirs: _tensorflow_shape(state[ours]) for theirs, ours in names.items()}, checkpoint)
    first = next(iter(names)) if arch != "mobilenetv1" else None
    for theirs, ours in names.items():
        array = values[theirs][:, :, ::-1] if theirs == first else values[theirs]
        state[ours].copy_(torch.from_numpy(_to_torch(array, state[ours])))
    return model.eval()


def layer(arch: str, number: int | str) -> str:
    """The module of a layer by its number or name in `LAYERS`, as DGL's `--clayer` takes them.

    Raises:
        UserError: there is none.
    """
    known = LAYERS[arch]
    name = known[int(number)] if str(number).isdecimal() and int(number) < len(known) else number
    if name not in known:
        numbered = ", ".join(f"{place} {one}" for place, one in enumerate(known))
        raise UserError(f"{arch} has no layer {number!r}", expected=f"one of {numbered}")
    if arch == "mobilenetv1":
        parts = name.split("_")
        return f"features.{parts[2]}_{parts[1]}" if len(parts) == 3 else "features.conv_0"
    return f"features.{name.replace('/', '.').replace('_branch_', '.branch_')}"


def variables(model: nn.Module) -> dict[str, str]:
    """TensorFlow's names of a network's variables, and the entries of its state dict that they are."""
    return {
        theirs: f"{name}.{leaf}"
        for name, module in model.named_modules()
        for leaf, theirs in getattr(module, "tensorflow_names", {}).items()
    }


def _named(module: nn.Module, names: dict[str, str]) -> nn.Module:
    cast(Any, module).tensorflow_names = names
    return module


def _tensorflow_shape(tensor: Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    if len(shape) == 4:
        out, of_in, height, width = shape
        return (height, width, out, 1) if of_in == 1 and out > 1 else (height, width, of_in, out)
    return shape[::-1]


def _to_torch(array: np.ndarray, like: Tensor) -> np.ndarray:
    if array.ndim == 4:
        array = (
            array.transpose(2, 3, 0, 1) if array.shape[3] == 1 and like.shape[1] == 1 else array.transpose(3, 2, 0, 1)
        )
    return np.ascontiguousarray(array.T if array.ndim == 2 else array)


# ---------------------------------------------------------------------------------------------------------- networks


class SameMaxPool(nn.Module):
    """Greatest of each 3 x 3 window, with TensorFlow's SAME padding, which never wins."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        padding = same_padding(values, (3, 3), (self.stride, self.stride))
        return F.max_pool2d(F.pad(values, padding, value=float("-inf")), 3, self.stride)


def _unit(
    channels_in: int, channels_out: int, kernel: int | tuple[int, int], stride: int, scope: str, kind: str,
    relu: bool = True,
) -> nn.Sequential:  # fmt: skip
    """A convolution with bias or batch norm, and its ReLU.

    Args:
        channels_in, channels_out, kernel, stride: of the convolution.
        scope: in checkpoints.
        kind: whose names and norm: `vgg` and `slim-bias` have biases, `tensorpack` batch norm, `slim` one without
            gamma.
        relu: whether there is one.
    """
    biased = kind in ("vgg", "slim-bias")
    convolution = SameConv(channels_in, channels_out, kernel, stride, bias=biased)
    leaf = "weights" if kind.startswith("slim") else "W"
    names = {"weight": f"{scope}/{leaf}"} | (
        {"bias": f"{scope}/{'b' if kind == 'vgg' else 'biases'}"} if biased else {}
    )
    parts = [_named(convolution, names)]
    if kind == "tensorpack":
        norm = nn.BatchNorm2d(channels_out, eps=1e-5)
        parts.append(_named(norm, {ours: f"{scope}/bn/{theirs}" for ours, theirs in _TENSORPACK.items()}))
    elif kind == "slim":
        norm = nn.BatchNorm2d(channels_out, eps=1e-3)  # its gamma stays one
        leaves = {ours: theirs for ours, theirs in _SLIM.items() if ours != "weight"}
        parts.append(_named(norm, {ours: f"{scope}/BatchNorm/{theirs}" for ours, theirs in leaves.items()}))
    return nn.Sequential(*parts, *([nn.ReLU(inplace=True)] if relu else []))


def _vgg() -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for row in VGG_LAYERS:
        name, *filters = row.split()
        if filters:
            layers[name] = _unit(channels, int(filters[0]), 3, 1, name, "vgg")
            channels = int(filters[0])
        else:
            layers[name] = nn.MaxPool2d(2)
    return nn.Sequential(layers)


class Bottleneck(nn.Module):
    """tensorpack's residual block, with or without squeeze-and-excitation."""

    def __init__(self, channels: int, width: int, stride: int, scope: str, squeeze: bool):
        super().__init__()
        self.conv1 = _unit(channels, width, 1, 1, f"{scope}/conv1", "tensorpack")
        self.conv2 = _unit(width, width, 3, stride, f"{scope}/conv2", "tensorpack")
        self.conv3 = _unit(width, 4 * width, 1, 1, f"{scope}/conv3", "tensorpack", relu=False)
        self.convshortcut = None
        if channels != 4 * width:
            self.convshortcut = _unit(channels, 4 * width, 1, stride, f"{scope}/convshortcut", "tensorpack", relu=False)
        self.fc1 = _linear(4 * width, width // 4, f"{scope}/fc1") if squeeze else None
        self.fc2 = _linear(width // 4, 4 * width, f"{scope}/fc2") if squeeze else None

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 4 width, H / stride, W / stride), after its ReLU."""
        shortcut = values if self.convshortcut is None else self.convshortcut(values)
        values = self.conv3(self.conv2(self.conv1(values)))
        if self.fc1 is not None and self.fc2 is not None:
            excited = self.fc2(self.fc1(values.mean(dim=(2, 3))).relu()).sigmoid()
            values = values * excited[:, :, None, None]
        return (values + shortcut).relu()


def _linear(channels_in: int, channels_out: int, scope: str) -> nn.Module:
    return _named(nn.Linear(channels_in, channels_out), {"weight": f"{scope}/W", "bias": f"{scope}/b"})


def _resnet(squeeze: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv0=_unit(3, 64, 7, 2, "conv0", "tensorpack"), pool0=SameMaxPool(2)
    )
    channels = 64
    for group, (blocks, stride) in enumerate(zip(RESNET_BLOCKS, RESNET_STRIDES, strict=True)):
        made: OrderedDict[str, nn.Module] = OrderedDict()
        width = 64 * 2**group
        for block in range(blocks):
            scope = f"group{group}/block{block}"
            made[f"block{block}"] = Bottleneck(channels, width, stride if block == 0 else 1, scope, squeeze)
            channels = 4 * width
        layers[f"group{group}"] = nn.Sequential(made)
    return nn.Sequential(layers)


class Mixed(nn.Module):
    """Branches side by side, one after the other along the channels."""

    def __init__(self, branches: list[nn.Sequential]):
        super().__init__()
        for number, branch in enumerate(branches):
            self.add_module(f"branch_{number}", branch)

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, H, W) to (N, all branches' channels, H, W)."""
        return torch.cat([branch(values) for branch in self.children()], dim=1)


def _slim_unit(channels: int, scope: str, row: str) -> tuple[nn.Sequential, int]:
    name, filters, kernel, *stride = row.split()
    height, width = map(int, kernel.split("x"))
    made = _unit(channels, int(filters), (height, width), int(stride[0]) if stride else 1, f"{scope}{name}", "slim")
    return made, int(filters)


def _mixed(channels: int, block: str, branches: list[list[str]]) -> tuple[Mixed, int]:
    made, total = [], 0
    for number, branch in enumerate(branches):
        layers: list[nn.Module] = []
        through = channels
        for row in branch:
            if row == "average":
                layers.append(nn.AvgPool2d(3, 1, 1, count_include_pad=False))
            elif row == "max":
                layers.append(SameMaxPool(1))
            else:
                unit, through = _slim_unit(through, f"InceptionV3/{block}/Branch_{number}/", row)
                layers.append(unit)
        made.append(nn.Sequential(*layers))
        total += through
    return Mixed(made), total


def _inception(head_batch_norm: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for row in INCEPTION_STEM:
        name = row.split()[0]
        if name.startswith("Max"):
            layers[name] = SameMaxPool(2)
        else:
            layers[name], channels = _slim_unit(channels, "InceptionV3/", row)
    for block, branches in INCEPTION_BLOCKS.items():
        layers[block], channels = _mixed(channels, block, branches)
    for name in ("add2", "add1"):
        kind = "slim" if head_batch_norm else "slim-bias"
        layers[name] = _unit(channels, 1024, 3, 1, f"InceptionV3/Logits/{name}", kind)
        channels = 1024
    return nn.Sequential(layers)


def _mobilenet() -> MobileNetV1Features:
    features = MobileNetV1Features(output_stride=16)
    for name, unit in features.named_children():
        convolution, norm, *_ = unit.children()
        kind, number = name.split("_")
        scope = "MobilenetV1/Conv2d_0" if kind == "conv" else f"MobilenetV1/Conv2d_{number}_{kind}"
        _named(convolution, {"weight": f"{scope}/{'depthwise_weights' if kind == 'depthwise' else 'weights'}"})
        _named(norm, {ours: f"{scope}/BatchNorm/{theirs}" for ours, theirs in _SLIM.items()})
    return features
