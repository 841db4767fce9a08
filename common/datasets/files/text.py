"""Reading text files that people made: every complaint names the file and the line."""

import codecs
import csv
import posixpath
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from common.datasets.sample import MAX_CLASSES
from common.system.errors import UNPRINTABLE, UserError, inside
from common.system.files import need_file

MAX_LINE = 100_000
MAX_COORDINATE = 10_000_000.0
"""Pixels; far beyond any image, and small enough for an area's digits."""

_CONTROL = re.compile(f"(?![\t\n]){UNPRINTABLE.pattern}")
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)


def lines(path: Path, do: str | None = None, utf16: bool = False) -> Iterator[tuple[int, str]]:
    """The file's lines that are not blank, with their 1-based numbers; a byte-order mark and CRLF are taken off.

    Args:
        path: the file.
        do: what the user should do when it is missing.
        utf16: also read UTF-16 where the file begins with its mark, as spreadsheets' "Unicode text" does.

    Raises:
        UserError: missing, not UTF-8, a control character in it, or a line longer than `MAX_LINE` characters.
    """
    need_file(path)
    try:
        with open(path, encoding=_encoding(path) if utf16 else "utf-8-sig", newline=None) as file:
            number = 0
            while line := file.readline(MAX_LINE + 2):
                number += 1
                if len(line) > MAX_LINE:
                    raise UserError(f"the line is longer than {MAX_LINE:,} characters", where=path, line=number)
                if "\0" in line:
                    raise UserError("the line holds a NUL byte", where=path, line=number, expected="a text file")
                if found := _CONTROL.search(line):
                    raise UserError(f"the line holds the control character {found[0]!r}", where=path, line=number,
                                    expected="a text file")  # fmt: skip
                if line.strip():
                    yield number, line.rstrip("\n")
    except FileNotFoundError as error:
        raise UserError("no such file", where=path, do=do) from error
    except OSError as error:
        raise UserError(f"can't be read ({error.strerror})", where=path) from error
    except UnicodeError as error:  # UTF-16 that ends in the middle of a character is one of its other kinds
        line = undecodable_line(path)
        raise UserError("the file is not UTF-8 text", where=path, line=line,
                        expected="a text file in UTF-8, which a spreadsheet calls 'CSV UTF-8'") from error  # fmt: skip


def _encoding(path: Path) -> str:
    with open(path, "rb") as file:
        mark = file.read(4)
    utf16 = mark.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and mark != codecs.BOM_UTF32_LE
    return "utf-16" if utf16 else "utf-8-sig"


def undecodable_line(path: Path) -> int | None:
    """The 1-based number of the first line that is not UTF-8."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline=None) as file:
        number = 1
        while text := file.readline(MAX_LINE):
            if re.search("[\udc80-\udcff]", text):
                return number
            number += text.endswith("\n")
    return None


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file with their line numbers, quoted commas understood, cells stripped.

    Raises:
        UserError: as `lines`, or broken quoting.
    """
    for number, line in lines(path):
        try:
            (row,) = csv.reader([line], strict=True)
        except (csv.Error, ValueError) as error:
            raise UserError(f"not a row of a CSV file ({error})", where=path, line=number) from error
        yield number, [cell.strip() for cell in row]


def new_id(image_id: str, seen: dict[str, int], *, where: Path, line: int) -> str:
    """`image_id`, a path that stays inside the image folder and that no earlier line of the file holds.

    Args:
        image_id: as it stands in the file.
        seen: lines by path, to which this one is added.
        where, line: the file and line.

    Raises:
        UserError: it isn't, or it stands there twice.
    """
    inside(Path("the image folder"), image_id, where=where, line=line)
    first = seen.setdefault(posixpath.normpath(image_id), line)
    if first != line:
        raise UserError(f"{image_id} stands here twice, first in line {first}", where=where, line=line,
                        do="remove one of the lines")  # fmt: skip
    return image_id


def class_number(text: str, *, where: Path, line: int, most: int | None = None) -> int:
    """`text` as a 0-based class; errors as `whole_number`."""
    most = MAX_CLASSES - 1 if most is None else most
    return whole_number(text, where=where, line=line, least=0, most=most, what="the label")


def whole_number(text: str, *, where: Path, line: int, least: int, most: int | None = None, what: str) -> int:
    """`text` as a whole number within bounds.

    Raises:
        UserError: anything else; plus signs, underscores and blanks within count as anything else.
    """
    bounds = f"a whole number from {least}" + (f" to {most}" if most is not None else "")
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise UserError(f"{what} is {text!r}", where=where, line=line, expected=bounds)
    value = int(text)
    if value < least or (most is not None and value > most):
        raise UserError(f"{what} is {value}", where=where, line=line, expected=bounds)
    return value


def numbers(texts: list[str], *, where: Path, line: int | None = None, what: str) -> np.ndarray:
    """`texts` as finite float64 coordinates.

    Raises:
        UserError: one of them is no finite number in plain digits, or is beyond `MAX_COORDINATE`.
    """
    if not all(_PLAIN_NUMBER.fullmatch(text.strip()) for text in texts):
        raise UserError(f"{what} is {' '.join(texts)!r}", where=where, line=line, expected="numbers")
    values = np.array([float(text) for text in texts])
    if not np.isfinite(values).all():
        raise UserError(f"{what} is {' '.join(texts)!r}", where=where, line=line, expected="finite numbers")
    if (np.abs(values) > MAX_COORDINATE).any():
        raise UserError(f"{what} is {' '.join(texts)!r}", where=where, line=line,
                        expected=f"at most {MAX_COORDINATE:,.0f} pixels")  # fmt: skip
    return values


def not_inside_out(boxes: np.ndarray, *, where: Path, line: int | None = None) -> np.ndarray:
    """Refuse boxes (N, 4) that are inside out, and return the others as they are.

    Raises:
        UserError: a box has its second corner before its first.
    """
    for box in boxes:
        if box[0] > box[2] or box[1] > box[3]:
            raise UserError(f"the box {' '.join(f'{value:g}' for value in box)} is inside out", where=where, line=line,
                            expected="x0 y0 x1 y1")  # fmt: skip
    return boxes


def refuse_fractions(boxes: Iterable[np.ndarray], *, where: Path, line: int | None = None, what: str = "boxes") -> None:
    """Refuse boxes that can only be fractions of the image.

    Args:
        boxes: (4,) each; or other coordinates.
        where: the file that holds them.
        line: where in it they begin.
        what: they are.

    Raises:
        UserError: there are boxes, and all their numbers lie within 0 to 1.
    """
    rest = iter(boxes)
    first = next(rest, None)
    if first is not None and all((box >= 0).all() and (box <= 1).all() for box in chain([first], rest)):
        raise UserError(f"all {what} lie within 0 to 1: they are fractions of the image", where=where, line=line,
                        expected="pixels", do="multiply x by the image's width and y by its height")  # fmt: skip
