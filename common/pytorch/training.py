"""The training loop that the PyTorch methods share: progress, schedules, mixed precision, checkpoints, resuming.

A method brings its model, its parameter groups and one function from a batch to named losses; see `fit`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from common.datasets import alike, trained
from common.datasets.trained import TrainedImages
from common.pytorch import checkpoints, distributed
from common.pytorch.data import TrainingLoader
from common.pytorch.runtime import Runtime, precision, training_layout
from common.runs.provenance import TRAINING, note_process
from common.system.errors import UserError
from common.system.files import write_json, write_text, writing
from common.system.locks import hold, release
from common.system.progress import Epoch, above, bar
from common.system.wording import apart

FINAL = "final.pth"


LossFunction = Callable[[Any, Tensor, Tensor], dict[str, Tensor]]
"""(model, images on the device in `training_layout`, labels) to scalars; `loss` is minimized, the others are shown."""
LearningRates = Callable[[int, int], Sequence[float]]
"""(epoch, step of all), counted from 0, to one rate for each parameter group."""


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: TrainingLoader,
    losses: LossFunction,
    learning_rates: LearningRates,
    epochs: int,
    folder: Path,
    config: dict[str, Any],
    runtime: Runtime,
    after_step: Callable[[int, dict[str, float]], None] = lambda step, values: None,
    after_epoch: Callable[[int], None] = lambda epoch: None,
    earlier: Iterable[TrainedImages | None] = (),
) -> Path:
    """Train, or continue where a killed training ended; the weights are those of an uninterrupted one.

    Args:
        model: from `runtime.for_training`.
        optimizer: over the model's parameters.
        loader: from `data.training_loader`.
        losses: one batch to named scalars.
        learning_rates: of each epoch and step.
        epochs: how many passes.
        folder: for `step-*.pth`, `log.jsonl`, `training.json`, `trained_images.json`, `processes.json`, and at the end
            `final.pth`.
        config: plain values that identify the training; one that differs from the folder's is refused.
        runtime: seed, mixed precision, how often to save.
        after_step: told of the step's number and losses; may raise.
        after_epoch: told of the epoch's number once its checkpoint is written, and again by a training that goes on
            right there; may look at the model, in eval mode.
        earlier: the images of other trainings that have a part in the weights.

    Returns:
        The path of `final.pth`.

    Raises:
        UserError: the folder holds another training, an image can't be read, or the loss is no longer finite.
    """
    final = folder / FINAL
    config = json.loads(json.dumps(config))
    if final.is_file():
        _refuse_other(checkpoints.read(final), config, folder)
        return final
    device = next(model.parameters()).device
    precision(device, runtime.amp)  # refused here, before anything is written
    scaler = torch.amp.GradScaler(device.type, enabled=runtime.amp == "fp16")
    if distributed.rank() == 0:
        hold(folder)
    batches = loader.batch_sampler.batches
    epoch, batch = _resume(model, optimizer, scaler, folder, config)
    if distributed.rank() == 0:
        write_json(folder / TRAINING, config)
        if "trained_on" in config:
            anew = (epoch, batch) == (0, 0)
            trained.note(folder, loader.dataset.samples, config["trained_on"], earlier, anew)
        note_process(folder)
    step_module = _parallel(_Step(model, losses), device, runtime)
    main = distributed.rank() == 0
    log = _Log(folder / "log.jsonl", before=epoch * batches + batch) if main else None
    progress = bar(
        total=epochs * batches, initial=epoch * batches + batch, unit="step", desc="training", disable=not main
    )

    def save(next_epoch: int, next_batch: int) -> None:
        if not main:
            return
        content = {
            "config": config,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "random": _random_state(),
            "epoch": next_epoch,
            "batch": next_batch,
        }
        checkpoints.write_step(folder, next_epoch * batches + next_batch, content)

    if epoch and not batch:  # what it does may be just what the stopped process did not get to
        after_epoch(epoch)
    with progress:
        model.train()
        while epoch < epochs:
            loader.batch_sampler.epoch, loader.batch_sampler.first_batch = epoch, batch
            passed = Epoch()
            since = "" if log is None else log.recall(passed, epoch, batch)
            for item in loader:
                if isinstance(item, UserError):
                    raise item
                step = epoch * batches + batch
                for group, rate in zip(optimizer.param_groups, learning_rates(epoch, step), strict=True):
                    group["lr"] = rate
                values = _step(step_module, optimizer, scaler, item, device, runtime.amp)
                if not np.isfinite(values["loss"]):
                    raise UserError(f"the loss is {values['loss']} at step {step}", where=folder,
                                    do="lower the learning rate or warm up longer")  # fmt: skip
                after_step(step, values)
                if log is not None:
                    log.add(step, epoch, values)
                passed.add(values, len(item[0]) * distributed.world_size())
                progress.update()
                shown = {name: f"{value:.3f}" for name, value in values.items() if np.isfinite(value)}
                progress.set_postfix(epoch=epoch + 1, **shown, refresh=False)
                batch += 1
                if runtime.save_every and (step + 1) % runtime.save_every == 0 and batch < batches:
                    save(epoch, batch)
            epoch, batch = epoch + 1, 0
            if main:
                above(progress, f"epoch {epoch} of {epochs}{since}: {passed.told((epochs - epoch) * batches)}")
            save(epoch, batch)
            after_epoch(epoch)
            model.train()
    if main:
        checkpoints.write(final, {"config": config, "model": model.state_dict()})
        release(folder)
    distributed.wait_for_all()
    return final


class _Step(nn.Module):
    """Model and losses as one module, so that one forward pass of it is all of a step's work."""

    def __init__(self, model: nn.Module, losses: LossFunction):
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return self.losses(self.model, images, labels)


