"""The trunk of SPOL's paper."""

from collections.abc import Sequence

from torch import Tensor
from torchvision.models.resnet import Bottleneck, ResNet


class ResNetTrunk(ResNet):
    """torchvision's ResNet without its classifier; gives the outputs of layer2, layer3 and layer4.

    Args:
        blocks: Bottlenecks of each layer.
    """

    CHANNELS = (512, 1024, 2048)
    STEM = ("conv1.", "bn1.")

    def __init__(self, blocks: Sequence[int]):
        super().__init__(Bottleneck, list(blocks))
        del self.fc, self.avgpool

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalized RGB images (B, 3, H, W) to f3, f4, f5."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        shallow = self.layer2(self.layer1(stem))
        middle = self.layer3(shallow)
        return shallow, middle, self.layer4(middle)
