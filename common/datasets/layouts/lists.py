"""The list files that each paper's released code reads, as a data set; `layouts.written_lists` writes them.

| paper | files | a line |
|---|---|---|
| BAS, CUB | `test_list.txt` (CRLF), `test_gt.txt` = `test_bounding_box.txt` | `path;label`, `x0 y0 x1 y1 HEIGHT WIDTH`|
| BAS, ILSVRC | `val_list.txt`, `val_gt.txt` (CRLF) | `wnid/file;label`, `wnid\\\\file WIDTH HEIGHT ; x0 y0 x1 y1 ...` |
| SPOL, CUB | `train.txt`, `val.txt` | `path,label,xmin ymin xmax ymax` (whole numbers) |
| SPOL, ILSVRC | `train.txt`, `val.txt`, `name.txt`, `cls2idx.npy` | `path label`, class names, wnid to label |
| DGL, ADL | `labels/<name>/val.txt` (`dgl`) | `path label [x0 y0 x1 y1]`, tabs or blanks |
| ADL, CUB | `labels/CUB/train.txt`, `test.txt` (`adl-cub`) | `path label [x y width height]` |
| TS-CAM, ILSVRC | `val_list.txt` (`ts-cam`) | `path label [x0 y0 x1 y1 ...]`, any number of boxes |
| GRCAM | `synset1.txt` (no newline at the end) | `wnid words` |

Two corners, and a corner and two sides, can't be told apart where every line fits both, so the format says which.
Four numbers that are a point, such as zeros in the place of a box that nobody drew, are refused.
A path may hold blanks where tabs, commas or semicolons stand between the fields, or where it stands before one label,
which a blank, tabs or a comma may part from it. BAS's sizes are what its boxes are pixels of.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.datasets.files.text import class_number, lines, new_id, not_inside_out, numbers
from common.datasets.files.xml_files import boxes_of, read_annotation
from common.datasets.layouts.ilsvrc_classes import class_wnids
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
from common.measuring.boxes import as_boxes, from_xywh
from common.pictures.files import is_image_name
from common.system.errors import UserError, inside
from common.system.wording import number_of

FORMATS = ("bas", "spol", "dgl", "adl-cub", "ts-cam")

Entry = tuple[str, int, np.ndarray]
"""`image_id`, 0-based label, boxes (N, 4) `x0 y0 x1 y1`."""


def load(
    root: Path,
    file: Path,
    file_format: str,
    split: str,
    boxes: Path | None = None,
    held_per_class: int = 0,
    on_problem: OnProblem = raise_problem,
) -> Dataset:
    """The images of a list file as a data set.

    Args:
        root: the folder that the list's paths are relative to.
        file: the list file.
        file_format: one of `FORMATS`; whether it is the CUB or the ILSVRC form is seen from the lines.
        split: what the list is called in manifests; of a training list `held` is the part that is held out, `train` the
            rest.
        boxes: BAS keeps boxes in a file of their own: `test_gt.txt` or `val_gt.txt`. SPOL, for ILSVRC, in a folder
            `box/` of XML files, beside which `train/` or a list of synsets numbers the classes.
        held_per_class: how many training images of each class are `held` and no longer `train`.
        on_problem: told of every faulty line, which is then left out.

    Raises:
        UserError: unknown format, a missing file, or by default any faulty line.
    """
    sizes: dict[str, tuple[int, int]] = {}
    readers: dict[str, Callable[[], list[Entry]]] = {
        "bas": lambda: read_bas(file, boxes, on_problem, sizes),
        "spol": lambda: read_spol(file, on_problem, boxes),
        "dgl": lambda: read_dgl(
            file, on_problem, doubtful=split in ("train", "held") or file.stem in ("train", "test")
        ),
        "adl-cub": lambda: read_dgl(file, on_problem, sides=True),
        "ts-cam": lambda: read_dgl(file, on_problem, several=True),
    }
    if file_format not in readers:
        raise UserError(f"unknown list format {file_format!r}", expected=", ".join(FORMATS))
    samples = []
    for image_id, label, found in readers[file_format]():
        try:
            place = inside(root, image_id, where=file)
            samples.append(Sample(image_id, place, label, found, declared_size=sizes.get(image_id)))
        except UserError as problem:
            on_problem(problem)
    labelled = [(sample.image_id, sample.label) for sample in samples]
    notes = tuple(f"{file}: {text}" for text in not_counted_from_0(labelled) + folders_of_several_classes(labelled))
    kept = fit_or_held(samples, split, held_per_class)
    return Dataset("list", split, kept, names_by_folder(labelled), names_known=False, notes=notes)


def read_bas(
    list_file: Path,
    box_file: Path | None,
    on_problem: OnProblem = raise_problem,
    sizes: dict[str, tuple[int, int]] | None = None,
) -> list[Entry]:
    """BAS's `test_list.txt` with `test_gt.txt`, or `val_list.txt` with `val_gt.txt`; without the second, no boxes.

    `sizes` is filled with the width and height of each image that the second says its boxes to be pixels of.
    """
    entries: list[tuple[str, int]] = []
    seen: dict[str, int] = {}
    for line, text in lines(list_file):
        try:
            image_id, semicolon, label = text.rpartition(";")
            if not semicolon:
                raise UserError(f"{text!r} has 0 semicolons", where=list_file, line=line, expected="path;label")
            new_id(image_id, seen, where=list_file, line=line)
            entries.append((image_id, class_number(label.strip(), where=list_file, line=line)))
        except UserError as problem:
            on_problem(problem)
    if box_file is None:
        return [(image_id, label, as_boxes([])) for image_id, label in entries]
    rows = list(lines(box_file))
    if len(rows) != len(entries):
        raise UserError(
            number_of(len(rows), "line", "lines"), where=box_file, expected=f"{len(entries)}, as {list_file.name} has"
        )
    found = []
    for (image_id, label), (line, text) in zip(entries, rows, strict=True):
        try:
            size, values = _bas_boxes(text, image_id, box_file, line)
            found.append((image_id, label, values))
            if sizes is not None and min(size) >= 1:
                sizes[image_id] = size
        except UserError as problem:
            on_problem(problem)
    return found


def _bas_boxes(text: str, image_id: str, path: Path, line: int) -> tuple[tuple[int, int], np.ndarray]:
    """The image's width and height, and its boxes (N, 4)."""
    if ";" in text:  # ILSVRC
        head, _, tail = text.rpartition(";")
        cells = head.rsplit(None, 2)
        sized = len(cells) == 3 and all(re.fullmatch(r"\d{1,7}", cell, re.ASCII) for cell in cells[1:])
        name = (cells[0] if sized else head).replace("\\\\", "/")
        if name != image_id:
            raise UserError(f"the boxes are {name}'s", where=path, line=line, expected=image_id)
        values = numbers(tail.split(), where=path, line=line, what="the boxes")
        if len(values) % 4:
            raise UserError(f"{len(values)} box numbers", where=path, line=line, expected="four for each box")
        size = (int(cells[1]), int(cells[2])) if sized else (0, 0)
        return size, _sound(values.reshape(-1, 4), path, line)
    values = numbers(text.split(), where=path, line=line, what="the box")
    if len(values) != 6:
        raise UserError(f"{len(values)} numbers", where=path, line=line, expected="x0 y0 x1 y1 HEIGHT WIDTH")
    size = (int(values[5]), int(values[4]))
    return size, _sound(values[None, :4], path, line)


