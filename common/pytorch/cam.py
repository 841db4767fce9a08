"""The CAM baseline (Zhou et al., CVPR 2016): train a classifier, then read localization maps off its last layer.

    python -m common.pytorch.cam train --data.name cub --data.root CUB_200_2011 --data.split train --out runs/cam
    python -m common.pytorch.cam localize --checkpoint runs/cam/final.pth \\
        --data.name cub --data.root CUB_200_2011 --out runs/cam/test

`localize` writes one predictions directory for each frame, `crop` and `squash`, so that every protocol can be scored.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from common.datasets import DataSource
from common.errors import UserError, run_command
from common.extraction import Extractor, min_max
from common.files import sha256
from common.predictions import Prediction, PredictionsWriter
from common.progress import bar
from common.protocols import FRAMES
from common.pytorch import backbones, checkpoints
from common.pytorch.data import Augmentation, LocalizationItem, localization_loader, normalized, training_loader
from common.pytorch.runtime import Runtime, pick_device, seed_everything
from common.pytorch.training import fit

METHOD = "cam"
CENTRE = 4
"""The centre crop's place among `images.ten_crops`."""

BOX = Extractor("value", "largest-component", "exclusive")
"""Zhou et al.: the largest component of what lies over 20 % of the map's maximum."""


@dataclass(frozen=True)
class Train:
    """Fine-tune a classifier whose class activation maps can be read off."""

    data: DataSource
    """The training split, such as --data.split train."""
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
    """For the linear layer."""
    momentum: float = 0.9
    """Of SGD, Nesterov."""
    weight_decay: float = 1e-4
    """On every parameter."""
    warmup_steps: int = 20
    """Steps over which the rate rises from zero; after that it falls to zero along a half cosine."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Sizes of the resize and the random crop."""
    runtime: Runtime = field(default_factory=Runtime)
    """Device, workers, seed, mixed precision."""


@dataclass(frozen=True)
class Localize:
    """Write maps, boxes and classes of a split as predictions directories OUT/crop and OUT/squash."""

    checkpoint: str
    """A final.pth of `train`, or imagenet:<arch> for the network with its true ImageNet head."""
    data: DataSource
    """The images to localize."""
    out: Path
    """Folder for the predictions directories."""
    frames: tuple[Literal["crop", "squash"], ...] = ("crop", "squash")
    """crop: resize 256, centre crop 224. squash: resize 224."""
    crops: Literal[1, 10] = 10
    """Crops for classification: the mean of ten crops' probabilities, or the first frame alone."""
    map_class: Literal["label", "predicted"] = "label"
    """Whose map: the true class's (GT-known) or the classifier's first choice."""
    threshold: float = 0.2
    """Of the box that is stored beside the map; protocols choose their own."""
    maps: bool = True
    """Store the maps; without them only this one box can be scored."""
    resize: Literal["pillow", "opencv", "tensorflow1"] = "pillow"
    """Whose bilinear resize; see common/images.py."""
    batch_size: int = 8
    """Images at a time, ten crops each."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    workers: int = 2
    """Processes that load images."""
    overwrite: bool = False
    """Start anew where the folder holds other predictions."""


def train(options: Train) -> None:
    """The command `train`."""
    seed_everything(options.runtime.seed)
    device = pick_device(options.runtime.device)
    dataset = options.data.load()
    classes = len(dataset.class_names)
    model = backbones.build(options.arch, classes, options.pretrained)
    model.to(device, memory_format=torch.channels_last)
    head = list(model.head.parameters())
    optimizer = torch.optim.SGD(
        [{"params": list(model.features.parameters())}, {"params": head}],
        lr=options.lr,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        nesterov=options.momentum > 0,
    )
    loader = training_loader(
        dataset.samples, options.augmentation, options.batch_size, options.runtime.seed, options.runtime.workers
    )
    steps = options.epochs * -(-len(dataset) // options.batch_size)

    def learning_rates(epoch: int, step: int) -> list[float]:
        rate = options.lr * warmup_then_cosine(step, steps, options.warmup_steps)
        return [rate, rate * options.head_lr_factor]

    config = {
        "method": METHOD,
        "architecture": options.arch,
        "class_names": list(dataset.class_names),
        "trained_on": {**options.data.to_json(), "images": len(dataset), "fingerprint": dataset.fingerprint()},
        "options": _without_machine(options),
    }
    print(f"{options.arch} on {dataset.name} {dataset.split}: {len(dataset)} images, {classes} classes, {steps} steps")
    final = fit(model, optimizer, loader, _losses, learning_rates, options.epochs, options.out, config, options.runtime)
    print(f"trained: {final}")


def _without_machine(options: Train) -> dict[str, Any]:
    """The options that a result depends on, as plain values."""
    values = asdict(options)
    for name in ("data", "out"):
        del values[name]
    runtime = values.pop("runtime")
    return {**values, "seed": runtime["seed"], "amp": runtime["amp"]}


def warmup_then_cosine(step: int, steps: int, warmup_steps: int) -> float:
    """Factor of the learning rate at a step: up in a line, down along a half cosine."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.5 * (1.0 + float(np.cos(np.pi * share)))


