"""A CSV file of boxes, in the shapes in which people, spreadsheets and annotation tools write it.

    path,x0,y0,x1,y1                 pixels of the stored image, end-exclusive; one line a box
    cat/1.jpg,10,20,110,90
    cat/2.jpg,,,,                    an image that holds no object

| what may differ | how |
|---|---|
| head | any order, further columns; without one the five cells above, and perhaps a class name as sixth |
| corners | `x0 y0 x1 y1`, `xmin ymin xmax ymax`, `x1 y1 x2 y2`, `left top right bottom` |
| or sides | `x y`, `xmin ymin`, `x0 y0`, `x1 y1` or `left top`, and `width height` or `w h` |
| before any of these | `bbox_`, which tells the box's columns from the image's `width` and `height` |
| between cells | comma, semicolon, tab; `sep=;` as Excel writes it; with the last two also a decimal comma |
| text | UTF-8, or UTF-16 with its mark; any line ends; `#` lines before the head |
| paths | `/` or `\\`, `./` before them, either Unicode form of an accent |
| split | a path from the root (`test/cat/1.jpg`), a column `split`, or a path from the split's folder |
| image's size | `width height` beside corners, or `image_width image_height`: what the boxes are pixels of |
| score | `score`, `confidence` or `threshold`: boxes are taken as the truth all the same, and that is said |
| class | `class` or `label`, or the sixth cell: where it names image folders, boxes of other classes are left out |

Boxes that lie within 0 to 1 are fractions of the image, and refused; so are heads that fit two ways.
"""

import csv
import os
import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.datasets.sample import OnProblem, raise_problem
from common.datasets.text import lines, numbers, refuse_fractions
from common.measuring.boxes import from_xywh
from common.system.errors import UserError, inside
from common.system.wording import number_of, some

EXPECTED = "path,x0,y0,x1,y1"
_DELIMITERS: tuple[str, ...] = (",", ";", "\t")
_PATH = ("path", "file_path", "filepath", "image_path", "img_path", "filename", "file_name", "image_name", "file",
         "image", "img", "image_id", "imageid", "name")  # fmt: skip
_CORNERS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"),
            ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"))  # fmt: skip
_SIDES = tuple(
    (*corner, *sides)
    for corner in (("x", "y"), *(each[:2] for each in _CORNERS))
    for sides in (("width", "height"), ("w", "h"))
)
_SPLIT = ("split", "subset")
_CLASS = ("class", "class_name", "classname", "label", "label_name", "labelname", "category")
_SCORE = ("score", "confidence", "conf", "probability", "threshold")
_SIZE = (("image_width", "image_height"), ("img_width", "img_height"), ("width", "height"))


@dataclass(frozen=True)
class _Shape:
    """Places of a row's cells: columns of path, box, split, class and the image's size, and whether the box is a corner
    and sides.
    """

    delimiter: str
    path: int
    box: tuple[int, ...]
    sides: bool = False
    split: int | None = None
    head: bool = True
    label: int | None = None
    size: tuple[int, ...] = ()
    score: int | None = None


