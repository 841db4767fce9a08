"""The three networks of the segmentation pipeline: BAS, CAM and IRN, each on ResNet50 or on MobileNetV1.

Their state dicts have the authors' canonical keys (see `bas.segmentation.weights`). Feature maps have stride 16: an
image of side n gives maps of side ceil(n / 16). Images are normalized float RGB (B, 3, H, W) throughout.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bas.network import CutInTwo, Output
from common.pytorch import mobilenet_v1

TRUNKS = ("resnet50", "mobilenet_v1")


class Trunk(nn.Module):
    """A classifier's features in five stages, of strides 4, 4, 8, 16 and 16.

    Attributes:
        CHANNELS: of each stage's output.
        frozen_norm: batch norm always uses its running statistics and never updates them; its weights still train.
    """

    CHANNELS: tuple[int, ...]
    frozen_norm = False

    def stage(self, number: int, values: Tensor) -> Tensor:
        """The `number`-th stage, counted from 1, of the stage before it, or of images."""
        raise NotImplementedError

    def stages(self, images: Tensor, last: int = 5) -> list[Tensor]:
        """The outputs of stages 1 to `last`."""
        found = []
        for number in range(1, last + 1):
            images = self.stage(number, images)
            found.append(images)
        return found

    def train(self, mode: bool = True) -> "Trunk":
        """Set the mode as of any module, but a frozen batch norm stays in eval mode."""
        super().train(mode)
        if self.frozen_norm:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


class ResNetTrunk(Trunk):
    """ResNet50 whose last stage has stride 1; its keys are torchvision's.

    Args:
        stride: of the last stage's output, 16; or 8, IRN's finer variant, which no released step uses.
    """

    CHANNELS = (64, 256, 512, 1024, 2048)
    conv1: nn.Module
    bn1: nn.Module

    def __init__(self, stride: int = 16):
        super().__init__()
        from torchvision.models import resnet50  # torchvision takes as long to import as PyTorch

        made: Any = resnet50(weights=None)
        for layer in (made.layer4,) if stride == 16 else (made.layer3, made.layer4):
            layer[0].conv2.stride = layer[0].downsample[0].stride = (1, 1)
            for block in layer[1:] if stride == 8 else ():  # a layer's first block is never dilated
                block.conv2.dilation = block.conv2.padding = (2, 2)
        for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"):
            self.add_module(name, getattr(made, name))

    def stage(self, number: int, values: Tensor) -> Tensor:
        """See `Trunk.stage`."""
        if number > 1:
            return getattr(self, f"layer{number - 1}")(values)
        return F.max_pool2d(F.relu(self.bn1(self.conv1(values)), inplace=True), 3, stride=2, padding=1)


class MobileNetTrunk(Trunk):
    """MobileNetV1 as TF-Slim built it, whose block 12 has stride 1; its keys are those of `bas.backbones.MobileNet`."""

    CHANNELS = (128, 128, 256, 512, 1024)
    ENDS = (0, 3, 4, 6, 12, 14)
    """Stage n is `model[ENDS[n - 1]:ENDS[n]]`."""

    def __init__(self):
        super().__init__()
        unit, channels = mobilenet_v1.unit, 32
        blocks = [nn.Sequential(*unit(3, 32, 3, 2))]
        for number, (width, stride) in enumerate(mobilenet_v1.BLOCKS, start=1):
            depthwise = unit(channels, channels, 3, 1 if number == 12 else stride, groups=channels)
            blocks.append(nn.Sequential(*depthwise, *unit(channels, width, 1, 1)))
            channels = width
        self.model = nn.Sequential(*blocks)

    def stage(self, number: int, values: Tensor) -> Tensor:
        """See `Trunk.stage`."""
        return self.model[self.ENDS[number - 1] : self.ENDS[number]](values)


def build_trunk(name: str, frozen_norm: bool = False, stride: int = 16) -> Trunk:
    """A trunk by its name in `TRUNKS`, freshly initialized; `stride` is ResNet50's.

    Raises:
        ValueError: a stride that the trunk can't have.
    """
    if stride not in ((8, 16) if name == "resnet50" else (16,)):
        raise ValueError(f"{name} has no stride {stride}")
    trunk = ResNetTrunk(stride) if name == "resnet50" else MobileNetTrunk()
    trunk.frozen_norm = frozen_norm
    return trunk.train()


class BasNetwork(CutInTwo):
    """A trunk cut in two. Its class maps are not rectified, and neither head has a bias; the generator, one convolution
    on F, gives each class a foreground map. A subclass says where the trunk is cut.
    """

    def _add_heads(self, num_classes: int, tap_channels: int, head_channels: int) -> None:
        self.num_classes = num_classes
        self.classifier_cls = nn.Conv2d(head_channels, num_classes, 1, bias=False)
        generator = nn.Conv2d(tap_channels, num_classes, 3, padding=1, bias=False)
        self.classifier_loc = nn.Sequential(generator, nn.Sigmoid())
        self._keep_second_half()

    def forward(self, images: Tensor, classes: Tensor) -> Output:
        """The passes of a training step: clean, and with one class's foreground suppressed.

        Args:
            images: (B, 3, H, W).
            classes: (B,), one true class an image.
        """
        features = self.extract(images)
        class_maps = self.classify(features)
        scores = class_maps.mean(dim=(2, 3))
        foreground = _of_class(self.classifier_loc(features), classes)
        suppressed = self.classify_frozen(features.detach() * (1 - foreground)).mean(dim=(2, 3))
        return Output(
            scores,
            foreground,
            features,
            class_maps,
            guided_scores=(class_maps.detach() * foreground).mean(dim=(2, 3)),
            activation=_of_class(scores, classes)[:, 0],
            background_activation=_of_class(suppressed, classes)[:, 0],
        )

    def maps(self, images: Tensor) -> Tensor:
        """Every class's foreground map (B, C, h, w) in [0, 1]; the second half is not computed."""
        return self.classifier_loc(self.extract(images))


