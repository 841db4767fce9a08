"""ILSVRC (ImageNet-1k, localization) from the layouts in which people have it.

Training images always lie in class folders; three layouts are found by looking:

| layout | training images | validation images | annotations |
|---|---|---|---|
| plain | `train/<wnid>/*.JPEG` | `val/*.JPEG` or `val/<wnid>/*.JPEG` | `val_xml/`, `box/`, `Annotations/CLS-LOC/val/` |
| Kaggle | `ILSVRC/Data/CLS-LOC/train/<wnid>` | `ILSVRC/Data/CLS-LOC/val` | `ILSVRC/Annotations/CLS-LOC/val` |
| devkit | either of these | | and a folder `ILSVRC*_devkit*` beside them |

Classes are numbered by their sorted wnid. The list of wnids is taken from the first of: `LOC_synset_mapping.txt`
(Kaggle), `synset1.txt` (GRCAM), the devkit's `map_clsloc.txt`, the folders of `train/`.
A validation image's class is taken from the first of: its folder (`val/<wnid>/`), `LOC_val_solution.csv` (Kaggle), the
devkit's ground truth with `map_clsloc.txt`, the one object name of its XML file. Its boxes are those objects in its XML
whose name is that class; `xmin ymin xmax ymax` are taken over unchanged. Objects of other classes are counted.
"""

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import defusedxml
import defusedxml.ElementTree
import numpy as np

from common.datasets.sample import Dataset, OnProblem, Sample, hold_out, raise_problem
from common.datasets.text import csv_rows, lines, numbers, whole_number
from common.measuring.boxes import as_boxes
from common.system.errors import UserError, inside
from common.system.files import need_file

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
"""What can be left out on request: `blacklist`, validation images that the devkit says to ignore; `odd`, the above."""

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
        name: of the data set, `photographs` for those of `common.datasets.shipped`.

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
    if split == "val":
        samples = _validation(root, label_of, on_problem)
    else:
        samples = _training(root, wnids, split, held_per_class, on_problem)
    reasons = _reasons_to_leave_out(root, leave_out)
    left_out: dict[str, int] = {}
    kept = []
    for sample in samples:
        reason = reasons.get(Path(sample.image_id).name)
        if reason is None:
            kept.append(sample)
        else:
            left_out[reason] = left_out.get(reason, 0) + 1
    return Dataset(name, split, tuple(kept), wnids, left_out)


def class_wnids(root: Path) -> tuple[str, ...]:
    """The wnids in sorted order, by which classes are numbered.

    Raises:
        UserError: no source of them is there.
    """
    for name in ("LOC_synset_mapping.txt", "synset1.txt"):
        if os.path.lexists(root / name):
            return _listed_wnids(root / name)
    if mapping := _devkit_file(root, "map_clsloc.txt"):
        return _listed_wnids(mapping)
    train = _images(root, "train")
    if train is not None:
        wnids = sorted(folder.name for folder in train.iterdir() if folder.is_dir())
        if wnids:
            return tuple(wnids)
    raise UserError(
        "no list of classes is there",
        where=root,
        expected="train/ with a folder for each class, LOC_synset_mapping.txt, synset1.txt, or the devkit",
        do="name the folder that holds train/ or val/ with --data.root",
    )


def _listed_wnids(path: Path) -> tuple[str, ...]:
    """The first words of a file's lines, sorted; training images lie in folders of these names, so each must be a name,
    though of any length, and stand once.
    """
    seen: dict[str, int] = {}
    for line, text in lines(path):
        wnid = text.split()[0]
        if wnid in (".", "..") or "/" in wnid:
            raise UserError(f"the class {wnid!r} is no folder's name", where=path, line=line, expected="a wnid")
        if seen.setdefault(wnid, line) != line:
            raise UserError(f"{wnid} stands here twice, first in line {seen[wnid]}", where=path, line=line,
                            do="remove one of the lines")  # fmt: skip
    return tuple(sorted(seen))


def class_words(root: Path) -> dict[str, str]:
    """Each wnid's names, such as "tench, Tinca tinca"; empty where no file holds them."""
    for name in ("LOC_synset_mapping.txt", "synset1.txt"):
        if os.path.lexists(root / name):
            rows = (text.strip().partition(" ") for _, text in lines(root / name))
            return {wnid: words for wnid, _, words in rows}
    return {}


