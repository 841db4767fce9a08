"""The form that every data set is turned into: samples, and the set they belong to."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np

from common.pictures.files import passed_over_text
from common.pictures.images import ImageError, read_size
from common.system.errors import UserError
from common.system.wording import number_of

MAX_CLASSES = 100_000
"""Greatest class number; ImageNet's largest edition has 21,841 classes."""
OnProblem = Callable[[UserError], None]
"""A reader's reaction to a faulty line or file: raise it, or note it and leave that line out."""


def raise_problem(problem: UserError) -> NoReturn:
    """The readers' default: the first problem ends the reading."""
    raise problem


@dataclass(frozen=True, eq=False)
class Outlines:
    """Objects as COCO's files give them, from which a label map is drawn.

    Attributes:
        size: width and height.
        objects: (label in the map, polygons of x y x y ... or run lengths down the columns, whether it is a crowd).
    """

    size: tuple[int, int]
    objects: tuple[tuple[int, tuple, bool], ...]


@dataclass(frozen=True, eq=False)
class Sample:
    """One image.

    Attributes:
        image_id: path relative to the split's image root, with `/`; unique in its data set.
        path: where the file lies.
        label: 0-based class.
        boxes: float64 (N, 4), `x0 y0 x1 y1` in pixels of the original image, end-exclusive (for CUB `x1 = x + w`;
            ILSVRC's `xmax` is taken over unchanged, as all papers do). N may be 0 where boxes aren't needed.
        negative: the annotations say that the image holds no object; otherwise no box means that nobody drew one.
        masks: segmentation masks, where the data set has them; the object is their union.
        ignore: a mask of pixels that pixel metrics leave out.
        labels: all classes of an image that shows several, ascending, `label` the first of them; empty elsewhere.
        objects: class and box of each object of such an image, where its annotation has boxes, without crowds and what
            VOC calls difficult; not in the fingerprint, since no map is made of them.
        truth: where the label map of semantic segmentation comes from, see `label_maps`; None where there is none.
        declared_size: width and height by an annotation file, where there is one: what the boxes are pixels of, though
            the stored picture have another size.
    """

    image_id: str
    path: Path
    label: int
    boxes: np.ndarray = field(default_factory=lambda: np.empty((0, 4)))
    negative: bool = False
    masks: tuple[Path, ...] = ()
    ignore: Path | None = None
    labels: tuple[int, ...] = ()
    objects: tuple[tuple[int, tuple[float, float, float, float]], ...] = ()
    truth: "Path | Outlines | None" = None
    declared_size: tuple[int, int] | None = None

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height, as declared or else by the image's own header.

        Raises:
            ImageError: not declared, and the file is missing or no image.
        """
        return self.declared_size or read_size(self.path)

    def known_size(self) -> tuple[int, int] | None:
        """`size`, or None where it is not declared and the image can't be read."""
        try:
            return self.size
        except ImageError:
            return None


