"""Images that stand in two data sets, or twice in one, told by their files' content in whatever folders they lie."""

from collections import Counter
from pathlib import Path

import numpy as np

from common.datasets import trained
from common.datasets.sample import Dataset


def shared_images(one: Dataset, other: Dataset) -> list[str]:
    """The ids of the images of `one` that are in `other`, by their files' content, wherever those lie.

    Of files that can't be read, the same id in the same split of the same data set tells it. Contents are compared of
    files of equal size only.
    """
    if one.name == other.name and (one.name in trained.OWN_IDS or one.split == other.split):
        known = {sample.image_id for sample in other}
        same_id = {sample.image_id for sample in one if sample.image_id in known}
    else:
        same_id = set()
    sizes = [{_size(sample.path) for sample in dataset} - {None} for dataset in (one, other)]
    both = sizes[0] & sizes[1]
    alike = [[sample for sample in dataset if _size(sample.path) in both] for dataset in (one, other)]
    ours, theirs = (trained.identities(samples)[:, 1] for samples in alike)
    equal = np.isin(ours, theirs[theirs != 0])
    same = {sample.image_id for sample, found in zip(alike[0], equal, strict=True) if found}
    return [sample.image_id for sample in one if sample.image_id in same_id | same]


def copies_within(dataset: Dataset) -> list[tuple[str, str]]:
    """Pairs of ids of a data set's images whose files have the same content, each with the first such image."""
    sizes = Counter(_size(sample.path) for sample in dataset)
    alike = [sample for sample in dataset if sizes[_size(sample.path)] > 1]
    first: dict[int, str] = {}
    found = []
    for sample, content in zip(alike, trained.identities(alike)[:, 1].tolist(), strict=True):
        earlier = first.setdefault(content, sample.image_id) if content else sample.image_id
        if earlier != sample.image_id:
            found.append((earlier, sample.image_id))
    return found


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
