"""Fine-tune one of DGL's classifiers on class labels; the localization itself needs no training.

    python -m dgl_tf.train --arch inceptionv3 --data.name ilsvrc --data.root /data/imagenet \
        --load auto --out runs/dgl
    python -m dgl_tf.train --arch mobilenetv1 --data.name cub --data.root CUB_200_2011 \
        --load auto --out runs/dgl

Options that are not given take the released values of the architecture; see `dgl_tf.config`. A training that was
stopped goes on from its last whole epoch when the same command is given again.
"""

import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tensorflow.compat.v1 as tf

from common.datasets import Dataset, TrainingSource, splits, trained
from common.runs.provenance import note_process
from common.system.errors import UserError, run_command
from common.system.files import writing
from common.system.locks import hold, release
from common.system.options import also, parse
from dgl_tf import config, processes, records, sessions, weights

# isort: split
# tensorpack asks TensorFlow which mode it is in when it is imported, and `sessions` sets that.
from tensorpack import (
    InferenceRunner,
    QueueInput,
    ScheduledHyperParamSetter,
    SimpleTrainer,
    StagingInput,
    SyncMultiGPUTrainerParameterServer,
    TrainConfig,
    launch_train_with_config,
)
from tensorpack.callbacks import (
    Callback,
    ClassificationError,
    MergeAllSummaries,
    MovingAverageSummary,
    RunUpdateOps,
)
from tensorpack.tfutils.sesscreate import NewSessionCreator
from tensorpack.tfutils.sessinit import SaverRestore, SessionInit
from tensorpack.train import trainers
from tensorpack.utils import logger

from dgl_tf.callbacks import BEST, AtEpochs, Final, Progress, Saver, Validated
from dgl_tf.dataflow import WORKERS, Watched, training_flow, validation_flow
from dgl_tf.training_graph import Classifier, Start

QUEUE = 8
"""Batches that wait to be trained on."""


@dataclass(frozen=True)
class Train:
    """Fine-tune one of DGL's classifiers on class labels."""

    data: TrainingSource
    """The training images."""
    out: Path
    """Folder for checkpoints and logs; the last weights are final.npz."""
    arch: Literal["vgg", "resnet50", "resnet50se", "inceptionv3", "mobilenetv1"] = "inceptionv3"
    """The network; mobilenetv1 is an extension that a CPU can train."""
    load: Annotated[str | None, also("checkpoint")] = None
    """Weights to start from: a TensorFlow checkpoint, .npz or .safetensors; auto takes the release's file name below
    pretrain_model/, and for mobilenetv1 Google's weights. Without it training starts from scratch."""
    epochs: int | None = None
    """Number of epochs; see --steps-per-epoch."""
    batch_size: int | None = None
    """Images a step, over all towers."""
    base_lr: Annotated[float | None, also("lr")] = None
    """Learning rate before the first drop."""
    drops: tuple[int, ...] = config.DROPS
    """Epochs after each of which the learning rate is divided by ten."""
    warmup_steps: int = 0
    """Steps over which the rate rises from zero; none were released. With few classes try 40."""
    steps_per_epoch: int | None = None
    """Steps of an epoch; the release's if omitted: 256000 / batch for ilsvrc, 32000 / batch for cub, one pass over
    other data."""
    weight_decay: float | None = None
    """Weight decay of kernels; the release has it for vgg only."""
    multipliers: Literal["auto", "on", "off"] = "auto"
    """Larger rates for biases and fresh layers; auto: with --load only, as released."""
    num_classes: int | None = None
    """Outputs of the network; by default the data set's classes, and 1000 for inceptionv3, as released."""
    final_size: Annotated[int, also("crop")] = config.FINAL_SIZE
    """Side of the crop."""
    turn_by_exif: bool = False
    """Turn training images as their EXIF tag says, as OpenCV does in the release; the test never does."""
    validate: Literal["no", "held", "val", "test"] = "no"
    """The split whose error is measured every 5 epochs and after the last; the best network is kept beside the last."""
    validate_every: int = config.VALIDATE_EVERY
    """Epochs between two measurements."""
    workers: int = WORKERS
    """Processes that read images, each with an order of its own, as released; two runs differ. 0 reads in this process
    and repeats: runs with one seed are equal, and so is a resumed one."""
    seed: int = 0
    """Seed of fresh weights and dropout, and with --workers 0 of order and crops."""
    gpu: str | None = None
    """Sets CUDA_VISIBLE_DEVICES, such as 0,1."""
    towers: int | None = None
    """Copies of the network that share a batch and average their gradients; by default one a GPU, and one without."""
    horovod: bool = False
    """One process a tower, on one machine or several: `horovodrun -np 4 python -m dgl_tf.train --horovod ...`, with
    --out on a disk that all see."""
    threads: int | None = None
    """CPU threads of TensorFlow; by default its own choice."""


