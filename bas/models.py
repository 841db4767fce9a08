"""The four BAS networks, and the step that makes them one method.

A classifier is cut in two: the extractor f1 (`extract`) gives features F at stride 8, and f2 (`classify`) turns them
into class maps, whose mean is the score vector. One convolution on F, the generator, gives each class a foreground map.
`Network.forward` makes a training step's passes, `Network.localize` those that inference needs. State dicts have the
released checkpoints' keys; f2's second, frozen pass takes f2's own weights without a gradient, so there are no copies.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from bas.config import VARIANTS, Variant
from common.pytorch import mobilenet_v1

HEAD_WIDTH = 1024


class Output(NamedTuple):
    """What a pass gives for B images and C classes.

    Attributes:
        scores: s (B, C).
        foreground_map: M_fg (B, 1, H / 8, W / 8) in [0, 1].
        features: F (B, channels, H / 8, W / 8).
        class_maps: (B, C, H / 16, W / 16), whose mean is `scores`.
        guided_scores: s_frg (B, C), the scores under the foreground map; None from `localize`.
        activation: S (B,), the label's score; None from `localize`.
        background_activation: S_bg (B,), the label's score with the foreground suppressed; None from `localize`.
    """

    scores: Tensor
    foreground_map: Tensor
    features: Tensor
    class_maps: Tensor
    guided_scores: Tensor | None = None
    activation: Tensor | None = None
    background_activation: Tensor | None = None


class Network(nn.Module):
    """What the four networks share. A subclass brings `extract` and `_second_half`.

    Args:
        variant: says whether the head ends in a ReLU.
        num_classes: C.
        tap_channels: of F.
        head_channels: of what the head sees.
        head_name: the head's name in the state dict.
    """

    SECOND_HALF: tuple[str, ...] = ()
    """How the names of f2's parameters begin, the head's apart."""

    def __init__(
        self,
        variant: Variant,
        num_classes: int,
        tap_channels: int,
        head_channels: int,
        head_name: str = "classifier_cls",
    ):
        super().__init__()
        self.variant, self.num_classes, self.head_name = variant, num_classes, head_name
        head = nn.Sequential(
            nn.Conv2d(head_channels, HEAD_WIDTH, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(HEAD_WIDTH, HEAD_WIDTH, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(HEAD_WIDTH, num_classes, 1),
        )
        if variant.head_relu:
            head.append(nn.ReLU())
        self.add_module(head_name, head)
        self.classifier_loc = nn.Sequential(nn.Conv2d(tap_channels, num_classes, 3, padding=1), nn.Sigmoid())

    def extract(self, images: Tensor) -> Tensor:
        """f1: normalized RGB images (B, 3, H, W) to F."""
        raise NotImplementedError

    def _second_half(self, features: Tensor) -> Tensor:
        """F, or F masked, to what the head sees."""
        raise NotImplementedError

    def classify(self, features: Tensor) -> Tensor:
        """f2: F to class maps."""
        return getattr(self, self.head_name)(self._second_half(features))

    def forward(
        self, images: Tensor, labels: Tensor, top_k: int | None = None, frozen: bool = False
    ) -> Output | Tensor:
        """The passes of a training step: clean, under the foreground map, and with the foreground suppressed.

        Args:
            images: (B, 3, H, W), normalized RGB.
            labels: (B,) 0-based classes.
            top_k: None takes the label's foreground map, as training does; k the mean of the k best classes' maps.
            frozen: for `_background_maps` alone: `images` are features, and only their class maps are wanted.
        """
        if frozen:
            return self.classify(images)
        clean = self.localize(images, labels, top_k)
        pooled = F.adaptive_avg_pool2d(clean.foreground_map, clean.class_maps.shape[2:])  # 2 x 2 means at even sizes
        suppressed = self._background_maps(clean.features.detach() * (1 - clean.foreground_map))
        return clean._replace(
            guided_scores=(clean.class_maps * pooled).mean(dim=(2, 3)),
            activation=_of_label(clean.scores, labels),
            background_activation=_of_label(suppressed.mean(dim=(2, 3)), labels),
        )

    def localize(self, images: Tensor, labels: Tensor | None = None, top_k: int | None = None) -> Output:
        """The clean pass alone: scores and the foreground map.

        Args:
            images: (B, 3, H, W), normalized RGB.
            labels: (B,), needed where `top_k` is None.
            top_k: None for the label's map, else the mean of the maps of the k best-scoring classes; equal scores, such
                as the many zeros that a ReLU leaves, are taken in the classes' order.
        """
        features = self.extract(images)
        class_maps = self.classify(features)
        scores = class_maps.mean(dim=(2, 3))
        return Output(scores, self.foreground_map(features, scores, labels, top_k), features, class_maps)

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and features alone."""
        features = self.extract(images)
        return self.classify(features).mean(dim=(2, 3)), features

    def foreground_map(self, features: Tensor, scores: Tensor, labels: Tensor | None, top_k: int | None) -> Tensor:
        """M_fg (B, 1, h, w) of features; the arguments are those of `localize`."""
        if top_k is None:
            return self._map_of(features, labels)
        return self._mean_map(features, scores.sort(dim=1, descending=True, stable=True).indices[:, :top_k])

    def _background_maps(self, masked: Tensor) -> Tensor:
        """f2's class maps of masked features, with a gradient to the features but none to f2.

        In training, batch norm looks at the masked batch and its running statistics stay as they are.
        """
        own = (*self.SECOND_HALF, self.head_name)
        state = {name: value.detach() for name, value in self.named_parameters() if name.startswith(own)}
        state |= {name: value.clone() for name, value in self.named_buffers() if name.startswith(own)}
        return functional_call(self, state, (masked, None), {"frozen": True})

    def _map_of(self, features: Tensor, labels: Tensor) -> Tensor:
        """The generator's map of one class an image, (B, 1, h, w), without computing the other classes'.

        A 3 x 3 convolution with one output channel is nine dot products over channels, added up where they belong.
        The other classes' weights get a gradient of zeros, not None, so that they decay and keep their momentum. A
        product picks the label's: its gradient is summed in one order, that of `weight[labels]` as threads come.
        """
        generator = self.classifier_loc[0]
        height, width = features.shape[2:]
        picked = F.one_hot(labels, self.num_classes).to(generator.weight.dtype) @ generator.weight.flatten(1)
        weights = picked.view(len(labels), -1, 9).flip(2)  # (B, channels, 9), turned round for `fold`
        products = torch.einsum("bcp,bck->bkp", features.flatten(2), weights)
        sums = F.fold(products, (height, width), kernel_size=3, padding=1)
        return torch.sigmoid(sums + generator.bias[labels].view(-1, 1, 1, 1))

    def _mean_map(self, features: Tensor, classes: Tensor) -> Tensor:
        """The mean (B, 1, h, w) of the generator's maps of several classes (B, k) an image."""
        maps = self.classifier_loc(features)
        if classes.shape[1] < self.num_classes:
            maps = maps.gather(1, classes[:, :, None, None].expand(-1, -1, *maps.shape[2:]))
        return maps.mean(dim=1, keepdim=True)

    def every_map(self, features: Tensor) -> Tensor:
        """The generator's maps of all classes, (B, C, h, w)."""
        return self.classifier_loc(features)


def _of_label(scores: Tensor, labels: Tensor) -> Tensor:
    return scores.gather(1, labels[:, None])[:, 0]


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

    def _second_half(self, features: Tensor) -> Tensor:
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

    def _second_half(self, features: Tensor) -> Tensor:
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

    def _second_half(self, features: Tensor) -> Tensor:
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

    def _second_half(self, features: Tensor) -> Tensor:
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(features)))


NETWORKS: dict[str, type[Network]] = {"vgg": VGG, "mobilenet": MobileNet, "resnet": ResNet, "inception": Inception}


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
    if arch != "vgg":  # the released VGG keeps PyTorch's initialization until ImageNet weights are loaded
        network.apply(_initialize)
    return network


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
