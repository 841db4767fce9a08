"""Shared parts of the three train commands: the optimizer, the rates, the original's `model-<number>` files, `fit`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.datasets import Dataset, trained
from common.pytorch import checkpoints, distributed
from common.pytorch.data import loader_of
from common.pytorch.runtime import for_training
from common.pytorch.training import LearningRates, LossFunction, fit
from common.system.errors import UserError
from spol import weights
from spol.config import Recipe
from spol.data import TrainingImages
from spol.models import MffNet
from spol.options import TrainOptions


def optimizer_of(
    network: nn.Module, options: TrainOptions, in_base: Sequence[str], left_out: Sequence[str] = ()
) -> torch.optim.SGD:
    """SGD over the two groups; `left_out` are frozen by omission: in no group, while batch norms still follow."""
    groups = weights.parameter_groups(network, in_base, left_out, options.weight_decay, options.decay_everything)
    return torch.optim.SGD(groups, lr=0.0, momentum=options.momentum, nesterov=options.nesterov)


def learning_rates(optimizer: torch.optim.Optimizer, settings: Recipe, warmup_steps: int = 0) -> LearningRates:
    """(epoch, step) to each group's rate: constant, or falling in a line by the epoch and never to zero."""
    factors = [settings.base_factor if group["part"] == "base" else 1.0 for group in optimizer.param_groups]

    def rates(epoch: int, step: int) -> list[float]:
        rate = settings.lr * (1 - epoch / settings.epochs if settings.linear_decay else 1.0)
        rate *= min(1.0, (step + 1) / max(1, warmup_steps))
        return [rate * factor for factor in factors]

    return rates


def saved_epochs(settings: Recipe) -> list[int]:
    """Epochs, counted from 1, after which the original saves `model-<epoch>`.

    seg saves after each; cls and cam after those whose number, counted from 0, exceeds half of `--epoch`.
    """
    if settings.save_epochs_over is None:
        return []
    first = settings.epochs // 2 + 1 if settings.save_epochs_over else 0
    return list(range(first + 1, settings.epochs + 1))


class ReleasedFiles:
    """Writes `model-<number>` as the original does: after late epochs, or on ImageNet every 2000 steps.

    Args:
        network: as it is being trained.
        settings: say when.
        folder: the training's.
    """

    def __init__(self, network: nn.Module, settings: Recipe, folder: Path):
        self.network, self.settings, self.folder = network, settings, folder
        self.epochs = set(saved_epochs(settings))

    def after_epoch(self, epoch: int) -> None:
        """Told of the number of an epoch that ended."""
        if epoch in self.epochs:
            self._write(epoch)

    def after_step(self, step: int, values: dict[str, float]) -> None:
        """Told of each step, counted from 0."""
        if self.settings.save_steps and (step + 1) % self.settings.save_steps == 0:
            self._write(step + 1)

    def _write(self, number: int) -> None:
        if distributed.rank() == 0:
            weights.write_released(self.folder / f"model-{number}", self.network)


def run(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: LossFunction,
    options: TrainOptions,
    settings: Recipe,
    dataset: Dataset,
    config: dict[str, Any],
    device: torch.device,
    masks: Path | None = None,
) -> Path:
    """Train, or continue; gives the path of `final.pth`.

    Args:
        network: freshly built or loaded, on the CPU.
        optimizer: from `optimizer_of`.
        losses: a batch to named scalars.
        options, settings: of the command.
        dataset: `options.data`, loaded.
        config: `method` and `architecture`, and whatever else the weights depend on beside the options.
        device: where.
        masks: the folder of pseudo masks, for seg.
    """
    for_training(network, device)
    images = TrainingImages(dataset.samples, settings.resize, settings.crop, options.preprocessing, options.seed, masks)
    loader = loader_of(images, len(images), settings.batch_size, options.seed, options.runtime.workers)
    released = ReleasedFiles(network, settings, options.out)
    if distributed.rank() == 0:
        print(f"{config['method']} {config['architecture']} on {dataset.name} {dataset.split}: {len(dataset)} images, "
              f"{len(dataset.class_names)} classes, {settings.epochs} epochs of {loader.batch_sampler.batches} steps, "
              f"{distributed.world_size()} process(es)")  # fmt: skip
    final = fit(
        network, optimizer, loader, losses, learning_rates(optimizer, settings, options.warmup_steps), settings.epochs,
        options.out, _identity(options, settings, dataset, config), options.runtime,
        after_step=released.after_step, after_epoch=released.after_epoch,
        earlier=[trained.read(path) for path in (options.snapshot, masks) if path is not None],
    )  # fmt: skip
    if distributed.rank() == 0:
        print(f"trained: {final}")
    return final


def _identity(options: TrainOptions, settings: Recipe, dataset: Dataset, config: dict[str, Any]) -> dict[str, Any]:
    """Identity of this training: everything that its weights depend on."""
    values = {**asdict(options), **asdict(settings)}
    for name in ("data", "out", "runtime", "recipe", "arch", "backbone", "masks"):
        values.pop(name, None)
    values["snapshot"] = str(options.snapshot) if options.snapshot else None
    return {
        **config,
        "class_names": list(dataset.class_names),
        "trained_on": options.data.plain().identity(dataset),
        "options": {
            **values, "seed": options.seed, "amp": options.runtime.amp, "processes": distributed.world_size()
        },
    }  # fmt: skip


def head_size(options: TrainOptions, dataset: Dataset) -> int:
    """Outputs of a classifier: `--clsnum`, or the data set's classes.

    Raises:
        UserError: fewer than the data set has classes.
    """
    classes = len(dataset.class_names)
    if options.clsnum is not None and options.clsnum < classes:
        raise UserError(f"--clsnum {options.clsnum}", expected=f"at least the data set's {classes} classes")
    return options.clsnum or classes


def start(network: MffNet, options: TrainOptions, backbone: str, stage: str) -> None:
    """Give a fresh network its first weights, a snapshot's, or ImageNet's in the trunk; `--mode val` stills dropout.

    Raises:
        UserError: a snapshot of another network, or ImageNet weights that can't be had.
    """
    if options.mode == "val":
        network.dropout.p = 0.0
    if options.snapshot is not None:
        state = weights.load(options.snapshot, stage).network.state_dict()
        checkpoints.load_strictly(network, state, options.snapshot)
    elif options.pretrained:
        weights.start_from_imagenet(network, backbone)
