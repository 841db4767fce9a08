"""Weights for the BAS networks: ImageNet's to start from, the authors' checkpoints, and our own in the authors' format.

Released files, all of tensors only (EXT's two numbers apart):

    CUB     the state dict itself; Inception's head is called `classifier`
    ILSVRC  the state dict under `module.`, with f2's copies, `*_copy` and MobileNet's `erase_branch`: their values are
            stale (they were overwritten at each forward, in DataParallel's replicas only), so they are left out
    EXT     a dict of `model` (as CUB, now and then under `module.`), `best_thr` and `epoch`

    python -m bas.weights runs/bas/final.pth mobilenet99.pth.tar

writes a checkpoint in the authors' format.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from bas.backbones import build, initialize_vgg_heads
from bas.config import Recipe, recipe
from bas.network import Network
from common.datasets import classes
from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD
from common.pytorch import checkpoints
from common.pytorch.backbones import download, torchvision_weights
from common.pytorch.localization import trained_side
from common.pytorch.mobilenet_v1 import from_tf_slim
from common.pytorch.state_dicts import described
from common.runs.provenance import training_of
from common.system.errors import UserError, run_command
from common.system.files import sha256, write_atomically
from common.system.options import parse
from common.weights import load_mobilenet_v1, weights_folder

METHOD = "bas"
SOURCES = ("imagenet", "tf-slim", "none")
TORCHVISION = {"vgg": "vgg16", "resnet": "resnet50", "inception": "inception_v3"}
MOBILENET_FILE = "https://storage.googleapis.com/models-hao/mobilenet_v1_with_relu_69_5.pth"
"""File of the project pytorch-ssd, as the BAS release names it."""


def start_from(network: Network, arch: str, source: str) -> None:
    """Fill a fresh network's backbone.

    Args:
        network: from `backbones.build`; head and generator keep their fresh values.
        arch: its name.
        source: `imagenet`, the files that the release names; `tf-slim`, MobileNetV1 as `common.weights` has it, for a
            network built with `slim=True`; or `none`.

    Raises:
        UserError: weights that can't be had, or that don't fit.
    """
    if source == "none":
        return
    if source == "tf-slim":
        state = tf_slim_state(load_mobilenet_v1())
    elif arch == "mobilenet":
        path = download(MOBILENET_FILE, weights_folder(), "MobileNetV1 (pytorch-ssd)")
        names = checkpoints.read_state_dict(path)
        state = {f"model.{name.removeprefix('model.')}": value for name, value in names.items()}
    else:
        state = torchvision_weights(TORCHVISION[arch])
        state = _vgg_names(network, state) if arch == "vgg" else state
    _fill_backbone(network, state)
    if arch == "vgg":
        initialize_vgg_heads(network)


def _vgg_names(network: Network, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's `features.<n>.*` as `conv<stage>_<number>.*`; both hold the same layers in the same order."""
    layers = [name.removesuffix(".weight") for name in network.state_dict() if re.fullmatch(r"conv\d_\d\.weight", name)]
    numbers = sorted(int(name.split(".")[1]) for name in state if re.fullmatch(r"features\.\d+\.weight", name))
    return {f"{layer}.{leaf}": state[f"features.{number}.{leaf}"]
            for layer, number in zip(layers, numbers, strict=True) for leaf in ("weight", "bias")}  # fmt: skip


def _fill_backbone(network: Network, state: dict[str, Tensor]) -> None:
    """Take over what belongs to the backbone, every tensor of it; a file's own head is left out."""
    wanted = {name: value for name, value in network.state_dict().items() if "classifier" not in name}
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    reshaped = [name for name, value in wanted.items() if name in state and state[name].shape != value.shape]
    if missing or reshaped:
        raise UserError(
            f"the ImageNet weights lack {len(missing)} tensors and {len(reshaped)} have another shape "
            f"({', '.join((missing + reshaped)[:3])})",
            expected="those of the file that is named for this network",
        )
    network.load_state_dict({name: state[name] for name in wanted if name in state}, strict=False)