@dataclass(frozen=True)
class BoxTable:
    """Contents of a file of boxes.

    Attributes:
        file: where it lies.
        boxes: (4,) float64 `x0 y0 x1 y1` by path, as the file has it with `/`.
        negatives: paths of images that hold no object.
        classes: of each box, "" where its line has none.
        sizes: width and height of the image that a box was drawn on, where its line says them.
        scored: paths of boxes that have a score or threshold other than 1, as predicted ones have.
    """

    file: Path
    boxes: dict[str, list[np.ndarray]] = field(default_factory=dict)
    negatives: set[str] = field(default_factory=set)
    classes: dict[str, list[str]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    scored: list[str] = field(default_factory=list)

    def paths(self) -> list[str]:
        """All paths, in the file's order but negatives last."""
        return [*self.boxes, *sorted(self.negatives - self.boxes.keys())]


def read(path: Path, on_problem: OnProblem = raise_problem) -> BoxTable:
    """Read a file in any of the shapes above.

    Args:
        path: the file.
        on_problem: told of every faulty line, which is then left out.

    Raises:
        UserError: not a text file, or by default any faulty line.
    """
    rows = list(lines(path, utf16=True))
    shape, first = _shape(path, rows)
    table, seen = BoxTable(path), []
    for line, text in rows[first:]:
        try:
            cells = _cells(path, line, text, shape.delimiter)
            name, box = _row(path, line, cells, shape)
            if box is None:
                table.negatives.add(name)
            else:
                table.boxes.setdefault(name, []).append(box)
                table.classes.setdefault(name, []).append(_class_of(cells, shape))
                seen.append((line, box))
                if shape.score is not None and _is_number(score := "".join(cells[shape.score : shape.score + 1])):
                    table.scored.extend([name] if float(score.replace(",", ".")) != 1 else [])
                _note_size(table, name, cells, shape, line)
        except UserError as problem:
            on_problem(problem)
    if not seen and not table.negatives and not rows[first:]:
        on_problem(UserError("no line with a box", where=path, expected=EXPECTED))
    if both := table.negatives & table.boxes.keys():
        on_problem(UserError(f"{min(both)} has a box in one line and none in another", where=path))
    if not _are_images(table):
        table.sizes.clear()
    fractions = [line for line, box in seen if box.min() > -1 and box.max() <= 1]
    try:
        refuse_fractions((box for _, box in seen), where=path, line=seen[0][0] if seen else None)
        if fractions:
            raise UserError(f"{len(fractions)} of {len(seen)} boxes lie within 0 to 1, as fractions of the image do",
                            where=path, line=fractions[0], expected="pixels in every line")  # fmt: skip
    except UserError as problem:
        on_problem(problem)
        table.boxes.clear()
    return table


def _shape(path: Path, rows: Sequence[tuple[int, str]]) -> tuple[_Shape, int]:
    """The file's shape, and the index of its first row of data."""
    first, delimiters = 0, _DELIMITERS
    if rows and (found := re.fullmatch(r"\"?sep=(.)\"?", rows[0][1].strip("\ufeff \r"), re.IGNORECASE)):
        first, delimiters = 1, (found[1],)
    while (
        first < len(rows) and rows[first][1].lstrip().startswith("#") and len(rows[first][1].split(delimiters[0])) < 5
    ):
        first += 1
    default = _Shape(delimiters[0], 0, (1, 2, 3, 4), head=False)
    if first == len(rows):
        return default, first
    line, text = rows[first]
    for delimiter in delimiters:
        try:
            cells = _cells(path, line, text, delimiter)
        except UserError:
            continue
        if (shape := _named(cells, delimiter, path, line)) is not None:
            return shape, first + 1
        if len(cells) >= 5 and (all(_is_number(cell) for cell in cells[1:5]) or not any(cells[1:5])):
            return _Shape(delimiter, 0, (1, 2, 3, 4), head=False), first
    if not any(map(_is_number, _cells(path, line, text, default.delimiter))) and len(rows) > first + 1:
        raise UserError(f"the head {text.strip()!r} names no box and its path", where=path, line=line,
                        expected=f"{EXPECTED}, or path,x,y,width,height of its upper left corner")  # fmt: skip
    return default, first


def _named(cells: Sequence[str], delimiter: str, file: Path, line: int) -> _Shape | None:
    """The shape that a head names, None where it is no head.

    Raises:
        UserError: it fits in two ways, as with the image's width and height beside the box's.
    """
    full = [re.sub(r"[\s.\-]+", "_", cell.strip().lower()) for cell in cells]
    names = [re.sub(r"^(bbox|box|bb)_", "", name) for name in full]
    path = next((names.index(name) for name in _PATH if name in names), None)
    split = next((names.index(name) for name in _SPLIT if name in names), None)
    if path is None:
        return None
    for kind, sides in ((_CORNERS, False), (_SIDES, True)):
        found = [[_column(name, names, full) for name in each] for each in kind if set(each) <= set(names)]
        marked = [sum(full[column] != names[column] for column in each) for each in found]
        if found := [each for each, count in zip(found, marked, strict=True) if count == max(marked)]:
            twice = any(names.count(names[column]) > 1 and full[column] == names[column] for column in found[0])
            if len(found) > 1 or twice:
                raise UserError(f"the head {delimiter.join(cells)!r} fits a box in two ways", where=file, line=line,
                                do="write bbox_ before the names of the box's four columns")  # fmt: skip
            label = next((names.index(name) for name in _CLASS if name in names), None)
            sizes = ([full.index(name) for name in each] for each in _SIZE if set(each) <= set(full))
            size = next((tuple(each) for each in sizes if not set(each) & set(found[0])), ())
            score = next((names.index(name) for name in _SCORE if name in names), None)
            return _Shape(delimiter, path, tuple(found[0]), sides, split, label=label, size=size, score=score)
    return None


def _class_of(cells: Sequence[str], shape: _Shape) -> str:
    """The class that a row says its box is of, "" where it says none."""
    place = shape.label if shape.head else 5
    return cells[place] if place is not None and place < len(cells) else ""


def _note_size(table: BoxTable, name: str, cells: Sequence[str], shape: _Shape, line: int) -> None:
    """Add the size of a row's image, where it holds one.

    Raises:
        UserError: an earlier row has another.
    """
    texts = [cells[place] for place in shape.size if place < len(cells)]
    if len(texts) == 2 and all(re.fullmatch(r"[1-9]\d{0,6}(\.0*)?", text, re.ASCII) for text in texts):
        size = (int(float(texts[0])), int(float(texts[1])))
        if table.sizes.setdefault(name, size) != size:
            above = " x ".join(map(str, table.sizes[name]))
            raise UserError(f"{name} is {size[0]} x {size[1]}, and {above} above", where=table.file, line=line,
                            expected="the image's width and height")  # fmt: skip


def _are_images(table: BoxTable) -> bool:
    """Whether a table's sizes are its images', which hold their boxes, and not the boxes' own."""
    fits = [size[0] + 1 >= box[2] and size[1] + 1 >= box[3]
            for path, size in table.sizes.items() for box in table.boxes[path]]  # fmt: skip
    own = [abs(size[0] - box[2] + box[0]) <= 1 and abs(size[1] - box[3] + box[1]) <= 1
           for path, size in table.sizes.items() for box in table.boxes[path]]  # fmt: skip
    return all(fits) and not all(own)


def _column(name: str, names: Sequence[str], full: Sequence[str]) -> int:
    """The place of a column; one that has `bbox_` before its name comes first."""
    places = [place for place, each in enumerate(names) if each == name]
    return next((place for place in places if full[place] != name), places[0])


def _cells(path: Path, line: int, text: str, delimiter: str) -> list[str]:
    try:
        (row,) = csv.reader([text], strict=True, delimiter=delimiter)
    except (csv.Error, ValueError, TypeError) as error:
        raise UserError(f"not a row of a CSV file ({error})", where=path, line=line) from error
    return [cell.strip() for cell in row]


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d+)?", cell, re.IGNORECASE | re.ASCII) is not None