def _images(root: Path, split: str) -> Path | None:
    for candidate in (f"ILSVRC/Data/CLS-LOC/{split}", f"Data/CLS-LOC/{split}", split):
        if (root / candidate).is_dir():
            return root / candidate
    return None


def _devkit_file(root: Path, pattern: str) -> Path | None:
    found = sorted(root.glob(f"ILSVRC*_devkit*/data/{pattern}")) + sorted(root.glob(f"ILSVRC*_devkit*/{pattern}"))
    return found[-1] if found else None


def _training(
    root: Path, wnids: tuple[str, ...], split: str, held_per_class: int, on_problem: OnProblem
) -> tuple[Sample, ...]:
    image_root = _images(root, "train")
    if image_root is None:
        raise UserError("train/ is not there", where=root, do="name the folder that holds it with --data.root")
    annotations = next(
        (root / name for name in ("ILSVRC/Annotations/CLS-LOC/train", "Annotations/CLS-LOC/train")
         if (root / name).is_dir()), None)  # fmt: skip
    samples, annotated = [], []
    for label, wnid in enumerate(wnids):
        folder = inside(image_root, wnid, where=root)
        if not folder.is_dir():
            on_problem(UserError("a class has no folder", where=folder))
            continue
        for path in sorted(folder.iterdir()):
            try:
                inside(image_root, f"{wnid}/{path.name}", where=folder)
            except UserError as problem:
                on_problem(problem)
                continue
            xml = annotations / wnid / f"{path.stem}.xml" if annotations else None
            sample = Sample(f"{wnid}/{path.name}", path, label)
            samples.append(sample)
            if xml is not None and os.path.lexists(xml):
                annotated.append((sample, xml))
    if not held_per_class:
        if split == "held":
            raise UserError("the split 'held' is empty", do="say how many images a class with --data.held-per-class")
        return tuple(samples)
    if not annotated:
        raise UserError("no training image has an annotation, so none can be held out", where=root,
                        expected="Annotations/CLS-LOC/train/<wnid>/*.xml")  # fmt: skip
    _, held = hold_out((sample for sample, _ in annotated), held_per_class)
    held_ids = {sample.image_id for sample in held}
    if split == "train":
        return tuple(sample for sample in samples if sample.image_id not in held_ids)
    xml_of = {sample.image_id: xml for sample, xml in annotated}
    return tuple(
        Sample(sample.image_id, sample.path, sample.label,
               boxes_of(read_annotation(xml_of[sample.image_id]), wnids[sample.label]))
        for sample in held
    )  # fmt: skip


def _validation(root: Path, label_of: dict[str, int], on_problem: OnProblem) -> tuple[Sample, ...]:
    image_root = _images(root, "val")
    if image_root is None:
        raise UserError("val/ is not there", where=root, do="name the folder that holds it with --data.root")
    annotations = _find_annotations(root)
    known = _validation_classes(root, on_problem)
    samples = []
    for image_id, path, folder_wnid in _validation_images(image_root, label_of):
        try:
            inside(image_root, image_id, where=image_root)
            objects = read_annotation(annotations / f"{path.stem}.xml") if annotations else None
            wnid = folder_wnid or known.get(path.stem) or _only_name(objects, path)
            if wnid not in label_of:
                raise UserError(f"class {wnid!r} is none of the {len(label_of)} classes", where=path)
            boxes = boxes_of(objects, wnid) if objects is not None else as_boxes([])
            samples.append(Sample(image_id, path, label_of[wnid], boxes))
        except UserError as problem:
            on_problem(problem)
    if annotations is None:
        on_problem(UserError("no annotations of the validation images were found", where=root,
                             expected=f"one of {', '.join(_ANNOTATIONS)}"))  # fmt: skip
    return tuple(samples)


def _validation_images(image_root: Path, label_of: dict[str, int]) -> Iterator[tuple[str, Path, str | None]]:
    folders = [folder for folder in sorted(image_root.iterdir()) if folder.is_dir() and folder.name in label_of]
    if folders:
        for folder in folders:
            for path in sorted(folder.iterdir()):
                yield f"{folder.name}/{path.name}", path, folder.name
    else:
        for path in sorted(image_root.iterdir()):
            if not path.is_dir():
                yield path.name, path, None


