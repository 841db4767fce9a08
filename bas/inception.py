"""The units of torchvision's InceptionV3, two of them padded as BAS has them."""

import torch.nn.functional as F
from torch import Tensor
from torchvision.models.inception import BasicConv2d, InceptionA, InceptionB, InceptionC, InceptionD, InceptionE

__all__ = ["BasicConv2d", "InceptionA", "InceptionC", "InceptionE", "PaddedB", "PaddedD"]


class PaddedB(InceptionB):
    """Mixed_6a at stride 1."""

    def __init__(self, channels: int):
        super().__init__(channels)
        for unit in (self.branch3x3, self.branch3x3dbl_3):
            unit.conv.stride, unit.conv.padding = (1, 1), (1, 1)

    def _forward(self, features: Tensor) -> list[Tensor]:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(features)))
        return [self.branch3x3(features), double, F.max_pool2d(features, 3, stride=1, padding=1)]


class PaddedD(InceptionD):
    """Mixed_7a with its windows padded."""

    def __init__(self, channels: int):
        super().__init__(channels)
        for unit in (self.branch3x3_2, self.branch7x7x3_4):
            unit.conv.padding = (1, 1)

    def _forward(self, features: Tensor) -> list[Tensor]:
        single = self.branch3x3_2(self.branch3x3_1(features))
        wide = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(features)))
        return [single, self.branch7x7x3_4(wide), F.max_pool2d(features, 3, stride=2, padding=1)]
