"""MATLAB files of version 5 to 7.2, as data sets come with them; scipy decodes them, and unpickles nothing.

What scipy does not ask of a file is checked before it sees it: that it is whole, holds no more than `MAX_BYTES` when
unpacked, does not nest without end, and has no array of more elements than bytes.
"""

import io
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.system.errors import UNPRINTABLE, UserError
from common.system.files import need_file

MAX_BYTES = 256 * 2**20
"""Size of the largest file that is read, and of what it may unpack to; data sets' lists have a few MiB."""
MAX_DEPTH = 8
"""Arrays in arrays: a cell or a field of a struct is one."""
_HEADER, _TAG = 128, 8
_INT32, _MATRIX, _COMPRESSED = 5, 14, 15
_ORDERS = {b"IM": "<", b"MI": ">"}


def read_mat(path: Path, *names: str) -> dict[str, np.ndarray]:
    """The arrays called `names`, as `scipy.io.loadmat` gives them.

    Raises:
        UserError: no such file, one that is damaged or of another version, or one that lacks a name.
    """
    content = _content(path)
    try:
        _check(content)
        from scipy.io import loadmat  # half a second, which no other data set need wait for

        found = loadmat(io.BytesIO(content), variable_names=names)
    except Exception as error:  # a damaged file fails in many ways, in scipy's reader too
        raise UserError(f"no MATLAB file that can be read ({error or type(error).__name__})", where=path,
                        expected="version 5 to 7.2") from error  # fmt: skip
    for name in names:
        if not isinstance(found.get(name), np.ndarray):
            raise UserError(f"it holds no {name}", where=path, expected=" and ".join(names))
    return {name: found[name] for name in names}


def fields(array: np.ndarray, *names: str, where: Path) -> list[list[Any]]:
    """The fields `names` of a struct array, each as a list with an entry for each element.

    Raises:
        UserError: it is no struct array, or lacks one of them.
    """
    lacking = [name for name in names if name not in (array.dtype.names or ())]
    if lacking:
        raise UserError(f"no entry has a {lacking[0]}", where=where, expected=f"a struct of {', '.join(names)}")
    return [list(array[name].ravel()) for name in names]


def text(cell: Any, *, where: Path, what: str) -> str:
    """A cell that holds one string.

    Raises:
        UserError: it holds anything else, nothing, or a control character.
    """
    value = cell.item() if isinstance(cell, np.ndarray) and cell.size == 1 and cell.dtype.kind in "UO" else cell
    if not isinstance(value, str) or not value.strip() or UNPRINTABLE.search(value):
        raise UserError(f"{what} is no text", where=where, expected="a string of one line")
    return value


def number(cell: Any, *, where: Path, what: str) -> float:
    """A cell that holds one finite number.

    Raises:
        UserError: it holds anything else.
    """
    if isinstance(cell, np.ndarray) and cell.size == 1 and cell.dtype.kind in "iuf":
        cell = cell.item()
    if not isinstance(cell, int | float | np.integer | np.floating) or not math.isfinite(cell):
        raise UserError(f"{what} is no number", where=where, expected="a finite number")
    return float(cell)


def class_of(cell: Any, classes: int, *, where: Path, what: str) -> int:
    """A cell that holds a class numbered from 1, as a 0-based one.

    Raises:
        UserError: it holds anything else.
    """
    value = number(cell, where=where, what=what)
    if value != int(value) or not 1 <= value <= classes:
        raise UserError(f"{what} is {value:g}", where=where, expected=f"a whole number from 1 to {classes}")
    return int(value) - 1


def _content(path: Path) -> bytes:
    need_file(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise UserError("no such file", where=path) from error
    except OSError as error:
        raise UserError(f"can't be read ({error.strerror})", where=path) from error
    if len(content) > MAX_BYTES:
        raise UserError(f"the file is larger than {MAX_BYTES // 2**20} MiB", where=path)
    return content


def _check(content: bytes) -> None:
    """Refuse (`ValueError`) what scipy would be led astray by."""
    order = _ORDERS.get(content[126:_HEADER])
    if order is None:
        raise ValueError("it has no header")
    if struct.unpack(f"{order}H", content[124:126])[0] != 0x0100:
        raise ValueError("it is of another version, such as 7.3")
    left, place = MAX_BYTES, _HEADER
    for kind, start, end in _elements(content, order, place, len(content)):
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            inner = unpacker.decompress(content[start:end], left)
            left -= len(inner)
            if left <= 0:
                raise ValueError(f"it unpacks to more than {MAX_BYTES // 2**20} MiB")
            if not unpacker.eof:
                raise ValueError("it is cut off")
            _check_arrays(inner, order, 0, len(inner), 0)
        elif kind == _MATRIX:
            _check_array(content, order, start, end, 0)


def _check_arrays(content: bytes, order: str, start: int, end: int, depth: int) -> None:
    for kind, first, last in _elements(content, order, start, end):
        if kind == _MATRIX:
            _check_array(content, order, first, last, depth)


def _check_array(content: bytes, order: str, start: int, end: int, depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise ValueError(f"its arrays are nested more than {MAX_DEPTH} deep")
    dimensions = next((each for each in _elements(content, order, start, end) if each[0] == _INT32), None)
    if dimensions is not None:
        _, first, last = dimensions
        sides: Sequence[int] = struct.unpack_from(f"{order}{(last - first) // 4}i", content, first)
        if min(sides, default=0) < 0 or math.prod(sides) > end - start:
            raise ValueError("an array has more elements than bytes")
    _check_arrays(content, order, start, end, depth + 1)


def _elements(content: bytes, order: str, start: int, end: int):
    """(type, start, end) of the data elements that lie one after another; small ones hold theirs in the tag."""
    while start < end:
        if start + _TAG > end:
            raise ValueError("it is cut off")
        kind, size = struct.unpack_from(f"{order}II", content, start)
        first = start + _TAG
        if kind >> 16:
            kind, size, first = kind & 0xFFFF, kind >> 16, start + 4
            if size > 4:
                raise ValueError("a small element is larger than 4 bytes")
            start += _TAG
        else:
            start = first + size + (0 if kind == _COMPRESSED else -size % 8)
        if first + size > end:
            raise ValueError("it is cut off")
        yield kind, first, first + size
