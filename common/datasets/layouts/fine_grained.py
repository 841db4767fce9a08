"""Stanford Dogs, Stanford Cars and FGVC-Aircraft from their official layouts.

    stanford-dogs    Images/<class>/<image>.jpg   Annotation/<class>/<image>   train_list.mat   test_list.mat
    stanford-cars    cars_train/   cars_test/   devkit/cars_meta.mat   devkit/cars_train_annos.mat
                     cars_test_annos_withlabels.mat, in devkit/ or beside it
    fgvc-aircraft    data/images/   data/variants.txt   data/images_box.txt
                     data/images_variant_train.txt, and of val, trainval and test

Labels are the files' class numbers minus one; of Aircraft, the variant's place in variants.txt. What the boxes in the
files are, and what they become:

| | in the file | x0 y0 x1 y1, end-exclusive |
|---|---|---|
| Cars, Aircraft | first and last pixel, counted from 1 | `x0 = first - 1`, `x1 = last` |
| Dogs | ImageNet's XML, whose numbers count from 0; one object or several | as ILSVRC's: taken over unchanged |

Dogs' images are ImageNet's, so ImageNet weights may have been trained on its test images. The 20 rows at the bottom of
an Aircraft image are a copyright banner. The picture is read as it is stored, with the banner: boxes are pixels of it,
and stay right where somebody cut the banner off.
"""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from common.datasets.files.mat_files import class_of, fields, number, read_mat, text
from common.datasets.files.text import MAX_COORDINATE, lines, new_id, not_inside_out, numbers
from common.datasets.files.xml_files import read_annotation
from common.datasets.sample import MAX_CLASSES, Dataset, OnProblem, Sample, fit_or_held, hold_out, raise_problem
from common.measuring.boxes import as_boxes
from common.system.errors import UserError, inside
from common.system.wording import number_of

Name = Literal["stanford-dogs", "stanford-cars", "fgvc-aircraft"]
NAMES = get_args(Name)
COUNTS = {
    "stanford-dogs": {"classes": 120, "train": 12_000, "test": 8_580},
    "stanford-cars": {"classes": 196, "train": 8_144, "test": 8_041},
    "fgvc-aircraft": {"classes": 100, "train": 3_334, "val": 3_333, "trainval": 6_667, "test": 3_333},
}
"""Classes, and images of each split, as the official pages give them: vision.stanford.edu/aditya86/ImageNetDogs,
ai.stanford.edu/~jkrause/cars/car_dataset.html, www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft (2013b, by variant)."""


@dataclass(frozen=True)
class _Read:
    """Samples and classes of one split."""

    samples: list[Sample]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def load(name: str, root: Path, split: str, held_per_class: int = 0, on_problem: OnProblem = raise_problem) -> Dataset:
    """One split of one of these data sets.

    Args:
        name: one of `NAMES`.
        root: the folder that holds the layout above.
        split: `train`, `test`, for Aircraft also `val` and `trainval`; or `held`, images held out of `train`.
        held_per_class: how many training images of each class are `held` and no longer `train` or `trainval`.
        on_problem: told of every faulty entry, line or file, which is then left out.

    Raises:
        UserError: a folder or file is missing, or by default any faulty entry.
    """
    splits = (*(split for split in COUNTS[name] if split != "classes"), "held")
    if split not in splits:
        raise UserError(f"unknown split {split!r}", where=root, expected=" or ".join(splits))
    found = _READERS[name](root, "train" if split == "held" else split, on_problem)
    samples = fit_or_held(found.samples, split, held_per_class)
    if split == "trainval" and held_per_class:
        _, held = hold_out(_READERS[name](root, "train", on_problem).samples, held_per_class)
        held_ids = {sample.image_id for sample in held}
        samples = tuple(sample for sample in samples if sample.image_id not in held_ids)
    return Dataset(name, split, samples, found.class_names, notes=found.notes)


def _first_there(root: Path, *candidates: str) -> Path:
    """The first of the candidates that is there.

    Raises:
        UserError: none is.
    """
    for candidate in candidates:
        if os.path.lexists(root / candidate):
            return root / candidate
    raise UserError(f"{candidates[0]} is not there", where=root, do="name the data set's folder with --data.root")


