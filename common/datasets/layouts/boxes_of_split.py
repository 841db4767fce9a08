"""The boxes of a CSV file that belong to one split of a folder, by image; `boxes_csv` reads the file."""

import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.datasets.files.boxes_csv import BoxTable
from common.datasets.sample import OnProblem, raise_problem
from common.system.errors import UserError
from common.system.wording import number_of, some


@dataclass(frozen=True)
class SplitFolder:
    """One split's images, and the splits beside it.

    Attributes:
        root: the data set's folder.
        image_root: the split's, `root` itself where there are no splits.
        name: of the split; `held` images lie in `train`.
        siblings: names of all split folders in `root`.
        image_ids: the split's, relative to `image_root`.
    """

    root: Path
    image_root: Path
    name: str
    siblings: Collection[str]
    image_ids: Collection[str]

    @property
    def own(self) -> str:
        """Name of the split's folder, "" where there are no splits."""
        return "" if self.image_root == self.root else self.image_root.name

    @property
    def others(self) -> list[str]:
        """Names of the other splits' folders; none where there are no splits."""
        return [name for name in self.siblings if self.own and name != self.own]


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


def of_split(table: BoxTable, split: SplitFolder, on_problem: OnProblem = raise_problem) -> SplitBoxes:
    """The boxes of one split's images.

    A path that starts with a split's name belongs to that split. Another one is relative to the split's folder; where
    a file of that name lies in two splits it could be either's. It is then taken for the evaluation split's, and said
    to be so, and is never given to training images; between two evaluation splits it is refused.

    Args:
        table: the file's rows.
        split: where its images lie.
        on_problem: told of paths that are no image anywhere, and of ambiguous ones.
    """
    mine, doubtful, unknown = _found(table, split)
    if unknown:
        what = number_of(len(unknown), "of its paths is no image", "of its paths are no images")
        folders = f"{split.image_root} or {split.root}" if split.own else f"{split.image_root}"
        on_problem(UserError(f"{what} there: {some([repr(path) for path in unknown], 1)}", where=table.file,
                             expected=f"paths relative to {folders}",
                             do="mend the path, or remove its line"))  # fmt: skip
    dropped, notes = _doubts(table, split, doubtful, on_problem)
    kept = {path: image_id for path, image_id in mine.items() if path not in dropped}
    if again := [path for path in table.repeated if path in kept]:
        what = number_of(len(again), "line repeats a box", "lines repeat boxes")
        notes += (f"{table.file}: {what} of an earlier one, of {some(again, 1)}; each counts once",)
    if scored := [path for path in table.scored if path in kept]:
        what = number_of(len(scored), "box has a score or threshold", "boxes have scores or thresholds")
        notes += (f"{table.file}: {what}, as predicted ones have; all are taken as the truth",)
    strange = _of_other_classes(table, kept)
    if strange:
        path, place = strange[0]
        what = number_of(
            len(strange), "box of another class than its image", "boxes of other classes than their images"
        )
        notes += (f"{table.file}: {what} left out: {table.classes[path][place]} in {path}",)
    boxes = _by_image(table, kept, set(strange))
    negatives = {image_id for path, image_id in kept.items() if path in table.negatives} - boxes.keys()
    return SplitBoxes(boxes, negatives, notes, {kept[path]: size for path, size in table.sizes.items() if path in kept})


def _by_image(
    table: BoxTable, kept: Mapping[str, str], left_out: Collection[tuple[str, int]]
) -> dict[str, list[np.ndarray]]:
    """The boxes of the paths that are kept, by image id; those at the (path, place) named are left out."""
    boxes: dict[str, list[np.ndarray]] = {}
    for path, image_id in kept.items():
        if path in table.boxes:
            found = enumerate(table.boxes[path])
            boxes.setdefault(image_id, []).extend(box for place, box in found if (path, place) not in left_out)
    return boxes


def _found(table: BoxTable, split: SplitFolder) -> tuple[dict[str, str], dict[str, list[str]], list[str]]:
    """Image id by path of the file, the other splits that hold an image of that path, and paths of no image."""
    root, own, others = split.root, split.own, split.others
    known = {unicodedata.normalize("NFC", image_id): image_id for image_id in split.image_ids}
    known.update({image_id: image_id for image_id in split.image_ids})
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
    table: BoxTable, split: SplitFolder, doubtful: dict[str, list[str]], on_problem: OnProblem
) -> tuple[Collection[str], tuple[str, ...]]:
    """The paths that are not this split's after all, and what to say of it."""
    if not doubtful:
        return (), ()
    own = split.own
    path, others = next(iter(doubtful.items()))
    rival = next((name for name in others if name != "train"), None)
    told = f"{len(doubtful)} of its paths, {path!r} among them, are images of {own} and of {rival or others[0]}"
    if split.name == "train":
        return doubtful, (f"{table.file}: {told}; training images get no boxes from them; write {own}/{path} if they "
                          "are its own",)  # fmt: skip
    if split.name == "held" or rival is not None:
        on_problem(UserError(told, where=table.file, expected=f"paths that say which, such as {own}/{path}",
                             do="write the split before them, or give a column 'split'"))  # fmt: skip
        return doubtful, ()
    return (), (f"{table.file}: {told}; taken as {own}'s; write {own}/{path} to say so",)
