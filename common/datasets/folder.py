"""A plain folder of class folders, with an optional CSV file of boxes: the way to bring one's own data.

    root/                       or, with splits, root/<split>/
        some class/picture.jpg
        other class/deeper/picture.png
    boxes.csv                   path,x0,y0,x1,y1 relative to the image folder; one line a box, a header line if you like

Classes are numbered by the sorted names of their folders. Boxes are in pixels of the image as stored, end-exclusive.
"""

from pathlib import Path

import numpy as np

from common.datasets.sample import Dataset, OnProblem, Sample, hold_out, raise_problem
from common.datasets.text import csv_rows, numbers
from common.system.errors import UserError, inside

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def load(
    root: Path,
    split: str,
    boxes: Path | None = None,
    held_per_class: int = 0,
    on_problem: OnProblem = raise_problem,
) -> Dataset:
    """The images of `root/<split>`, or of `root` itself where there is no such folder and the split is `test`.

    Args:
        root: the folder described above.
        split: `train`, `test` or any folder's name; `held` draws from `train`.
        boxes: CSV file of boxes; without it samples have none and can be localized but not scored.
        held_per_class: how many training images of each class are `held` and no longer `train`.
        on_problem: told of every faulty line or file, which is then left out.

    Raises:
        UserError: no class folder or no image, or by default any faulty line.
    """
    image_root = root / ("train" if split == "held" else split)
    if not image_root.is_dir():
        if split in ("train", "held"):
            raise UserError("no such folder", where=image_root, expected="train/<class>/<image>")
        image_root = root
    classes = _class_folders(image_root)
    found = _read_boxes(boxes, image_root, on_problem) if boxes else {}
    samples = []
    for label, folder in enumerate(classes):
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() and path.is_dir():
                on_problem(UserError("this link leads to a folder, which is not looked into", where=path,
                                     do="put the link in the class folder's own place"))  # fmt: skip
            elif path.suffix.lower() in EXTENSIONS and not path.is_dir():
                image_id = path.relative_to(image_root).as_posix()
                try:
                    inside(image_root, image_id, where=image_root)
                except UserError as problem:
                    on_problem(problem)
                    continue
                samples.append(Sample(image_id, path, label, np.array(found.pop(image_id, [])).reshape(-1, 4)))
    if not samples:
        raise UserError(
            "no image in any class folder", where=image_root, expected=f"files ending in {EXTENSIONS[0]} ..."
        )
    if found and split != "held":
        example = next(iter(found))
        on_problem(UserError(f"{len(found)} of its paths are no image there, {example!r} among them", where=boxes,
                             expected=f"paths relative to {image_root}"))  # fmt: skip
    if held_per_class and split in ("train", "held"):
        fit, held = hold_out(samples, held_per_class)
        samples = list(held if split == "held" else fit)
    elif split == "held":
        raise UserError("the split 'held' is empty", do="say how many images a class with --data.held-per-class")
    return Dataset("folder", split, tuple(samples), tuple(folder.name for folder in classes))


def _class_folders(image_root: Path) -> list[Path]:
    if not image_root.is_dir():
        raise UserError("no such folder", where=image_root, do="name the folder of class folders with --data.root")
    classes = sorted(path for path in image_root.iterdir() if path.is_dir() and not path.name.startswith("."))
    for folder in classes:
        inside(image_root, folder.name, where=image_root)
    if not classes:
        raise UserError("no class folder is there", where=image_root, expected="a folder for each class")
    return classes


def _read_boxes(path: Path, image_root: Path, on_problem: OnProblem) -> dict[str, list[np.ndarray]]:
    boxes: dict[str, list[np.ndarray]] = {}
    for index, (line, row) in enumerate(csv_rows(path)):
        if index == 0 and row[1:] == ["x0", "y0", "x1", "y1"]:
            continue
        try:
            if len(row) != 5:
                raise UserError(f"{len(row)} cells", where=path, line=line, expected="path,x0,y0,x1,y1")
            inside(image_root, row[0], where=path, line=line)
            box = numbers(row[1:], where=path, line=line, what="the box")
            if box[0] >= box[2] or box[1] >= box[3]:
                raise UserError(f"the box {' '.join(row[1:])} is empty or inside out", where=path, line=line,
                                expected="x0 < x1 and y0 < y1")  # fmt: skip
            boxes.setdefault(row[0], []).append(box)
        except UserError as problem:
            on_problem(problem)
    return boxes
