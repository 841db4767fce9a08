"""The text files that GRCAM's four steps hand to each other, one line an image.

class file                              `ILSVRC2012_val_00000001.JPEG,1,1,65`: Top-1, Top-5 correct, predicted class;
                                        `a.jpg,-,-,517` where the classifier's classes are not the data set's
box file, one for each of nine th,      `ILSVRC2012_val_00000001.JPEG,12, 200, 30, 223`: x0, x1, y0, y1
    `<prefix>0.85.txt` ...
pseudo-box file                         as a box file

Coordinates are whole pixels of the 224 x 224 frame. The release appends to these files, so that a second run doubles
every line (quirk Q14); here they are written as a whole, and a doubled line is refused.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.datasets import trained
from common.datasets.files.text import lines, whole_number
from common.system.errors import UserError, inside
from common.system.files import read_json, sha256, write_json, write_text
from grcam.config import SIDE

UNKNOWN = -1
"""Top-1 and Top-5 where nobody knows whether the predicted class is right; `-` in the file."""


@dataclass(frozen=True)
class Row:
    """An image's values in a file: (3,) of a class file, (4,) of a box file; and the 1-based line. What a class file
    calls unknown is `UNKNOWN`.
    """

    line: int
    values: tuple[int, ...]


@dataclass(frozen=True)
class Table:
    """A file as read.

    Attributes:
        path: of the file.
        rows: each image's rows; one, unless doubled lines were let in.
    """

    path: Path
    rows: dict[str, list[Row]]

    def first(self, image_id: str) -> tuple[int, ...]:
        """The values of an image's first line."""
        return self.rows[image_id][0].values


def box_file(prefix: str, th: float) -> Path:
    """The box file of a threshold; 0.90 is called `0.9`, as in the release (quirk Q15)."""
    return Path(f"{prefix}{th}.txt")


def trained_file(class_file: Path) -> Path:
    """Path of the file beside a class file in which step 1 says which of its images the classifier was trained on."""
    return class_file.with_name(f"{class_file.name}.{trained.FILE}")


def write_classes(path: Path, rows: Mapping[str, tuple[int | None, int | None, int]], overwrite: bool = False) -> None:
    """Write a class file.

    Args:
        path: the file.
        rows: Top-1 and Top-5 correct (0 or 1, None where that is unknown) and the predicted class, by image id.
        overwrite: replace a file that says something else.
    """
    cells = {name: ["-" if value is None else str(int(value)) for value in values] for name, values in rows.items()}
    _write(path, (f"{name},{','.join(each)}\n" for name, each in _checked(path, cells)), overwrite)


def note_classifier(path: Path, name: str, crops: int) -> None:
    """Write beside a class file who classified: `<class file>.json`, for that very file alone."""
    write_json(beside(path), {"name": name, "crops": crops, "class_file": sha256(path)})


def classifier_of(path: Path) -> dict[str, Any] | None:
    """Name and crops of a class file's classifier, as `note_classifier` left them; None of any other class file."""
    if not beside(path).is_file():
        return None
    stored = read_json(beside(path))
    if not isinstance(stored, dict) or stored.get("class_file") != sha256(path):
        return None
    return {"name": stored.get("name"), "crops": stored.get("crops")}


def beside(path: Path) -> Path:
    """Path of what a step notes of a file that it wrote."""
    return path.with_name(f"{path.name}.json")


def need_same_groups(pseudo_file: Path, classes: Table) -> None:
    """Check that pseudo boxes are of the groups that a class file makes, as far as step 3 noted its groups.

    Raises:
        UserError: an image was in the group of another class than the file says; names the first.
    """
    stored = read_json(beside(pseudo_file)) if beside(pseudo_file).is_file() else None
    groups = stored.get("groups") if isinstance(stored, dict) and stored.get("boxes") == sha256(pseudo_file) else None
    if not isinstance(groups, dict):
        return
    group_of = {name: group for group, names in groups.items() if isinstance(names, list) for name in names}
    class_of = {name: str(classes.first(name)[2]) for name in classes.rows}
    if other := [name for name, number in class_of.items() if group_of.get(name, number) != number]:
        first = other[0]
        raise UserError(
            f"the pseudo boxes of {len(other)} of {len(class_of)} images are of another class's group, that of {first} "
            f"of {group_of[first]}", where=pseudo_file, expected=f"{class_of[first]}, as {classes.path} says",
            do="run steps 2 and 3 again",
        )  # fmt: skip