def _losses(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    output = model(normalized(images, model.mean, model.std, images.device))
    accuracy = (output.scores.argmax(dim=1) == labels).float().mean()
    return {"loss": F.cross_entropy(output.scores.float(), labels), "accuracy": accuracy}


@torch.inference_mode()
def localize(options: Localize) -> None:
    """The command `localize`."""
    if not options.frames or len(set(options.frames)) != len(options.frames):
        raise UserError(f"--frames {' '.join(options.frames)}", expected="crop, squash or both")
    device = pick_device(options.device)
    dataset = options.data.load()
    model, architecture, checkpoint = load_classifier(options.checkpoint, len(dataset.class_names))
    model.to(device, memory_format=torch.channels_last).eval()
    writers = []
    for name in options.frames:
        header = {
            "method": METHOD,
            "architecture": architecture,
            "data": {**options.data.to_json(), "images": len(dataset), "fingerprint": dataset.fingerprint(),
                     "left_out": dataset.left_out},
            "checkpoint": checkpoint,
            "classifier": {"name": architecture, "crops": options.crops},
            "frame": FRAMES[name],
            "options": {"map_class": options.map_class, "threshold": options.threshold, "resize": options.resize,
                        "maps": options.maps},
        }  # fmt: skip
        writers.append(PredictionsWriter(options.out / name, header, options.overwrite))
    pending = [sample for sample in dataset if any(sample.image_id not in writer.done for writer in writers)]
    kinds = [FRAMES[name] for name in options.frames]
    loader = localization_loader(pending, kinds, options.crops, options.batch_size, options.workers, options.resize)
    with bar(total=len(dataset), initial=len(dataset) - len(pending), desc="localizing") as progress:
        for items in loader:
            _localize_batch(model, items, writers, options, device)
            progress.update(len(items))
    for writer in writers:
        if not writer.complete:
            writer.finish()
        print(f"predictions: {writer.directory}")


def _localize_batch(
    model: backbones.CamClassifier,
    items: Sequence[LocalizationItem],
    writers: Sequence[PredictionsWriter],
    options: Localize,
    device: torch.device,
) -> None:
    for item in items:
        if item.problem:
            for writer in writers:
                if item.sample.image_id not in writer.done:
                    writer.skip(item.sample.image_id, item.problem)
    items = [item for item in items if not item.problem]
    if not items:
        return
    probabilities, features = _forward(model, items, options, device)
    scores, classes = probabilities.topk(min(5, probabilities.shape[1]), dim=1)
    labels = torch.tensor([item.sample.label for item in items], device=device)
    of_class = labels if options.map_class == "label" else classes[:, 0]
    for number, writer in enumerate(writers):
        maps = model.class_activation_map(features[number], of_class).cpu().numpy()
        for item, raw, top5, top5_scores in zip(items, maps, classes.tolist(), scores.tolist(), strict=True):
            if item.sample.image_id in writer.done:
                continue
            frame = item.frames[number]
            localization_map = min_max(cv2.resize(raw, frame.size, interpolation=cv2.INTER_LINEAR))
            (boxes,) = BOX.boxes(localization_map, [options.threshold])
            prediction = Prediction(
                image_id=item.sample.image_id,
                label=item.sample.label,
                size=frame.original,
                frame=frame,
                top5=tuple(top5),
                top5_scores=tuple(top5_scores),
                box=boxes[0] if len(boxes) else None,
                threshold=options.threshold,
            )
            writer.write(prediction, localization_map if options.maps else None)


def _forward(
    model: backbones.CamClassifier, items: Sequence[LocalizationItem], options: Localize, device: torch.device
) -> tuple[Tensor, list[Tensor]]:
    """Class probabilities (B, classes), and the features of each frame; the ten crops hold the centre crop already."""
    features: dict[str, Tensor] = {}
    probabilities = None
    if options.crops == 10:
        scores, centre = [], []
        for item in items:  # ten at a time: larger batches outgrow a CPU's cache and gain a GPU little
            output = model(normalized(item.crops, model.mean, model.std, device))
            scores.append(output.scores.softmax(dim=1).mean(dim=0))
            centre.append(output.features[CENTRE])
        probabilities, features["crop"] = torch.stack(scores), torch.stack(centre)
    for number, name in enumerate(options.frames):
        if name not in features:
            output = model(
                normalized(torch.stack([item.views[number] for item in items]), model.mean, model.std, device)
            )
            features[name] = output.features
            if probabilities is None:
                probabilities = output.scores.softmax(dim=1)
    return probabilities, [features[name] for name in options.frames]


def load_classifier(checkpoint: str, classes: int) -> tuple[backbones.CamClassifier, str, dict[str, Any]]:
    """A trained model, its architecture, and what the manifest says of the checkpoint.

    Args:
        checkpoint: a path, or `imagenet:<arch>`.
        classes: how many the data set has.

    Raises:
        UserError: no such checkpoint, or one with another number of classes.
    """
    if checkpoint.startswith("imagenet:"):
        architecture = checkpoint.removeprefix("imagenet:")
        if classes > 1000:
            raise UserError(f"the data set has {classes} classes", expected="at most ImageNet's 1000")
        return backbones.build(architecture, 1000), architecture, {"name": checkpoint, "sha256": None}
    path = Path(checkpoint)
    config, state = checkpoints.read_trained(path, METHOD)
    architecture, names = config["architecture"], config["class_names"]
    if len(names) != classes:
        raise UserError(f"the checkpoint was trained on {len(names)} classes", where=path,
                        expected=f"{classes}, as the data set has")  # fmt: skip
    model = backbones.build(architecture, len(names), pretrained=False)
    checkpoints.load_strictly(model, state, path)
    return model, architecture, {"name": path.name, "sha256": sha256(path), "trained_on": config["trained_on"]}


def main() -> None:
    """The command line."""
    options = tyro.cli(
        Annotated[Train, tyro.conf.subcommand("train")] | Annotated[Localize, tyro.conf.subcommand("localize")],
        prog="python -m common.pytorch.cam",
        description="The CAM baseline.",
    )
    if isinstance(options, Train):
        train(options)
    else:
        localize(options)


if __name__ == "__main__":
    run_command(main)
