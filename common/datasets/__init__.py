"""Data sets by name, as one typed record that commands take as `--data.*` and manifests store."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from common.datasets import trained
from common.datasets.classes import renamed
from common.datasets.files.text import refuse_fractions
from common.datasets.layouts import LAYOUTS, ilsvrc, lists
from common.datasets.sample import Dataset, OnProblem, Sample, hold_out, raise_problem
from common.datasets.splits import is_evaluation
from common.system.errors import UserError, say
from common.system.options import also

__all__ = [
    "DESCRIBED", "PLACES", "DataSource", "Dataset", "OnProblem", "Sample", "TrainingSource", "alike", "hold_out",
    "raise_problem",
]  # fmt: skip

PLACES = {"root", "metadata", "boxes", "list_file", "class_names", "class_index"}
"""Fields of a record that say where the files lie, and not which data set it is."""
DESCRIBED = {
    "images", "fingerprint", "left_out", "passed_over", "trained_images", "training_steps", "train_on_evaluation_split"
}  # fmt: skip
"""Entries that manifests and checkpoints hold of the images beside the fields of a `DataSource`."""

_OTHER_KIND = {
    False: "take bas.segmentation, which is for such images",
    True: "take --data.name voc, coco or demo-scenes, or another command",
}
Name = Literal[
    "demo", "cub", "ilsvrc", "photographs", "folder", "wsoleval", "list", "stanford-dogs", "stanford-cars",
    "fgvc-aircraft", "openimages", "imagenetv2", "voc", "coco", "demo-scenes",
]  # fmt: skip


@dataclass(frozen=True)
class DataSource:
    """Source of images."""

    name: Name
    """demo, cub: CUB's own layout; ilsvrc, photographs: ILSVRC's; folder: class folders; wsoleval: metadata folders;
    list: a list file; stanford-dogs, stanford-cars, fgvc-aircraft: their official layouts; openimages: as
    wsolevaluation has it; imagenetv2: numbered folders; voc, demo-scenes: VOC's layout; coco: COCO's. The last three
    are for segmentation."""
    root: Path
    """The folder that holds it; for wsoleval and list, the folder that image paths are relative to."""
    split: str = "test"
    """train, test, val (ILSVRC, Aircraft, OpenImages), trainval (Aircraft), held (training images held out), or any
    folder's name where splits are folders; all where class folders lie in the root itself."""
    classes: int | None = None
    """Number of classes to take, the first ones; all if omitted."""
    held_per_class: int = 0
    """Training images of each class that are held out, to choose thresholds on."""
    metadata: Path | None = None
    """wsoleval: the folder that holds train/, val/ and test/. openimages: the same, by default metadata/OpenImages in
    the images' folder, beside it, or two folders above."""
    boxes: Path | None = None
    """folder, imagenetv2: a CSV file path,x0,y0,x1,y1. list: BAS's box file, or SPOL's folder box/ of ILSVRC."""
    list_file: Path | None = None
    """list: the list file."""
    list_format: Literal["bas", "spol", "dgl", "adl-cub", "ts-cam"] = "spol"
    """list: whose format it has. dgl: a box is two corners; adl-cub: x y width height, as in ADL's train.txt and
    test.txt of CUB; ts-cam: two corners, any number of boxes."""
    leave_out: tuple[Literal["blacklist", "odd"], ...] = ()
    """ilsvrc: leave out the devkit's blacklisted images, or files known to be odd."""
    class_names: Path | None = None
    """A file with a class name in each line, in the order of their numbers, for a data set whose own names differ from
    a checkpoint's or are fewer."""
    class_index: Annotated[Path | None, also("class-index")] = None
    """A file that says which of a network's outputs each class is: lines "name index", or Keras's JSON."""
    shard: str | None = None
    """I/K: every K-th image, from the I-th on, for K machines; common.merge puts their predictions together."""

    def load(self, on_problem: OnProblem = raise_problem, multi_label: bool = False) -> Dataset:
        """Read the annotations; no image is decoded.

        Args:
            on_problem: told of every faulty line or file, which is then left out; by default the first one is raised.
            multi_label: whether whoever asks can use images that show several classes.

        Raises:
            UserError: what can't be read or makes no sense, an option that this data set does not read, or images of
                several classes where one is wanted.
        """
        root = self.root
        if not root.is_dir():
            raise UserError("no such folder", where=root, do="name the data set's folder with --data.root")
        if self.held_per_class < 0:
            raise UserError(f"--data.held-per-class is {self.held_per_class}", expected="0 or more")
        if idle := _idle(self.name, vars(self)):
            readers = [name for name, layout in LAYOUTS.items() if idle[0] in layout.options]
            raise UserError(f"--data.{idle[0].replace('_', '-')} with {self.name}, which does not read it",
                            expected=f"the data set {' or '.join(readers)}", do="leave it out")  # fmt: skip
        dataset = LAYOUTS[self.name].load(self, on_problem)
        if dataset.multi_label != multi_label:
            raise UserError(f"{self.name}'s images have {'one class each' if multi_label else 'several classes'}",
                            where=root, do=_OTHER_KIND[multi_label])  # fmt: skip
        try:
            refuse_fractions((box for sample in dataset for box in sample.boxes), where=self._box_file())
        except UserError as problem:
            on_problem(problem)
        for option in ("classes", "class_names", "class_index") if multi_label else ():
            if getattr(self, option) is not None:  # label maps keep the numbers that they hold
                raise UserError(f"--data.{option.replace('_', '-')} with images of several classes", do="leave it out")
        if self.class_names is not None:
            dataset = renamed(dataset, self.class_names)
        if self.classes is not None:
            dataset = dataset.first_classes(self.classes, root)
        if self.shard is not None:
            dataset = dataset.shard(*self.shard_numbers())
        if len(dataset) == 0:
            raise UserError(f"the split {self.split!r} holds no image", where=root)
        if on_problem is raise_problem:  # who collects problems shows notes among them
            say(f"note: {text}" for text in dataset.all_notes(root))
        return dataset

    def at(self, split: str) -> "DataSource":
        """Another split of the same data set, to be measured on."""
        return DataSource(**{field.name: getattr(self, field.name) for field in fields(DataSource)} | {"split": split})

    def shard_numbers(self) -> tuple[int, int]:
        """I and K of `shard`, 1 and 1 where there is none.

        Raises:
            UserError: not two whole numbers with 1 <= I <= K.
        """
        numbers = _shard_numbers("1/1" if self.shard is None else self.shard)
        if numbers is None:
            raise UserError(f"--data.shard {self.shard}", expected="I/K, such as 2/4, with I from 1 to K")
        return numbers

    def _box_file(self) -> Path:
        return next((path for path in (self.boxes, self.metadata, self.list_file) if path is not None), self.root)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}

    def identity(self, dataset: Dataset) -> dict[str, Any]:
        """Entries that identify these images in a training's record: `to_json`, their number and fingerprint."""
        return {**self.to_json(), "images": len(dataset), "fingerprint": dataset.fingerprint()}

    def described(self, dataset: Dataset, *checkpoints: Path | str | None) -> dict[str, Any]:
        """Entries of a manifest about the images: `identity`, how many images were left out, by reason, how
        many files were passed over because they are no images, by kind, which of the images the networks in
        `checkpoints` were trained on, as `trained.compared` says it, and for how many steps they were trained.

        Raises:
            UserError: labels that contradict those of a training, as `trained.refuse_other_labels` finds them.
        """
        if self.class_names is None and self.class_index is None:
            trained.refuse_other_labels(dataset, checkpoints)
        return {
            **self.identity(dataset),
            "left_out": dataset.left_out,
            "passed_over": dataset.passed_over,
            "trained_images": trained.compared(dataset, checkpoints),
            "training_steps": [None if path is None else trained.steps(path) for path in checkpoints],
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any], where: Path) -> "DataSource":
        """The inverse of `to_json`.

        Raises:
            UserError: an unknown field or one of another type.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(stored, dict) or not {"name", "root"} <= stored.keys() or not stored.keys() <= known:
            raise UserError(
                "the data set's record is not readable", where=where, expected="fields name, root, split ..."
            )
        wrong = [key for key, value in stored.items() if not _KINDS[key](value)]
        if wrong:
            raise UserError(f"the data set's {wrong[0]} is {str(stored[wrong[0]])[:80]!r}", where=where,
                            do="localize again")  # fmt: skip
        values: dict[str, Any] = {
            key: Path(value) if key in PLACES and value is not None else value for key, value in stored.items()
        }
        values["leave_out"] = tuple(values.get("leave_out") or ())
        idle = _idle(values["name"], values)  # earlier versions passed them over, and kept them
        return cls(**{key: value for key, value in values.items() if key not in idle})


@dataclass(frozen=True)
class TrainingSource(DataSource):
    """Source of training images."""

    split: str = "train"
    """train, or any folder's name where splits are folders; all where class folders lie in the root itself."""
    train_on_evaluation_split: bool = False
    """Train on a split that results are measured on, such as test; every later result says so."""

    def load(self, on_problem: OnProblem = raise_problem, multi_label: bool = False) -> Dataset:
        """Load the images, as `DataSource.load` does.

        Raises:
            UserError: also a split, or a list, that is called as those that results are measured on.
        """
        listed = None if self.list_file is None else self.list_file.stem
        found = [name for name in (self.split, listed) if name is not None and is_evaluation(name)]
        if found and not self.train_on_evaluation_split:
            raise UserError(
                f"{found[0]!r} is called as what results are measured on, not as training images", where=self.root,
                expected="--data.split train",
                do="name the training images, or say --data.train-on-evaluation-split, which every later result will "
                "show",
            )  # fmt: skip
        return super().load(on_problem, multi_label)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a checkpoint; that the split is an evaluation's is said where it is so."""
        values = super().to_json()
        listed = self.list_file is not None and is_evaluation(self.list_file.stem)
        values["train_on_evaluation_split"] = self.train_on_evaluation_split and (is_evaluation(self.split) or listed)
        if not values["train_on_evaluation_split"]:
            del values["train_on_evaluation_split"]
        return values