def _parallel(step: nn.Module, device: torch.device, runtime: Runtime) -> nn.Module:
    if runtime.compile:
        step = cast(nn.Module, torch.compile(step))
    if distributed.world_size() == 1:
        return step
    return DistributedDataParallel(step, device_ids=[device.index] if device.type == "cuda" else None)


def _step(
    step_module: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    item: tuple[Tensor, Tensor],
    device: torch.device,
    amp: str,
) -> dict[str, float]:
    images, labels = (part.to(device, non_blocking=True) for part in item)
    images = images.contiguous(memory_format=training_layout(device))
    optimizer.zero_grad(set_to_none=True)
    with precision(device, amp):
        try:
            values = step_module(images, labels)
        except ValueError as error:  # of batch norm over one vector
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(f"a batch of {len(images)} image, of which batch norm has one value a channel",
                            do="choose a larger --batch-size, or train on more images") from error  # fmt: skip
    scaler.scale(values["loss"]).backward()
    scaler.step(optimizer)
    scaler.update()
    return distributed.averaged({name: float(value.detach()) for name, value in values.items()}, device)


def _resume(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    folder: Path,
    config: dict[str, Any],
) -> tuple[int, int]:
    """Load the newest checkpoint of this training; the epoch and batch to go on with."""
    stored = checkpoints.latest_step(folder)
    if stored is None:
        return 0, 0
    _refuse_other(stored, config, folder)
    model.load_state_dict(stored["model"])
    optimizer.load_state_dict(stored["optimizer"])
    scaler.load_state_dict(stored["scaler"])
    _set_random_state(stored["random"])
    print(f"continuing {folder} at epoch {stored['epoch'] + 1}, step {stored['batch']}")
    return stored["epoch"], stored["batch"]


def _refuse_other(stored: dict[str, Any], config: dict[str, Any], folder: Path) -> None:
    theirs = stored.get("config") if isinstance(stored, dict) else None
    theirs = theirs if isinstance(theirs, dict) else {}
    differing = sorted(key for key in theirs.keys() | config.keys() if not alike(theirs.get(key), config.get(key)))
    if differing:
        nested = [key for key in differing if isinstance(theirs.get(key), dict)]
        shown = "; ".join(f"{key}: {apart(theirs[key], config.get(key))}" for key in nested)
        raise UserError(f"the folder holds another training: {', '.join(differing)} differ{shown and f' ({shown})'}",
                        where=folder, do="choose another --out or delete the folder")  # fmt: skip


def _random_state() -> dict[str, Any]:
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


class _Log:
    """A line of JSON a step; lines from before a resumed step are kept, later ones are cut."""

    def __init__(self, path: Path, before: int):
        kept = []
        self._told: list[dict[str, Any]] = []  # of the last epoch alone
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    told = json.loads(line)
                    if told["step"] < before:
                        kept.append(line)
                        if self._told and self._told[-1].get("epoch") != told.get("epoch"):
                            self._told.clear()
                        self._told.append(told)
                except (ValueError, KeyError, TypeError):
                    continue  # the half line of a killed process
        self.path = path
        write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115, open for as long as the training

    def recall(self, passed: Epoch, epoch: int, steps: int) -> str:
        """Count the steps of an epoch that a stopped process took; where not all are told, none, and words for that."""
        earlier = [told for told in self._told if told.get("epoch") == epoch]
        if len(earlier) != steps:
            return f" from step {steps + 1} on"
        for told in earlier:
            passed.recall({name: value for name, value in told.items()
                           if name not in ("step", "epoch") and isinstance(value, int | float)})  # fmt: skip
        return ""

    def add(self, step: int, epoch: int, values: dict[str, float]) -> None:
        with writing(self.path):
            known = {name: value if np.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
            self._file.write(json.dumps({"step": step, "epoch": epoch, **known}) + "\n")
            self._file.flush()
