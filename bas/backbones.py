"""The four classifiers that BAS comes with, cut in two as `bas.network` needs them."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from bas.config import VARIANTS, Variant
from bas.network import Network
from common.pytorch import mobilenet_v1


class VGG(Network):
    """VGG16 without batch norm; F follows conv4_3, f2 begins with pool4."""

    SECOND_HALF = ("conv5_",)
    WIDTHS = (64, 128, 256, 512, 512)

    def __init__(self, variant: Variant, num_classes: int):
        super().__init__(variant, num_classes, tap_channels=512, head_channels=512)
        channels = 3
        for stage, width in enumerate(self.WIDTHS, start=1):
            for number in range(1, 3 if stage < 3 else 4):
                self.add_module(f"conv{stage}_{number}", nn.Conv2d(channels, width, 3, padding=1))
                channels = width

    def _stage(self, stage: int, images: Tensor) -> Tensor:
        for number in range(1, 3 if stage < 3 else 4):
            images = F.relu(getattr(self, f"conv{stage}_{number}")(images), inplace=True)
        return images

    def extract(self, images: Tensor) -> Tensor:
        """See `Network.extract`."""
        for stage in (1, 2, 3):
            images = F.max_pool2d(self._stage(stage, images), 2)
        return self._stage(4, images)

    def second_half(self, features: Tensor) -> Tensor:
        """See `Network.second_half`."""
        return self._stage(5, F.max_pool2d(features, 2))


class MobileNet(Network):
    """MobileNetV1 whose block 6 has stride 1; F follows block 11.

    Args:
        slim: TF-Slim's details instead of the release's: ReLU6, SAME padding, a batch-norm epsilon of 1e-3. Slim's
            weights need them: without its ceiling of 6 the first layers' values come out several times as large.
    """

    SECOND_HALF = ("model.12.", "model.13.")
    BLOCKS = (
        (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 1),
        (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
    )  # fmt: skip
    """Output channels and stride of blocks 1 to 13."""

    def __init__(self, variant: Variant, num_classes: int, slim: bool = False):
        super().__init__(variant, num_classes, tap_channels=512, head_channels=1024)
        unit = mobilenet_v1.unit if slim else _unit
        blocks = [nn.Sequential(*unit(3, 32, 3, 2))]
        channels = 32
        for width, stride in self.BLOCKS:
            depthwise = unit(channels, channels, 3, stride, groups=channels)
            blocks.append(nn.Sequential(*depthwise, *unit(channels, width, 1, 1)))
            channels = width
        self.model = nn.Sequential(*blocks)

    def extract(self, images: Tensor) -> Tensor:
        """See `Network.extract`."""
        return self.model[:12](images)

    def second_half(self, features: Tensor) -> Tensor:
        """See `Network.second_half`."""
        return self.model[12:](features)


def _unit(channels_in: int, channels_out: int, kernel: int, stride: int, groups: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)


class ResNet(Network):
    """ResNet50 with stride 1 in layers 3 and 4; F follows layer 3, f2 begins with a 2 x 2 max pool."""

    SECOND_HALF = ("layer4.",)

    def __init__(self, variant: Variant, num_classes: int):
        super().__init__(variant, num_classes, tap_channels=1024, head_channels=2048)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _bottlenecks(64, 64, 3, stride=1)
        self.layer2 = _bottlenecks(256, 128, 4, stride=2)
        self.layer3 = _bottlenecks(512, 256, 6, stride=1)
        self.layer4 = _bottlenecks(1024, 512, 3, stride=1)

    def extract(self, images: Tensor) -> Tensor:
        """See `Network.extract`."""
        stem = F.max_pool2d(F.relu(self.bn1(self.conv1(images)), inplace=True), 3, stride=2, padding=1)
        return self.layer3(self.layer2(self.layer1(stem)))

    def second_half(self, features: Tensor) -> Tensor:
        """See `Network.second_half`."""
        return self.layer4(F.max_pool2d(features, 2))


def _bottlenecks(channels: int, planes: int, count: int, stride: int) -> nn.Sequential:
    from torchvision.models.resnet import Bottleneck  # torchvision takes as long to import as PyTorch

    width = planes * Bottleneck.expansion
    shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
    first = Bottleneck(channels, planes, stride, shortcut)
    return nn.Sequential(first, *(Bottleneck(width, planes) for _ in range(count - 1)))


class Inception(Network):
    """torchvision's InceptionV3, padded so that F, after Mixed_6e, has stride 8 and f2 begins with Mixed_7a."""

    SECOND_HALF = ("Mixed_7",)

    def __init__(self, variant: Variant, num_classes: int):
        head_name = "classifier" if variant.name == "CUB" else "classifier_cls"
        super().__init__(variant, num_classes, tap_channels=768, head_channels=2048, head_name=head_name)
        from bas import inception  # and with it torchvision

        self.Conv2d_1a_3x3 = inception.BasicConv2d(3, 32, kernel_size=3, stride=2, padding=1)
        self.Conv2d_2a_3x3 = inception.BasicConv2d(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = inception.BasicConv2d(32, 64, kernel_size=3, padding=1)
        self.Conv2d_3b_1x1 = inception.BasicConv2d(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = inception.BasicConv2d(80, 192, kernel_size=3)
        self.Mixed_5b = inception.InceptionA(192, pool_features=32)
        self.Mixed_5c = inception.InceptionA(256, pool_features=64)
        self.Mixed_5d = inception.InceptionA(288, pool_features=64)
        self.Mixed_6a = inception.PaddedB(288)
        self.Mixed_6b = inception.InceptionC(768, channels_7x7=128)
        self.Mixed_6c = inception.InceptionC(768, channels_7x7=160)
        self.Mixed_6d = inception.InceptionC(768, channels_7x7=160)
        self.Mixed_6e = inception.InceptionC(768, channels_7x7=192)
        self.Mixed_7a = inception.PaddedD(768)
        self.Mixed_7b = inception.InceptionE(1280)
        self.Mixed_7c = inception.InceptionE(2048)

    def extract(self, images: Tensor) -> Tensor:
        """See `Network.extract`."""
        stem = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        stem = F.max_pool2d(stem, 3, stride=2, padding=1, ceil_mode=True)
        stem = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(stem))
        features = F.max_pool2d(stem, 3, stride=2, padding=1, ceil_mode=True)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e"):
            features = getattr(self, f"Mixed_{name}")(features)
        return features

    def second_half(self, features: Tensor) -> Tensor:
        """See `Network.second_half`."""
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(features)))


