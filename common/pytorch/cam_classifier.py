"""Classifier whose class activation maps (CAM) can be read off: features, global average pooling, one linear layer.

`backbones` builds one by the name of its architecture; `timm_classifier` makes one of a timm network.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD

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

    def take_head(self, weight: Tensor, bias: Tensor) -> None:
        """Copy a pretrained linear layer (classes, C) and (classes,) where it has as many classes as this one."""
        if weight.shape == self.head.weight.shape:
            with torch.no_grad():
                self.head.weight.copy_(weight)
                self.head.bias.copy_(bias)
