"""Recognition of a data set, whichever reader read it: CUB-200-2011, ILSVRC, or neither, told by its classes.

The released code has thresholds for these two alone.
"""

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from common.datasets.sample import Dataset

Known = Literal["cub", "ilsvrc"]

LIKENESS = 0.9
"""Share of a data set's class names that must be of CUB's or ILSVRC's kind."""
_DECLARED: dict[str, Known | None] = {"cub": "cub", "ilsvrc": "ilsvrc", "photographs": "ilsvrc", **dict.fromkeys((
    "demo", "stanford-dogs", "stanford-cars", "fgvc-aircraft", "openimages", "imagenetv2",
))}  # fmt: skip
"""Data sets by the name of a reader that is for one alone; the other readers read anything."""


def known_as(dataset: Dataset) -> Known | None:
    """Tell whether these are CUB's or ILSVRC's classes, or a part of them; None for anything else."""
    if dataset.name in _DECLARED:
        return _DECLARED[dataset.name]
    names = [name for name in dataset.class_names if not name.isdigit()]
    if names and _share(_is_bird(name) for name in names) >= LIKENESS:
        return "cub"
    if names and _share(_WNID(name) is not None for name in names) >= LIKENESS:
        return "ilsvrc"
    files = [sample.image_id.rpartition("/")[2] for sample in dataset]
    return "ilsvrc" if files and _share(_FILE(name) is not None for name in files) >= LIKENESS else None


def _share(each: Iterable[bool]) -> float:
    verdicts = list(each)
    return sum(verdicts) / len(verdicts)


def _is_bird(name: str) -> bool:
    return re.sub(r"^\d{1,3}\.", "", name) in _birds()


@functools.cache
def _birds() -> frozenset[str]:
    """CUB's 200 names, without the numbers that stand before them."""
    return frozenset(Path(__file__).with_name("cub_classes.txt").read_text(encoding="utf-8").split())


_WNID = re.compile(r"n\d{8}").fullmatch
_FILE = re.compile(r"ILSVRC2012_(val|test)_\d{8}\.JPEG|n\d{8}_\d+\.JPEG", re.IGNORECASE).fullmatch