def _row(path: Path, line: int, cells: list[str], shape: _Shape) -> tuple[str, np.ndarray | None]:
    """A row's path and box; None where the image holds no object."""
    full = cells
    if not shape.head:
        while len(cells) > 5 and not cells[-1]:
            cells = cells[:-1]
        if len(cells) == 6 and not _is_number(cells[5]):  # keras-retinanet's class
            cells = cells[:5]
    if max(shape.path, *shape.box) >= len(cells) or (not shape.head and len(cells) != 5):
        expected = EXPECTED if not shape.head else "the cells that the head names"
        raise UserError(f"{len(full)} cells", where=path, line=line, expected=expected)
    name = cells[shape.path].replace("\\", "/")
    if shape.split is not None and shape.split < len(cells) and cells[shape.split]:
        name = f"{cells[shape.split]}/{name.removeprefix(cells[shape.split] + '/')}"
    inside(Path("the image folder"), name, where=path, line=line)
    texts = [cells[column] for column in shape.box]
    if not any(texts):
        return posixpath.normpath(name), None
    if shape.delimiter != ",":
        texts = [text.replace(",", ".") for text in texts]
    box = numbers(texts, where=path, line=line, what="the box")
    if shape.sides:
        box = from_xywh(box)[0]
    if box[0] >= box[2] or box[1] >= box[3]:
        expected = "width and height above 0" if shape.sides else "x0 < x1 and y0 < y1"
        raise UserError(f"the box {' '.join(texts)} is empty or inside out", where=path, line=line, expected=expected)
    return posixpath.normpath(name), box


@dataclass(frozen=True)
class SplitBoxes:
    """Contents of a file of boxes that are of one split.

    Attributes:
        boxes: by image id.
        negatives: ids of images that hold no object.
        notes: what the user should know.
        sizes: width and height of the images that boxes were drawn on, by image id, where the file says them.
    """

    boxes: dict[str, list[np.ndarray]]
    negatives: set[str]
    notes: tuple[str, ...] = ()
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)