@dataclass(frozen=True)
class Dataset:
    """Samples of one split.

    Attributes:
        name: `cub`, `ilsvrc`, ...; protocols choose their fixed threshold by it.
        split: as asked for.
        samples: in the data set's own order.
        class_names: one for each label.
        names_known: False where they were guessed from paths, so that only their number can be compared.
        left_out: number of images left out, by reason.
        passed_over: number of files that are no images, by kind; see `pictures.files`.
        notes: what else the user should know of the reading, a line each.
        class_words: what a class name stands for, where it is a code: "tabby, tabby cat" for n02123045.
        mask_over: mask values above it are object; CUB's masks hold the annotators' agreement in grey.
        multi_label: images show several classes, `Sample.labels`; for semantic segmentation.
    """

    name: str
    split: str
    samples: tuple[Sample, ...]
    class_names: tuple[str, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    mask_over: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    class_words: dict[str, str] = field(default_factory=dict)
    names_known: bool = True
    multi_label: bool = False

    @property
    def shown_names(self) -> tuple[str, ...]:
        """Class names for people: the first of the words that a name stands for, with it, where they are known."""
        return tuple(
            f"{self.class_words[name].split(',')[0]} ({name})" if self.class_words.get(name) else name
            for name in self.class_names
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def all_notes(self, where: Path) -> list[str]:
        """Notes for the user about the reading, a line each: `notes`, and what was left out and passed over."""
        lines = [f"{self.split}: {text}" for text in self.notes]
        for reason, count in self.left_out.items():
            lines.append(f"{self.split}: {number_of(count, 'image', 'images')} left out: {reason}")
        if self.passed_over:
            count, kinds = sum(self.passed_over.values()), passed_over_text(self.passed_over)
            what = number_of(count, "file or folder", "files and folders")
            lines.append(f"{self.split}: {what} in {where} passed over, as no data: {kinds}")
        return lines

    def first_classes(self, count: int, where: Path | None = None) -> "Dataset":
        """The data set with only the first `count` classes; `where` is what a complaint names.

        Raises:
            UserError: the data set has fewer.
        """
        if not 1 <= count <= len(self.class_names):
            raise UserError(
                f"{count} classes were asked for",
                where=where,
                expected=f"1 to {len(self.class_names)} in this data set",
            )
        kept = tuple(sample for sample in self.samples if sample.label < count)
        return replace(self, samples=kept, class_names=self.class_names[:count])

    def shard(self, number: int, count: int) -> "Dataset":
        """The data set with only every `count`-th image from the `number`-th on, counted from 1."""
        return replace(self, samples=self.samples[number - 1 :: count])

    def fingerprint(self) -> str:
        """sha256 over ids, labels and boxes: equal for equal annotations, wherever the images lie."""
        digest = hashlib.sha256()
        for sample in self.samples:
            boxes = "negative" if sample.negative else np.asarray(sample.boxes).tolist()
            label = ",".join(map(str, sample.labels)) or sample.label
            digest.update(f"{sample.image_id}\0{label}\0{boxes}\n".encode())
        return digest.hexdigest()


def class_folders(images: Iterable[tuple[str, int]]) -> dict[int, str]:
    """Guess names of classes: the one folder of each in which its images, and no other class's, lie.

    Args:
        images: of each its id and label.
    """
    folders: dict[int, set[str]] = {}
    for image_id, label in images:
        folders.setdefault(label, set()).update(image_id.split("/")[-2:-1])
    shared = Counter(folder for several in folders.values() for folder in several)
    own = {label: [folder for folder in several if shared[folder] == 1] for label, several in folders.items()}
    return {label: found[0] for label, found in own.items() if len(found) == 1}


def names_by_folder(images: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """Names of classes that are numbers alone: the folder of each, see `class_folders`, else its number.

    Args:
        images: of each its id and label.
    """
    folders = class_folders(images)
    return tuple(folders.get(label, str(label)) for label in range(max((label for _, label in images), default=-1) + 1))


def not_counted_from_0(images: Iterable[tuple[str, int]]) -> list[str]:
    """Say that no image is of class 0, where labels may be counted from 1.

    Args:
        images: of each its id and label.
    """
    labels = {label for _, label in images}
    if not labels or 0 in labels:
        return []
    return [f"no image is of class 0; labels are counted from 0, and go from {min(labels)} to {max(labels)} here"]


def folders_of_several_classes(images: Iterable[tuple[str, int]]) -> list[str]:
    """Say that images of one folder are of several classes, where there are as many folders as classes.

    This happens where labels stand in another order than paths. Where folders are no classes, nothing is said.

    Args:
        images: of each its id and label.
    """
    labels: dict[str, set[int]] = {}
    for image_id, label in images:
        labels.setdefault(image_id.rpartition("/")[0], set()).add(label)
    mixed = [folder for folder, several in labels.items() if len(several) > 1]
    if len(labels) < 2 or len(labels) != len(set().union(*labels.values())) or not mixed:
        return []
    shown = ", ".join(map(str, sorted(labels[mixed[0]])[:5]))
    return [f"there are as many folders as classes, {len(labels)}, but images of one folder are of several classes in "
            f"{len(mixed)} of them: {mixed[0]} has the labels {shown}"]  # fmt: skip


def fit_or_held(samples: Iterable[Sample], split: str, held_per_class: int) -> tuple[Sample, ...]:
    """The samples that belong to `split`: one part of the training samples for `train` and `held`, else all of them.

    Args:
        samples: of the split that was read; for `held` those of `train`.
        split: as asked for.
        held_per_class: how many training images of each class are `held` and no longer `train`.

    Raises:
        UserError: nothing is held out, or a class would have nothing left to fit.
    """
    if split == "held" and held_per_class < 1:
        raise UserError("the split 'held' is empty", do="say how many images a class with --data.held-per-class")
    if split not in ("train", "held") or held_per_class < 1:
        return tuple(samples)
    fit, held = hold_out(samples, held_per_class)
    return held if split == "held" else fit


def hold_out(samples: Iterable[Sample], per_class: int) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split training samples into those to fit and those held out for choosing thresholds.

    The `per_class` samples of each class whose ids have the smallest sha256 are held out: the same on every machine,
    and unchanged when other classes join.

    Returns:
        (fit, held), each in the order of `samples`.

    Raises:
        UserError: a class would have nothing left to fit.
    """
    samples = tuple(samples)
    by_class: dict[int, list[Sample]] = {}
    for sample in samples:
        by_class.setdefault(sample.label, []).append(sample)
    held: set[str] = set()
    for label, members in by_class.items():
        if per_class >= len(members):
            raise UserError(
                f"{per_class} images a class are to be held out, class {label} has {len(members)}",
                do="hold out fewer",
            )
        members.sort(key=lambda sample: hashlib.sha256(sample.image_id.encode()).digest())
        held.update(sample.image_id for sample in members[:per_class])
    fit = tuple(sample for sample in samples if sample.image_id not in held)
    return fit, tuple(sample for sample in samples if sample.image_id in held)
