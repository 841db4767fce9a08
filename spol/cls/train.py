"""Train a classifier, as the release did EfficientNet-B7 on CUB. ImageNet's was the stock one.

    python -m spol.cls.train --data.name cub --datapath CUB_200_2011 --out runs/spol/cls
    python -m spol.cls.train --data.name cub --datapath CUB_200_2011 --out runs/spol/cls --arch mobilenet_v1 \\
        --resize 256 --crop 224
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from common.pytorch import distributed
from common.pytorch.runtime import pick_device, seed_everything
from common.system.errors import run_command
from common.system.options import parse
from spol.cls import networks
from spol.cls.checkpoint import METHOD, load
from spol.config import released_values
from spol.losses import classification_loss
from spol.options import TrainOptions
from spol.training import head_size, optimizer_of, run


@dataclass(frozen=True, kw_only=True)
class Train(TrainOptions):
    """Train a classifier."""

    arch: str = "efficientnet-b7"
    """efficientnet-b7, densenet161, efficientnet_lite0, mobilenet_v1 or timm:<name>."""
    padded_for: int = networks.PADDED_FOR
    """efficientnet-b7: the input side that its padding is made for, 600 though it is tested at 685."""
    fc_weight_in_head: bool = False
    """efficientnet-b7: train the whole linear layer at the head's rate, not `_bn1.weight` and `_fc.bias`."""


def train(options: Train) -> Path:
    """Train, and return the path of `final.pth`."""
    settings = options.settings("cls")
    with distributed.processes(pick_device(options.runtime.device)) as device:
        seed_everything(options.seed)
        dataset = options.data.plain().load()
        classes = head_size(options, dataset)
        if options.snapshot is None:
            network = networks.build(options.arch, classes, options.pretrained, options.padded_for)
        else:
            network = load(str(options.snapshot), classes, options.arch, options.padded_for).network
        if options.mode == "val":
            _still(network)
        in_head = networks.head_names(options.arch, network, options.fc_weight_in_head)
        optimizer = optimizer_of(network, options, networks.base_names(network, in_head))
        config = {"method": METHOD, "architecture": options.arch}
        return run(network, optimizer, losses, options, settings, dataset, config, device)


def losses(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Normalized images (B, 3, H, W) and labels (B,) to scalars, for `fit`."""
    return classification_loss(network(images), labels)


def _still(network: Any) -> None:
    """Switch dropout and EfficientNet's drop-connect off."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if hasattr(network, "_global_params"):
        network._global_params = network._global_params._replace(drop_connect_rate=0.0)


def main() -> None:
    """Run the command line."""
    train(
        parse(
            Train,
            prog="python -m spol.cls.train",
            description=__doc__,
            released=released_values("cls"),
            architectures=networks.ARCHITECTURES,
        )
    )


if __name__ == "__main__":
    run_command(main)
