"""Options of the segmentation pipeline's three trainings, and the hyper-parameters that they come to."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from bas.segmentation.config import ALPHA, BETA, RECIPES, Recipe
from common.datasets import TrainingSource
from common.pytorch.runtime import Runtime
from common.system.errors import UserError
from common.system.options import also


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options that the three trainings share."""

    out: Path
    """Folder for checkpoints; the last is final.pth."""
    backbone: Annotated[Literal["resnet50", "mobilenet_v1"], also("arch")] = "resnet50"
    """The trunk: the authors', or one that a CPU can train."""
    pretrained: Literal["imagenet", "none"] = "imagenet"
    """Weights to start from."""
    epochs: int | None = None
    """Passes over the images; an epoch's last, incomplete batch is left out."""
    batch_size: int | None = None
    """Images a step, over all processes."""
    lr: float | None = None
    """Learning rate of the backbone (IRN: of the edge branch); the heads (displacement branch) get ten times that."""
    momentum: float | None = None
    """SGD momentum. The release has 0.0001: its weight decay stands in momentum's place."""
    weight_decay: float | None = None
    """SGD weight decay."""
    poly_world: int | None = None
    """Number of processes whose batches the decay of the rates counts one by one, as if each were a step. With 1 the
    rates decay to nothing; with 4, as in the released BAS training, they end at 0.772 of where they began."""
    crop: int | None = None
    """Side of the random crop."""
    runtime: Runtime = field(default_factory=Runtime)
    """Device, workers, seed, mixed precision."""


@dataclass(frozen=True, kw_only=True)
class TrainCam(TrainOptions):
    """Train the classifier whose activation maps are merged with BAS's."""

    data: TrainingSource
    """Images with labels, such as --data.split train_aug."""


@dataclass(frozen=True, kw_only=True)
class TrainBas(TrainOptions):
    """Train the BAS network."""

    data: TrainingSource
    """Images with labels, such as --data.split train_aug."""
    alpha: float = ALPHA
    """Weight of the foreground region guidance."""
    beta: float = BETA
    """Weight of the area constraint."""
    frg: Literal["softmax", "negatives"] = "softmax"
    """Classes that the drawn class competes with in the guidance. softmax: all others, the image's own among them, as
    released. negatives: those that the image does not show."""
    train_bias: bool = False
    """Train batch norm's biases too; released code leaves them as they were."""
    tap: int | None = None
    """The block of mobilenet_v1 that the generator reads, 6 to 12."""
    labels_only_epochs: int | None = None
    """Epochs at the beginning that minimize the classification loss alone."""


@dataclass(frozen=True, kw_only=True)
class TrainIrn(TrainOptions):
    """Train IRN on IR labels."""

    labels: Path
    """Folder that bas.segmentation.ir_labels wrote."""
    mean_split: str | None = None
    """The split over which the mean displacement is taken at the end; by default train, as released, or the labels' own
    where that is another than train_aug."""
    root: Annotated[Path | None, also("data.root")] = None
    """The data set's folder, where it has moved."""


def resolved(options: TrainOptions, kind: str) -> Recipe:
    """The released hyper-parameters, or ours, with what was given in their place.

    Raises:
        UserError: numbers that make no training.
    """
    released = RECIPES[kind, options.backbone]
    names = ("epochs", "batch_size", "lr", "momentum", "weight_decay", "poly_world", "labels_only_epochs")
    given = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    recipe = replace(released, **given)
    if options.crop is not None:
        grown: dict[str, Any] = {"resize": options.crop * 8 // 7} if released.augmentation.resize else {}
        recipe = replace(recipe, augmentation=replace(released.augmentation, crop=options.crop, **grown))
    for name in ("epochs", "batch_size", "poly_world"):
        if getattr(recipe, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(recipe, name)}", expected="1 or more")
    if recipe.poly_world > recipe.batch_size:
        raise UserError(f"--poly-world {recipe.poly_world} for batches of {recipe.batch_size}",
                        expected="at most as many processes as images a batch")  # fmt: skip
    if recipe.augmentation.crop % 16:
        raise UserError(f"--crop {recipe.augmentation.crop}", expected="a multiple of 16")
    return recipe
