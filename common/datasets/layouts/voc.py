"""PASCAL VOC's layout for semantic segmentation: image labels and objects' boxes from XML, label maps as PNG.

    JPEGImages/<id>.jpg   Annotations/<id>.xml   SegmentationClass/<id>.png   ImageSets/Segmentation/<split>.txt

A folder of your own in this layout is read the same way; its `classes.txt`, a name a line, replaces VOC's 20 classes.
The first line's class is 1 in label maps: lines before it that name the background (`background`, `_background_`) or
what is ignored (`__ignore__`), as labelme writes them, are no classes. Images may have another ending than `.jpg`,
label maps another than `.png`. Objects that are called as no class are passed over, which is said.
`train_aug`, the 10,582 images that segmentation methods train on, is read from its list where there is one, else put
together from `train` and the images of SBD (Hariharan et al., ICCV 2011) that are not in `val`.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from xml.etree.ElementTree import ElementTree

from common.datasets.files.text import lines, new_id
from common.datasets.files.text import numbers as numbers_of
from common.datasets.files.xml_files import parse_xml
from common.datasets.sample import Dataset, OnProblem, Sample, hold_out, raise_problem
from common.pictures.files import image_endings, is_image_name
from common.system.errors import UserError, printable
from common.system.wording import number_of, some

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
RELEASED = {
    "train_aug": (10_582, "855dff350b7f447b", 16_458, "1a551ddbe9f7cccb"),
    "train": (1_464, "129f1fe991729b18", None, None),
    "val": (1_449, "6f8edc37993764f6", 2_147, "e935c08be302c7c7"),
    "test": (1_456, "7d323bb3448fa174", None, None),
}
"""VOC 2012's number of images, sha256 of their ids, number of labels, sha256 of the label matrix, where released."""
_NO_CLASSES = {"background", "_background_", "__background__", "__ignore__"}
_LISTS = {"train_aug": ("train_aug.txt", "trainaug.txt")}
_SBD = ("SBD", "sbd", "benchmark_RELEASE/dataset", "dataset", ".")


def load(
    root: Path, split: str, held_per_class: int = 0, on_problem: OnProblem = raise_problem, name: str = "voc"
) -> Dataset:
    """One split of a folder in VOC's layout.

    Args:
        root: the folder that holds `JPEGImages`, or one that holds it as `VOCdevkit/VOC2012` or `VOC2012`.
        split: a list in `ImageSets/Segmentation`; `train_aug`; or `held`, the images held out of `train`.
        held_per_class: how many images of each (first) class are `held` and no longer `train` or `train_aug`.
        on_problem: told of every faulty line or file, which is then left out.
        name: of the data set.

    Raises:
        UserError: a folder or list is missing, or by default any faulty line or file.
    """
    root = _root(root)
    classes = _classes(root)
    ids = _ids(root, "train" if split == "held" else split, on_problem)
    samples, unlabelled, strangers = _samples(root, ids, classes, on_problem)
    notes = (*(_differences(split, samples, classes) if classes == CLASSES else ()), *_of_no_class(strangers, classes))
    if split == "held" and not held_per_class:
        raise UserError("the split 'held' is empty", do="say how many images a class with --data.held-per-class")
    if held_per_class and split in ("held", "train", "train_aug"):
        samples = _held_apart(root, samples, split, held_per_class, classes, on_problem)
    left_out = {"its annotation names no class of the data set": unlabelled} if unlabelled else {}
    return Dataset(name, split, tuple(samples), classes, left_out, notes=notes, multi_label=True)


def _root(root: Path) -> Path:
    for candidate in (root, root / "VOCdevkit" / "VOC2012", root / "VOC2012"):
        if (candidate / "JPEGImages").is_dir():
            return candidate
    raise UserError("JPEGImages/ is not there", where=root, do="name the folder that holds it with --data.root")


