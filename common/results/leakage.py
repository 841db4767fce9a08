"""Leaks that a result must not rest on: images that the network was trained or chosen on, or its threshold.

A manifest says which of its images the networks behind it were trained on (`common.datasets.trained`), so a predictions
directory tells it wherever it lies. Whether validation predictions share an image with the scored split is seen from
the files, in whatever folders and under whatever names they lie.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.datasets import Dataset, trained
from common.datasets.copies import shared_images
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
    said = trained.joined([predictions.manifest.trained_images])
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
