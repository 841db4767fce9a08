"""Train MFF-Net for class maps, on class labels alone.

    python -m spol.cam.train --data.name cub --datapath CUB_200_2011 --out runs/spol/cam
    torchrun --nproc_per_node 4 -m spol.cam.train --data.name ilsvrc --datapath ImageNet --out runs/spol/cam

Options that are not given take the released values of the data set; see `spol.config`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from torch import Tensor

from common.pytorch import distributed
from common.pytorch.runtime import pick_device, seed_everything
from common.system.errors import run_command
from common.system.options import also, parse
from spol import weights
from spol.config import released_values
from spol.losses import one_branch_loss, two_branch_loss
from spol.models import MffNet, build
from spol.options import TrainOptions
from spol.training import head_size, optimizer_of, run, start


@dataclass(frozen=True, kw_only=True)
class Train(TrainOptions):
    """Train MFF-Net for class maps, on class labels alone."""

    backbone: Annotated[Literal["resnet50", "resnet101", "resnet152", "mobilenet_v1"], also("arch")] = "resnet50"
    """resnet50 as released; mobilenet_v1 is an extension that a CPU can train."""
    two_branches: bool | None = None
    """The deep branch learns the label and teaches the fused one (CUB); otherwise there is only the fused one."""
    frozen_stem: bool | None = None
    """Leave the trunk's first convolution and batch norm out of the optimizer (ImageNet)."""
    head_relu: bool = True
    """A ReLU on the maps before their mean, so that no score is negative, as released."""


class Losses:
    """A batch to its losses, for `fit`."""

    def __init__(self, two_branches: bool):
        self.two_branches = two_branches

    def __call__(self, network: MffNet, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Normalized images (B, 3, H, W) and labels (B,) to scalars."""
        if self.two_branches:
            deep, fused = network(images, two_branches=True)
            return two_branch_loss(deep, fused, labels)
        return one_branch_loss(network(images), labels)


def train(options: Train) -> Path:
    """Train, and return the path of `final.pth`."""
    settings = options.settings("cam")
    with distributed.processes(pick_device(options.runtime.device)) as device:
        seed_everything(options.seed)
        dataset = options.data.plain().load()
        network = build("cam", head_size(options, dataset), options.backbone, options.head_relu)
        start(network, options, options.backbone, "cam")
        left_out = [f"bkbone.{name}" for name in network.bkbone.STEM] if settings.frozen_stem else []
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not name.startswith(tuple(left_out)))
        optimizer = optimizer_of(network, options, ["bkbone."], left_out)
        config = {"method": weights.METHODS["cam"], "architecture": options.backbone}
        losses = Losses(settings.two_branches)
        return run(network, optimizer, losses, options, settings, dataset, config, device)


def main() -> None:
    """Run the command line."""
    train(parse(Train, prog="python -m spol.cam.train", description=__doc__, released=released_values("cam")))


if __name__ == "__main__":
    run_command(main)