@dataclass(frozen=True)
class Resolved(Train):
    """The options of a training in which nothing that was released, or hangs on the data, is left open."""

    epochs: int = 0
    batch_size: int = 0
    base_lr: float = 0.0
    steps_per_epoch: int = 0
    weight_decay: float = 0.0
    num_classes: int = 0
    towers: int = 0


def resolved(options: Train, dataset: Dataset, share: processes.Share = processes.ALONE) -> Resolved:
    """The options with every released value filled in."""
    recipe = config.recipe(options.arch)
    names = ("epochs", "batch_size", "base_lr", "weight_decay")
    filled: dict[str, Any] = dict(vars(options))
    filled |= {name: getattr(recipe, name) for name in names if filled[name] is None}
    _check(Train(**filled))
    batch_size: int = filled["batch_size"]
    classes = options.num_classes
    if classes is None:  # every released Inception has 1000 outputs, on CUB too
        classes = 1000 if options.arch == "inceptionv3" else len(dataset.class_names)
    if classes < len(dataset.class_names):
        raise UserError(f"--num-classes {classes}", expected=f"{len(dataset.class_names)} or more")
    if options.horovod and options.towers not in (None, share.count):
        raise UserError(f"--towers {options.towers} of {share.count} processes", do="leave --towers out")
    alone = max(1, len(tf.config.list_physical_devices("GPU")))
    towers = options.towers or (share.count if options.horovod else alone)
    if batch_size < towers:
        raise UserError(f"--batch-size {batch_size} for {towers} towers", expected="at least one image each")
    steps = options.steps_per_epoch
    if steps is None:
        steps = config.steps_per_epoch(dataset.name, len(dataset), batch_size // towers * towers)
    return Resolved(**{**filled, "steps_per_epoch": steps, "num_classes": classes, "towers": towers})


def _check(options: Train) -> None:
    for name, least in (("epochs", 1), ("batch_size", 1), ("final_size", 32), ("validate_every", 1), ("workers", 0),
                        ("warmup_steps", 0), ("seed", 0)):  # fmt: skip
        if getattr(options, name) < least:
            raise UserError(f"--{name.replace('_', '-')} {getattr(options, name)}", expected=f"{least} or more")
    for name in ("steps_per_epoch", "towers", "threads", "num_classes"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}", expected="1 or more")
    if options.base_lr is not None and not options.base_lr > 0:
        raise UserError(f"--base-lr {options.base_lr}", expected="more than 0")
    if options.weight_decay is not None and options.weight_decay < 0:
        raise UserError(f"--weight-decay {options.weight_decay}", expected="0 or more")
    if list(options.drops) != sorted(set(options.drops)) or any(drop < 1 for drop in options.drops):
        raise UserError(f"--drops {' '.join(map(str, options.drops))}", expected="rising epoch numbers from 1")


def start_file(options: Train) -> weights.Checkpoint | None:
    """The checkpoint that --load means.

    Raises:
        UserError: there is none.
    """
    if options.load is None:
        return None
    path = config.PRETRAINED[options.arch] if options.load == "auto" else options.load
    return weights.open_checkpoint(path)


def train(options: Train) -> Path:
    """Train, and return the path of `final.npz`."""
    if options.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = options.gpu
    dataset = options.data.load()
    share = processes.joined() if options.horovod else processes.ALONE
    options = resolved(options, dataset, share)
    start = start_file(options)
    if share.rank == 0:
        hold(options.out)
        record = _record(options, dataset, start)
        records.write(options.out, record)
        before = None if start is None or start.path is None else trained.read(start.path)
        trained.note(options.out, dataset.samples, record.trained_on, [before])
    final = options.out / records.FINAL
    if final.is_file():
        return final
    if share.rank == 0:
        note_process(options.out)
    validation = None if options.validate == "no" else options.data.at(options.validate).load()
    if validation is not None and share.rank == 0:
        trained.note_chosen(options.out, [BEST], validation)
        if splits.is_evaluation(options.validate):
            print(f"note: {BEST} is chosen on the {options.validate} split, so its figures there are an oracle's")
    with tf.Graph().as_default():
        tf.set_random_seed(options.seed + share.rank)  # each tower's dropout; the first one's weights reach all
        _run(options, dataset, validation, start, share)
    if share.rank == 0:
        release(options.out)
    return final


def _record(options: Resolved, dataset: Dataset, start: weights.Checkpoint | None) -> records.Training:
    """Record of what the weights depend on; how often they are looked at, and by what hardware, is not part of it."""
    values = asdict(options)
    for name in ("data", "out", "arch", "validate", "validate_every", "gpu", "horovod", "threads"):
        del values[name]
    values["drops"] = list(options.drops)
    values["start"] = None if start is None else {"name": start.name, "sha256": start.fingerprint()}
    trained_on = options.data.identity(dataset)
    return records.Training(options.arch, dataset.class_names, trained_on, values)


def _run(
    options: Resolved,
    dataset: Dataset,
    validation: Dataset | None,
    start: weights.Checkpoint | None,
    share: processes.Share,
) -> None:
    _quiet_logger(options.out if share.rank == 0 else None)
    latest = tf.train.latest_checkpoint(str(options.out))
    steps = 0 if latest is None else int(weights.open_checkpoint(latest).read("global_step"))
    epoch = steps // options.steps_per_epoch
    if epoch >= options.epochs:  # stopped between the last checkpoint and the final file
        if share.rank == 0:
            _finish(weights.open_checkpoint(latest), options.out / records.FINAL)
        return
    if share.rank == 0:
        print(_announcement(options, dataset, epoch))
    gpus = bool(tf.config.list_physical_devices("GPU"))
    model = _model(options, with_multipliers=start is not None, data_format="NCHW" if gpus else "NHWC")
    tower_batch = options.batch_size // options.towers
    flow = Watched(
        training_flow(
            dataset.samples, options.final_size, tower_batch, options.workers, options.seed,
            start=steps * tower_batch * options.towers, share=share, turn_by_exif=options.turn_by_exif,
        )
    )  # fmt: skip
    data = QueueInput(flow, tf.FIFOQueue(QUEUE, [tf.uint8, tf.int32]))
    initial: SessionInit | None = None if start is None else Start(model, start)
    settings = TrainConfig(
        model=model,
        data=StagingInput(data, nr_stage=1) if gpus else data,
        callbacks=_callbacks(options, model, validation, tower_batch),
        extra_callbacks=[MovingAverageSummary(), MergeAllSummaries(), RunUpdateOps()],
        steps_per_epoch=options.steps_per_epoch,
        starting_epoch=epoch + 1,
        max_epoch=options.epochs,
        session_init=initial if latest is None else SaverRestore(latest),
        session_creator=NewSessionCreator(config=sessions.session_config(options.threads, options.towers)),
    )
    launch_train_with_config(settings, _trainer(options))
    flow.reraise()


def _model(options: Resolved, with_multipliers: bool, data_format: str) -> Classifier:
    """The training graph; `--multipliers auto` scales gradients where `with_multipliers`."""
    multiplied = options.multipliers == "on" or (options.multipliers == "auto" and with_multipliers)
    return Classifier(
        options.arch, options.num_classes, options.final_size, options.base_lr, weight_decay=options.weight_decay,
        multiplied=multiplied, warmup_steps=options.warmup_steps, data_format=data_format,
    )  # fmt: skip


def _callbacks(options: Resolved, model: Classifier, validation: Dataset | None, tower_batch: int) -> list[Callback]:
    return [
        *_validation(options, validation, tower_batch),
        Saver(max_to_keep=2, keep_checkpoint_every_n_hours=1000, checkpoint_dir=str(options.out)),
        ScheduledHyperParamSetter("learning_rate", schedule(options.base_lr, options.drops)),
        Progress(options.epochs, options.out, tower_batch * options.towers),
        Final(model, options.epochs, options.out),
    ]


def _trainer(options: Resolved) -> Any:
    """tensorpack's trainer: Horovod's, of one tower, or of several."""
    if options.horovod:
        trainers.tf = tf  # tensorpack asks it for names of version 1
        trainer = trainers.HorovodTrainer(average=True)
    elif options.towers == 1:
        trainer = SimpleTrainer()
    else:
        trainer = SyncMultiGPUTrainerParameterServer(list(range(options.towers)))
    # Without this a kernel may be updated while its gradient with respect to its input is still being computed from it.
    trainer.GATE_GRADIENTS = True
    return trainer


def schedule(base: float, drops: tuple[int, ...]) -> list[tuple[int, float]]:
    """(epoch, rate) for tensorpack: the rate holds after that epoch is complete."""
    return [(epoch, config.learning_rate(epoch + 1, base, drops)) for epoch in (0, *drops)]


def _validation(options: Resolved, dataset: Dataset | None, batch_size: int) -> list[Callback]:
    if dataset is None:
        return []
    best = min(5, options.num_classes)
    runner = InferenceRunner(
        validation_flow(dataset.samples, options.final_size, batch_size, options.turn_by_exif),
        [
            ClassificationError("wrong-top1", "val-error-top1"),
            ClassificationError(f"wrong-top{best}", "val-error-top5"),
        ],
    )
    due = {epoch for epoch in range(1, options.epochs + 1) if epoch % options.validate_every == 0} | {options.epochs}
    return [
        AtEpochs(runner, due),
        AtEpochs(Validated(options.out), due),
    ]


def _finish(checkpoint: weights.Checkpoint, final: Path) -> None:
    """Write a training checkpoint's network variables alone."""
    names = [name for name in checkpoint.shapes if not name.endswith("/Momentum")]
    weights.write_npz(
        final, {name: checkpoint.read(name) for name in names if name not in ("global_step", "learning_rate")}
    )


def _quiet_logger(folder: Path | None) -> None:
    """tensorpack's log goes to the folder's `log.log`; it never asks what to do with a folder that is there."""
    for handler in logger._logger.handlers:
        handler.setLevel("CRITICAL")
    if folder is not None:
        with writing(folder):
            logger.set_logger_dir(str(folder), action="k")
    logger._logger.propagate = False
    logger._logger.addFilter(_completed)
    for handler in logger._logger.handlers:  # on a full disk the checkpoint says so, in one line
        handler.handleError = lambda record: None


def _completed(record: logging.LogRecord) -> bool:
    """Mend tensorpack's message of a failed training: its number has no place in it, and logging shows a traceback."""
    if isinstance(record.args, tuple) and record.args and "%" not in str(record.msg):
        record.msg, record.args = f"{record.msg}{record.args[0]}", ()
    return True


def _announcement(options: Resolved, dataset: Dataset, epoch: int) -> str:
    going_on = f"continuing at epoch {epoch + 1}: " if epoch else ""
    return (
        f"{going_on}DGL {options.arch} on {dataset.name} {dataset.split}: {len(dataset)} images, "
        f"{len(dataset.class_names)} classes, {options.epochs} epochs of {options.steps_per_epoch} steps of "
        f"{options.batch_size} images, {options.towers} tower(s)"
    )


def main() -> None:
    """Run the command line."""
    path = train(parse(Train, prog="python -m dgl_tf.train", description=__doc__, released=config.released_values()))
    print(f"trained: {path}")


if __name__ == "__main__":
    run_command(main)
