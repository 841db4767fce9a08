"""ILSVRC (ImageNet-1k, localization) from the layouts in which people have it.

Training images always lie in class folders. The layout is found by looking:

| layout | training images | validation images | annotations |
|---|---|---|---|
| plain | `train/<wnid>/*.JPEG` | `val/*.JPEG` or `val/<wnid>/*.JPEG` | `val_xml/`, `box/`, `Annotations/CLS-LOC/val/` |
| Kaggle | `ILSVRC/Data/CLS-LOC/train/<wnid>` | `ILSVRC/Data/CLS-LOC/val` | `ILSVRC/Annotations/CLS-LOC/val` |
| devkit | either of these | | and a folder `ILSVRC*_devkit*` with `map_clsloc.txt` or `meta.mat` beside them |
| Tiny ImageNet | `train/<wnid>/images/*.JPEG` | `val/images/*.JPEG` | `val/val_annotations.txt` |

Classes are numbered as `ilsvrc_classes` says. A validation image's class is taken from the first of: its folder
(`val/<wnid>/`), `LOC_val_solution.csv` (Kaggle), the devkit's ground truth with either of these, the one object name of
its XML file. Its boxes are those objects in its XML whose name is that class; `xmin ymin xmax ymax` are taken over
unchanged, as pixels of the stored picture, whatever size the XML declares. XML files may end in capitals and lie in
folders. An image whose class is known needs none, and has no box then. `pictures.files` says which files are images;
folders of no known class are left out and counted.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.datasets.files.text import lines, new_id, not_inside_out, numbers, whole_number
from common.datasets.files.xml_files import boxes_of, read_annotation
from common.datasets.layouts.ilsvrc_classes import (
    class_wnids,
    class_words,
    devkit_file,
    image_folder,
    validation_classes,
)
from common.datasets.sample import Dataset, OnProblem, Sample, hold_out, raise_problem
from common.measuring.boxes import as_boxes
from common.pictures.files import data_folders, images_in, is_left_behind, kind_of
from common.system.errors import UserError, inside, printable
from common.system.wording import number_of, some

SPLITS = ("train", "val", "held")
COUNTS = {"classes": 1000, "train": 1_281_167, "val": 50_000, "boxes": 80_477}

CMYK_FILES = (
    "n01739381_1309.JPEG", "n02077923_14822.JPEG", "n02447366_23489.JPEG", "n02492035_15739.JPEG",
    "n02747177_10752.JPEG", "n03018349_4028.JPEG", "n03062245_4620.JPEG", "n03347037_9675.JPEG",
    "n03467068_12171.JPEG", "n03529860_11437.JPEG", "n03544143_17228.JPEG", "n03633091_5218.JPEG",
    "n03710637_5125.JPEG", "n03961711_5286.JPEG", "n04033995_2932.JPEG", "n04258138_17003.JPEG",
    "n04264628_27969.JPEG", "n04336792_7448.JPEG", "n04371774_5854.JPEG", "n04596742_4225.JPEG",
    "n07583066_647.JPEG", "n13037406_4650.JPEG",
)  # fmt: skip
"""Training images known to be CMYK."""
ODD_FILES = {
    **dict.fromkeys(CMYK_FILES, "a CMYK image"),
    "n02105855_2933.JPEG": "a PNG under a JPEG's name",
    "ILSVRC2012_val_00033202.JPEG": "its annotation holds no object of its class (SPOL leaves it out)",
}
"""Files known to be unusual. All but the last decode and are used; `leave_out` with `odd` drops them."""
LEAVE_OUT = ("blacklist", "odd")
"""Kinds to leave out on request: `blacklist`, validation images that the devkit says to ignore; `odd`, the above."""

_ANNOTATIONS = (
    "ILSVRC/Annotations/CLS-LOC/val", "Annotations/CLS-LOC/val", "Annotations/val", "val_xml", "xml", "bbox/val",
    "ILSVRC2012_bbox_val_v3/val", "box", "val_annotations", "Annotations",
)  # fmt: skip


def load(
    root: Path,
    split: str,
    held_per_class: int = 0,
    leave_out: tuple[str, ...] = (),
    on_problem: OnProblem = raise_problem,
    name: str = "ilsvrc",
) -> Dataset:
    """One split of ILSVRC.

    Args:
        root: the folder that holds one of the layouts above.
        split: `train` (no boxes are read), `val`, or `held`: training images held out to choose thresholds on; those
            need boxes, which only some training images have (`Annotations/CLS-LOC/train`), so the rest is not drawn.
        held_per_class: how many training images of each class are `held` and no longer `train`.
        leave_out: any of `LEAVE_OUT`; what is left out is counted.
        on_problem: told of every faulty line or file, which is then left out.
        name: of the data set, `photographs` for those of `common.datasets.layouts.shipped`.

    Raises:
        UserError: a folder or list is missing, or by default any faulty line or file.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}", where=root, expected=" or ".join(SPLITS))
    if unknown := set(leave_out) - set(LEAVE_OUT):
        raise UserError(
            f"unknown kind of image to leave out: {', '.join(sorted(unknown))}", expected="blacklist or odd"
        )
    wnids = class_wnids(root)
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    beside = _Beside()
    if split == "val":
        samples = _validation(root, label_of, beside, on_problem)
    else:
        samples = _training(root, wnids, split, held_per_class, beside, on_problem)
    reasons = _reasons_to_leave_out(root, leave_out)
    left_out = beside.left_out
    kept = []
    for sample in samples:
        reason = reasons.get(Path(sample.image_id).name)
        if reason is None:
            kept.append(sample)
        else:
            left_out[reason] = left_out.get(reason, 0) + 1
    passed_over, notes = dict(beside.passed_over), tuple(beside.notes)
    words = class_words(root)
    return Dataset(name, split, tuple(kept), wnids, left_out, passed_over=passed_over, notes=notes, class_words=words)


