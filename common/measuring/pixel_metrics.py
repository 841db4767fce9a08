"""Pixel metrics of maps against masks (PxAP, pIoU): `accumulate` an image at a time, `compute` at the end."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from common.measuring.arrays import Array, Floats, Integers
from common.measuring.extraction import check_map
from common.measuring.ratios import ratio


@dataclass(frozen=True)
class PixelResult:
    """Pixel metrics in percent.

    Attributes:
        pxap: area under the precision-recall curve of all pixels of the data set together (Choe et al.).
        piou: best IoU of all pixels together over thresholds, as BAS's later re-release prints it.
        mean_iou: best mean over images of the image's IoU, over thresholds.
        images: how many images were accumulated.
        left_out: number of images that have no usable mask, by reason.
        by_image: (images, 2, bins) pixels of the object and of the background, in the evaluator's bins put together
            to some hundred: what intervals are computed from.
    """

    pxap: float
    piou: float
    mean_iou: float
    images: int
    left_out: dict[str, int] = field(default_factory=dict)
    by_image: Integers = field(default_factory=lambda: np.zeros((0, 2, 1), np.uint32), compare=False, repr=False)

    def __str__(self) -> str:
        left_out = f", {sum(self.left_out.values())} left out" if self.left_out else ""
        figures = f"PxAP {self.pxap:.2f} %, pIoU {self.piou:.2f} %, mean IoU {self.mean_iou:.2f} %"
        return f"{figures} of {self.images} images{left_out}"


COARSE_BINS = 100
"""Thresholds of pixel metrics' intervals, of a thousand."""


class PixelEvaluator:
    """PxAP and pIoU from histograms of map values on object and background pixels.

    >>> import numpy as np
    >>> evaluator = PixelEvaluator()
    >>> evaluator.accumulate(np.array([[0.9, 0.2]], np.float32), mask=np.array([[1, 0]]))
    >>> print(evaluator.compute())
    PxAP 100.00 %, pIoU 100.00 %, mean IoU 100.00 % of 1 images

    Args:
        thresholds: ascending, starting at 0; bins close at the next threshold, the last ones at 1, 2 and 3,
            so that a value of exactly 1 has a bin of its own.
    """

    def __init__(self, thresholds: Sequence[float] = tuple(np.arange(0, 1, 0.001).tolist())):
        self._edges = np.append(np.asarray(thresholds, dtype=np.float64), [1.0, 2.0, 3.0])
        bins = len(self._edges) - 1
        self._object, self._background = np.zeros(bins), np.zeros(bins)
        self._iou_sum = np.zeros(bins)
        self._images = 0
        self._coarse = [*range(0, bins - 2, max(1, (bins - 2) // COARSE_BINS)), bins - 2]
        self._by_image: list[Integers] = []
        self.left_out: Counter[str] = Counter()

    def accumulate(self, localization_map: Floats, mask: Array, ignore: Array | None = None) -> None:
        """Add one image.

        Args:
            localization_map: (H, W) float in [0, 1].
            mask: (H, W), not 0 on the object.
            ignore: (H, W), not 0 where pixels are left out; the object wins where both are set.

        Raises:
            ValueError: shapes differ, or a map that `check_map` refuses.
        """
        check_map(localization_map)
        if mask.shape != localization_map.shape or (ignore is not None and ignore.shape != mask.shape):
            raise ValueError(f"map {localization_map.shape} and mask {mask.shape} differ in shape")
        on_object = mask != 0
        background = ~on_object if ignore is None else ~on_object & (ignore == 0)
        object_bins, _ = np.histogram(localization_map[on_object], bins=self._edges)
        background_bins, _ = np.histogram(localization_map[background], bins=self._edges)
        self._object += object_bins
        self._background += background_bins
        self._iou_sum += iou_by_threshold(object_bins, background_bins)
        self._images += 1
        both = np.stack([object_bins, background_bins])
        self._by_image.append(np.add.reduceat(both, self._coarse, axis=1).astype(np.uint32))

    def merge(self, other: "PixelEvaluator") -> None:
        """Add what another evaluator of the same thresholds has accumulated, on other images."""
        if not np.array_equal(other._edges, self._edges):
            raise ValueError("evaluators of different thresholds can't be merged")
        self._object += other._object
        self._background += other._background
        self._iou_sum += other._iou_sum
        self._images += other._images
        self._by_image += other._by_image
        self.left_out += other.left_out

    def compute(self) -> PixelResult:
        """The metrics over everything accumulated.

        Raises:
            ValueError: no object pixel in any mask.
        """
        if self._object.sum() == 0:
            raise ValueError("no mask holds an object pixel, so there is no recall to speak of")
        return PixelResult(
            pxap=100.0 * float(area_under_precision_recall(self._object, self._background)),
            piou=100.0 * float(iou_by_threshold(self._object, self._background).max()),
            mean_iou=100.0 * float(self._iou_sum.max() / self._images),
            images=self._images,
            left_out=dict(self.left_out),
            by_image=np.array(self._by_image),
        )


def area_under_precision_recall(object_bins: Array, background_bins: Array) -> Floats:
    """PxAP as a share, of histograms (..., bins) of map values: precision times the step in recall, summed (...)."""
    true_positive = object_bins[..., ::-1].cumsum(axis=-1)
    predicted = true_positive + background_bins[..., ::-1].cumsum(axis=-1)
    precision = ratio(true_positive, predicted)
    recall = ratio(true_positive, object_bins.sum(axis=-1, keepdims=True))
    area: Floats = np.where(predicted[..., 1:] > 0, precision[..., 1:] * np.diff(recall, axis=-1), 0.0).sum(axis=-1)
    return area


def iou_by_threshold(object_bins: Array, background_bins: Array) -> Floats:
    """tp / (tp + fp + fn) (..., bins) with the highest bins predicted first; 0 without an object and a prediction."""
    true_positive = object_bins[..., ::-1].cumsum(axis=-1)
    union = object_bins.sum(axis=-1, keepdims=True) + background_bins[..., ::-1].cumsum(axis=-1)
    return ratio(true_positive, union, none=0.0)
