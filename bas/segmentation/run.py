"""The whole pipeline, in two commands.

    python -m bas.segmentation.run train --data.name voc --data.root VOC2012 --out runs/seg
    python -m bas.segmentation.run test  --data.name voc --data.root VOC2012 --out runs/seg

`train` trains the CAM and the BAS network. `test` makes class maps of the training images, scores them, makes IR labels
of them, trains IRN on those, makes masks and scores those. What is finished is not done again; what was stopped
continues.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from bas.segmentation.config import released_values
from bas.segmentation.ir_labels import MakeIrLabels, make_ir_labels, need_crf
from bas.segmentation.maps import SCALES, MakeMaps, make_maps
from bas.segmentation.masks import MakeMasks, Walk, check_walk, make_masks
from bas.segmentation.options import TrainBas, TrainCam, TrainIrn
from bas.segmentation.train import train
from bas.segmentation.weights import load_bas
from common.datasets import DataSource, TrainingSource
from common.pytorch import distributed
from common.pytorch.runtime import Runtime
from common.results.segmentation_scoring import evaluate_segmentation
from common.results.segmentation_tables import class_table, left_out_lines, summary_table, threshold_table
from common.results.tables import render
from common.system.errors import UserError, run_command
from common.system.options import also, parse


@dataclass(frozen=True)
class Steps:
    """Settings in which a training may differ from its recipe."""

    epochs: int | None = None
    """Passes over the images."""
    batch_size: int | None = None
    """Images a step."""
    lr: float | None = None
    """Learning rate of the backbone."""
    momentum: float | None = None
    """SGD momentum."""
    crop: int | None = None
    """Side of the random crop."""


@dataclass(frozen=True, kw_only=True)
class RunTrain:
    """Train the CAM and the BAS network of the segmentation pipeline."""

    data: TrainingSource
    """Images with labels; --data.split train_aug is what the authors train on."""
    out: Path
    """Folder of the whole pipeline."""
    backbone: Annotated[Literal["resnet50", "mobilenet_v1"], also("arch")] = "resnet50"
    """The trunk: the authors', or one that a CPU can train."""
    pretrained: Literal["imagenet", "none"] = "imagenet"
    """Weights to start from."""
    bas: Steps = field(default_factory=Steps)
    """The BAS network's training."""
    cam: Steps = field(default_factory=Steps)
    """The CAM network's training."""
    labels_only_epochs: int | None = None
    """Epochs of BAS's training that minimize the classification loss alone."""
    runtime: Runtime = field(default_factory=Runtime)
    """Device, workers, seed, mixed precision."""


@dataclass(frozen=True, kw_only=True)
class RunTest:
    """Make class maps, IR labels and masks with trained networks, and score them."""

    data: DataSource
    """The images that class maps are made of, and IRN is trained on: --data.split train_aug is the authors'."""
    out: Path
    """Folder of the whole pipeline."""
    score: Annotated[str | None, also("score-split")] = None
    """The split that is scored; by default train, as released, or the data's own where that is another."""
    validation: Annotated[str | None, also("validation-split")] = None
    """A split on which the class maps' threshold is chosen; by default it is the released one beside the oracle's."""
    bas: Path | None = None
    """The BAS network, the authors' epoch_10.pth.tar for instance; by default OUT/bas/final.pth."""
    cam: Path | None = None
    """The CAM network, the authors' res50_cam.pth for instance; by default OUT/cam/final.pth."""
    merge: Literal["cam", "none"] = "cam"
    """Add the CAM network's maps, as released, or not."""
    scales: tuple[float, ...] = SCALES
    """Factors of the image's size."""
    crf: Literal["dense", "none"] = "dense"
    """The dense CRF of the IR labels (the package pydensecrf2), or none."""
    irn: Steps = field(default_factory=Steps)
    """IRN's training."""
    pad: int = 512
    """Side that smaller images are padded to for IRN."""
    walk: Walk = field(default_factory=Walk)
    """The random walk."""
    runtime: Runtime = field(default_factory=Runtime)
    """Device, workers, seed, mixed precision."""


def _given(steps: Steps) -> dict:
    return {name: getattr(steps, name) for name in Steps.__dataclass_fields__}


def run_train(options: RunTrain) -> None:
    """Train the CAM network, then the BAS network."""
    shared = {name: getattr(options, name) for name in ("data", "backbone", "pretrained", "runtime")}
    train(TrainCam(out=options.out / "cam", **shared, **_given(options.cam)))
    train(TrainBas(out=options.out / "bas", labels_only_epochs=options.labels_only_epochs, **shared,
                   **_given(options.bas)))  # fmt: skip


def run_test(options: RunTest) -> None:
    """Run the command `test`.

    Raises:
        UserError: also no CRF, or a walk that makes no sense, before anything is done.
    """
    check_walk(options.walk)
    if options.crf == "dense":
        need_crf()
    out, runtime = options.out, options.runtime
    bas = options.bas or out / "bas" / "final.pth"
    networks = MakeMaps(
        data=options.data, out=out / "maps", bas=bas,
        cam=options.cam or out / "cam" / "final.pth", merge=options.merge, scales=options.scales,
        device=runtime.device, workers=runtime.workers,
    )  # fmt: skip
    split = options.data.split
    score = options.score or ("train" if split == "train_aug" else split)
    made = make_maps(networks)
    within = score if (split, score) == ("train_aug", "train") else None  # train is a part of train_aug
    scored = made if within or score == split else make_maps(_on(networks, score))
    held = () if options.validation is None else (make_maps(_on(networks, options.validation)),)
    show((scored,), held, runtime.workers, within)
    labels = make_ir_labels(MakeIrLabels(maps=made, out=out / "ir-labels", crf=options.crf, workers=runtime.workers))
    backbone = load_bas(bas).trunk
    irn = train(TrainIrn(labels=labels, out=out / "irn", backbone=backbone, runtime=runtime, **_given(options.irn)))
    masks = make_masks(MakeMasks(
        maps=scored, irn=irn, out=out / "masks", split=within, walk=options.walk, pad=options.pad,
        device=runtime.device, workers=runtime.workers,
    ))  # fmt: skip
    show((masks,), (), runtime.workers)


def _on(networks: MakeMaps, split: str) -> MakeMaps:
    return replace(networks, data=networks.data.at(split), out=networks.out.with_name(f"maps-{split}"))


def show(runs: tuple[Path, ...], validation: tuple[Path, ...], workers: int, split: str | None = None) -> None:
    """Print what `common.evaluate` prints of segmentation runs."""
    evaluations = evaluate_segmentation(runs, validation, None, workers, split)
    for table in (summary_table(evaluations), class_table(evaluations), threshold_table(evaluations)):
        if table:
            print(f"\n{render(table, 'text')}")
    print("".join(f"{line}\n" for line in left_out_lines(evaluations)), end="")


def main() -> None:
    """Run the command line."""
    options: RunTrain | RunTest = parse(
        {"train": RunTrain, "test": RunTest},
        prog="python -m bas.segmentation.run",
        description=__doc__,
        released=released_values(),
    )
    if isinstance(options, RunTrain):
        run_train(options)
    elif distributed.world_size() > 1:
        raise UserError("test runs in one process", do="leave torchrun out")
    else:
        run_test(options)


if __name__ == "__main__":
    run_command(main)