def _idle(name: str, options: Mapping[str, Any]) -> list[str]:
    """Options of a source that are given and that its layout does not read."""
    read_by_some = dict.fromkeys(option for layout in LAYOUTS.values() for option in layout.options)
    defaults = {field.name: field.default for field in fields(DataSource)}
    given = [option for option in read_by_some if options.get(option, defaults[option]) != defaults[option]]
    return [option for option in given if option not in LAYOUTS[name].options]


def alike(stored: Any, record: Any) -> bool:
    """Whether an entry of a stored record equals today's.

    A data set may have moved, its fingerprint tells it; a checkpoint's training may not have been noted, its sha256
    tells it.
    """
    if isinstance(stored, dict) and isinstance(record, dict) and {"fingerprint", "sha256"} & record.keys():
        passing = {*PLACES, "passed_over", "training_steps", "training"}
        stored, record = (
            {key: value for key, value in each.items() if key not in passing} for each in (stored, record)
        )
    return stored == record


def _shard_numbers(text: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        return None
    return int(found[1]), int(found[2])


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


_KINDS = {
    "name": lambda value: value in get_args(Name),
    "root": _is_text,
    "split": lambda value: _is_text(value) and ".." not in value.split("/") and not value.startswith("/"),
    "classes": lambda value: value is None or _is_count(value),
    "held_per_class": _is_count,
    "metadata": lambda value: value is None or _is_text(value),
    "boxes": lambda value: value is None or _is_text(value),
    "class_names": lambda value: value is None or _is_text(value),
    "class_index": lambda value: value is None or _is_text(value),
    "list_file": lambda value: value is None or _is_text(value),
    "list_format": lambda value: value in lists.FORMATS,
    "leave_out": lambda value: isinstance(value, list | tuple) and all(kind in ilsvrc.LEAVE_OUT for kind in value),
    "shard": lambda value: value is None or (_is_text(value) and _shard_numbers(value) is not None),
}
"""Checks of a stored record's fields."""