def write_boxes(path: Path, rows: Mapping[str, Iterable[int]], overwrite: bool = False) -> None:
    """Write a box file or the pseudo-box file; `rows` gives x0, x1, y0, y1 by image id."""
    _write(
        path, (f"{name},{', '.join(str(int(v)) for v in values)}\n" for name, values in _checked(path, rows)), overwrite
    )


def _checked(path: Path, rows: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, values in rows.items():
        if "\n" in name or "\r" in name:
            raise UserError(f"the image id {name!r} does not fit on a line", where=path, do="rename the image")
        yield name, values


def _write(path: Path, texts: Iterable[str], overwrite: bool) -> None:
    text = "".join(texts)
    if path.is_file() and not overwrite and path.read_bytes() != text.encode("utf-8"):
        raise UserError("the file says something else already", where=path,
                        do="name another place, or say --overwrite")  # fmt: skip
    write_text(path, text)


def read_classes(path: Path, classes: int | None = None, doubled: bool = False) -> Table:
    """Read a class file.

    Args:
        path: the file.
        classes: how many there are; a predicted class beyond is refused.
        doubled: let images stand in several lines.

    Raises:
        UserError: missing, a malformed line, or an image that stands twice.
    """
    most = (1, 1, None if classes is None else classes - 1)
    names = ("Top-1 correct", "Top-5 correct", "the predicted class")
    return _read(path, "name,top1,top5,class", list(zip(names, most, strict=True)), doubled, may_be_unknown=2)


def read_boxes(path: Path, doubled: bool = False) -> Table:
    """Read a box file or the pseudo-box file; arguments and errors as `read_classes`."""
    return _read(path, "name,x0, x1, y0, y1", [(name, SIDE - 1) for name in ("x0", "x1", "y0", "y1")], doubled)


def _read(path: Path, form: str, fields: list[tuple[str, int | None]], doubled: bool, may_be_unknown: int = 0) -> Table:
    rows: dict[str, list[Row]] = {}
    for line, text in lines(path, do="run the step that writes it"):
        name, *cells = text.rsplit(",", len(fields))
        if len(cells) != len(fields) or not name:
            raise UserError(f"{text!r} has {len(cells) + 1} cells", where=path, line=line, expected=form)
        inside(Path("the image folder"), name, where=path, line=line)
        if name in rows and not doubled:
            raise UserError(f"{name} stands here twice, first in line {rows[name][0].line}", where=path, line=line,
                            do="delete the file and run its step once, or say --doubled-lines best")  # fmt: skip
        values = tuple(
            UNKNOWN
            if cell.strip() == "-" and place < may_be_unknown
            else whole_number(cell.strip(), where=path, line=line, least=0, most=most, what=what)
            for place, (cell, (what, most)) in enumerate(zip(cells, fields, strict=True))
        )
        rows.setdefault(name, []).append(Row(line, values))
    if not rows:
        raise UserError("the file is empty", where=path, do="run the step that writes it")
    return Table(path, rows)


def same_images(tables: list[Table]) -> None:
    """Check that files speak of the same images.

    Raises:
        UserError: an image that stands in one file and not in another; names both, and the line.
    """
    first = tables[0]
    for table, other in [*((first, other) for other in tables[1:]), *((table, first) for table in tables[1:])]:
        if lacking := [name for name in table.rows if name not in other.rows]:
            raise UserError(f"{lacking[0]} is not in {other.path}", where=table.path,
                            line=table.rows[lacking[0]][0].line,
                            do="run the step that writes the other file on the same images")  # fmt: skip