def _of_class(values: Tensor, classes: Tensor) -> Tensor:
    """(B, 1, ...) of values (B, C, ...), each image's own class."""
    index = classes.view(-1, *[1] * (values.ndim - 1)).expand(-1, 1, *values.shape[2:])
    return values.gather(1, index)


class BasResNet(ResNetTrunk, BasNetwork):
    """BAS on ResNet50: F follows layer 3, the second half is layer 4, without a pool between them."""

    SECOND_HALF = ("layer4.",)

    def __init__(self, num_classes: int, tap: int | None = None):
        super().__init__()
        if tap is not None:
            raise ValueError("only MobileNetV1 has a choice of taps")
        self._add_heads(num_classes, 1024, 2048)

    def extract(self, images: Tensor) -> Tensor:
        """See `BasNetwork.extract`."""
        return self.stages(images, last=4)[-1]

    def second_half(self, features: Tensor) -> Tensor:
        """See `BasNetwork.second_half`."""
        return self.stage(5, features)


class BasMobileNet(MobileNetTrunk, BasNetwork):
    """BAS on MobileNetV1; F follows block `tap`, 6 to 12, the second half begins behind it."""

    def __init__(self, num_classes: int, tap: int | None = None):
        super().__init__()
        self.tap = 7 if tap is None else tap
        if not 6 <= self.tap <= 12:
            raise ValueError(f"the tap is block {tap}, expected 6 to 12, whose stride is 16")
        self.SECOND_HALF = tuple(f"model.{number}." for number in range(self.tap + 1, 14))
        self._add_heads(num_classes, mobilenet_v1.BLOCKS[self.tap - 1][0], 1024)

    def extract(self, images: Tensor) -> Tensor:
        """See `BasNetwork.extract`."""
        return self.model[: self.tap + 1](images)

    def second_half(self, features: Tensor) -> Tensor:
        """See `BasNetwork.second_half`."""
        return self.model[self.tap + 1 :](features)


def build_bas(trunk: str, num_classes: int, tap: int | None = None) -> "BasResNet | BasMobileNet":
    """A freshly initialized BAS network: Xavier's uniform convolutions, batch norm 1 and 0.

    Args:
        trunk: one of `TRUNKS`.
        num_classes: C.
        tap: MobileNetV1's block that F follows, by default 7.
    """
    kinds: dict[str, type[BasResNet] | type[BasMobileNet]] = {"resnet50": BasResNet, "mobilenet_v1": BasMobileNet}
    network = kinds[trunk](num_classes, tap)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
    return network


class CamNetwork(nn.Module):
    """The classifier whose class activation maps are merged with BAS's: a trunk with frozen batch norm and one 1 x 1
    convolution without bias. The stem does not train.

    Args:
        trunk: one of `TRUNKS`; the module is called by it.
        num_classes: C.
        stride: see `ResNetTrunk`.
    """

    def __init__(self, trunk: str, num_classes: int, stride: int = 16):
        super().__init__()
        self.trunk_name, self.num_classes = trunk, num_classes
        self.add_module(trunk, build_trunk(trunk, frozen_norm=True, stride=stride))
        self.classifier = nn.Conv2d(self.trunk.CHANNELS[-1], num_classes, 1, bias=False)
        made: Any = self.trunk
        stem = (made.conv1, made.bn1) if trunk == "resnet50" else made.model[:1]
        for module in stem:
            module.requires_grad_(False)

    @property
    def trunk(self) -> Trunk:
        """The features."""
        return getattr(self, self.trunk_name)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (B, C) before the sigmoid."""
        pooled = self.trunk.stages(images)[-1].mean(dim=(2, 3), keepdim=True)
        return self.classifier(pooled)[:, :, 0, 0]

    def maps(self, images: Tensor) -> Tensor:
        """Every class's rectified activation map (B, C, h, w)."""
        return self.classifier(self.trunk.stages(images)[-1]).relu()