@dataclass
class _Beside:
    """Things met while reading that become no sample; see `Dataset`."""

    passed_over: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def unknown_classes(self, folders: Sequence[Path]) -> None:
        """Count the images in folders that are no known class."""
        if images := sum(len(_members(folder, Counter())) for folder in folders):
            named = f"({len(folders)}: {folders[0].name} ...)"
            reason = f"in folders of {folders[0].parent.name}/ that are no known class {named}"
            self.left_out[printable(reason)] = images


def _members(folder: Path, passed_over: Counter[str]) -> list[Path]:
    """The images of a class folder, sorted; Tiny ImageNet keeps them in a folder `images/` in it."""
    if (folder / "images").is_dir():
        folder = folder / "images"
    return list(images_in(sorted(folder.iterdir()), passed_over))


def _training(
    root: Path, wnids: tuple[str, ...], split: str, held_per_class: int, beside: _Beside, on_problem: OnProblem
) -> tuple[Sample, ...]:
    image_root = image_folder(root, "train")
    if image_root is None:
        raise UserError("train/ is not there", where=root, do="name the folder that holds it with --data.root")
    samples, xml_of = _training_images(root, image_root, wnids, beside, on_problem)
    if not held_per_class:
        if split == "held":
            raise UserError("the split 'held' is empty", do="say how many images a class with --data.held-per-class")
        return tuple(samples)
    if not xml_of:
        raise UserError("no training image has an annotation, so none can be held out", where=root,
                        expected="Annotations/CLS-LOC/train/<wnid>/*.xml")  # fmt: skip
    _, held = hold_out((sample for sample in samples if sample.image_id in xml_of), held_per_class)
    if split == "train":
        held_ids = {sample.image_id for sample in held}
        return tuple(sample for sample in samples if sample.image_id not in held_ids)
    return tuple(
        Sample(sample.image_id, sample.path, sample.label,
               boxes_of(read_annotation(xml_of[sample.image_id]), wnids[sample.label]))
        for sample in held
    )  # fmt: skip