def _classes(root: Path) -> tuple[str, ...]:
    path = root / "classes.txt"
    if not os.path.lexists(path):
        return CLASSES
    seen: dict[str, int] = {}
    for number, text in lines(path):
        if not seen and text.strip().lower() in _NO_CLASSES:
            continue
        if seen.setdefault(text.strip(), number) != number:
            raise UserError(f"{text.strip()} stands here twice", where=path, line=number, do="remove one of the lines")
    if not 1 <= len(seen) <= 254:
        raise UserError(f"{len(seen)} classes", where=path, expected="1 to 254, which a label map of 8 bits can hold")
    return tuple(seen)


def _ids(root: Path, split: str, on_problem: OnProblem) -> list[str]:
    folder = root / "ImageSets" / "Segmentation"
    for file in _LISTS.get(split, (f"{split}.txt",)):
        if os.path.lexists(folder / file):
            return _listed(root, folder / file, on_problem)
    if split != "train_aug":
        known = sorted(path.stem for path in folder.glob("*.txt")) if folder.is_dir() else []
        raise UserError(f"no list of the split {split!r}", where=folder, expected=" or ".join(known) or f"{split}.txt")
    more = _sbd_ids(root, on_problem)
    train, val = (_listed(root, folder / f"{name}.txt", on_problem) for name in ("train", "val"))
    return sorted({*train, *more} - set(val))


def _sbd_ids(root: Path, on_problem: OnProblem) -> list[str]:
    for place in _SBD:
        found = [root / place / f"{name}.txt" for name in ("train", "val")]
        if all(map(os.path.lexists, found)):
            return [each for path in found for each in _listed(root, path, on_problem)]
    if (root / "SegmentationClassAug").is_dir():
        return [path.stem for path in (root / "SegmentationClassAug").glob("*.png")]
    raise UserError(
        "neither a list of train_aug nor SBD is there", where=root,
        expected="ImageSets/Segmentation/train_aug.txt, SegmentationClassAug/, or SBD's train.txt and val.txt in SBD/",
        do="or take --data.split train",
    )  # fmt: skip


def _listed(root: Path, path: Path, on_problem: OnProblem) -> list[str]:
    ids: list[str] = []
    seen: dict[str, int] = {}
    for number, text in lines(path):
        try:
            ids.append(new_id(_id(root, text), seen, where=path, line=number))
        except UserError as problem:
            on_problem(problem)
    return ids


def _id(root: Path, text: str) -> str:
    """The id in a list's line: all of it, or its first column; with an image's ending or folder it is one without."""
    first = text.split()[0]
    for column in (text.strip(), first):
        name = column.removeprefix("/").removeprefix("JPEGImages/")
        for each in (column, name, name.rpartition(".")[0] if is_image_name(name) else name):
            if ".." not in each.split("/") and os.path.lexists(root / "Annotations" / f"{each}.xml"):
                return each
    return first


def _samples(
    root: Path, ids: Iterable[str], classes: tuple[str, ...], on_problem: OnProblem
) -> tuple[list[Sample], int, Counter[str]]:
    """Every listed image with its labels and label map, how many show none of the classes, and objects of no class."""
    samples, unlabelled = [], 0
    strangers: Counter[str] = Counter()
    for image_id in ids:
        try:
            tree = parse_xml(root / "Annotations" / f"{image_id}.xml")
        except UserError as problem:
            on_problem(problem)
            continue
        labels = _labels(tree, classes)
        names = ((element.findtext("name") or "").strip() for element in tree.iter("object"))
        strangers.update(name for name in names if name not in classes)
        if not labels:
            unlabelled += 1
            continue
        samples.append(Sample(image_id, _image(root / "JPEGImages" / image_id), labels[0], labels=labels,
                              objects=_objects(tree, classes), truth=_truth(root, image_id)))  # fmt: skip
    return samples, unlabelled, strangers