def read_spol(path: Path, on_problem: OnProblem = raise_problem, box_folder: Path | None = None) -> list[Entry]:
    """SPOL's CUB lists (with a box) or ImageNet lists (without, or with those of an XML file for each image)."""
    wnids = class_wnids(box_folder.parent) if box_folder else ()
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    rows = list(lines(path))
    with_boxes = any(_SPOL_CUB.fullmatch(text) for _, text in rows)
    for line, text in rows:
        try:
            cells = text.rsplit(",", 2)
            if len(cells) == 3 and (with_boxes or re.fullmatch(r"[\d .+-]*", cells[2])):
                image_id, label = cells[:2]
                box = numbers(cells[2].split(), where=path, line=line, what="box")
                if len(box) != 4:
                    raise UserError(f"{len(box)} box numbers", where=path, line=line, expected="xmin ymin xmax ymax")
            else:
                named = _SPOL_LABEL.search(text.rstrip())
                if with_boxes or named is None or not named.start():
                    raise UserError(f"{text!r} is no line of SPOL's", where=path, line=line,
                                    expected="path,label,xmin ymin xmax ymax or path label")  # fmt: skip
                image_id, label = text[: named.start()].rstrip("\t"), named[1]
                if not is_image_name(image_id) and re.search(r"\s[\d.+-]+$", image_id):
                    raise UserError(f"{text!r} has numbers between path and label", where=path, line=line,
                                    expected="path label", do="say --data.list-format ts-cam where they are corners of "
                                    "a box, adl-cub where they are x y width height")  # fmt: skip
                box = np.empty(0)
            new_id(image_id, seen, where=path, line=line)
            number = class_number(label, where=path, line=line, most=len(wnids) - 1 if wnids else None)
            if box_folder:
                objects = read_annotation(box_folder / f"{Path(image_id).stem}.xml")
                box = boxes_of(objects, wnids[number])
            entries.append((image_id, number, _sound(as_boxes(box), path, line)))
        except UserError as problem:
            on_problem(problem)
    return entries


