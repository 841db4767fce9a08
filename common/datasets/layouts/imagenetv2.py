"""ImageNetV2 (Recht et al., ICML 2019): ten new images for each of ImageNet's classes, to test on.

    0/ ... 999/    of imagenetv2-matched-frequency-format-val or a sibling, named by the output of an ImageNet head

A folder's number is the class's place in ImageNet's sorted list of synsets, as `ilsvrc` numbers them; sorted as text,
as plain class folders are, 10 would stand third. Classes bear their synset ids, by which checkpoints are matched. There
are no boxes; a CSV file gives some, as for class folders.
"""

from dataclasses import replace
from pathlib import Path

from common.datasets.known import imagenet_classes
from common.datasets.layouts import folder
from common.datasets.sample import Dataset, OnProblem, raise_problem
from common.datasets.splits import WHOLE
from common.system.errors import UserError

NAME = "imagenetv2"
COUNTS = {"classes": 1000, "test": 10_000}
"""Classes and images of each of the three selections, as github.com/modestyachts/ImageNetV2 gives them."""


def load(root: Path, split: str, boxes: Path | None = None, on_problem: OnProblem = raise_problem) -> Dataset:
    """ImageNetV2, or a part of its folders.

    Args:
        root: the folder that holds the numbered ones.
        split: `test`; there is nothing to train on or to hold out.
        boxes: see `folder.load`.
        on_problem: told of every faulty line or file, which is then left out.

    Raises:
        UserError: another split, a folder that is no number of a class, or as `folder.load`.
    """
    if split != "test":
        raise UserError(f"unknown split {split!r}", where=root, expected="test: ImageNetV2 is there to be measured on")
    found = folder.load(root, WHOLE, boxes, on_problem=on_problem)
    names = imagenet_classes()
    number = {str(place): place for place in range(len(names))}
    if strange := [name for name in found.class_names if name not in number]:
        raise UserError(f"the folder {strange[0]!r} is no number of a class", where=root,
                        expected=f"folders 0 to {len(names) - 1}")  # fmt: skip
    samples = [replace(sample, label=number[found.class_names[sample.label]]) for sample in found]
    samples.sort(key=lambda sample: sample.label)
    return replace(found, name=NAME, split=split, samples=tuple(samples), class_names=names)
