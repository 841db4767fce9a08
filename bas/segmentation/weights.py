"""Weights for the segmentation networks: ImageNet's to start from, the authors' files, and ours in their format.

    BAS  epoch_<n>.pth.tar   the state dict under `module.`, in torch's format before 1.6
    CAM  res50_cam.pth       `resnet50.*` and `classifier.weight`, and every tensor again under aliases
    IRN  res50_irn.pth       `resnet50.*`, `fc_*`, `mean_shift.*`, aliases, and index buffers

Aliases are one tensor under several names. They are compared when a file is read, and left out: one that disagrees is
refused, because it is not clear which of them the network would have had.

    python -m bas.segmentation.weights runs/seg/bas/final.pth epoch_10.pth.tar

writes a checkpoint in the authors' format.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor, nn

from bas.segmentation import affinity
from bas.segmentation.networks import BasNetwork, CamNetwork, IrnNetwork, Trunk, build_bas
from bas.weights import tf_slim_state
from common.pytorch import checkpoints
from common.pytorch.backbones import torchvision_weights
from common.system.errors import UserError, run_command
from common.system.files import sha256, write_atomically
from common.system.options import parse
from common.weights import load_mobilenet_v1

METHODS = {"bas": "bas-segmentation", "cam": "bas-segmentation-cam", "irn": "bas-segmentation-irn"}
_CAM_STAGES = {"conv1": "stage1.0", "bn1": "stage1.1", "layer1": "stage1.4", "layer2": "stage2.0", "layer3": "stage3.0",
               "layer4": "stage4.0"}  # fmt: skip
_IRN_STAGES = {"conv1": "stage1.0", "bn1": "stage1.1", "layer1": "stage2.0", "layer2": "stage3.0", "layer3": "stage4.0",
               "layer4": "stage5.0"}  # fmt: skip
_IRN_BUFFERS = re.compile(r"path_indices\d+|disp_target")
TRAINING_RADIUS, TRAINING_GRID = 10, (128, 128)


def start_from_imagenet(trunk: Trunk) -> None:
    """Fill a trunk with ImageNet's weights: torchvision's ResNet50 (V1), or Google's MobileNetV1.

    Raises:
        UserError: weights that can't be had.
    """
    state = torchvision_weights("resnet50") if hasattr(trunk, "layer4") else tf_slim_state(load_mobilenet_v1())
    own = {name for name in trunk.state_dict() if not name.startswith("classifier")}
    if missing := [name for name in own if name not in state and not name.endswith("num_batches_tracked")]:
        raise UserError(f"the ImageNet weights lack {len(missing)} tensors ({', '.join(sorted(missing)[:3])})")
    trunk.load_state_dict({name: state[name] for name in own if name in state}, strict=False)


@dataclass(frozen=True)
class Loaded:
    """A network read from a checkpoint.

    Attributes:
        network: a `BasNetwork`, `CamNetwork` or `IrnNetwork`, on the CPU.
        kind: `bas`, `cam` or `irn`.
        trunk: its name.
        record: what a manifest says of the file.
        class_names: those it was trained on; None in the authors' files.
        num_classes: C; None for IRN, which knows no classes.
    """

    network: Any
    kind: str
    trunk: Literal["resnet50", "mobilenet_v1"]
    record: dict[str, Any]
    class_names: tuple[str, ...] | None
    num_classes: int | None

    @property
    def architecture(self) -> str:
        """Architecture as tables name it."""
        return self.trunk


def load_bas(path: Path) -> Loaded:
    """A BAS network from our checkpoint or the authors'; raises `UserError` for any other file."""
    return _load(path, "bas", _build_bas)


def load_cam(path: Path) -> Loaded:
    """A CAM network from our checkpoint or the authors'; raises `UserError` for any other file."""
    return _load(
        path, "cam", lambda state, config, trunk: CamNetwork(trunk, _classes(state, "classifier.weight", path))
    )


def load_irn(path: Path) -> Loaded:
    """An IRN network from our checkpoint or the authors'; raises `UserError` for any other file."""
    return _load(path, "irn", lambda state, config, trunk: IrnNetwork(trunk))


def _build_bas(state: dict[str, Tensor], config: dict[str, Any], trunk: str) -> BasNetwork:
    tap = config.get("options", {}).get("tap")
    if tap is not None and not (trunk == "mobilenet_v1" and type(tap) is int and 6 <= tap <= 12):
        raise UserError(f"the checkpoint's tap is {tap}", expected="6 to 12 on mobilenet_v1")
    return build_bas(trunk, _classes(state, "classifier_cls.weight", Path("the checkpoint")), tap)


def _classes(state: dict[str, Tensor], head: str, where: Path) -> int:
    return checkpoints.outputs(state, head, where)


