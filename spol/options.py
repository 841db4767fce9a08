"""Options that several commands share; the original's names work beside ours: `--datapath`, `--savepath` and so on."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from common.datasets import DataSource, TrainingSource
from common.datasets.layouts import cub
from common.pytorch.runtime import Runtime
from common.system.errors import UserError
from common.system.options import also
from spol.config import MOMENTUM, WEIGHT_DECAY, Recipe, recipe, recipe_name
from spol.preprocessing import Preprocessing


@dataclass(frozen=True)
class Source(DataSource):
    """Source of images; with `--list` the original's list file says which, in the layout of `--data.name`."""

    root: Annotated[Path, also("datapath")]
    """The folder that holds it; for wsoleval and list, the folder that image paths are relative to."""
    split: str = "test"
    """train, test, val (ILSVRC), held (training images held out), or any folder's name where splits are folders; all
    where class folders lie in the root itself."""
    list_file: Annotated[Path | None, also("list")] = None
    """A list file of the original, such as train.txt; below the data set's folder, or any path."""

    def plain(self) -> DataSource:
        """The same in the terms of `common.datasets`.

        Raises:
            UserError: there is no such list file.
        """
        kind = TrainingSource if isinstance(self, TrainingSource) else DataSource
        values = {item.name: getattr(self, item.name) for item in fields(kind)}
        if self.list_file is None or self.name not in ("cub", "demo", "ilsvrc"):
            return kind(**values)
        file = self.root / self.list_file if (self.root / self.list_file).is_file() else self.list_file
        if not file.is_file():
            raise UserError("no such list file", where=self.root / self.list_file)
        if self.name == "ilsvrc":
            images = self.root / ("train" if self.split == "train" else "val")
            boxes = self.root / "box"
            values["boxes"] = boxes if self.split != "train" and boxes.is_dir() else None
        else:
            images = cub.find_image_root(self.root)
        values.update(name="list", root=images, list_file=file, list_format="spol")
        return kind(**values)


@dataclass(frozen=True)
class TrainSource(Source, TrainingSource):
    """Source of training images."""

    split: str = "train"
    """train, or any folder's name where splits are folders; all where class folders lie in the root itself."""


@dataclass(frozen=True)
class TrainRuntime(Runtime):
    """Running of a training on the machine."""

    workers: Annotated[int, also("workers", "num_workers")] = 2
    """Processes that load images."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options that the three train commands share. What is not given takes the released value; see `spol.config`."""

    data: TrainSource
    """The training images."""
    out: Annotated[Path, also("savepath")]
    """Folder for checkpoints; the last is final.pth, and model-<number> are as the original saves them."""
    recipe: Literal["cub", "imagenet"] | None = None
    """Data set whose released values apply; the data set's own if omitted, cub's for other data."""
    mode: Literal["train", "val"] = "train"
    """val trains without dropout."""
    clsnum: Annotated[int | None, also("num-classes")] = None
    """Outputs of the classifier, at least the data set's classes; by default as many."""
    lr: float | None = None
    """Learning rate of the head; the trunk's is a tenth of it in cls and cam, the same in seg."""
    epochs: Annotated[int | None, also("epoch")] = None
    """Passes over the training images."""
    batch_size: int | None = None
    """Images a step, over all processes."""
    momentum: float = MOMENTUM
    """SGD momentum."""
    nesterov: bool = True
    """Nesterov's momentum."""
    weight_decay: float = WEIGHT_DECAY
    """Weight decay of every parameter."""
    decay_everything: bool = True
    """Biases and batch norms decay too, as released."""
    warmup_steps: int = 0
    """Steps over which the rates rise from zero; none were released."""
    snapshot: Annotated[Path | None, also("checkpoint")] = None
    """Start from this checkpoint's weights, not from ImageNet's."""
    pretrained: bool = True
    """Start the trunk from ImageNet weights."""
    resize: int | None = None
    """Side that training images are squashed to."""
    crop: int | None = None
    """Side of the random crop."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """Habits of the released code, to be turned off."""
    runtime: TrainRuntime = field(default_factory=TrainRuntime)
    """Device, workers, seed, mixed precision."""

    @property
    def seed(self) -> int:
        """The original sets none; 0 unless told."""
        return self.runtime.seed or 0

    def settings(self, stage: str) -> Recipe:
        """The released values of a stage with those that were given in their place.

        Raises:
            UserError: nothing was released for this stage and data set, or sizes that make no sense.
        """
        try:
            released = recipe(stage, recipe_name(self.data.name, self.recipe))
        except ValueError as error:
            raise UserError(str(error), do="say --recipe cub") from error
        given = {name: getattr(self, name, None) for name in asdict(released)}
        made = Recipe(**{**asdict(released), **{name: value for name, value in given.items() if value is not None}})
        if not 0 < made.crop <= made.resize:
            raise UserError(f"--crop {made.crop} of --resize {made.resize}", expected="a crop that fits")
        if made.epochs < 1 or made.batch_size < 1:
            raise UserError(f"--epochs {made.epochs} --batch-size {made.batch_size}", expected="1 or more of each")
        return made


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """Options that the test commands share."""

    data: Source
    """The images."""
    snapshot: Any
    """The checkpoint; each command says which files it takes."""
    out: Annotated[Path, also("savepath")]
    """Folder for what is written."""
    recipe: Literal["cub", "imagenet"] | None = None
    """Data set whose released values apply; the data set's own if omitted, cub's for other data."""
    mode: Literal["val", "train"] = "val"
    """train leaves dropout on, as the original would."""
    clsnum: Annotated[int | None, also("num-classes")] = None
    """Outputs that the checkpoint must have; by default the checkpoint's."""
    batch_size: int = 8
    """Images at a time."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """Habits of the released code, to be turned off."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    amp: Literal["off", "fp16", "bf16"] = "off"
    """Mixed precision, which moves the numbers a little; fp16 needs CUDA."""
    compile: bool = False
    """Run the network through torch.compile, whose start of up to a minute pays from some 2,000 images on;
    it needs a C++ compiler."""
    workers: Annotated[int, also("num_workers")] = 2
    """Processes that load images."""
    overwrite: bool = False
    """Start anew where the folder holds another run's results."""