NETWORKS: dict[str, Callable[..., Network]] = {
    "vgg": VGG,
    "mobilenet": MobileNet,
    "resnet": ResNet,
    "inception": Inception,
}


def build(arch: str, variant: str = "CUB", num_classes: int | None = None, slim: bool = False) -> Network:
    """A freshly initialized network.

    Args:
        arch: `vgg`, `mobilenet`, `resnet` or `inception`.
        variant: `CUB`, `ILSVRC` or `EXT`.
        num_classes: None for as many as were released.
        slim: TF-Slim's MobileNetV1; see `MobileNet`.

    Raises:
        ValueError: an unknown name.
    """
    if arch not in NETWORKS:
        raise ValueError(f"unknown architecture {arch!r}, expected one of {', '.join(NETWORKS)}")
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}, expected one of {', '.join(VARIANTS)}")
    if slim and arch != "mobilenet":
        raise ValueError(f"no TF-Slim details for {arch!r}, expected mobilenet")
    details = {"slim": True} if slim else {}
    network = NETWORKS[arch](VARIANTS[variant], num_classes or VARIANTS[variant].classes, **details)
    if arch != "vgg":
        network.apply(_initialize)
    elif variant == "ILSVRC":  # the others' VGG keeps PyTorch's initialization until ImageNet weights are loaded
        initialize_vgg_heads(network)
    return network


def initialize_vgg_heads(network: Network) -> None:
    """Draw the weights of VGG's head and generator from N(0, 0.02); biases keep PyTorch's initialization."""
    for layer in (*getattr(network, network.head_name), network.classifier_loc[0]):
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.02)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