def _load(path: Path, kind: str, build: Callable[[dict[str, Tensor], dict[str, Any], str], nn.Module]) -> Loaded:
    content = checkpoints.read(path)
    config: dict[str, Any] = {}
    class_names: tuple[str, ...] | None = None
    if isinstance(content, dict) and "config" in content:
        config, state = checkpoints.read_trained(path, METHODS[kind])
        checkpoints.need(config, path, "class_names", "architecture")
        class_names = tuple(config["class_names"])
    else:
        state = canonical(checkpoints.read_state_dict(path), kind, path)
    trunk = config.get("architecture", "resnet50")
    if trunk not in ("resnet50", "mobilenet_v1"):
        raise UserError(f"the checkpoint's architecture is {trunk}", where=path, expected="resnet50 or mobilenet_v1")
    network = build(state, config, trunk)
    checkpoints.load_strictly(network, state, path)
    record = {"name": path.name, "sha256": sha256(path)}
    return Loaded(network, kind, trunk, record, class_names, getattr(network, "num_classes", None))


def check_classes(loaded: Loaded, class_names: tuple[str, ...], path: Path) -> None:
    """Refuse (`UserError`) a network whose classes are not the data set's, by name where the checkpoint knows them."""
    if loaded.num_classes not in (None, len(class_names)):
        raise UserError(f"the checkpoint knows {loaded.num_classes} classes", where=path,
                        expected=f"the data set's {len(class_names)}")  # fmt: skip
    if loaded.class_names is not None and loaded.class_names != tuple(class_names):
        raise UserError("the checkpoint was trained on other classes than the data set's", where=path,
                        do="name the data set that it was trained on")  # fmt: skip


def aliases(names: list[str], kind: str) -> dict[str, str]:
    """The further names of an authors' file, each with the canonical name whose tensor it repeats."""
    found: dict[str, str] = {}
    stages = {"cam": _CAM_STAGES, "irn": _IRN_STAGES}[kind]
    for name in names:
        module, _, rest = name.removeprefix("resnet50.").partition(".")
        if name.startswith("resnet50.") and module in stages:
            stage = f"{stages[module]}.{rest}"
            number, _, inner = stage.removeprefix("stage").partition(".")
            found |= {stage: name, f"backbone.{int(number) - 1}.{inner}": name}
        elif name == "classifier.weight":
            found["newly_added.0.weight"] = name
        elif name == "mean_shift.running_mean":
            found |= {"fc_dp7.4.running_mean": name, "dp_layers.6.4.running_mean": name}
        elif match := re.fullmatch(r"fc_(edge|dp)(\d)\.(.+)", name):
            found[f"{match[1]}_layers.{int(match[2]) - 1}.{match[3]}"] = name
    return found


def canonical(state: dict[str, Tensor], kind: str, where: Path) -> dict[str, Tensor]:
    """An authors' state dict under its canonical names alone.

    Raises:
        UserError: an alias differs from the tensor that it repeats.
    """
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    if kind == "bas":
        return state
    repeated = aliases(list(state), kind)
    for alias, name in repeated.items():
        if alias in state and not torch.equal(state[alias], state[name]):
            raise UserError(f"{alias} and {name} should be one tensor and differ", where=where,
                            do="take another checkpoint")  # fmt: skip
    return {
        name: value for name, value in state.items() if name not in repeated and not _IRN_BUFFERS.fullmatch(name)
    }  # fmt: skip


def export(loaded: Loaded, path: Path, irn_aliases: bool = False) -> None:
    """Write a network in the authors' format.

    Args:
        loaded: the network.
        path: the new file.
        irn_aliases: write every tensor under its aliases too, and IRN's index buffers, as the authors' files have them.

    Raises:
        UserError: it is not a ResNet50.
    """
    if loaded.trunk != "resnet50":
        raise UserError(f"the authors have no format for {loaded.trunk}", expected="resnet50")
    state = dict(loaded.network.state_dict())
    if loaded.kind == "bas":
        state = {f"module.{name}": value for name, value in state.items()}
    elif irn_aliases:
        state |= {alias: state[name] for alias, name in aliases(list(state), loaded.kind).items()}
        if loaded.kind == "irn":
            indices = affinity.path_indices(TRAINING_RADIUS, TRAINING_GRID)
            state |= {f"path_indices{number}": torch.from_numpy(index) for number, index in enumerate(indices)}
            state["disp_target"] = affinity.targets(TRAINING_RADIUS, torch.zeros(1))
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=loaded.kind != "bas")
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


@dataclass(frozen=True)
class Export:
    """Write a checkpoint of a segmentation network in the authors' format."""

    checkpoint: tyro.conf.Positional[Path]
    """A final.pth of bas.segmentation.train."""
    out: tyro.conf.Positional[Path]
    """File to write."""
    irn_aliases: bool = False
    """Repeat every tensor of CAM and IRN under its aliases, with IRN's index buffers, as the authors' files do."""


def main() -> None:
    """Run the command line."""
    options = parse(Export, prog="python -m bas.segmentation.weights", description=__doc__)
    content = checkpoints.read(options.checkpoint)
    config = content.get("config") if isinstance(content, dict) else None
    method = config.get("method") if isinstance(config, dict) else None
    kinds = {name: kind for kind, name in METHODS.items()}
    if method not in kinds:
        raise UserError("not a checkpoint of a segmentation network", where=options.checkpoint)
    load = {"bas": load_bas, "cam": load_cam, "irn": load_irn}[kinds[method]]
    export(load(options.checkpoint), options.out, options.irn_aliases)
    print(f"written: {options.out}")


if __name__ == "__main__":
    run_command(main)
