"""wsolevaluation's metadata folders (Choe et al.), read and written.

A metadata folder holds one folder a split, such as `train`, `val`, `test`, and in each:

    image_ids.txt       path
    class_labels.txt    path,label
    image_sizes.txt     path,width,height
    localization.txt    path,x0,y0,x1,y1 (one line a box), or path,mask,ignore (OpenImages; `ignore` may be empty)

Paths are relative to the image folder, which is given apart from it. OpenImages30k, as wsolevaluation's repository
arranges it, is images and masks in `dataset/OpenImages` and their metadata in `metadata/OpenImages`.
"""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from common.datasets.files.text import class_number, lines, new_id, numbers, whole_number
from common.datasets.sample import (
    Dataset,
    OnProblem,
    Sample,
    fit_or_held,
    folders_of_several_classes,
    names_by_folder,
    not_counted_from_0,
    raise_problem,
)
from common.system.errors import UserError, inside
from common.system.files import write_text

MAX_SIDE = 1_000_000
"""Pixels that an image may have on a side."""
OPENIMAGES_COUNTS = {"classes": 100, "train": 29_819, "val": 2_500, "test": 5_000}
"""Classes, and images of train-weaksup, train-fullsup and test, as Choe et al. (CVPR 2020) give them."""
_HELP = "name the folder that holds train/, val/ and test/ with --data.metadata, and the images' with --data.root"


def load(
    root: Path,
    metadata: Path,
    split: str,
    held_per_class: int = 0,
    on_problem: OnProblem = raise_problem,
    name: str = "wsoleval",
) -> Dataset:
    """One split as described by a metadata folder.

    Args:
        root: the folder that image and mask paths are relative to.
        metadata: the folder that holds `<split>/image_ids.txt` and the rest.
        split: a folder's name; `held` draws from `train` where `held_per_class` is given.
        held_per_class: how many training images of each class are `held` and no longer `train`.
        on_problem: told of every faulty line, which is then left out.
        name: of the data set.

    Raises:
        UserError: a file is missing, an image has no label, or by default any faulty line.
    """
    if split == "held" and held_per_class < 1 and not (metadata / split).is_dir():
        fit_or_held((), split, held_per_class)
    folder = metadata / ("train" if split == "held" and held_per_class else split)
    if not os.path.lexists(folder / "image_ids.txt"):
        found = sorted(path.parent.name for path in metadata.glob("*/image_ids.txt"))
        raise UserError(f"no image_ids.txt for the split {folder.name!r}", where=metadata,
                        expected=f"one of {', '.join(found)}" if found else None, do=_HELP)  # fmt: skip
    samples = _samples(root, folder, on_problem)
    kept = fit_or_held(samples, split, held_per_class) if held_per_class else tuple(samples)
    labelled = _labelled(metadata)
    notes = [f"{metadata}: {text}" for text in not_counted_from_0(labelled)]
    mixed = folders_of_several_classes((sample.image_id, sample.label) for sample in samples)
    notes += [f"{folder}: {text}" for text in mixed]
    return Dataset(name, split, kept, names_by_folder(labelled), names_known=False, notes=tuple(notes))


def _samples(root: Path, folder: Path, on_problem: OnProblem) -> list[Sample]:
    """The images of `image_ids.txt` in a split's folder, with what the files beside it say of them."""
    listed = folder / "image_ids.txt"
    ids = _image_ids(listed, on_problem)
    labels = _labels(folder / "class_labels.txt", ids, on_problem)
    sizes = _sizes(folder / "image_sizes.txt", ids, on_problem)
    boxes, masks, ignores = _localization(root, folder / "localization.txt", ids, on_problem)
    samples = []
    for image_id, line in ids.items():
        try:
            if image_id not in labels:
                raise UserError(f"{image_id} has no line in class_labels.txt", where=listed, line=line)
            samples.append(
                Sample(
                    image_id=image_id,
                    path=inside(root, image_id, where=listed, line=line),
                    label=labels[image_id],
                    boxes=np.array(boxes.get(image_id, [])).reshape(-1, 4),
                    masks=tuple(masks.get(image_id, ())),
                    ignore=ignores.get(image_id),
                    declared_size=sizes.get(image_id),
                )
            )
        except UserError as problem:
            on_problem(problem)
    return samples