# ---------------------------------------------------------------------------------------------------------------- Dogs


def _dogs(root: Path, split: str, on_problem: OnProblem) -> _Read:
    images = _first_there(root, "Images", "images/Images", "images")
    annotations = next((root / place for place in ("Annotation", "annotations/Annotation")
                        if (root / place).is_dir()), None)  # fmt: skip
    path = _first_there(root, f"{split}_list.mat", f"lists/{split}_list.mat")
    other = path.with_name("train_list.mat" if split == "test" else "test_list.mat")
    listed = _dogs_list(path, on_problem)
    names = _dogs_names(path, listed, on_problem)
    if os.path.lexists(other):
        _dogs_names(other, _dogs_list(other, on_problem), on_problem, names)
    if sorted(names) != list(range(len(names))):
        missing = next(label for label in range(len(names)) if label not in names)
        raise UserError(f"no image has the class {missing + 1}", where=path, expected=f"all from 1 to {len(names)}")
    samples: list[Sample] = []
    seen: set[str] = set()
    for image_id, label in listed:
        try:
            if image_id in seen:
                raise UserError(f"{image_id} stands here twice", where=path)
            seen.add(image_id)
            place = inside(images, image_id, where=path)
            boxes = [] if annotations is None else _dogs_boxes(annotations, image_id)
            samples.append(Sample(image_id, place, label, as_boxes(boxes)))
        except UserError as problem:
            on_problem(problem)
    notes = () if annotations else ("no folder Annotation/ is there, so no image has a box",)
    return _Read(samples, tuple(names[label] for label in range(len(names))), notes)


def _dogs_list(path: Path, on_problem: OnProblem) -> list[tuple[str, int]]:
    """Image id and 0-based class of every entry."""
    arrays = read_mat(path, "file_list", "labels")
    files, labels = arrays["file_list"].ravel(), arrays["labels"].ravel()
    if len(files) != len(labels):
        raise UserError(
            f"{number_of(len(files), 'file', 'files')} and {number_of(len(labels), 'label', 'labels')}", where=path
        )
    found = []
    for entry, (file, label) in enumerate(zip(files, labels, strict=True), start=1):
        try:
            image_id = text(file, where=path, what=f"file {entry}")
            found.append((image_id, class_of(label, MAX_CLASSES, where=path, what=f"label {entry}")))
        except UserError as problem:
            on_problem(problem)
    return found


def _dogs_names(
    path: Path, listed: list[tuple[str, int]], on_problem: OnProblem, names: dict[int, str] | None = None
) -> dict[int, str]:
    """The folder of each class; an entry that is of another class than its folder is taken out of `listed`."""
    names = {} if names is None else names
    for image_id, label in list(listed):
        folder = image_id.partition("/")[0]
        if names.setdefault(label, folder) != folder:
            listed.remove((image_id, label))
            on_problem(UserError(f"{image_id} has the class {label + 1}, as {names[label]} has", where=path))
    if len(set(names.values())) != len(names):
        twice, _ = Counter(names.values()).most_common(1)[0]
        raise UserError(f"the folder {twice} is of several classes", where=path)
    return names


def _dogs_boxes(annotations: Path, image_id: str) -> list[np.ndarray]:
    relative = image_id.rpartition(".")[0]
    return [box for _, box in read_annotation(inside(annotations, relative, where=annotations))]


# ---------------------------------------------------------------------------------------------------------------- Cars