def _of_no_class(strangers: Counter[str], classes: tuple[str, ...]) -> tuple[str, ...]:
    """A note of the objects that are called as no class; first those whose names differ from a class's by case."""
    if not strangers:
        return ()
    alike = {name.casefold(): f" (the class is {name!r})" for name in classes}
    names = sorted(strangers, key=lambda name: (name.casefold() not in alike, -strangers[name], name))
    shown = [f"{strangers[name]} {printable(name)[:40]!r}{alike.get(name.casefold(), '')}" for name in names]
    objects = number_of(strangers.total(), "object is", "objects are")
    return (f"{objects} of no class and passed over: {some(shown)}",)


def _image(place: Path) -> Path:
    """The image of this name: a JPEG, or else one with another of the endings of images."""
    usual = place.with_name(f"{place.name}.jpg")
    if os.path.lexists(usual):
        return usual
    endings = (each for ending in image_endings() for each in (ending, ending.upper()))
    others = (place.with_name(f"{place.name}{ending}") for ending in endings)
    return next((path for path in others if os.path.lexists(path)), usual)


def image_labels(path: Path, classes: tuple[str, ...] = CLASSES) -> tuple[int, ...]:
    """The classes that any `name` element of an annotation names, ascending; names of other things are passed over.

    Raises:
        UserError: as `parse_xml`.
    """
    return _labels(parse_xml(path), classes)


def _labels(tree: ElementTree, classes: tuple[str, ...]) -> tuple[int, ...]:
    numbers = {name: number for number, name in enumerate(classes)}
    named = {(element.text or "").strip() for element in tree.iter("name")}
    return tuple(sorted(numbers[name] for name in named if name in numbers))


def _objects(tree: ElementTree, classes: tuple[str, ...]) -> tuple[tuple[int, tuple[float, float, float, float]], ...]:
    """Class and box of each object that is not called difficult; VOC's pixels count from 1, the last one included.

    What has no box, or none that makes sense, is passed over: maps need none.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    found = []
    for element in tree.iter("object"):
        name, texts = (
            (element.findtext("name") or "").strip(),
            [element.findtext(f"bndbox/{corner}") or "" for corner in _CORNERS],
        )
        if name not in numbers or (element.findtext("difficult") or "").strip() == "1":
            continue
        with suppress(UserError):
            x0, y0, x1, y1 = numbers_of(texts, where=Path(), what="the box").tolist()
            if x0 <= x1 and y0 <= y1:
                found.append((numbers[name], (x0 - 1, y0 - 1, x1, y1)))
    return tuple(found)


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _truth(root: Path, image_id: str) -> Path | None:
    """The label map; a JPEG too, which reading it refuses by its name."""
    for ending in (".png", ".PNG", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg"):
        for folder in ("SegmentationClass", "SegmentationClassAug"):
            if os.path.lexists(path := root / folder / f"{image_id}{ending}"):
                return path
    return None


def _held_apart(
    root: Path, samples: list[Sample], split: str, per_class: int, classes: tuple[str, ...], on_problem: OnProblem
) -> list[Sample]:
    train = samples if split != "train_aug" else _samples(root, _ids(root, "train", on_problem), classes, on_problem)[0]
    fit, held = hold_out(train, per_class)
    if split != "train_aug":
        return list(held if split == "held" else fit)
    held_ids = {sample.image_id for sample in held}
    return [sample for sample in samples if sample.image_id not in held_ids]


def _differences(split: str, samples: list[Sample], classes: tuple[str, ...]) -> tuple[str, ...]:
    """A note where VOC's own images and labels are not those that the authors trained and tested on."""
    if split not in RELEASED:
        return ()
    count, ids_hash, labels, labels_hash = RELEASED[split]
    found = hashlib.sha256("\n".join(sample.image_id for sample in samples).encode()).hexdigest()
    if not found.startswith(ids_hash):
        return (f"{len(samples)} images, not the {count} that the authors used (another sha256 of their ids)",)
    matrix = b"".join(bytes(int(label in sample.labels) for label in range(len(classes))) for sample in samples)
    if labels_hash and not hashlib.sha256(matrix).hexdigest().startswith(labels_hash):
        ones = sum(len(sample.labels) for sample in samples)
        return (f"{ones} image labels, not the authors' {labels} (another sha256)",)
    return ()