def read_dgl(
    path: Path,
    on_problem: OnProblem = raise_problem,
    sides: bool = False,
    several: bool = False,
    doubtful: bool = False,
) -> list[Entry]:
    """DGL's, ADL's and TS-CAM's lists: `path label` and perhaps boxes, between tabs or blanks.

    Args:
        path: the list file.
        on_problem: told of every faulty line.
        sides: a box is `x y width height`, as in ADL's CUB `train.txt` and `test.txt`, instead of two corners.
        several: a line may hold several boxes, as TS-CAM's ILSVRC lists do.
        doubtful: refuse boxes, since nobody said which of the two they are: DGL trains from lists of both kinds.
    """
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    expected = "2 and 4 for each box" if several else "2 or 6"
    for line, text in lines(path):
        try:
            cells = _fields(text, several)
            if cells is None:
                raise UserError(f"{len(text.split())} fields", where=path, line=line,
                                expected=f"{expected} between tabs or blanks")  # fmt: skip
            new_id(cells[0], seen, where=path, line=line)
            label = class_number(cells[1], where=path, line=line)
            boxes = numbers(cells[2:], where=path, line=line, what="the box").reshape(-1, 4)
            if len(boxes) and doubtful:
                raise UserError("a box of a list like this may be two corners, or a corner and sides as in ADL's "
                                "train.txt and test.txt of CUB", where=path, line=line, do=_SAY_WHICH)  # fmt: skip
            entries.append((cells[0], label, _upright(boxes, sides, path, line)))
        except UserError as problem:
            on_problem(problem)
    return entries


def _fields(text: str, several: bool) -> list[str] | None:
    """Path, label and coordinates; a path that holds blanks ends at a tab. None where there are too many or too few."""
    name, _, rest = text.partition("\t")
    for cells in ([name, *rest.split()], text.split()):
        if len(cells) in (2, 6) or (several and len(cells) > 6 and (len(cells) - 2) % 4 == 0):
            return cells
    return None


_SAY_WHICH = "say --data.list-format adl-cub for x y width height, ts-cam for corners"
_SPOL_LABEL = re.compile(r"[\t ,](\d+)$", re.ASCII)
_SPOL_CUB = re.compile(r".+,\d+,-?[\d.]+ -?[\d.]+ -?[\d.]+ -?[\d.]+\s*")


def _upright(boxes: np.ndarray, sides: bool, path: Path, line: int) -> np.ndarray:
    if sides:
        if (boxes[:, 2:] < 0).any():
            raise UserError("a side is negative", where=path, line=line, expected="x y width height")
        return _sound(from_xywh(boxes), path, line)
    try:
        return _sound(boxes, path, line)
    except UserError as problem:
        if (boxes[:, 2:] <= 0).any():  # no width and height either
            raise
        raise UserError(problem.found, where=path, line=line, expected="x0 y0 x1 y1",
                        do="say --data.list-format adl-cub if all are x y width height") from problem  # fmt: skip


def _sound(boxes: np.ndarray, path: Path, line: int) -> np.ndarray:
    """Boxes (N, 4) as they are.

    Raises:
        UserError: one is inside out, or a point, as numbers are that stand in the place of a box: it would be a miss.
    """
    for box in boxes:
        if (box[:2] == box[2:]).all():
            raise UserError(f"the box {' '.join(f'{value:g}' for value in box)} is a point", where=path, line=line,
                            expected="a box", do="leave its numbers out where nobody drew one")  # fmt: skip
    return not_inside_out(boxes, where=path, line=line)
