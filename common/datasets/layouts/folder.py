"""A plain folder of class folders, with an optional CSV file of boxes: the way to bring one's own data.

    root/<split>/               or root/ itself where there are no splits: the split `all`
        some class/picture.jpg
        other class/deeper/picture.png
    boxes.csv                   path,x0,y0,x1,y1; see `boxes_csv` for its many shapes

Classes are numbered by the sorted names of their folders. Boxes are in pixels of the image as stored, end-exclusive.
`pictures.files` says which files are images.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.datasets.files import boxes_csv
from common.datasets.layouts.boxes_of_split import SplitBoxes, SplitFolder, of_split
from common.datasets.sample import Dataset, OnProblem, Sample, fit_or_held, raise_problem
from common.datasets.splits import WHOLE, are_splits, present
from common.measuring.boxes import as_boxes
from common.pictures.files import data_folders, images_below
from common.system.errors import UserError, inside
from common.system.wording import number_of, some

NO_IMAGES = {"mask", "masks", "gt", "groundtruth", "ground_truth", "segmentation", "segmentations", "annotation",
             "annotations", "label", "labels"}  # fmt: skip
"""Names of folders beside images that hold something else, in lower case."""
NO_CLASSES = NO_IMAGES | {"image", "images", "img", "imgs", "jpegimages"}
"""Names that the folders of a data set have which is not arranged by class."""


def load(
    root: Path,
    split: str,
    boxes: Path | None = None,
    held_per_class: int = 0,
    on_problem: OnProblem = raise_problem,
) -> Dataset:
    """The images of `root/<split>`; those of `root` itself only where the split is `all`.

    Args:
        root: the folder described above.
        split: `train`, `test` or any folder's name; `held` draws from `train`; `all` is a root without splits.
        boxes: CSV file of boxes; without it samples have none and can be localized but not scored.
        held_per_class: how many training images of each class are `held` and no longer `train`.
        on_problem: told of every faulty line or file, which is then left out.

    Raises:
        UserError: no such split, no class folder or no image, or by default any faulty line.
    """
    image_root = _image_root(root, split)
    passed_over: Counter[str] = Counter()
    classes = _class_folders(image_root, passed_over)
    paths = list(_images(image_root, classes, passed_over, on_problem))
    if not paths:
        raise UserError("no image in any class folder", where=image_root, expected="files ending in .jpg, .png ...")
    found = SplitBoxes({}, set())
    if boxes:
        siblings = [path.name for path in data_folders(root, Counter())] if image_root != root else []
        image_ids = [image_id for image_id, _, _ in paths]
        folder = SplitFolder(root, image_root, split, siblings, image_ids)
        found = of_split(boxes_csv.read(boxes, on_problem), folder, on_problem)
    samples = [
        Sample(
            image_id,
            path,
            label,
            as_boxes(found.boxes.get(image_id, [])),
            image_id in found.negatives,
            declared_size=found.sizes.get(image_id),
        )
        for image_id, path, label in paths
    ]
    kept = fit_or_held(samples, split, held_per_class)
    names = tuple(folder.name for folder in classes)
    notes = (*found.notes, *_odd_folders(names, [image_id for image_id, _, _ in paths]))
    return Dataset("folder", split, kept, names, passed_over=dict(passed_over), notes=notes)


def _odd_folders(classes: Sequence[str], image_ids: Sequence[str]) -> Iterator[str]:
    """Notes: classes whose names differ in case alone, images in several folders of a class, which may be classes
    themselves, and images in folders called as masks' are.
    """
    forms = Counter(name.casefold() for name in classes)
    if twice := [name for name in classes if forms[name.casefold()] > 1]:
        yield f"the classes {' and '.join(twice[:2])} differ in case alone, and are two classes"
    below: dict[str, set[str]] = {}
    for name, *folders, _ in (image_id.split("/") for image_id in image_ids):
        below.setdefault(name, set()).update(folders[:1])
    if parted := [name for name, folders in below.items() if len(folders) > 1]:
        inner = some(sorted(below[parted[0]]), 2)
        yield (f"the class {parted[0]} has images in several folders of its own, {inner}, which are no classes; "
               f"{len(parted)} of {len(below)} classes are so")  # fmt: skip
    within = [image_id for image_id in image_ids if NO_IMAGES & {*image_id.lower().split("/")[1:-1]}]
    if within:
        what = number_of(len(within), "image lies in a folder called as one", "images lie in folders called as those")
        yield f"{what} of masks: {some(within, 1)}"


def _image_root(root: Path, split: str) -> Path:
    """The folder of class folders. A split that is not there is refused: the root's folders may be other splits."""
    if split == WHOLE and not (root / WHOLE).is_dir():
        folders = [path.name for path in data_folders(root, Counter())]
        if are_splits(folders):
            raise UserError(f"its folders {', '.join(folders[:4])} are called as splits, not as classes", where=root,
                            do="name one of them with --data.split")  # fmt: skip
        return root
    image_root = inside(root, "train" if split == "held" else split, where=root)
    if image_root.is_dir():
        return image_root
    if found := present(root):
        raise UserError("no such split", where=image_root, expected=f"one of {', '.join(found)}",
                        do="name it with --data.split")  # fmt: skip
    raise UserError("no such split", where=image_root, expected=f"{image_root.name}/<class>/<image>",
                    do=f"say --data.split {WHOLE} where the class folders lie in {root} itself")  # fmt: skip


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
    names: dict[str, str] = {}
    for folder in classes:
        inside(image_root, folder.name, where=image_root)
        other = names.setdefault(unicodedata.normalize("NFC", folder.name).strip(), folder.name)
        if other != folder.name:
            apart = "in blanks alone" if other.strip() != other or folder.name.strip() != folder.name else (
                "in the two Unicode forms of its accents")  # fmt: skip
            raise UserError(f"two folders are called {folder.name.strip()}, {apart}", where=image_root,
                            do="put their images into one")  # fmt: skip
    if len(classes) > 1 and all(folder.name.lower() in NO_CLASSES for folder in classes):
        raise UserError(f"its folders {', '.join(folder.name for folder in classes[:4])} are called as a data set's "
                        "parts, not as classes", where=image_root, expected="a folder for each class",
                        do="put the images into folders by class, and name masks or boxes otherwise")  # fmt: skip
    if not classes:
        raise UserError("no class folder is there", where=image_root, expected="a folder for each class")
    return classes