class MeanShift(nn.Module):
    """Takes a stored mean off in eval mode; the identity in training."""

    running_mean: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))

    def forward(self, values: Tensor) -> Tensor:
        """(B, channels, h, w) to the same shape."""
        return values if self.training else values - self.running_mean.view(1, -1, 1, 1)


class IrnNetwork(nn.Module):
    """IRN (Ahn et al., CVPR 2019): class boundaries and displacements from a frozen trunk's five stages.

    Args:
        trunk: one of `TRUNKS`; the module is called by it.
    """

    EDGE_ENLARGED = (1, 1, 2, 4, 4)

    def __init__(self, trunk: str = "resnet50"):
        super().__init__()
        self.trunk_name = trunk
        self.add_module(trunk, build_trunk(trunk, frozen_norm=True))
        self.trunk.requires_grad_(False)
        channels = self.trunk.CHANNELS
        for number, (width, factor) in enumerate(zip(channels, self.EDGE_ENLARGED, strict=True), start=1):
            self.add_module(f"fc_edge{number}", _unit(width, 32, 4, factor))
        self.fc_edge6 = nn.Conv2d(160, 1, 1)
        for number, (width, out, groups, factor) in enumerate(
            zip(channels, (64, 128, 256, 256, 256), (8, 16, 16, 16, 16), (1, 1, 1, 2, 2), strict=True), start=1
        ):
            self.add_module(f"fc_dp{number}", _unit(width, out, groups, factor))
        self.fc_dp6 = _unit(768, 256, 16, 2)
        self.fc_dp7 = _unit(448, 256, 16, 1)
        self.fc_dp7.append(nn.Conv2d(256, 2, 1, bias=False))
        self.mean_shift = MeanShift(2)

    @property
    def trunk(self) -> Trunk:
        """The features."""
        return getattr(self, self.trunk_name)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Edge logits (B, 1, h4, w4) and displacements (B, 2, h4, w4), y before x, in cells of stride 4."""
        with torch.no_grad():
            stages = self.trunk.stages(images)
        return self._edges(stages), self.mean_shift(self._displacements(stages))

    def _edges(self, stages: Sequence[Tensor]) -> Tensor:
        parts = [getattr(self, f"fc_edge{number}")(value) for number, value in enumerate(stages, start=1)]
        return self.fc_edge6(torch.cat([_cropped(part, parts[1]) for part in parts], dim=1))

    def _displacements(self, stages: Sequence[Tensor]) -> Tensor:
        parts = [getattr(self, f"fc_dp{number}")(value) for number, value in enumerate(stages, start=1)]
        coarse = self.fc_dp6(torch.cat([_cropped(part, parts[2]) for part in parts[2:]], dim=1))
        return self.fc_dp7(torch.cat([*parts[:2], _cropped(coarse, parts[1])], dim=1))

    def look(self, pair: Tensor, least: int = 512) -> tuple[Tensor, Tensor]:
        """Edges and displacements of one image, in eval mode.

        Group norm sees the padding, so the result depends on the padded size: `least` as released, more only where the
        image needs it.

        Args:
            pair: (2, 3, H, W), the image and its mirror image.
            least: side that smaller images are padded to.

        Returns:
            Edges (1, h4, w4) in [0, 1], the mean of both images' logits before the sigmoid; displacements (2, h4, w4).
        """
        height, width = pair.shape[2:]
        padded = [max(least, -(-side // 16) * 16) for side in (height, width)]
        edges, displacements = self(F.pad(pair, (0, padded[1] - width, 0, padded[0] - height)))
        rows, columns = (height - 1) // 4 + 1, (width - 1) // 4 + 1
        edges, displacements = edges[:, :, :rows, :columns], displacements[:, :, :rows, :columns]
        return torch.sigmoid(edges[0] / 2 + edges[1].flip(-1) / 2), displacements[0]


def _unit(channels_in: int, channels_out: int, groups: int, enlarged: int) -> nn.Sequential:
    layers = [nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.GroupNorm(groups, channels_out)]
    if enlarged > 1:
        layers.append(nn.Upsample(scale_factor=enlarged, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def _cropped(values: Tensor, like: Tensor) -> Tensor:
    return values[..., : like.shape[2], : like.shape[3]]


def pair_maps(network: BasNetwork | CamNetwork, pair: Tensor) -> Tensor:
    """Maps (C, h, w) of a pair (2, 3, H, W), an image and its mirror image: those of the first and, mirrored, of the
    second, added.
    """
    first, second = network.maps(pair)
    return first + second.flip(-1)
