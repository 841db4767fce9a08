"""Reading a classifier: ours, the original's bare state dict, or ImageNet's stock one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from common.datasets import classes
from common.pytorch import checkpoints
from common.system.architectures import spelled_for
from common.system.errors import UserError
from common.system.files import sha256
from spol.cls import networks

METHOD = "spol-cls"
"""Name that our checkpoints of this stage give themselves."""


@dataclass(frozen=True)
class Classifier:
    """A classifier read from a checkpoint.

    Attributes:
        network: images (B, 3, H, W) normalized with ImageNet's mean and deviation to scores (B, classes); on the CPU.
        arch: its name.
        record: what a manifest says of the file.
        resize: the side it was trained at, None where that is unknown.
        class_names: those it was trained on, None where they are unknown.
        outputs: how many scores it gives.
    """

    network: nn.Module
    arch: str
    record: dict[str, Any]
    resize: int | None
    class_names: tuple[str, ...] | None = None
    outputs: int = classes.IMAGENET_OUTPUTS


def load(checkpoint: str, least: int, arch: str = "efficientnet-b7", padded_for: int | None = None) -> Classifier:
    """A classifier.

    Args:
        checkpoint: a path, or `imagenet:<arch>` for the stock network with its 1000 classes.
        least: outputs that it must have.
        arch: of a bare state dict; our own checkpoints know.
        padded_for: of EfficientNet-B7; by default as it was trained.

    Raises:
        UserError: not such a file, or fewer classes than the data set has.
    """
    if checkpoint.startswith("imagenet:"):
        arch = spelled_for(networks.ARCHITECTURES, checkpoint.removeprefix("imagenet:"))
        network = networks.imagenet(arch, padded_for or networks.PADDED_FOR)
        return Classifier(network, arch, {"name": f"imagenet:{arch}", "sha256": None}, None)
    path = Path(checkpoint)
    config: dict[str, Any] = {}
    content = checkpoints.read(path)
    if checkpoints.is_own(content):
        config, state = checkpoints.read_trained(path, METHOD)
        checkpoints.need(config, path, "architecture")
        arch = config["architecture"]
    else:
        state = checkpoints.state_dict_of(content, path)
    options = config.get("options", {})
    heads = [name for name in state if name in ("_fc.weight", "classifier.weight", "classifier.head.weight")]
    if not heads:
        raise UserError("no classifier of ours or of the original's", where=path, expected=f"{arch}'s state dict")
    outputs = checkpoints.outputs(state, heads[0], path)
    if outputs < least:
        raise UserError(f"the checkpoint has {outputs} classes", where=path, expected=f"the data set's {least}")
    padded_for = padded_for or options.get("padded_for", networks.PADDED_FOR)
    network = networks.build(arch, outputs, False, padded_for)
    checkpoints.load_strictly(network, state, path)
    record = {"name": path.name, "sha256": sha256(path), "trained_on": config.get("trained_on")}
    names = classes.names_of(config)
    return Classifier(network, arch, record, options.get("resize"), names, outputs)