def _find_annotations(root: Path) -> Path | None:
    for name in _ANNOTATIONS:
        folder = root / name
        if folder.is_dir() and next(folder.glob("*.xml"), None) is not None:
            return folder
    return None


def _validation_classes(root: Path, on_problem: OnProblem) -> dict[str, str]:
    """File stem to wnid, from Kaggle's CSV or the devkit; empty where neither is there."""
    solution = root / "LOC_val_solution.csv"
    if os.path.lexists(solution):
        return _solution(solution, on_problem)
    truth, mapping = _devkit_file(root, "*validation_ground_truth.txt"), _devkit_file(root, "map_clsloc.txt")
    if truth and mapping:
        wnid_of = {text.split()[1]: text.split()[0] for _, text in lines(mapping) if len(text.split()) > 1}
        classes = {}
        for index, (line, text) in enumerate(lines(truth), start=1):
            number = text.strip()
            if number not in wnid_of:
                raise UserError(f"class number {number!r} is not in {mapping.name}", where=truth, line=line)
            classes[f"ILSVRC2012_val_{index:08d}"] = wnid_of[number]
        return classes
    return {}


def _solution(path: Path, on_problem: OnProblem) -> dict[str, str]:
    """File stem to wnid from `ImageId,PredictionString`, whose second cell begins with the wnid."""
    found: dict[str, str] = {}
    for line, row in csv_rows(path):
        words = row[1].split() if len(row) == 2 else []
        if row[0] == "ImageId":
            continue
        if not words or row[0] in found:
            what = f"{row[0]} stands here twice" if row[0] in found else f"{len(row)} cells, and no class in the second"
            on_problem(UserError(what, where=path, line=line, expected="ImageId,PredictionString"))
            continue
        found[row[0]] = words[0]
    return found


def _reasons_to_leave_out(root: Path, leave_out: tuple[str, ...]) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if "odd" in leave_out:
        reasons.update(ODD_FILES)
    if "blacklist" in leave_out:
        path = _devkit_file(root, "*validation_blacklist.txt")
        if path is None:
            raise UserError("the devkit's blacklist is not there", where=root,
                            expected="ILSVRC2014_devkit/data/ILSVRC2014_clsloc_validation_blacklist.txt")  # fmt: skip
        for line, text in lines(path):
            number = whole_number(text.strip(), where=path, line=line, least=1, most=50_000, what="the image number")
            reasons[f"ILSVRC2012_val_{number:08d}.JPEG"] = "on the devkit's blacklist"
    return reasons


def read_annotation(path: Path) -> list[tuple[str, np.ndarray]]:
    """The objects of a PASCAL-style XML file, as (name, float64 `xmin ymin xmax ymax`).

    Raises:
        UserError: missing, malformed, an entity declaration in it, or a box that is not four finite numbers.
    """
    need_file(path)
    try:
        tree = defusedxml.ElementTree.parse(path, forbid_dtd=True)
    except FileNotFoundError as error:
        raise UserError("no such annotation", where=path) from error
    except OSError as error:
        raise UserError(f"can't be read ({error.strerror})", where=path) from error
    except defusedxml.DefusedXmlException as error:
        raise UserError(
            "the XML declares a document type or entities", where=path, expected="plain elements"
        ) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"malformed XML ({error})", where=path) from error
    objects = []
    for element in tree.iter("object"):
        texts = [element.findtext(f"bndbox/{corner}") or "" for corner in ("xmin", "ymin", "xmax", "ymax")]
        box = numbers(texts, where=path, what=f"bndbox {len(objects) + 1}")
        if box[0] > box[2] or box[1] > box[3]:
            raise UserError(f"the box {' '.join(texts)} is inside out", where=path, expected="xmin ymin xmax ymax")
        objects.append(((element.findtext("name") or "").strip(), box))
    return objects


def boxes_of(objects: list[tuple[str, np.ndarray]], wnid: str) -> np.ndarray:
    """The boxes (N, 4) of the objects called `wnid`."""
    return as_boxes([box for name, box in objects if name == wnid])


def _only_name(objects: list[tuple[str, np.ndarray]] | None, path: Path) -> str:
    names = sorted({name for name, _ in objects or []})
    if len(names) != 1:
        raise UserError(
            f"the class of this image is unknown: its annotation names {' and '.join(names) or 'nothing'}",
            where=path,
            expected="val/<wnid>/ folders, LOC_val_solution.csv or the devkit beside it",
        )
    return names[0]
