"""Recognition of a data set, whichever reader read it: CUB-200-2011, ILSVRC, or neither, told by its classes.

The released code has thresholds for these two alone.
"""

import functools
import re
from pathlib import Path
from typing import Literal

from common.datasets.sample import Dataset

Known = Literal["cub", "ilsvrc"]

LIKENESS = 0.9
"""Share of a data set's files that must be called as ILSVRC's, where its class names say nothing."""
_DECLARED: dict[str, Known | None] = {"photographs": "ilsvrc", **dict.fromkeys((
    "demo", "stanford-dogs", "stanford-cars", "fgvc-aircraft", "openimages", "imagenetv2",
))}  # fmt: skip
"""Data sets by the name of a reader that is for one alone; the others, CUB's and ILSVRC's too, read anything."""


def known_as(dataset: Dataset) -> Known | None:
    """Tell whether these are CUB's or ILSVRC's classes, or a part of them; None for anything else.

    Own data in CUB's or ILSVRC's layout are neither. Where classes have other names, ILSVRC's files show it.
    """
    if dataset.name in _DECLARED:
        return _DECLARED[dataset.name]
    names = dataset.class_names
    if names and all(_is_bird(name) for name in names):
        return "cub"
    if names and all(name in _synsets() for name in names):
        return "ilsvrc"
    like = [_is_of_ilsvrc(sample.image_id.rpartition("/")[2]) for sample in dataset]
    return "ilsvrc" if like and sum(like) / len(like) >= LIKENESS else None


def _is_of_ilsvrc(file: str) -> bool:
    found = _FILE(file)
    return found is not None and (found["synset"] is None or found["synset"] in _synsets())


def _is_bird(name: str) -> bool:
    return re.sub(r"^\d{1,3}\.", "", name) in _birds()


@functools.cache
def _birds() -> frozenset[str]:
    """CUB's 200 names, without the numbers that stand before them."""
    return frozenset(Path(__file__).with_name("cub_classes.txt").read_text(encoding="utf-8").split())


@functools.cache
def _synsets() -> frozenset[str]:
    return frozenset(imagenet_classes())


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """ImageNet's 1000 synset ids, in the order of its heads."""
    return tuple(synset for synset, _ in imagenet_words())


TOLD_APART = {134: "crane bird", 639: "maillot tank suit"}
"""Torchvision's names of two classes whose first word is another class's too."""


def imagenet_names() -> tuple[str, ...]:
    """A name for each of ImageNet's 1000 classes, in the order of its heads; they are torchvision's."""
    return tuple(TOLD_APART.get(place, words[0]) for place, (_, words) in enumerate(imagenet_words()))


@functools.cache
def imagenet_words() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The synset id and the words of each of ImageNet's 1000 classes, in the order of its heads."""
    path = Path(__file__).with_name("imagenet_classes.txt")
    rows = (line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return tuple((synset, tuple(words.split(", "))) for synset, words in rows)


_FILE = re.compile(r"ILSVRC2012_(?:val|test)_\d{8}\.JPEG|(?P<synset>n\d{8})_\d+\.JPEG", re.IGNORECASE).fullmatch