def _cars(root: Path, split: str, on_problem: OnProblem) -> _Read:
    images = _first_there(root, f"cars_{split}")
    if (images / images.name).is_dir():  # as Kaggle unpacks it
        images = images / images.name
    meta = _first_there(root, "devkit/cars_meta.mat", "cars_meta.mat")
    (listed,) = read_mat(meta, "class_names").values()
    names = tuple(text(cell, where=meta, what=f"class {entry}") for entry, cell in enumerate(listed.ravel(), start=1))
    file = "cars_train_annos.mat" if split == "train" else "cars_test_annos_withlabels.mat"
    bare = next((place for place in ("devkit", ".") if (root / place / "cars_test_annos.mat").is_file()), None)
    if split == "test" and bare and not any(os.path.lexists(root / place / file) for place in ("devkit", ".")):
        raise UserError("the test images' annotations have no classes", where=root / bare / "cars_test_annos.mat",
                        expected=f"{file} beside it, which its authors give apart from the devkit")  # fmt: skip
    path = _first_there(root, f"devkit/{file}", file)
    columns = ("fname", "class", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    rows = zip(*fields(read_mat(path, "annotations")["annotations"], *columns, where=path), strict=True)
    samples: list[Sample] = []
    seen: set[str] = set()
    for entry, (fname, label, *corners) in enumerate(rows, start=1):
        try:
            image_id = text(fname, where=path, what=f"the name of entry {entry}")
            if image_id in seen:
                raise UserError(f"{image_id} stands here twice", where=path)
            seen.add(image_id)
            what = f"the class of {image_id}"
            first_and_last = [number(cell, where=path, what=f"the box of {image_id}") for cell in corners]
            samples.append(
                Sample(
                    image_id,
                    inside(images, image_id, where=path),
                    class_of(label, len(names), where=path, what=what),
                    _from_pixels(first_and_last, where=path),
                )
            )
        except UserError as problem:
            on_problem(problem)
    return _Read(samples, names)


def _from_pixels(first_and_last: ArrayLike, *, where: Path, line: int | None = None) -> np.ndarray:
    """A box (1, 4) of first and last pixels, counted from 1, as an end-exclusive one that counts from 0."""
    boxes = not_inside_out(as_boxes(first_and_last), where=where, line=line)
    if abs(boxes).max() > MAX_COORDINATE:
        raise UserError("a box lies beyond any image", where=where, line=line, expected="pixels")
    return boxes - (1.0, 1.0, 0.0, 0.0)


# ------------------------------------------------------------------------------------------------------------ Aircraft


def _aircraft(root: Path, split: str, on_problem: OnProblem) -> _Read:
    data = _first_there(root, "data/variants.txt", "fgvc-aircraft-2013b/data/variants.txt", "variants.txt").parent
    label_of: dict[str, int] = {}
    for line, variant in lines(data / "variants.txt"):
        if variant.strip() in label_of:
            raise UserError(f"{variant.strip()} stands here twice", where=data / "variants.txt", line=line)
        label_of[variant.strip()] = len(label_of)
    boxes = _aircraft_boxes(data / "images_box.txt", on_problem)
    path = data / f"images_variant_{split}.txt"
    samples: list[Sample] = []
    seen: dict[str, int] = {}
    for line, row in lines(path):
        try:
            stem, _, variant = row.strip().partition(" ")
            image_id = new_id(f"{stem}.jpg", seen, where=path, line=line)
            if variant.strip() not in label_of:
                raise UserError(f"{variant.strip()!r} is none of the {len(label_of)} variants", where=path, line=line)
            if stem not in boxes:
                raise UserError(f"{stem} has no line in images_box.txt", where=path, line=line)
            place = inside(data / "images", image_id, where=path, line=line)
            samples.append(Sample(image_id, place, label_of[variant.strip()], boxes[stem]))
        except UserError as problem:
            on_problem(problem)
    return _Read(samples, tuple(label_of))


def _aircraft_boxes(path: Path, on_problem: OnProblem) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    seen: dict[str, int] = {}
    for line, row in lines(path):
        try:
            stem, *cells = row.split()
            if len(cells) != 4:
                raise UserError(f"{len(cells) + 1} columns", where=path, line=line, expected="5")
            new_id(stem, seen, where=path, line=line)
            found[stem] = _from_pixels(numbers(cells, where=path, line=line, what="the box"), where=path, line=line)
        except UserError as problem:
            on_problem(problem)
    return found


_READERS: dict[str, Callable[[Path, str, OnProblem], _Read]] = {
    "stanford-dogs": _dogs, "stanford-cars": _cars, "fgvc-aircraft": _aircraft,
}  # fmt: skip
