"""CUB-200-2011 from its official layout.

    CUB_200_2011/
        images.txt                `1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg`
        image_class_labels.txt    `1 1`
        train_test_split.txt      `1 0`            1 is train
        bounding_boxes.txt        `1 60.0 27.0 325.0 304.0`     x y width height
        classes.txt               `1 001.Black_footed_Albatross`
        images/                   or image/, as SPOL calls it
        segmentations/            optional; also found beside the folder, where its own archive unpacks it

Labels are class numbers minus one. Boxes become `x0 y0 x1 y1` with `x1 = x + width`, as all four papers take them.
"""

from pathlib import Path

from common.datasets.files.text import lines, new_id, numbers, whole_number
from common.datasets.sample import Dataset, OnProblem, Sample, fit_or_held, raise_problem
from common.measuring.boxes import from_xywh
from common.system.errors import UserError, inside

SPLITS = ("train", "test", "held")
COUNTS = {"classes": 200, "train": 5994, "test": 5794}

_HELP = "name the folder that holds images.txt, bounding_boxes.txt and the rest with --data.root"


_WIDTHS = {"train_test_split.txt": 1, "image_class_labels.txt": 1, "bounding_boxes.txt": 4}
"""Values that each line has behind the image's number."""


def load(
    root: Path, split: str, held_per_class: int = 0, on_problem: OnProblem = raise_problem, name: str = "cub"
) -> Dataset:
    """One split of CUB-200-2011, or of any data set in its layout.

    Args:
        root: the folder described above.
        split: `train`, `test`, or `held`: training images held out to choose thresholds on.
        held_per_class: how many training images of each class are `held` and no longer `train`.
        on_problem: told of every faulty line, which is then left out.
        name: the data set's name in manifests.

    Raises:
        UserError: a list file is missing, or by default any faulty line.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}", where=root, expected=" or ".join(SPLITS))
    image_root = find_image_root(root)
    segmentations = _find_segmentations(root)
    class_names = _class_names(root, on_problem)
    tables = {name: _table(root / name, width, on_problem) for name, width in _WIDTHS.items()}
    wanted = "0" if split == "test" else "1"
    samples: list[Sample] = []
    seen: dict[str, int] = {}
    for number, (line, (image_id,)) in _table(root / "images.txt", 1, on_problem).items():
        where = root / "images.txt"
        try:
            if missing := [name for name, rows in tables.items() if number not in rows]:
                raise UserError(f"image {number} has no line in {' and '.join(missing)}", where=where, line=line)
            if _flag(root, tables["train_test_split.txt"][number]) != wanted:
                continue
            label = _label(root, tables["image_class_labels.txt"][number], class_names, image_id)
            samples.append(
                Sample(
                    image_id=new_id(image_id, seen, where=where, line=line),
                    path=inside(image_root, image_id, where=where, line=line),
                    label=label,
                    boxes=_box(root, tables["bounding_boxes.txt"][number]),
                    masks=_masks(segmentations, image_id),
                )
            )
        except UserError as problem:
            on_problem(problem)
    notes = ()
    if segmentations is not None and samples and not any(sample.masks for sample in samples):
        named = Path(samples[0].image_id).with_suffix(".png").as_posix()
        notes = (f"{segmentations}: none of its files is an image's mask, such as {named}, so no image has one",)
    return Dataset(name, split, fit_or_held(samples, split, held_per_class), class_names, mask_over=128, notes=notes)


def find_image_root(root: Path) -> Path:
    """`images/` of the official archive, or `image/` of SPOL's layout.

    Raises:
        UserError: neither is there.
    """
    for candidate in ("images", "image"):
        if (root / candidate).is_dir():
            return root / candidate
    raise UserError("neither images/ nor image/ is there", where=root, expected="the folder CUB_200_2011", do=_HELP)


def _find_segmentations(root: Path) -> Path | None:
    for candidate in (root / "segmentations", root.parent / "segmentations"):
        if candidate.is_dir():
            return candidate
    return None


def _masks(segmentations: Path | None, image_id: str) -> tuple[Path, ...]:
    path = None if segmentations is None else segmentations / Path(image_id).with_suffix(".png")
    return (path,) if path is not None and path.is_file() else ()


def _table(path: Path, columns: int, on_problem: OnProblem) -> dict[int, tuple[int, list[str]]]:
    """`number value ...` lines as number -> (line, values); a single value may hold blanks, as names do."""
    table: dict[int, tuple[int, list[str]]] = {}
    for line, text in lines(path, do=_HELP):
        try:
            first, *values = text.split(None, 1) if columns == 1 else text.split()
            values = [value.rstrip() for value in values]
            number = whole_number(first, where=path, line=line, least=1, what="the first column")
            if len(values) != columns:
                raise UserError(f"{len(values) + 1} columns", where=path, line=line, expected=f"{columns + 1}")
            if number in table:
                raise UserError(
                    f"image {number} stands here twice", where=path, line=line, do="remove one of the lines"
                )
            table[number] = (line, values)
        except UserError as problem:
            on_problem(problem)
    return table


def _class_names(root: Path, on_problem: OnProblem) -> tuple[str, ...]:
    path = root / "classes.txt"
    table = _table(path, 1, on_problem)
    if sorted(table) != list(range(1, len(table) + 1)) or not table:
        on_problem(UserError(f"{len(table)} classes not numbered 1 to {len(table)}", where=path))
    seen: dict[str, int] = {}
    for line, (name,) in table.values():
        if seen.setdefault(name, line) != line:
            on_problem(UserError(f"{name} stands here twice, first in line {seen[name]}", where=path, line=line,
                                 expected="a name for each class"))  # fmt: skip
    return tuple(values[0] for _, (_, values) in sorted(table.items()))


def _flag(root: Path, row: tuple[int, list[str]]) -> str:
    line, (flag,) = row
    if flag not in ("0", "1"):
        raise UserError(f"the split is {flag!r}", where=root / "train_test_split.txt", line=line,
                        expected="0 (test) or 1 (train)")  # fmt: skip
    return flag


def _label(root: Path, row: tuple[int, list[str]], class_names: tuple[str, ...], image_id: str) -> int:
    """The image's class, which is not another one than its folder is named after."""
    line, (text,) = row
    path = root / "image_class_labels.txt"
    label = whole_number(text, where=path, line=line, least=1, most=len(class_names), what="the class") - 1
    folder = image_id.split("/")[0]
    if folder != class_names[label] and folder in class_names:
        raise UserError(f"{image_id} is of class {label + 1}, {class_names[label]}", expected=folder, where=path,
                        line=line)  # fmt: skip
    return label


def _box(root: Path, row: tuple[int, list[str]]):
    line, texts = row
    path = root / "bounding_boxes.txt"
    box = numbers(texts, where=path, line=line, what="the box")
    if (box[2:] <= 0).any():
        raise UserError(f"the box {' '.join(texts)} is empty", where=path, line=line, expected="x y width height")
    return from_xywh(box)
