"""Names that tell runs apart: as short as can be, and longer where two would share one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.runs.reader import Predictions


def group_frames(every: Sequence[Predictions]) -> list[int]:
    """Number the runs that directories belong to: one run's frames lie in one folder, and share a line of a table."""
    groups: list[tuple[Path, list[Predictions]]] = []
    numbers = []
    for one in every:
        parent = one.directory.resolve().parent
        number = next(
            (number for number, (folder, members) in enumerate(groups) if folder == parent and _joins(one, members)),
            len(groups),
        )
        if number == len(groups):
            groups.append((parent, []))
        groups[number][1].append(one)
        numbers.append(number)
    return numbers


def _joins(one: Predictions, members: Sequence[Predictions]) -> bool:
    """Whether a directory is the same run as `members`, in a frame that none of them has."""
    new = one.manifest.frame not in {member.manifest.frame for member in members}
    return new and _identity(one) == _identity(members[0])


def _identity(one: Predictions) -> tuple[Any, ...]:
    """Entries that the frames of one run share."""
    told = one.manifest
    return told.method, told.architecture, told.classifier, told.sha256, told.fingerprint


def label(every: Sequence[Predictions]) -> list[str]:
    """Name each directory's run: by method and architecture, and where that is not enough by what its path adds."""
    numbers = group_frames(every)
    folders = [one.directory.resolve() for one in every]
    places: dict[int, Path] = {}
    for number, folder in zip(numbers, folders, strict=True):
        places[number] = folder if number not in places else folder.parent
    by_title: dict[str, list[int]] = {}
    for number, one in zip(numbers, every, strict=True):
        members = by_title.setdefault(one.title, [])
        if number not in members:
            members.append(number)
    names = {}
    for title, members in by_title.items():
        added = [""] if len(members) == 1 else _apart([places[number].parts for number in members])
        names.update({number: f"{title} ({more})" if more else title
                      for number, more in zip(members, added, strict=True)})  # fmt: skip
    return [names[number] for number in numbers]


def _apart(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """Part of each path that tells it from the others: one folder's name if that is enough, else all from the first
    that differs; the same path named twice gets a number.
    """
    depth = max(map(len, paths))
    padded = [path + ("",) * (depth - len(path)) for path in paths]
    for column in reversed(range(depth)):
        cells = [path[column] for path in padded]
        if len(set(cells)) == len(cells) and all(cells):
            return cells
    start = next((column for column in range(depth) if len({path[column] for path in padded}) > 1), depth)
    tails = ["/".join(path[start:]) for path in paths]
    seen: dict[str, int] = {}
    result = []
    for tail in tails:
        seen[tail] = seen.get(tail, 0) + 1
        result.append(" ".join(part for part in (tail, f"#{seen[tail]}" if tails.count(tail) > 1 else "") if part))
    return result