def of_split(
    table: BoxTable,
    root: Path,
    image_root: Path,
    split: str,
    siblings: Collection[str],
    image_ids: Collection[str],
    on_problem: OnProblem = raise_problem,
) -> SplitBoxes:
    """The boxes of one split's images.

    A path that starts with a split's name belongs to that split. Another one is relative to the split's folder; where
    a file of that name lies in two splits it could be either's. It is then taken for the evaluation split's, and said
    to be so, and is never given to training images; between two evaluation splits it is refused.

    Args:
        table: the file's rows.
        root: the data set's folder.
        image_root: the split's, `root` itself where there are no splits.
        split: its name; `held` images lie in `train`.
        siblings: names of all split folders in `root`.
        image_ids: the split's, relative to `image_root`.
        on_problem: told of paths that are no image anywhere, and of ambiguous ones.
    """
    own = "" if image_root == root else image_root.name
    others = [name for name in siblings if own and name != own]
    mine, doubtful, unknown = _found(table, root, own, others, image_ids)
    if unknown:
        what = number_of(len(unknown), "of its paths is no image", "of its paths are no images")
        on_problem(UserError(f"{what} there: {some([repr(path) for path in unknown], 1)}", where=table.file,
                             expected=f"paths relative to {image_root} or {root}" if own else
                             f"paths relative to {image_root}", do="mend the path, or remove its line"))  # fmt: skip
    dropped, notes = _doubts(table, own, split, doubtful, on_problem)
    kept = {path: image_id for path, image_id in mine.items() if path not in dropped}
    if scored := [path for path in table.scored if path in kept]:
        what = number_of(len(scored), "box has a score or threshold", "boxes have scores or thresholds")
        notes += (f"{table.file}: {what}, as predicted ones have; all are taken as the truth",)
    others_boxes = dict.fromkeys(_of_other_classes(table, kept))
    boxes: dict[str, list[np.ndarray]] = {}
    for path, image_id in kept.items():
        if path in table.boxes:
            found = enumerate(table.boxes[path])
            boxes.setdefault(image_id, []).extend(box for place, box in found if (path, place) not in others_boxes)
    if others_boxes:
        path, place = next(iter(others_boxes))
        what = number_of(
            len(others_boxes), "box of another class than its image", "boxes of other classes than their images"
        )
        notes += (f"{table.file}: {what} left out: {table.classes[path][place]} in {path}",)
    negatives = {image_id for path, image_id in kept.items() if path in table.negatives} - boxes.keys()
    return SplitBoxes(boxes, negatives, notes, {kept[path]: size for path, size in table.sizes.items() if path in kept})


def _found(
    table: BoxTable, root: Path, own: str, others: Sequence[str], image_ids: Collection[str]
) -> tuple[dict[str, str], dict[str, list[str]], list[str]]:
    """Image id by path of the file, the other splits that hold an image of that path, and paths of no image.

    Args:
        table: the file's rows.
        root: the data set's folder.
        own: name of the split's folder, "" where there are no splits.
        others: names of the other splits' folders.
        image_ids: the split's.
    """
    known = {unicodedata.normalize("NFC", image_id): image_id for image_id in image_ids}
    known.update({image_id: image_id for image_id in image_ids})
    mine: dict[str, str] = {}
    doubtful: dict[str, list[str]] = {}
    unknown = []
    for path in table.paths():
        for form in (path, unicodedata.normalize("NFC", path)):
            if own and form.startswith(f"{own}/") and form[len(own) + 1 :] in known:
                mine[path] = known[form[len(own) + 1 :]]
            elif form in known:
                mine[path] = known[form]
                doubtful.update({path: found} if (found := list(_holding(root, others, form))) else {})
        if path not in mine and not (own and _is_elsewhere(root, others, path)):
            unknown.append(path)
    return mine, doubtful, unknown


def _of_other_classes(table: BoxTable, kept: Mapping[str, str]) -> list[tuple[str, int]]:
    """Path and place of each box whose line names another class than its image's folder: none where no line names that,
    since the file's classes are then no folders.
    """
    right, wrong = 0, []
    for path, image_id in kept.items():
        for place, name in enumerate(table.classes.get(path, ())):
            if name and _plain(name) == _plain(image_id.split("/")[0]):
                right += 1
            elif name:
                wrong.append((path, place))
    return wrong if right else []


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()


def _holding(root: Path, splits: Sequence[str], path: str) -> Iterator[str]:
    return (name for name in splits if os.path.lexists(root / name / path))


def _is_elsewhere(root: Path, splits: Sequence[str], path: str) -> bool:
    within = any(path.startswith(f"{name}/") for name in splits) and os.path.lexists(root / path)
    return within or next(_holding(root, splits, path), None) is not None


def _doubts(
    table: BoxTable, own: str, split: str, doubtful: dict[str, list[str]], on_problem: OnProblem
) -> tuple[Collection[str], tuple[str, ...]]:
    """The paths that are not this split's after all, and what to say of it."""
    if not doubtful:
        return (), ()
    path, others = next(iter(doubtful.items()))
    rival = next((name for name in others if name != "train"), None)
    told = f"{len(doubtful)} of its paths, {path!r} among them, are images of {own} and of {rival or others[0]}"
    if split == "train":
        return doubtful, (f"{table.file}: {told}; training images get no boxes from them; write {own}/{path} if they "
                          "are its own",)  # fmt: skip
    if split == "held" or rival is not None:
        on_problem(UserError(told, where=table.file, expected=f"paths that say which, such as {own}/{path}",
                             do="write the split before them, or give a column 'split'"))  # fmt: skip
        return doubtful, ()
    return (), (f"{table.file}: {told}; taken as {own}'s; write {own}/{path} to say so",)
