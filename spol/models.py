"""MFF-Net, SPOL's network for class maps (stage `cam`) and for foreground segmentation (stage `seg`).

A trunk gives features f3, f4, f5 at strides 8, 16 and 32. The multiplicative channel attention (MCA) turns them into
f'_k = g_k * f_k, the multiplicative feature fusion (MFF) into F = p_5 * p_4 * p_3; both multiply where others add or
concatenate, so that what one depth does not see is gone. State dicts have the released checkpoints' keys.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD
from common.pytorch.mobilenet_v1 import MobileNetV1Features
from spol.config import DROPOUT

WIDTH = 128
"""Channels of attention and fusion."""


class Fusion(NamedTuple):
    """The result of `MffNet.fuse` for B images.

    Attributes:
        fused: F (B, 128, H / 8, W / 8), the product of the three projections.
        deep: p_5 (B, 128, H / 8, W / 8), the deepest projection, enlarged.
    """

    fused: Tensor
    deep: Tensor


class Trunk(nn.Module):
    """Images to (f3, f4, f5).

    Attributes:
        CHANNELS: of the three.
        STEM: how the names of the parameters begin that the release does not train on CUB.
    """

    CHANNELS: tuple[int, int, int]
    STEM: tuple[str, ...]


class MffNet(nn.Module):
    """The network of both stages.

    Args:
        trunk: images to (f3, f4, f5); its names begin with `bkbone.`.
        channels: of f3, f4 and f5.
        outputs: classes, or 1 for segmentation.
        head_relu: a ReLU on the maps, before anything takes their mean: the cam stage.
    """

    bkbone: Trunk

    def __init__(self, trunk: Trunk, channels: Sequence[int], outputs: int, head_relu: bool):
        super().__init__()
        self.outputs, self.head_relu = outputs, head_relu
        self.bkbone = trunk
        for depth in (5, 4, 3):
            self.add_module(f"fc{depth}1", nn.Conv2d(channels[depth - 3], WIDTH, 1))
            self.add_module(f"bn{depth}1", nn.BatchNorm2d(WIDTH))
            self.add_module(f"fc{depth}2", nn.Conv2d(WIDTH, channels[depth - 3], 1))
        for depth in (5, 4, 3):
            self.add_module(f"linear{depth}", nn.Conv2d(channels[depth - 3], WIDTH, 1))
            self.add_module(f"bn{depth}", nn.BatchNorm2d(WIDTH))
        self.linear = nn.Conv2d(WIDTH, outputs, 1)
        self.dropout = nn.Dropout(DROPOUT)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.startswith("bkbone."):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def attend(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """MCA: gates g_k = sigmoid(W_k2 v + b), one vector v = a_5 * a_4 * a_3 for all three.

        Args:
            features: f3, f4, f5.

        Returns:
            g_3, g_4, g_5 (B, channels, 1, 1) and v (B, 128, 1, 1), where a_k = ReLU(BN(W_k1 mean(f_k) + b)).
        """
        answers = {}
        for depth, feature in zip((3, 4, 5), features, strict=True):
            pooled = feature.mean(dim=(2, 3), keepdim=True)
            answers[depth] = F.relu(self.part(f"bn{depth}1")(self.part(f"fc{depth}1")(pooled)))
        vector = answers[5] * answers[4] * answers[3]
        return [torch.sigmoid(self.part(f"fc{depth}2")(vector)) for depth in (3, 4, 5)], vector

    def project(self, features: Sequence[Tensor], gates: Sequence[Tensor]) -> list[Tensor]:
        """p_k = ReLU(BN(U_k (g_k * f_k) + b)), each (B, 128, h, w) on its own grid: p_3, p_4, p_5."""
        projected = []
        for depth, feature, gate in zip((3, 4, 5), features, gates, strict=True):
            # The gate multiplies channels, so it could go into the weights; kept on the features for equal rounding.
            projected.append(F.relu(self.part(f"bn{depth}")(self.part(f"linear{depth}")(gate * feature))))
        return projected

    def fuse(self, images: Tensor) -> Fusion:
        """MFF: normalized RGB images (B, 3, H, W) to F = p_5 * p_4 * p_3 on f3's grid."""
        features = self.bkbone(images)
        gates, _ = self.attend(features)
        shallow, middle, deep = self.project(features, gates)
        deep, middle = (enlarged(part, shallow.shape[2:]) for part in (deep, middle))
        return Fusion(deep * middle * shallow, deep)

    def part(self, name: str) -> nn.Module:
        """A layer by its released name."""
        return getattr(self, name)

    def head(self, features: Tensor) -> Tensor:
        """Dropout in training, the last 1 x 1 convolution, and the cam stage's ReLU."""
        maps = self.linear(self.dropout(features))
        return F.relu(maps) if self.head_relu else maps

    def forward(self, images: Tensor, two_branches: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Images to maps or logits.

        Args:
            images: (B, 3, H, W), normalized RGB, sides that are multiples of 32.
            two_branches: the cam stage's training on CUB: the deep branch's maps q1, of p_5 alone, too.

        Returns:
            Maps (B, outputs, H / 8, W / 8), or q1 and q2 where `two_branches`. The dropout of q1 is drawn first.
        """
        fusion = self.fuse(images)
        if two_branches:
            return self.head(fusion.deep), self.head(fusion.fused)
        return self.head(fusion.fused)

    def label_maps(self, images: Tensor, labels: Tensor) -> Tensor:
        """The cam stage's map of one class an image, (B, H / 8, W / 8), without computing the other classes'."""
        features = self.dropout(self.fuse(images).fused)
        linear: Any = self.linear
        weights, biases = linear.weight[labels], linear.bias[labels]
        maps = torch.einsum("bkyx,bk->byx", features, weights[:, :, 0, 0]) + biases[:, None, None]
        return F.relu(maps) if self.head_relu else maps


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear with corners aligned, as every enlargement of features and logits here."""
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=True)


