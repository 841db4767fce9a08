"""Reading text files that people made: every complaint names the file and the line."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.errors import UserError

MAX_LINE = 100_000


def lines(path: Path, do: str | None = None) -> Iterator[tuple[int, str]]:
    """The file's lines that are not blank, with their 1-based numbers; a byte-order mark and CRLF are taken off.

    Args:
        path: the file.
        do: what the user should do when it is missing.

    Raises:
        UserError: missing, not UTF-8, a NUL byte in it, or a line longer than `MAX_LINE` characters.
    """
    try:
        with open(path, encoding="utf-8-sig", newline=None) as file:
            number = 0
            while line := file.readline(MAX_LINE + 2):
                number += 1
                if len(line) > MAX_LINE:
                    raise UserError(f"the line is longer than {MAX_LINE:,} characters", where=path, line=number)
                if "\0" in line:
                    raise UserError("the line holds a NUL byte", where=path, line=number, expected="a text file")
                if line.strip():
                    yield number, line.rstrip("\n")
    except FileNotFoundError as error:
        raise UserError("no such file", where=path, do=do) from error
    except IsADirectoryError as error:
        raise UserError("this is a folder", where=path, expected="a text file") from error
    except UnicodeDecodeError as error:
        raise UserError("the file is not UTF-8 text", where=path, expected="a text file") from error


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
    """`texts` as finite float64 numbers.

    Raises:
        UserError: one of them is no finite number.
    """
    try:
        values = np.array([float(text) for text in texts])
    except ValueError as error:
        raise UserError(f"{what} is {' '.join(texts)!r}", where=where, line=line, expected="numbers") from error
    if not np.isfinite(values).all():
        raise UserError(f"{what} is {' '.join(texts)!r}", where=where, line=line, expected="finite numbers")
    return values
