"""Train one of the three networks of the segmentation pipeline.

    python -m bas.segmentation.train cam --data.name voc --data.root VOC2012 --data.split train_aug --out runs/seg/cam
    python -m bas.segmentation.train bas --data.name voc --data.root VOC2012 --data.split train_aug --out runs/seg/bas
    python -m bas.segmentation.train irn --labels runs/seg/ir-labels --out runs/seg/irn
    torchrun --nproc_per_node 4 -m bas.segmentation.train bas ...

Options that are not given take the released values on ResNet50, ours on MobileNetV1; see `bas.segmentation.config`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bas.segmentation import affinity, losses, weights
from bas.segmentation.config import IRN_RADIUS, Recipe, released_values
from bas.segmentation.images import TrainingImages, cropped, normalized, top_left_crop
from bas.segmentation.networks import BasMobileNet, BasNetwork, BasResNet, CamNetwork, IrnNetwork, build_bas
from bas.segmentation.options import TrainBas, TrainCam, TrainIrn, TrainOptions, resolved
from common.datasets import Sample
from common.pictures.images import read_rgb
from common.pytorch import distributed
from common.pytorch.data import loader_of
from common.pytorch.runtime import for_training, pick_device, seed_everything
from common.pytorch.training import LearningRates, LossFunction, fit
from common.runs.segmentation import SegmentationPredictions, mask_file
from common.system.errors import UserError, run_command
from common.system.options import parse
from common.system.progress import bar


def poly(rates: Sequence[float], steps: int) -> LearningRates:
    """(epoch, step) to each group's rate: rate * (1 - step / steps) ** 0.9, frozen from `steps` on."""

    def at(epoch: int, step: int) -> list[float]:
        factor = (1 - min(step, steps - 1) / steps) ** 0.9
        return [rate * factor for rate in rates]

    return at


def decay_steps(recipe: Recipe, images: int) -> int:
    """Number of steps over which the rates decay to nothing; the released BAS training takes fewer."""
    return images // (recipe.batch_size // recipe.poly_world) * recipe.epochs


def bas_groups(network: nn.Module, biases: bool = False) -> list[list[nn.Parameter]]:
    """Backbone, and the two heads. Batch norm's biases are in neither unless asked for: they keep their values."""
    named = [(name, value) for name, value in network.named_parameters() if biases or "weight" in name]
    return [[value for name, value in named if ("classifier" in name) == head] for head in (False, True)]


def cam_groups(network: CamNetwork) -> list[list[nn.Parameter]]:
    """Backbone, biases included, and the classifier."""
    return [list(network.trunk.parameters()), list(network.classifier.parameters())]


def irn_groups(network: nn.Module) -> list[list[nn.Parameter]]:
    """The edge branch's and the displacement branch's parameters."""
    named = list(network.named_parameters())
    return [[value for name, value in named if name.startswith(kind)] for kind in ("fc_edge", "fc_dp")]


