"""Class names as people keep them: a line each, a list, or by number, in Python and in JSON."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.datasets.files.text import lines
from common.system.errors import UserError

_NUMBERED = re.compile(r"\s*(\d{1,7})[\s:,;.]+\S")
_COLUMN = r"(id|idx|index|number|name|label|class|category)s?([ _-]?(id|idx|index|number|name|label)s?)?"
_HEAD = re.compile(rf"{_COLUMN}([\s,;]+{_COLUMN})*", re.IGNORECASE)
_NUMBERED_BEHIND = re.compile(r"[\s:,;=](\d{1,7})$")


def class_names(path: Path) -> tuple[str, ...]:
    """The names in a file, by number: one a line, or JSON with a list or a dictionary as `ordered` takes it.

    Raises:
        UserError: no such file, no names in it, or names whose order is in doubt.
    """
    texts = [text.strip() for _, text in lines(path)]
    if not texts:
        raise UserError("no class name in this file", where=path, expected="a name a line")
    if is_json(texts):
        try:
            return ordered(json.loads("".join(texts)), str(path))
        except ValueError as error:
            raise UserError(f"no readable JSON ({error})", where=path, expected="a list, or names by number") from error
    refuse_other_order(texts, path)
    return tuple(texts)


def is_json(texts: Sequence[str]) -> bool:
    """Whether a file's lines, without blanks around them, are JSON's list or dictionary, in one line or many."""
    return texts[0][0] in "[{" and texts[-1][-1] in "]}"


def refuse_head(texts: Sequence[str], path: Path) -> None:
    """Refuse (`UserError`) a first line that names columns, which would be the first class."""
    if _HEAD.fullmatch(texts[0]):
        raise UserError(f"the first line, {texts[0]!r}, seems to name the columns", where=path, line=1,
                        expected="a class's name in each line", do="remove it")  # fmt: skip


def refuse_other_order(texts: Sequence[str], path: Path) -> None:
    """Refuse (`UserError`) lines that are numbered, before or behind the names, and stand in another order."""
    from_0, from_1 = list(range(len(texts))), list(range(1, len(texts) + 1))
    for find in (_NUMBERED.match, _NUMBERED_BEHIND.search):
        numbers = [int(found[1]) for text in texts if (found := find(text))]
        if sorted(numbers) != numbers and sorted(numbers) in (from_0, from_1):
            raise UserError("the lines are numbered, and stand in another order", where=path,
                            expected="a name a line, in the order of the classes", do="sort them")  # fmt: skip


def ordered(names: Any, where: str) -> tuple[str, ...]:
    """Names by number: of a list its members, of a dictionary its values by number or its names by theirs.

    Of several words a class, such as Keras's `["n01440764", "tench"]`, the last is the name.

    Raises:
        UserError: no names, or numbers that are not 0 to one less than there are names.
    """
    if isinstance(names, Mapping):
        names = _by_number(names, where)
    if isinstance(names, str | set | frozenset) or not isinstance(names, Iterable):
        raise UserError(f"a {type(names).__name__}", where=where, expected="class names in their order, or by number")
    return tuple(_name(one, where) for one in names)


def _by_number(names: Mapping[Any, Any], where: str) -> list[Any]:
    found = _numbers(names.keys())
    values = list(names.values())
    if found is None:
        found, values = _numbers(names.values()), list(names)
    if found is None or sorted(found) != list(range(len(names))):
        raise UserError(f"{len(names)} class names whose numbers are not 0 to {len(names) - 1}", where=where,
                        expected="names by number, or numbers by name")  # fmt: skip
    return [values[place] for place in np.argsort(found)]


def _numbers(candidates: Iterable[Any]) -> list[int] | None:
    texts = [str(one) for one in candidates if not isinstance(one, bool | float)]
    return [int(text) for text in texts] if texts and all(text.isdecimal() for text in texts) else None


def _name(one: Any, where: str) -> str:
    if isinstance(one, list | tuple) and one:
        one = one[-1]
    if isinstance(one, bool) or not isinstance(one, str | int | np.integer):
        raise UserError(f"the class name {one!r}", where=where, expected="text")
    return str(one)
