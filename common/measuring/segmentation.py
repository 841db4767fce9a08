"""The measure of semantic segmentation: mean intersection over union over background and classes.

Label maps hold 0 for background, class + 1, and 255 where nothing is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.measuring.arrays import Array, Floats, Indices, Integers
from common.measuring.ratios import ratio

IGNORE = 255
BACKGROUND = "background"
SWEEP = tuple(round(0.20 + 0.01 * number, 2) for number in range(25))
"""The thresholds at which BAS looks at class maps."""
WHOLE_SWEEP = tuple(number / 100 for number in range(100))
SWEEPS = {"released": SWEEP, "whole": WHOLE_SWEEP}
"""Thresholds of class maps by name."""


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """Figures of a confusion matrix at one threshold, in shares from 0 to 1.

    Attributes:
        confusion: (C + 1, C + 1) pixels, rows truth, columns prediction.
        threshold: of the class maps; None for masks.
        images: how many were looked at.
    """

    confusion: Integers
    threshold: float | None
    images: int

    @property
    def iou(self) -> Floats:
        """(C + 1,) float64; NaN for a class that is neither there nor predicted."""
        return ratio(np.diag(self.confusion), self._union)

    @property
    def miou(self) -> float:
        """The mean of `iou` over the classes that have one; NaN where none has."""
        found = self.iou[~np.isnan(self.iou)]
        return float(found.mean()) if len(found) else float("nan")

    @property
    def false_positives(self) -> Floats:
        """(C + 1,): pixels wrongly predicted as a class, by its union."""
        return ratio(self._union - self.confusion.sum(axis=1), self._union)

    @property
    def false_negatives(self) -> Floats:
        """(C + 1,): pixels of a class that were missed, by its union."""
        return ratio(self._union - self.confusion.sum(axis=0), self._union)

    @property
    def background_among_foreground(self) -> float:
        """The share of pixels predicted as some class that are background; NaN where none is predicted."""
        predicted = self.confusion[:, 1:]
        return float(ratio(predicted[0].sum(), predicted.sum()))

    @property
    def _union(self) -> Integers:
        union: Integers = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - np.diag(self.confusion)
        return union


class SegmentationEvaluator:
    """Counts pixels of class maps at several thresholds, or of label maps at none.

    Args:
        num_classes: C, background apart.
        thresholds: of class maps, ascending; none for label maps.

    Raises:
        ValueError: thresholds in another order.

    Example:
        >>> evaluator = SegmentationEvaluator(num_classes=1)
        >>> evaluator.accumulate(np.array([[0, 1]]), np.array([[1, 1]]))
        >>> evaluator.compute()[0].iou.tolist()
        [0.0, 0.5]
    """

    def __init__(self, num_classes: int, thresholds: Sequence[float] = ()):
        self.num_classes, self.thresholds = num_classes, tuple(thresholds)
        if list(self.thresholds) != sorted(self.thresholds):
            raise ValueError("the thresholds do not ascend")
        size = num_classes + 1
        self.confusions = np.zeros((max(1, len(self.thresholds)), size, size), np.int64)
        self.images = 0

    def accumulate(self, prediction: Integers, truth: Integers) -> None:
        """Count one image's label map.

        Args:
            prediction: (H, W), 0 to C; 255 counts as background.
            truth: (H, W), 0 to C, or 255.

        Raises:
            ValueError: sizes differ, or a label is above C.
        """
        if self.thresholds:
            raise ValueError("this evaluator has thresholds, so it takes class maps")
        prediction = np.where(prediction == IGNORE, 0, prediction)
        self._check(prediction, truth)
        self._count(self.confusions[0], truth, prediction)
        self.images += 1

    def accumulate_maps(self, maps: Floats, classes: Indices, truth: Integers) -> None:
        """Count one image's class maps at every threshold: a pixel is its greatest map's class where that is above the
        threshold, else background. Each map is looked at once.

        Args:
            maps: (K, H, W) float32.
            classes: (K,) 0-based.
            truth: (H, W), 0 to C, or 255.

        Raises:
            ValueError: sizes differ, or a label is above C.
        """
        labels, values = top_class(maps, classes)
        self._check(labels, truth)
        above = np.searchsorted(np.array(self.thresholds, np.float32), values, side="left")
        size, bins = self.num_classes + 1, len(self.thresholds) + 1
        counted = truth != IGNORE
        keys = (truth[counted].astype(np.int64) * size + labels[counted]) * bins + above[counted]
        histogram = np.bincount(keys, minlength=size * size * bins).reshape(size, size, bins)
        for number in range(len(self.thresholds)):
            shown = histogram[..., number + 1 :].sum(axis=2)
            shown[:, 0] += histogram[..., : number + 1].sum(axis=(1, 2))
            self.confusions[number] += shown
        self.images += 1

    def _check(self, labels: Integers, truth: Integers) -> None:
        if labels.shape != truth.shape:
            raise ValueError(f"the prediction is {labels.shape[::-1]}, the truth {truth.shape[::-1]}")
        for name, values in (("predicted", labels), ("true", truth[truth != IGNORE])):
            if values.size and int(values.max()) > self.num_classes:
                raise ValueError(f"{name} label {int(values.max())}, expected 0 to {self.num_classes}")

    def _count(self, confusion: Array, truth: Integers, labels: Integers) -> None:
        size, counted = self.num_classes + 1, truth != IGNORE
        keys = truth[counted].astype(np.int64) * size + labels[counted]
        confusion += np.bincount(keys, minlength=size * size).reshape(size, size)

    def merge(self, other: "SegmentationEvaluator") -> None:
        """Add what another evaluator of the same classes and thresholds has counted."""
        if (self.num_classes, self.thresholds) != (other.num_classes, other.thresholds):
            raise ValueError("the evaluators have other classes or thresholds")
        self.confusions += other.confusions
        self.images += other.images

    def compute(self) -> list[SegmentationResult]:
        """A result for each threshold, or one without."""
        thresholds = self.thresholds or (None,)
        return [
            SegmentationResult(confusion.copy(), threshold, self.images)
            for confusion, threshold in zip(self.confusions, thresholds, strict=True)
        ]


def top_class(maps: Floats, classes: Indices) -> tuple[Integers, Floats]:
    """The label (class + 1) and the value of the greatest map at each pixel, (H, W) both; the first of equal ones."""
    if len(maps) == 0:
        raise ValueError("no class maps")
    best = maps.argmax(axis=0)
    labels = (np.asarray(classes, np.int64) + 1)[best]
    return labels, np.take_along_axis(maps, best[None], axis=0)[0].astype(np.float32)


def label_map(maps: Floats, classes: Indices, threshold: float) -> Integers:
    """Class maps (K, H, W) as a label map (H, W) int64: background where no map is above `threshold`."""
    labels, values = top_class(maps, classes)
    return np.where(values > np.float32(threshold), labels, 0)
