"""Train a BAS network on class labels alone.

    python -m bas.train --arch mobilenet --data.name cub --data.root CUB_200_2011 --out runs/bas
    torchrun --nproc_per_node 4 -m bas.train --arch resnet --variant ILSVRC --data.name ilsvrc ...

Options that are not given take the released values of the variant, the data set and the backbone; see `bas.config`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bas import losses, weights
from bas.backbones import build
from bas.config import LEARNING_RATE, MOMENTUM, RATE_FACTORS, VARIANTS, WEIGHT_DECAY, Recipe, recipe, released_values
from bas.network import Network
from bas.validation import Validation
from common.datasets import Dataset, TrainingSource
from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD
from common.pytorch import distributed
from common.pytorch.data import Augmentation, normalized, training_loader
from common.pytorch.runtime import Runtime, for_training, pick_device, seed_everything
from common.pytorch.training import LearningRates, fit
from common.system.errors import UserError, run_command
from common.system.options import parse

DEAD_AFTER, DEAD_BELOW = 20, 0.05
"""A network is dead when for that many steps less than this share of images scored above zero for their own class."""


@dataclass(frozen=True)
class Train:
    """Train a BAS network on class labels alone."""

    data: TrainingSource
    """The training images."""
    out: Path
    """Folder for checkpoints; the last is final.pth."""
    arch: Literal["vgg", "mobilenet", "resnet", "inception"] = "vgg"
    """The backbone."""
    variant: Literal["CUB", "ILSVRC", "EXT"] = "CUB"
    """Release: one of the two of CVPR 2022, or the authors' later one."""
    pretrained: Literal["imagenet", "tf-slim", "none"] = "imagenet"
    """imagenet: the files the release names. tf-slim: mobilenet from common.weights. none: from scratch."""
    epochs: int | None = None
    """Passes over the training images."""
    decay_epochs: int | None = None
    """The learning rates are divided by ten after each that many epochs."""
    batch_size: int | None = None
    """Images a step, over all processes."""
    lr: float = LEARNING_RATE
    """Learning rate of the backbone's weights; its biases get 2 times that, head and generator 10, their biases 20."""
    momentum: float = MOMENTUM
    """SGD momentum (Nesterov)."""
    weight_decay: float = WEIGHT_DECAY
    """Weight decay of every parameter, biases and batch norm included."""
    warmup_steps: int = 0
    """Steps over which the rates rise from zero; none were released. With few classes try 40."""
    alpha: float | None = None
    """Weight of the foreground region guidance."""
    beta: float | None = None
    """Weight of the area constraint."""
    bn_chunks: int | None = None
    """Parts of a batch that batch norm looks at one by one, over all processes: 4 in the ILSVRC release."""
    sync_bn: bool = False
    """Batch norm over all processes' images, as EXT does on ILSVRC; needs CUDA."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Sizes of the resize and the random crop."""
    validate: Literal["no", "held", "test"] = "no"
    """Measure after each epoch and keep the best one's weights. EXT does so on the test split, which is an oracle."""
    validate_from: int = 1
    """First epoch that is followed by a measurement; EXT starts after 31."""
    runtime: Runtime = field(default_factory=Runtime)
    """Device, workers, seed, mixed precision."""


class Losses:
    """A batch to its losses, for `fit`; in several chunks as DataParallel did, where asked for.

    Args:
        arch, recipe: backbone and hyper-parameters.
        chunks: of this process's batch.
    """

    def __init__(self, arch: str, settings: Recipe, chunks: int):
        self.arch, self.settings, self.chunks = arch, settings, chunks

    def __call__(self, network: Network, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """uint8 images (B, 3, H, W) to scalars; `loss` is the sum that is minimized, chunks weighing the same."""
        images = normalized(images, IMAGENET_MEAN, IMAGENET_STD, images.device, torch.preserve_format)
        parts = [
            self._losses(network, chunk, chunk_labels, first=number == 0)
            for number, (chunk, chunk_labels) in enumerate(
                zip(images.chunk(self.chunks), labels.chunk(self.chunks), strict=True)
            )
        ]
        return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}

    def _losses(self, network: Network, images: Tensor, labels: Tensor, first: bool) -> dict[str, Tensor]:
        if first:
            output = network(images, labels)
        else:  # batch norm's running statistics come from the first chunk alone
            buffers = {name: value.clone() for name, value in network.named_buffers()}
            output = functional_call(network, buffers, (images, labels))
        output = output._replace(**{name: value.float() for name, value in output._asdict().items()})
        settings = self.settings
        values = losses.total(output, labels, network.variant, self.arch, settings.alpha, settings.beta)
        with torch.no_grad():
            values["accuracy"] = (output.scores.argmax(dim=1) == labels).float().mean()
            values["alive"] = (output.activation > 0).float().mean()
        return values


class DeadNetwork:
    """Stops a training whose images hardly score for their own class: behind the head's ReLU nothing comes back."""

    def __init__(self):
        self.steps = 0

    def __call__(self, step: int, values: dict[str, float]) -> None:
        """Count a step at which hardly an image scores for its own class, by the step's losses.

        Raises:
            UserError: the network is dead.
        """
        self.steps = self.steps + 1 if values["alive"] < DEAD_BELOW else 0
        if self.steps >= DEAD_AFTER:
            raise UserError(
                f"the network is dead: for {self.steps} steps, until step {step}, hardly an image scored above 0 for "
                "its own class",
                do="lower --lr or raise --warmup-steps, and start in another --out",
            )


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """The four groups of the release, by name: weights and biases of the backbone, then of head and generator."""
    groups: list[list[nn.Parameter]] = [[], [], [], []]
    for name, parameter in network.named_parameters():
        groups[2 * ("classifier" in name) + ("weight" not in name)].append(parameter)
    return [{"params": group} for group in groups]