class BasLosses:
    """A batch to its losses, for `fit`.

    Args:
        options: weights of the losses.

    Attributes:
        labels_only: minimize the classification loss alone; the others get a gradient of zero.
    """

    def __init__(self, options: TrainBas):
        self.options, self.labels_only = options, False

    def __call__(self, network: BasNetwork, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Normalized images (B, 3, H, W) and labels (B, C) to scalars."""
        classes = losses.draw_classes(labels)
        output = network(images, classes)
        output = output._replace(**{name: value.float() for name, value in output._asdict().items()})
        values = losses.total(output, labels, classes, self.options.alpha, self.options.beta, self.options.frg)
        if self.labels_only:
            values["loss"] = values["cls"] + 0 * values["loss"]
        return values


def cam_losses(network: CamNetwork, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Binary cross-entropy, the mean over classes and images."""
    return {"loss": F.multilabel_soft_margin_loss(network(images).float(), labels)}


class IrnLosses:
    """A batch to IRN's losses, for `fit`.

    Args:
        classes: C.
    """

    def __init__(self, classes: int):
        self.classes = classes

    def __call__(self, network: IrnNetwork, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Normalized images (B, 3, H, W) and label maps (B, H / 4, W / 4) to scalars."""
        edges, displacements = network(images)
        return affinity.losses(edges.float(), displacements.float(), labels, IRN_RADIUS, self.classes)


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts of a training in which the three networks differ.

    Attributes:
        network: with the weights that it starts from.
        groups: parameters of each rate in `learning_rates`.
        losses: a batch to named scalars.
        learning_rates: of each epoch and step.
        after_epoch: told of the number of an epoch that ended.
    """

    network: nn.Module
    groups: list[list[nn.Parameter]]
    losses: LossFunction
    learning_rates: LearningRates
    after_epoch: Callable[[int], None] = lambda epoch: None


def train(options: TrainBas | TrainCam | TrainIrn) -> Path:
    """Train, and return the path of `final.pth`."""
    with distributed.processes(pick_device(options.runtime.device)) as device:
        if isinstance(options, TrainIrn):
            return _train_irn(options, device)
        return _train_on_labels(options, device)


def _train_on_labels(options: TrainBas | TrainCam, device: torch.device) -> Path:
    kind = "bas" if isinstance(options, TrainBas) else "cam"
    recipe, seed = resolved(options, kind), options.runtime.seed or 0
    seed_everything(seed)
    dataset = options.data.load(multi_label=True)
    images = TrainingImages(dataset.samples, recipe.augmentation, seed, len(dataset.class_names))
    rates = [recipe.lr, recipe.lr * recipe.head_factor]
    schedule = poly(rates, decay_steps(recipe, len(dataset)) or 1)
    network: nn.Module
    loss: LossFunction
    if isinstance(options, TrainCam):
        network = cam = CamNetwork(options.backbone, len(dataset.class_names))
        trunk, groups, loss, extra = cam.trunk, cam_groups(cam), cam_losses, {}
    else:
        network = trunk = _bas_network(options, len(dataset.class_names))
        groups, extra = bas_groups(network, options.train_bias), _extra(options)
        loss = suppression = BasLosses(options)
        schedule = _with_beginning(schedule, suppression, recipe.labels_only_epochs)
    if options.pretrained == "imagenet":
        weights.start_from_imagenet(trunk)
    config = _config(options, recipe, kind, dataset.class_names, options.data.identity(dataset), extra)
    return _fit(Parts(network, groups, loss, schedule), images, recipe, options, config, device)


def _bas_network(options: TrainBas, classes: int) -> BasResNet | BasMobileNet:
    if options.tap is not None and (options.backbone == "resnet50" or not 6 <= options.tap <= 12):
        raise UserError(f"--tap {options.tap} on {options.backbone}", expected="6 to 12, on mobilenet_v1")
    network = build_bas(options.backbone, classes, options.tap)
    if not options.train_bias:
        for name, value in network.named_parameters():
            value.requires_grad_("weight" in name)
    return network


def _with_beginning(schedule: LearningRates, loss: BasLosses, epochs: int) -> LearningRates:
    """The schedule, which also tells the losses that the first `epochs` train on labels only."""

    def rates(epoch: int, step: int) -> Sequence[float]:
        loss.labels_only = epoch < epochs
        return schedule(epoch, step)

    return rates


def _extra(options: TrainBas) -> dict[str, Any]:
    tap = 7 if options.backbone == "mobilenet_v1" and options.tap is None else options.tap
    names = ("alpha", "beta", "frg", "train_bias")
    return {"tap": tap, **{name: getattr(options, name) for name in names}}


def _train_irn(options: TrainIrn, device: torch.device) -> Path:
    recipe, seed = resolved(options, "irn"), options.runtime.seed or 0
    if recipe.augmentation.crop <= (least := 8 * affinity.margin(IRN_RADIUS)):
        raise UserError(f"--crop {recipe.augmentation.crop} for IRN", expected=f"more than {least}, to hold its pairs")
    seed_everything(seed)
    labels = SegmentationPredictions.open(options.labels)
    if labels.kind != "ir-labels":
        raise UserError(f"these are {labels.kind}", where=options.labels, expected="IR labels")
    samples = {sample.image_id: sample for sample in labels.dataset(options.root)}
    own = str(labels.manifest.split)
    mean_split = options.mean_split or ("train" if own == "train_aug" else own)
    source, measured = labels.other_split(mean_split, options.root)
    entries = labels.entries
    images = TrainingImages(
        [samples[entry.image_id] for entry in entries], recipe.augmentation, seed, len(labels.class_names),
        [mask_file(options.labels, entry.image_id) for entry in entries],
    )  # fmt: skip
    network = IrnNetwork(options.backbone)
    if options.pretrained == "imagenet":
        weights.start_from_imagenet(network.trunk)
    extra = {"mean_over": source.identity(measured), "labels": labels.manifest.options}
    config = _config(options, recipe, "irn", labels.class_names, labels.manifest.data, extra)
    schedule = poly([recipe.lr, recipe.lr * recipe.head_factor], decay_steps(recipe, len(images)) or 1)

    def after_epoch(epoch: int) -> None:
        if epoch == recipe.epochs and distributed.rank() == 0:
            crop = recipe.augmentation.crop
            network.mean_shift.running_mean.copy_(mean_displacement(network, measured.samples, crop, recipe.batch_size))
        distributed.wait_for_all()

    parts = Parts(network, irn_groups(network), IrnLosses(len(labels.class_names)), schedule, after_epoch)
    return _fit(parts, images, recipe, options, config, device)


@torch.inference_mode()
def mean_displacement(network: IrnNetwork, samples: Sequence[Sample], crop: int, batch_size: int) -> Tensor:
    """The mean (2,) over batches of each batch's mean displacement, in eval mode, of the images' upper left crops.

    The last, incomplete batch is left out, as released, unless it is the only one.
    """
    network.eval()
    network.mean_shift.running_mean.zero_()
    device, means = network.mean_shift.running_mean.device, []
    batches = max(1, len(samples) // batch_size)
    for number in bar(range(batches), total=batches, desc="mean displacement", unit="batch"):
        pixels = [normalized(read_rgb(each.path)) for each in samples[number * batch_size : (number + 1) * batch_size]]
        canvas = [cropped(image, top_left_crop(image.shape[:2], crop), crop, 0) for image in pixels]
        images = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in canvas]).to(device)
        means.append(network(images)[1].mean(dim=(0, 2, 3)))
    return torch.stack(means).mean(dim=0)


def _config(
    options: TrainOptions, recipe: Recipe, kind: str, class_names: Sequence[str], trained_on: Any, extra: dict[str, Any]
) -> dict[str, Any]:
    """Identity of this training: everything that its weights depend on."""
    values = {name: getattr(recipe, name) for name in Recipe.__dataclass_fields__ if name != "augmentation"}
    values["augmentation"] = dict(vars(recipe.augmentation))
    return {
        "method": weights.METHODS[kind],
        "architecture": options.backbone,
        "class_names": list(class_names),
        "trained_on": trained_on,
        "options": {**values, **extra, "pretrained": options.pretrained, "seed": options.runtime.seed or 0,
                    "amp": options.runtime.amp, "processes": distributed.world_size()},
    }  # fmt: skip


def _fit(
    parts: Parts, images: TrainingImages, recipe: Recipe, options: TrainOptions, config: dict[str, Any],
    device: torch.device,
) -> Path:  # fmt: skip
    # As released, the last, incomplete batch of an epoch is left out.
    loader = loader_of(images, len(images), recipe.batch_size, images.seed, options.runtime.workers, drop_last=True)
    network = parts.network
    if device.type == "cuda" and distributed.world_size() > 1:  # as released; elsewhere PyTorch has none
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for_training(network, device)
    optimizer = torch.optim.SGD(
        [{"params": group} for group in parts.groups], lr=recipe.lr, momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )  # fmt: skip
    if distributed.rank() == 0:
        print(f"{config['method']} {options.backbone}: {len(images)} images, {images.num_classes} classes, "
              f"{recipe.epochs} epochs of {loader.batch_sampler.batches} steps")  # fmt: skip
    return fit(
        network, optimizer, loader, parts.losses, parts.learning_rates, recipe.epochs, options.out, config,
        options.runtime, after_epoch=parts.after_epoch,
    )  # fmt: skip


def main() -> None:
    """Run the command line."""
    options: TrainBas | TrainCam | TrainIrn = parse(
        {"bas": TrainBas, "cam": TrainCam, "irn": TrainIrn},
        prog="python -m bas.segmentation.train",
        description=__doc__,
        released=released_values(),
    )
    path = train(options)
    if distributed.rank() == 0:
        print(f"trained: {path}")


if __name__ == "__main__":
    run_command(main)
