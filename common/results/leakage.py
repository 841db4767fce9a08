"""Leaks that a result must not rest on: images that the network was trained or chosen on, or its threshold.

A manifest says which of its images the networks behind it were trained on (`common.datasets.trained`), so a predictions
directory tells it wherever it lies. Whether validation predictions share an image with the scored split is seen from
the files, in whatever folders and under whatever names they lie.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.datasets import Dataset, trained
from common.runs.reader import Predictions
from common.runs.segmentation import SegmentationPredictions
from common.system.errors import UserError
from common.system.wording import some

SHOWN = 5
"""Images that a message names."""


@dataclass(frozen=True)
class Leakage:
    """Overlap of a predictions directory's images with those trained on.

    Attributes:
        known: every network behind the predictions has a record of its training images.
        images: those of the split that were trained on, by id, as far as it is known.
        of: how many images the split has.
        evaluation_split: one that was trained on at the user's word though results are measured on it, or None.
        chosen: images that the network was chosen on, as the best of several epochs.
    """

    known: bool
    images: tuple[str, ...]
    of: int
    evaluation_split: str | None
    chosen: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """`none`, `unknown` or `trained on 12 of these 24 images`, and that an evaluation split was trained on, or that
        the network is the best of several on these images.
        """
        parts = []
        if self.images:
            parts.append(f"trained on {'' if self.known else 'at least '}{len(self.images)} of these {self.of} images")
        if self.evaluation_split:
            parts.append(f"trained on the evaluation split {self.evaluation_split!r}")
        if self.chosen:
            parts.append(f"the best epoch was chosen on {len(self.chosen)} of these {self.of} images")
        return "; ".join(parts) or ("none" if self.known else "unknown")

    @property
    def remark(self) -> str:
        """Remark that follows a run's name in a table: empty where nothing is known against it."""
        return f" ({self.text})" if self.images or self.evaluation_split or self.chosen else ""

    def of_image(self, image_id: str) -> bool | None:
        """Whether one image was trained on; None where that is unknown."""
        return True if image_id in self.images else False if self.known else None


def of(predictions: Predictions | SegmentationPredictions) -> Leakage:
    """Read what the manifest of predictions says; unknown where it says nothing, as of other people's code."""
    data = predictions.manifest.get("data") or {}
    said = trained.joined([data.get("trained_images")])
    present = [entry.image_id for entry in predictions.entries]
    among = set(present) | predictions.skipped.keys()
    images, chosen = (tuple(image_id for image_id in said[key] if image_id in among) for key in ("images", "chosen"))
    return Leakage(said["known"], images, len(among), said["evaluation_split"], chosen)


def lines(runs: Sequence[Predictions], validation: Iterable[Predictions | None] = ()) -> list[str]:
    """A line for each directory whose images were trained on, naming the first of them, and one for all unknown ones.

    Args:
        runs: what is scored.
        validation: what their thresholds were chosen on.
    """
    found, unknown = [], []
    validation = {held.directory: held for held in validation if held is not None}.values()
    every = [*((run, "") for run in runs), *((held, "validation ") for held in validation)]
    for predictions, kind in every:
        leak = of(predictions)
        if leak.remark:
            found.append(f"{kind}{predictions.directory}: {leak.text}{_named(leak.images or leak.chosen)}")
        elif not leak.known:
            unknown.append(f"{kind}{predictions.directory}")
    if unknown:
        all_of_many = SHOWN < len(unknown) == len(every)
        named = f"all {len(every)} predictions directories" if all_of_many else f": {', '.join(unknown)}"
        found.append(f"whether these images were trained on is unknown for{' ' * all_of_many}{named}")
    return found


def _named(images: Sequence[str]) -> str:
    return f": {some(images, SHOWN)}" if images else ""


def refuse_shared(validation: Dataset, scored: Dataset, where: Path) -> None:
    """Refuse validation predictions that share an image with what is scored: its row would be an oracle's.

    Args:
        validation, scored: the images of both.
        where: the validation predictions.

    Raises:
        UserError: they share one.
    """
    shared = shared_images(validation, scored)
    if shared:
        raise UserError(
            f"{len(shared)} of the {len(validation)} validation images are among those that are scored"
            f"{_named(shared)}", where=where, expected="held-out training images",
            do="localize --data.split held; what is best on the scored images is shown as the oracle anyway",
        )  # fmt: skip


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


def copies(dataset: Dataset) -> list[tuple[str, str]]:
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