def learning_rates(lr: float, decay_epochs: int, warmup_steps: int) -> LearningRates:
    """(epoch, step) to the four groups' rates: a tenth after each `decay_epochs`, times a linear warm-up."""

    def rates(epoch: int, step: int) -> list[float]:
        factor = 0.1 ** (epoch // decay_epochs) * min(1.0, (step + 1) / max(1, warmup_steps))
        return [lr * factor * group for group in RATE_FACTORS]

    return rates


def resolved(options: Train) -> tuple[Train, Recipe]:
    """The options with every released value filled in, and the recipe that they make."""
    try:
        released = recipe(options.variant, options.data.name, options.arch)
    except ValueError as error:
        raise UserError(str(error)) from error
    names = ("epochs", "decay_epochs", "batch_size", "alpha", "beta", "bn_chunks")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    settings = replace(released, **given)
    seed = settings.seed if options.runtime.seed is None else options.runtime.seed
    filled = {name: getattr(settings, name) for name in names}
    return replace(options, **filled, runtime=replace(options.runtime, seed=seed)), replace(settings, seed=seed)


def train(options: Train) -> Path:
    """Train, and return the path of `final.pth`."""
    with distributed.processes(pick_device(options.runtime.device)) as device:
        return _train(options, device)


def _train(options: Train, device: torch.device) -> Path:
    options, settings = resolved(options)
    processes = distributed.world_size()
    if settings.bn_chunks > processes and settings.bn_chunks % processes:
        raise UserError(f"--bn-chunks {settings.bn_chunks} for {processes} processes", expected="a multiple of them")
    if options.sync_bn and device.type != "cuda":
        raise UserError("--sync-bn needs CUDA", do="leave it out; --bn-chunks 1 in one process is the same on a CPU")
    seed_everything(settings.seed)
    dataset = options.data.load()
    network = _network(options, len(dataset.class_names))
    for_training(network, device)
    optimizer = torch.optim.SGD(
        parameter_groups(network),
        lr=options.lr,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        nesterov=options.momentum > 0,
    )
    loader = training_loader(
        dataset.samples, options.augmentation, settings.batch_size, settings.seed, options.runtime.workers
    )
    if distributed.rank() == 0:
        print(_announcement(options, settings, dataset, loader.batch_sampler.batches))
    return fit(
        network,
        optimizer,
        loader,
        Losses(options.arch, settings, max(1, settings.bn_chunks // processes)),
        learning_rates(options.lr, settings.decay_epochs, options.warmup_steps),
        settings.epochs,
        options.out,
        _config(options, dataset),
        options.runtime,
        after_step=DeadNetwork() if VARIANTS[options.variant].head_relu else lambda step, values: None,
        after_epoch=_validation(options, settings, network, device),
    )


def _network(options: Train, num_classes: int) -> Network:
    """The network with the weights that the training starts from."""
    slim = options.pretrained == "tf-slim"
    if slim and options.arch != "mobilenet":
        raise UserError(f"no TF-Slim weights for {options.arch}", expected="--arch mobilenet, or --pretrained imagenet")
    network = build(options.arch, options.variant, num_classes, slim)
    weights.start_from(network, options.arch, options.pretrained)
    return nn.SyncBatchNorm.convert_sync_batchnorm(network) if options.sync_bn else network


def _announcement(options: Train, settings: Recipe, dataset: Dataset, batches: int) -> str:
    return (
        f"BAS {options.variant} {options.arch} on {dataset.name} {dataset.split}: {len(dataset)} images, "
        f"{len(dataset.class_names)} classes, {settings.epochs} epochs of {batches} steps, alpha {settings.alpha}, "
        f"beta {settings.beta}, {distributed.world_size()} process(es)"
    )


def _validation(options: Train, settings: Recipe, network: Network, device: torch.device) -> Callable[[int], None]:
    if options.validate == "no":
        return lambda epoch: None
    source = options.data.at(options.validate)
    return Validation(
        source, network, settings, first_epoch=options.validate_from, folder=options.out, device=device,
        workers=options.runtime.workers, side=options.augmentation.crop,
    )  # fmt: skip


def _config(options: Train, dataset: Dataset) -> dict[str, Any]:
    """Identity of this training: everything that its weights depend on."""
    values = asdict(options)
    for name in ("data", "out", "arch", "variant", "validate", "validate_from"):
        del values[name]
    runtime = values.pop("runtime")
    return {
        "method": weights.METHOD,
        "architecture": options.arch,
        "variant": options.variant,
        "class_names": list(dataset.class_names),
        "trained_on": options.data.identity(dataset),
        "options": {**values, "seed": runtime["seed"], "amp": runtime["amp"], "processes": distributed.world_size()},
    }


def main() -> None:
    """Run the command line."""
    path = train(parse(Train, prog="python -m bas.train", description=__doc__, released=released_values()))
    if distributed.rank() == 0:
        print(f"trained: {path}")


if __name__ == "__main__":
    run_command(main)
