"""The CAM baseline (Zhou et al., CVPR 2016): train a classifier, then read localization maps off its last layer.

    python -m common.pytorch.cam train --data.name cub --data.root CUB_200_2011 --out runs/cam
    python -m common.pytorch.cam localize --checkpoint runs/cam/final.pth \\
        --data.name cub --data.root CUB_200_2011 --out runs/cam/test

`localize` writes one predictions directory for each frame, `crop` and `squash`, so that every protocol can be scored.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.datasets import TrainingSource, classes
from common.measuring.extraction import LARGEST_COMPONENT, min_max
from common.measuring.geometry import SIDE
from common.pytorch import backbones, checkpoints, distributed, localization
from common.pytorch.cam_classifier import CamClassifier
from common.pytorch.data import Augmentation, normalized, training_loader
from common.pytorch.localization import LocalizeOptions
from common.pytorch.runtime import Runtime, for_inference, for_training, pick_device, seed_everything
from common.pytorch.training import fit
from common.runs.localizing import Box
from common.runs.provenance import training_of
from common.system.architectures import canonical
from common.system.errors import UserError, run_command
from common.system.files import sha256
from common.system.options import parse

METHOD = "cam"


@dataclass(frozen=True)
class Train:
    """Fine-tune a classifier whose class activation maps can be read off."""

    data: TrainingSource
    """The training images."""
    out: Path
    """Folder for checkpoints; the last is final.pth."""
    arch: str = "mobilenet_v1"
    """mobilenet_v1, resnet50, vgg16, inception_v3, or timm:<name>."""
    pretrained: bool = True
    """Start from ImageNet weights."""
    epochs: int = 20
    """Passes over the training images."""
    batch_size: int = 32
    """Images a step."""
    lr: float = 0.003
    """Learning rate of the features; a fresh head gets `head_lr_factor` times that."""
    head_lr_factor: float = 10.0
    """Factor of the learning rate for the linear layer."""
    momentum: float = 0.9
    """SGD momentum (Nesterov)."""
    weight_decay: float = 1e-4
    """Weight decay of every parameter."""
    warmup_steps: int = 20
    """Steps over which the rate rises from zero; after that it falls to zero along a half cosine."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Sizes of the resize and the random crop."""
    runtime: Runtime = field(default_factory=Runtime)
    """Device, workers, seed, mixed precision."""


@dataclass(frozen=True, kw_only=True)
class Localize(LocalizeOptions):
    """Write maps, boxes and classes of a split as predictions directories OUT/crop and OUT/squash."""

    checkpoint: str
    """A final.pth of `train`, or imagenet:<arch> for the network with its true ImageNet head."""
    stride: Literal["removed", "released"] | None = None
    """Last stride of imagenet:mobilenet_v1 and imagenet:resnet50: removed (the default), for maps of 14 x 14 and not
    7 x 7, which localizes better and classifies worse; or released, the published network."""
    map_class: Literal["label", "predicted"] | None = None
    """Class whose map is made: the true class's (GT-known) or the classifier's first choice; by default the true
    class's, where it is among the network's classes."""
    threshold: float = 0.2
    """Threshold of the box that is stored beside the map; protocols choose their own."""


def train(options: Train) -> None:
    """Train a classifier, and return the path of `final.pth`."""
    with distributed.processes(pick_device(options.runtime.device)) as device:
        _train(options, device)


def _train(options: Train, device: torch.device) -> None:
    seed = options.runtime.seed or 0
    seed_everything(seed)
    dataset = options.data.load()
    outputs = len(dataset.class_names)
    model = backbones.build(options.arch, outputs, options.pretrained)
    for_training(model, device)
    head = list(model.head.parameters())
    optimizer = torch.optim.SGD(
        [{"params": list(model.features.parameters())}, {"params": head}],
        lr=options.lr,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        nesterov=options.momentum > 0,
    )
    loader = training_loader(dataset.samples, options.augmentation, options.batch_size, seed, options.runtime.workers)
    steps = options.epochs * loader.batch_sampler.batches

    def learning_rates(epoch: int, step: int) -> list[float]:
        rate = options.lr * warmup_then_cosine(step, steps, options.warmup_steps)
        return [rate, rate * options.head_lr_factor]

    config = {
        "method": METHOD,
        "architecture": options.arch,
        "class_names": list(dataset.class_names),
        "trained_on": options.data.identity(dataset),
        "options": _without_machine(options),
    }
    print(f"{options.arch} on {dataset.name} {dataset.split}: {len(dataset)} images, {outputs} classes, {steps} steps")
    final = fit(model, optimizer, loader, _losses, learning_rates, options.epochs, options.out, config, options.runtime)
    print(f"trained: {final}")


