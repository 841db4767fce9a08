"""A plain folder of class folders, with an optional CSV file of boxes: the way to bring one's own data.

    root/                       or, with splits, root/<split>/
        some class/picture.jpg
        other class/deeper/picture.png
    boxes.csv                   path,x0,y0,x1,y1; see `boxes_csv` for its many shapes

Classes are numbered by the sorted names of their folders. Boxes are in pixels of the image as stored, end-exclusive.
`pictures.files` says which files are images.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.datasets import boxes_csv
from common.datasets.boxes_csv import SplitBoxes, of_split
from common.datasets.sample import Dataset, OnProblem, Sample, hold_out, raise_problem
from common.measuring.boxes import as_boxes
from common.pictures.files import data_folders, images_below
from common.system.errors import UserError, inside


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
    passed_over: Counter[str] = Counter()
    classes = _class_folders(image_root, passed_over)
    paths = list(_images(image_root, classes, passed_over, on_problem))
    if not paths:
        raise UserError("no image in any class folder", where=image_root, expected="files ending in .jpg, .png ...")
    found = SplitBoxes({}, set())
    if boxes:
        siblings = [path.name for path in data_folders(root, Counter())] if image_root != root else []
        image_ids = [image_id for image_id, _, _ in paths]
        found = of_split(boxes_csv.read(boxes, on_problem), root, image_root, split, siblings, image_ids, on_problem)
    samples = [
        Sample(image_id, path, label, as_boxes(found.boxes.get(image_id, [])), image_id in found.negatives)
        for image_id, path, label in paths
    ]
    if held_per_class and split in ("train", "held"):
        fit, held = hold_out(samples, held_per_class)
        samples = list(held if split == "held" else fit)
    elif split == "held":
        raise UserError("the split 'held' is empty", do="say how many images a class with --data.held-per-class")
    names = tuple(folder.name for folder in classes)
    return Dataset("folder", split, tuple(samples), names, passed_over=dict(passed_over), notes=found.notes)


def _images(
    image_root: Path, classes: Sequence[Path], passed_over: Counter[str], on_problem: OnProblem
) -> Iterator[tuple[str, Path, int]]:
    """Image id, path and label of every image."""
    for label, folder in enumerate(classes):
        for path in images_below(folder, passed_over):
            if path.is_dir():
                on_problem(UserError("this link leads to a folder, which is not looked into", where=path,
                                     do="put the link in the class folder's own place"))  # fmt: skip
                continue
            image_id = path.relative_to(image_root).as_posix()
            try:
                inside(image_root, image_id, where=image_root)
                yield image_id, path, label
            except UserError as problem:
                on_problem(problem)


def _class_folders(image_root: Path, passed_over: Counter[str]) -> list[Path]:
    if not image_root.is_dir():
        raise UserError("no such folder", where=image_root, do="name the folder of class folders with --data.root")
    classes = data_folders(image_root, passed_over)
    for folder in classes:
        inside(image_root, folder.name, where=image_root)
    if not classes:
        raise UserError("no class folder is there", where=image_root, expected="a folder for each class")
    return classes