def _training_images(
    root: Path, image_root: Path, wnids: tuple[str, ...], beside: _Beside, on_problem: OnProblem
) -> tuple[list[Sample], dict[str, Path]]:
    """All training images without boxes, and the XML files of those that have one, by `image_id`."""
    annotations = next(
        (root / name for name in ("ILSVRC/Annotations/CLS-LOC/train", "Annotations/CLS-LOC/train")
         if (root / name).is_dir()), None)  # fmt: skip
    beside.unknown_classes([path for path in data_folders(image_root, beside.passed_over) if path.name not in wnids])
    samples, xml_of = [], {}
    for label, wnid in enumerate(wnids):
        folder = inside(image_root, wnid, where=root)
        if not folder.is_dir():
            on_problem(UserError("a class has no folder", where=folder))
            continue
        for path in _members(folder, beside.passed_over):
            image_id = path.relative_to(image_root).as_posix()
            try:
                inside(image_root, image_id, where=folder)
            except UserError as problem:
                on_problem(problem)
                continue
            samples.append(Sample(image_id, path, label))
            xml = annotations / wnid / f"{path.stem}.xml" if annotations else None
            if xml is not None and os.path.lexists(xml):
                xml_of[image_id] = xml
    return samples, xml_of


def _validation(root: Path, label_of: dict[str, int], beside: _Beside, on_problem: OnProblem) -> tuple[Sample, ...]:
    image_root = image_folder(root, "val")
    if image_root is None:
        raise UserError("val/ is not there", where=root, do="name the folder that holds it with --data.root")
    if os.path.lexists(image_root / "val_annotations.txt"):
        return _tiny_validation(image_root, label_of, beside, on_problem)
    annotations = _find_annotations(root, on_problem)
    known = validation_classes(root, on_problem)
    found = list(_validation_images(image_root, label_of, beside))
    if not annotations and not known and found and found[0][2] is None:
        raise UserError("the classes of the validation images are unknown", where=image_root, expected=_CLASS_SOURCES)
    samples, bare, other = [], [], []
    for image_id, path, folder_wnid in found:
        try:
            inside(image_root, image_id, where=image_root)
            xml = annotations.get(path.stem)
            wnid = folder_wnid or known.get(path.stem)
            if xml is None and wnid is None:
                where = next(iter(annotations.values()), root / "val_xml/x").with_name(f"{path.stem}.xml")
                raise UserError("no such annotation", where=where, expected=_CLASS_SOURCES)
            objects = read_annotation(xml) if xml else []
            wnid = wnid or _only_name(objects, path)
            if wnid not in label_of:
                raise UserError(f"class {wnid!r} is none of the {len(label_of)} classes", where=path)
            samples.append(Sample(image_id, path, label_of[wnid], boxes_of(objects, wnid)))
            if objects and not len(samples[-1].boxes):
                other.append(f"{image_id}, which is of {wnid}: its annotation names {objects[0][0]}")
            if xml is None:
                bare.append(image_id)
        except UserError as problem:
            on_problem(problem)
    beside.notes += _notes_on_boxes(other, bare, any_annotation=bool(annotations))
    return tuple(samples)


def _notes_on_boxes(other: list[str], bare: list[str], any_annotation: bool) -> list[str]:
    """Notes on validation images without a box.

    Args:
        other: what to say of each image whose annotation has boxes of other classes alone.
        bare: ids of images without an annotation.
        any_annotation: whether there is one of any image.
    """
    notes = []
    if other:
        one, many = (
            "image has no box of its class in its annotation",
            "images have no box of their class in their annotation",
        )
        notes.append(f"{number_of(len(other), one, many)}: {other[0]}")
    if not any_annotation:
        notes.append(f"no annotations were found, so no image has a box; looked in {', '.join(_ANNOTATIONS)}")
    elif bare:
        what = number_of(len(bare), "image has", "images have")
        notes.append(f"{what} no annotation, and so no box: {some(bare, 1)}")
    return notes


_CLASS_SOURCES = (
    "annotations in val_xml/, class folders val/<wnid>/, LOC_val_solution.csv, or a devkit with its ground truth and "
    "map_clsloc.txt or meta.mat"
)
"""Files that tell the classes of validation images that lie in one folder."""


