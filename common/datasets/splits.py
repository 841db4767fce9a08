"""Meaning of a split's name: whether it is there to be measured on, and so never to be trained on unasked."""

import re
from collections.abc import Iterable
from pathlib import Path

WHOLE = "all"
"""The split of a data set that has none: `folder` then takes the class folders that lie in the root itself."""
TRAINING = {"train", "training"}
EVALUATION = {
    "test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation", "held", "heldout", "holdout",
}  # fmt: skip
"""Words in the names of splits that results are measured on, or thresholds chosen on."""


def is_evaluation(name: str) -> bool:
    """Whether a split's name, or a list file's stem, is that of images which results are measured on.

    The name begins with such a word (`val`, `test_2`), or holds one and no word for training (`cub_test`).
    """
    words = re.findall(r"[a-z]+", name.lower())
    return bool(words) and (words[0] in EVALUATION or (bool(EVALUATION & set(words)) and not TRAINING & set(words)))


def is_split(name: str) -> bool:
    """Whether a folder is called as a split, and not as a class."""
    return name.lower() in TRAINING | EVALUATION - {"held", "heldout", "holdout"}


def present(root: Path) -> list[str]:
    """The folders in `root` that are called as splits, the training one first; empty where there are none."""
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and is_split(path.name))
    return sorted(names, key=lambda name: name.lower() not in TRAINING)


def are_splits(names: Iterable[str]) -> bool:
    """Whether folders that would be classes are a data set's splits: two of them are called so, or all are."""
    names = list(names)
    found = sum(map(is_split, names))
    return found >= 2 or (found > 0 and found == len(names))


ROLES = {
    **dict.fromkeys(TRAINING, "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("held", "heldout", "holdout"), "held"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""Roles of splits in a training, by a word in their names."""


def role(name: str) -> str | None:
    """The role of a split in a training, `train`, `val`, `held` or `test`; None where its name says none.

    The first word decides if it names a role (`val_2017`); else a word for training wins (`birds_train`).
    """
    found = [ROLES.get(word) for word in re.findall(r"[a-z]+", name.lower())]
    known = [each for each in found if each is not None]
    if not known or found[0] is not None:
        return found[0] if found else None
    return "train" if "train" in known else known[0]