class MobileNetTrunk(Trunk):
    """TF-Slim's MobileNetV1, an extension; gives the outputs of blocks 5, 11 and 13.

    Images come normalized with ImageNet's mean and deviation; the network itself expects [-1, 1].
    """

    CHANNELS = (256, 512, 1024)
    STEM = ("features.conv_0.",)
    TAPS = ("pointwise_5", "pointwise_11", "pointwise_13")
    scale: Tensor
    shift: Tensor

    def __init__(self):
        super().__init__()
        self.features = MobileNetV1Features()
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("scale", 2 * deviation, persistent=False)
        self.register_buffer("shift", 2 * mean - 1, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalized RGB images (B, 3, H, W) to f3, f4, f5."""
        values, taps = images * self.scale + self.shift, []
        for name, unit in self.features.named_children():
            values = unit(values)
            if name in self.TAPS:
                taps.append(values)
        return tuple(taps)


def _resnet(*blocks: int) -> Trunk:
    from spol.resnet import ResNetTrunk  # and with it torchvision, which takes as long to import as PyTorch

    return ResNetTrunk(blocks)


BACKBONES: dict[str, Callable[[], Trunk]] = {
    "resnet50": lambda: _resnet(3, 4, 6, 3),
    "resnet101": lambda: _resnet(3, 4, 23, 3),
    "resnet152": lambda: _resnet(3, 8, 36, 3),
    "mobilenet_v1": MobileNetTrunk,
}
"""The paper's, the two that its code offers and does not use, and an extension that a CPU can train."""


def build(stage: str, num_classes: int = 200, backbone: str = "resnet50", head_relu: bool = True) -> MffNet:
    """A freshly initialized network.

    Args:
        stage: `cam`, or `seg`, which has one output whatever `num_classes` is.
        num_classes: of the cam stage.
        backbone: one of `BACKBONES`.
        head_relu: of the cam stage; see `MffNet`.

    Raises:
        ValueError: an unknown name.
    """
    if stage not in ("cam", "seg"):
        raise ValueError(f"no MFF-Net in stage {stage!r}, expected cam or seg")
    if backbone not in BACKBONES:
        raise ValueError(f"unknown backbone {backbone!r}, expected one of {', '.join(BACKBONES)}")
    trunk = BACKBONES[backbone]()
    outputs = num_classes if stage == "cam" else 1
    return MffNet(trunk, trunk.CHANNELS, outputs, head_relu=head_relu and stage == "cam")