def _image_ids(path: Path, on_problem: OnProblem) -> dict[str, int]:
    """The line of each image id."""
    ids: dict[str, int] = {}
    seen: dict[str, int] = {}
    for line, text in lines(path):
        try:
            ids[new_id(text.rstrip(), seen, where=path, line=line)] = line
        except UserError as problem:
            on_problem(problem)
    return ids


def openimages_metadata(root: Path) -> Path:
    """The metadata folder of OpenImages30k that lies in its image folder, or where wsolevaluation's repository has it.

    Raises:
        UserError: it lies in neither place.
    """
    for candidate in (root / "metadata", root.parent / "metadata", root.parent.parent / "metadata"):
        for folder in (candidate / "OpenImages", candidate):
            if any(folder.glob("*/image_ids.txt")):
                return folder
    raise UserError("no metadata/OpenImages is there or two folders above", where=root, do=_HELP)


def class_names(metadata: Path) -> tuple[str, ...]:
    """The classes of all splits together, which one split may not all have.

    A class is named after the folder that its images, and no other class's, lie in; else by its number.
    """
    return names_by_folder(_labelled(metadata))


def _labelled(metadata: Path) -> list[tuple[str, int]]:
    """Image id and label of every readable line of all splits."""
    images: list[tuple[str, int]] = []
    for path in sorted(metadata.glob("*/class_labels.txt")):
        with suppress(UserError):  # what is no label, its split's own reader refuses
            for line, text in lines(path):
                image_id, _, label = text.rstrip().rpartition(",")
                images.append((image_id, class_number(label.strip(), where=path, line=line)))
    return images


def _labels(path: Path, ids: dict[str, int], on_problem: OnProblem) -> dict[str, int]:
    labels: dict[str, int] = {}
    for line, text in lines(path, do=_HELP):
        try:
            image_id, cells = _cells(path, line, text, ids, (1,))
            label = class_number(cells[0].strip(), where=path, line=line)
            if labels.setdefault(image_id, label) != label:
                raise UserError(f"{image_id} has label {labels[image_id]} and {label}", where=path, line=line)
        except UserError as problem:
            on_problem(problem)
    return labels


def _sizes(path: Path, ids: dict[str, int], on_problem: OnProblem) -> dict[str, tuple[int, int]]:
    """Width and height by id; training splits, and images that the file does not name, have none."""
    sizes: dict[str, tuple[int, int]] = {}
    for line, text in lines(path) if os.path.lexists(path) else ():
        try:
            image_id, cells = _cells(path, line, text, ids, (2,))
            width, height = (
                whole_number(cell.strip(), where=path, line=line, least=1, most=MAX_SIDE, what="the size")
                for cell in cells
            )
            if sizes.setdefault(image_id, (width, height)) != (width, height):
                raise UserError(f"{image_id} has two sizes", where=path, line=line)
        except UserError as problem:
            on_problem(problem)
    return sizes


def _localization(root: Path, path: Path, ids: dict[str, int], on_problem: OnProblem):
    boxes: dict[str, list[np.ndarray]] = {}
    masks: dict[str, list[Path]] = {}
    ignores: dict[str, Path] = {}
    if not os.path.lexists(path):
        return boxes, masks, ignores  # training splits have none
    for line, text in lines(path):
        try:
            image_id, cells = _cells(path, line, text, ids, (2, 4))
            if len(cells) == 4:
                box = numbers(cells, where=path, line=line, what="the box")
                if box[0] >= box[2] or box[1] >= box[3] or (box < 0).any():
                    raise UserError(
                        f"the box {' '.join(cells)} is empty, inside out or negative", where=path, line=line
                    )
                boxes.setdefault(image_id, []).append(box)
            else:
                masks.setdefault(image_id, []).append(inside(root, cells[0], where=path, line=line))
                if cells[1]:
                    ignores[image_id] = inside(root, cells[1], where=path, line=line)
        except UserError as problem:
            on_problem(problem)
    return boxes, masks, ignores