def tf_slim_state(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """TF-Slim's MobileNetV1 as this network's state, for images normalized with ImageNet's mean and deviation.

    Slim's network expects x / 127.5 - 1. The scale goes into the first kernel and the shift into the first batch norm's
    mean, which is exact but at the border. Meant for a network that is built with `slim=True`.
    """
    slim, _, _ = from_tf_slim(arrays)
    state = {}
    for name, value in slim.items():
        layer, part, leaf = name.split(".")
        kind, number = layer.split("_")
        offset = 3 if kind == "pointwise" else 0
        state[f"model.{number}.{int(part) + offset}.{leaf}"] = value.clone()
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    kernel = state["model.0.0.weight"]
    state["model.0.1.running_mean"] -= (kernel * (2 * mean - 1)).sum(dim=(1, 2, 3))
    state["model.0.0.weight"] = kernel * (2 * deviation)
    return state


@dataclass(frozen=True)
class Loaded:
    """A network read from a checkpoint.

    Attributes:
        network: on the CPU.
        arch, variant: what it is.
        record: what a manifest says of the file.
        class_names: those it was trained on; None in the authors' files.
    """

    network: Network
    arch: str
    variant: str
    record: dict[str, Any]
    class_names: tuple[str, ...] | None


def load(path: Path, arch: str | None = None, variant: str | None = None) -> Loaded:
    """A network from one of our checkpoints, or from an authors' file as it is.

    Args:
        path: the file.
        arch, variant: of an authors' file; None recognizes them by the names, and by what the releases write.

    Raises:
        UserError: not such a file, or not what `arch` and `variant` say.
    """
    content = checkpoints.read(path)
    config: dict[str, Any] = {}
    class_names: tuple[str, ...] | None = None
    if checkpoints.is_own(content):
        config, state = checkpoints.read_trained(path, METHOD)
        checkpoints.need(config, path, "class_names", "architecture", "variant")
        class_names = classes.names_of(config)
    else:
        state = checkpoints.state_dict_of(content, path)
        config = {
            "architecture": _architecture_of(state, path),
            "variant": variant or _variant_of(content, state, path),
        }
        state = released_state(state)
    for name, asked in (("architecture", arch), ("variant", variant)):
        if asked not in (None, config[name]):
            raise UserError(f"the checkpoint's {name} is {config[name]}", where=path, expected=asked)
    head = "classifier_loc.0.weight"
    if head not in state:
        raise UserError(
            "no generator in this checkpoint", where=path, expected=f"a tensor {head}, as BAS networks have"
        )
    slim = config.get("options", {}).get("pretrained") == "tf-slim"
    try:
        network = build(config["architecture"], config["variant"], checkpoints.outputs(state, head, path), slim)
    except ValueError as error:
        raise UserError(str(error), where=path) from error
    if config["architecture"] == "inception":
        state = {re.sub(r"^classifier(_cls)?\.", f"{network.head_name}.", name): value for name, value in state.items()}
    checkpoints.load_strictly(network, state, path)
    record = {"name": path.name, "sha256": sha256(path), "trained_on": config.get("trained_on")}
    record |= {**trained_side(config), "training": training_of(config)}
    return Loaded(network, config["architecture"], config["variant"], record, class_names)


def released_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """An authors' state dict without the stale copies of f2."""
    return {name: value for name, value in state.items() if not _is_copy(name)}


def _is_copy(name: str) -> bool:
    return "_copy" in name or name.startswith("erase_branch")


def _variant_of(content: dict[str, Any], state: dict[str, Tensor], path: Path) -> str:
    """The variant by what its release alone writes: ILSVRC's copies of f2, EXT's threshold beside the weights.

    A state dict without either is CUB's release; where it comes in a wrapper, or under DataParallel's `module.`, that
    is said, since neither tells a variant.
    """
    if any(_is_copy(name) for name in state):
        return "ILSVRC"
    if "best_thr" in content:
        return "EXT"
    if next(iter(state)) not in content:
        print(f"note: {path} says nothing of its variant, and is taken as CUB's; --variant says another")
    return "CUB"


def _architecture_of(state: dict[str, Tensor], path: Path) -> str:
    signs = {"conv5_3.weight": "vgg", "model.13.0.weight": "mobilenet", "layer4.0.conv1.weight": "resnet",
             "Mixed_7c.branch1x1.conv.weight": "inception"}  # fmt: skip
    for name in state:
        if name in signs:
            return signs[name]
    raise UserError(f"none of the four BAS networks, but {described(state)}", where=path,
                    expected="a checkpoint of one")  # fmt: skip


def export(network: Network, arch: str, path: Path, epoch: int, threshold: float) -> None:
    """Write a checkpoint that the authors' inference scripts load.

    Args:
        network: to be written.
        arch: its name.
        path: the file; refused where it exists.
        epoch, threshold: EXT's file holds them beside the weights.
    """
    if path.exists():
        raise UserError("the file is there already", where=path, do="choose another name")
    state = dict(network.state_dict())
    content: dict[str, Any] = state
    if network.variant.name == "EXT":
        content = {"model": state, "best_thr": threshold, "epoch": epoch}
    elif network.variant.name == "ILSVRC":
        content = {f"module.{name}": value for name, value in {**state, **_copies(state, arch)}.items()}
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def _copies(state: dict[str, Tensor], arch: str) -> dict[str, Tensor]:
    """f2 a second time, under the names of ILSVRC's copies; its scripts overwrite them at each forward."""
    copies = {}
    for name, value in state.items():
        module, _, rest = name.partition(".")
        if module.startswith("conv5_"):
            copies[f"conv_copy_{module.removeprefix('conv')}.{rest}"] = value
        elif module == "classifier_cls" or module.startswith(("layer4", "Mixed_7")):
            copies[f"{module}_copy.{rest}"] = value
        elif name.startswith(("model.12.", "model.13.")) and arch == "mobilenet":
            copies[f"erase_branch.{rest}"] = value
    return copies


@dataclass(frozen=True)
class Export:
    """Write a checkpoint in the format of the release that it is a variant of."""

    checkpoint: tyro.conf.Positional[Path]
    """A final.pth of bas.train."""
    out: tyro.conf.Positional[Path]
    """File to write."""
    epoch: int = 0
    """Number of the epoch, which EXT's file holds."""
    threshold: float | None = None
    """Threshold of the boxes, which EXT's file holds; by default the released one of the data set trained on."""


def _recipe_of(loaded: Loaded) -> Recipe:
    """The released values for the data set that a network was trained on, those of CUB where that is not known."""
    trained_on = loaded.record.get("trained_on")
    name = trained_on.get("name") if isinstance(trained_on, dict) else None
    return recipe(loaded.variant, str(name or "cub"), loaded.arch)


def main() -> None:
    """Run the command line."""
    options = parse(Export, prog="python -m bas.weights", description=__doc__)
    loaded = load(options.checkpoint)
    threshold = options.threshold
    if threshold is None:
        threshold = _recipe_of(loaded).threshold
    export(loaded.network, loaded.arch, options.out, options.epoch, threshold)
    print(f"written: {options.out}")


if __name__ == "__main__":
    run_command(main)