def _without_machine(options: Train) -> dict[str, Any]:
    """The options that a result depends on, as plain values."""
    values = asdict(options)
    for name in ("data", "out"):
        del values[name]
    runtime = values.pop("runtime")
    return {**values, "seed": runtime["seed"] or 0, "amp": runtime["amp"]}


def warmup_then_cosine(step: int, steps: int, warmup_steps: int) -> float:
    """Factor of the learning rate at a step: up in a line, down along a half cosine."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.5 * (1.0 + float(np.cos(np.pi * share)))


def _losses(model: CamClassifier, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    output = model(normalized(images, model.mean, model.std, images.device, torch.preserve_format))
    accuracy = (output.scores.argmax(dim=1) == labels).float().mean()
    return {"loss": F.cross_entropy(output.scores.float(), labels), "accuracy": accuracy}


class CamLocalizer:
    """Class activation maps of a classifier, as `common.pytorch.localization` asks for them.

    Args:
        model: on its device, in eval mode.
        map_class: `label` or `predicted`.
    """

    def __init__(self, model: CamClassifier, map_class: str):
        self.model, self.map_class = model, map_class

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images to scores and features."""
        return self.model(normalized(images, self.model.mean, self.model.std, images.device))

    def maps(self, features: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """One map an image, of its true class or of the best-scoring one."""
        return self.model.class_activation_map(features, labels if self.map_class == "label" else scores.argmax(dim=1))

    def enlarge(self, raw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Bilinear, then min-max stretched."""
        enlarged: np.ndarray = cv2.resize(raw, size, interpolation=cv2.INTER_LINEAR)
        return min_max(enlarged)


def localize(options: Localize, localizer: type[CamLocalizer] = CamLocalizer, method: str = METHOD) -> list[Path]:
    """Localize a split, and return the predictions directories.

    Args:
        options: of the command.
        localizer: what makes maps of the classifier's features and scores.
        method: its name in manifests and tables.
    """
    device = pick_device(options.device)
    dataset = options.data.load()
    model, architecture, checkpoint, names = load_classifier(options.checkpoint, options.stride)
    matching = classes.match(
        dataset, names, model.head.out_features, options.checkpoint, exact=True, index=options.data.class_index,
        imagenet=options.checkpoint.startswith("imagenet:"),
    )  # fmt: skip
    map_class = classes.which_map(options.map_class, matching)
    for_inference(model, device)
    header = {
        "method": method,
        "architecture": architecture,
        "checkpoint": checkpoint,
        "data": options.data.described(dataset, options.checkpoint),
        "options": {"map_class": map_class},
    }
    box = Box(LARGEST_COMPONENT, options.threshold)
    return localization.localize(options, dataset, localizer(model, map_class), device, header, box, matching)


def load_classifier(
    checkpoint: str, stride: backbones.Stride | None = None
) -> tuple[CamClassifier, str, dict[str, Any], tuple[str, ...] | None]:
    """A trained model, its architecture, what the manifest says of the checkpoint, and its classes where it knows them.

    Args:
        checkpoint: a path, or `imagenet:<arch>`.
        stride: of `imagenet:<arch>`; see `backbones.build`.

    Raises:
        UserError: no such checkpoint, or a stride for a trained one.
    """
    if checkpoint.startswith("imagenet:"):
        architecture = canonical(checkpoint.removeprefix("imagenet:"))
        model = backbones.imagenet(architecture, stride)
        name, stride = f"imagenet:{architecture}", stride or backbones.strides(architecture)[0]
        record: dict[str, Any] = {"name": name, "sha256": None, "stride": stride}
        fixed = getattr(model.features, "fixed_size", None)
        if fixed and fixed[0] != SIDE:
            record["input_size"] = fixed[0]
        return model, architecture, record, None
    path = Path(checkpoint)
    if stride is not None:
        raise UserError(f"--stride {stride} for a trained checkpoint", where=path,
                        expected="imagenet:<arch>; a training's own stride stays")  # fmt: skip
    config, state = checkpoints.read_trained(path, METHOD)
    checkpoints.need(config, path, "architecture", "class_names", "trained_on")
    architecture, names = config["architecture"], config["class_names"]
    model = backbones.build(architecture, len(names), pretrained=False)
    checkpoints.load_strictly(model, state, path)
    record = {"name": path.name, "sha256": sha256(path), "trained_on": config["trained_on"]}
    record |= {**localization.trained_side(config), "training": training_of(config)}
    return model, architecture, record, classes.names_of(config)


def main() -> None:
    """Run the command line."""
    options: Train | Localize = parse(
        {"train": Train, "localize": Localize},
        prog="python -m common.pytorch.cam",
        description="The CAM baseline.",
        architectures=tuple(backbones.BACKBONES),
    )
    if isinstance(options, Train):
        train(options)
    else:
        localize(options)


if __name__ == "__main__":
    run_command(main)