def _cells(path: Path, line: int, text: str, ids: dict[str, int], counts: tuple[int, ...]) -> tuple[str, list[str]]:
    split = [(count, text.rstrip().rsplit(",", count)) for count in counts]
    fits = [parts for count, parts in split if len(parts) == count + 1 and parts[0] in ids]
    if len(fits) == 1:  # a path may hold commas
        return fits[0][0], fits[0][1:]
    if fits:
        raise UserError(f"the line may be {fits[0][0]}'s or {fits[1][0]}'s", where=path, line=line,
                        do="give one of them another name")  # fmt: skip
    image_id, *cells = text.rstrip().split(",")
    if len(cells) not in counts:
        expected = " or ".join(str(count + 1) for count in counts)
        raise UserError(f"{len(cells) + 1} fields", where=path, line=line, expected=f"{expected} between commas")
    if image_id not in ids:
        raise UserError(f"{image_id} is not in image_ids.txt", where=path, line=line)
    return image_id, cells


def write(dataset: Dataset, metadata: Path) -> Path:
    """Write one split as a metadata folder, whole or not at all for each file; returns `<metadata>/<split>`.

    Boxes are rounded to whole numbers, which is all that wsolevaluation reads, and stay a pixel wide and high.

    Raises:
        UserError: as `texts`; nothing is written then.
    """
    folder = metadata / dataset.split
    for name, text in texts(dataset).items():
        write_text(folder / name, text)
    return folder


def texts(dataset: Dataset) -> dict[str, str]:
    """The four files' contents, by name, checked to be read here as they are meant.

    Images of unknown size have no line in `image_sizes.txt`. Commas in paths are read here by the paths in
    `image_ids.txt`; wsolevaluation's own code can't read them.

    Raises:
        UserError: a box or a name that the files can't carry.
    """
    if any("," in sample.image_id or sample.image_id != sample.image_id.rstrip() for sample in dataset):
        _check_read_again(dataset)
    for sample in dataset:
        for box in sample.boxes:
            if box[0] > box[2] or box[1] > box[3] or (np.rint(box) < 0).any():
                raise UserError(f"{sample.image_id} has the box {' '.join(f'{v:g}' for v in box)}",
                                expected="none that is inside out or negative, in this format")  # fmt: skip
    return _texts(dataset)


def _texts(dataset: Dataset) -> dict[str, str]:
    sizes = [(sample.image_id, sample.known_size()) for sample in dataset]
    files = {
        "image_ids.txt": [sample.image_id for sample in dataset],
        "class_labels.txt": [f"{sample.image_id},{sample.label}" for sample in dataset],
        "image_sizes.txt": [f"{image_id},{size[0]},{size[1]}" for image_id, size in sizes if size is not None],
        "localization.txt": [
            f"{sample.image_id},{','.join(map(str, _whole(box)))}" for sample in dataset for box in sample.boxes
        ],
    }
    return {name: "".join(f"{row}\n" for row in rows) for name, rows in files.items()}


def _check_read_again(dataset: Dataset) -> None:
    with TemporaryDirectory() as folder:
        for name, text in _texts(dataset).items():
            write_text(Path(folder) / dataset.split / name, text)
        try:
            again = load(Path(folder), Path(folder), dataset.split)
        except UserError as problem:
            raise UserError(f"wsolevaluation's metadata can't hold the names of these images: {problem.found}",
                            do="rename the file") from problem  # fmt: skip
    for one, other in zip(dataset, again, strict=True):
        if one.image_id != other.image_id or one.label != other.label or len(one.boxes) != len(other.boxes):
            raise UserError(f"wsolevaluation's metadata can't hold the name {one.image_id!r}", do="rename the file")


def _whole(box: np.ndarray) -> list[int]:
    x0, y0, x1, y1 = (int(value) for value in np.rint(box))
    return [x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)]