def _validation_images(
    image_root: Path, label_of: dict[str, int], beside: _Beside
) -> Iterator[tuple[str, Path, str | None]]:
    members = sorted(image_root.iterdir())
    folders = [path for path in members if path.is_dir() and not is_left_behind(path.name)]
    known = [folder for folder in folders if folder.name in label_of]
    if known:
        beside.unknown_classes([folder for folder in folders if folder.name not in label_of])
        for path in members:
            if path not in folders:
                beside.passed_over[kind_of(path)] += 1
        for folder in known:
            for path in _members(folder, beside.passed_over):
                yield path.relative_to(image_root).as_posix(), path, folder.name
        return
    images = list(images_in(members, beside.passed_over))
    if folders and not images:
        raise UserError(f"none of its {len(folders)} folders is a known class, {folders[0].name!r} is not",
                        where=image_root, expected=f"wnids such as {next(iter(label_of), '')}")  # fmt: skip
    for path in images:
        yield path.name, path, None


def _tiny_validation(
    image_root: Path, label_of: dict[str, int], beside: _Beside, on_problem: OnProblem
) -> tuple[Sample, ...]:
    """Tiny ImageNet's: `val/images/` and `val/val_annotations.txt` of `file wnid x0 y0 x1 y1` between tabs."""
    path, samples = image_root / "val_annotations.txt", []
    seen: dict[str, int] = {}
    for line, text in lines(path):
        try:
            cells = text.split("\t")
            if len(cells) != 6:
                raise UserError(f"{len(cells)} fields", where=path, line=line, expected="6 between tabs")
            name, wnid, *box = cells
            image_id = new_id(f"images/{name}", seen, where=path, line=line)
            if wnid not in label_of:
                raise UserError(f"class {wnid!r} is none of the {len(label_of)} classes", where=path, line=line)
            boxes = not_inside_out(as_boxes(numbers(box, where=path, line=line, what="the box")), where=path, line=line)
            samples.append(Sample(image_id, image_root / image_id, label_of[wnid], boxes))
        except UserError as problem:
            on_problem(problem)
    present = _members(image_root, beside.passed_over) if (image_root / "images").is_dir() else []
    if unlisted := [image.name for image in present if f"images/{image.name}" not in seen]:
        beside.left_out["without a line in val_annotations.txt"] = len(unlisted)
    return tuple(samples)


def _find_annotations(root: Path, on_problem: OnProblem) -> dict[str, Path]:
    """The validation images' XML files by their stem, from the first place that holds any, in folders there too."""
    for name in _ANNOTATIONS:
        found: dict[str, Path] = {}
        for path in _xml_below(root / name):
            if found.setdefault(path.stem, path) != path:
                on_problem(UserError("this annotation is there twice", where=path, expected=f"{found[path.stem]} alone",
                                     do="remove one of them"))  # fmt: skip
        if found:
            return found
    return {}


def _xml_below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if each != "train" and not is_left_behind(each))
        for name in sorted(names):
            if name.lower().endswith(".xml") and not is_left_behind(name):
                yield Path(place, name)


def _reasons_to_leave_out(root: Path, leave_out: tuple[str, ...]) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if "odd" in leave_out:
        reasons.update(ODD_FILES)
    if "blacklist" in leave_out:
        path = devkit_file(root, "*validation_blacklist.txt")
        if path is None:
            raise UserError("the devkit's blacklist is not there", where=root,
                            expected="ILSVRC2014_devkit/data/ILSVRC2014_clsloc_validation_blacklist.txt")  # fmt: skip
        for line, text in lines(path):
            number = whole_number(text.strip(), where=path, line=line, least=1, most=50_000, what="the image number")
            reasons[f"ILSVRC2012_val_{number:08d}.JPEG"] = "on the devkit's blacklist"
    return reasons


def _only_name(objects: list[tuple[str, np.ndarray]], path: Path) -> str:
    names = sorted({name for name, _ in objects})
    if len(names) != 1:
        raise UserError(
            f"the class of this image is unknown: its annotation names {' and '.join(names) or 'nothing'}",
            where=path,
            expected="val/<wnid>/ folders, LOC_val_solution.csv or the devkit beside it",
        )
    return names[0]
