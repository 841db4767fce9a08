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

Boxes that lie within 0 to 1 are fractions of the image, and refused; so are heads that fit two ways. A line that says a
box again counts once, with a note.
"""

import csv
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.datasets.files.text import lines, numbers, refuse_fractions
from common.datasets.sample import OnProblem, raise_problem
from common.measuring.boxes import from_xywh
from common.system.errors import UserError, inside

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
        repeated: paths of lines that say again what an earlier one says, and are no boxes of their own.
    """

    file: Path
    boxes: dict[str, list[np.ndarray]] = field(default_factory=dict)
    negatives: set[str] = field(default_factory=set)
    classes: dict[str, list[str]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    scored: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

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
            elif _is_there(table, name, box, _class_of(cells, shape)):
                table.repeated.append(name)
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


def _is_there(table: BoxTable, name: str, box: np.ndarray, of_class: str) -> bool:
    """Whether an earlier line holds the same box (4,) of the same image and class."""
    earlier = zip(table.boxes.get(name, ()), table.classes.get(name, ()), strict=True)
    return any(np.array_equal(one, box) and other == of_class for one, other in earlier)


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
