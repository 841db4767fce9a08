"""Box metrics: `accumulate` an image at a time, `compute` at the end. An image leaves a bit for each threshold.

`LocalizationEvaluator` gives GT-known, Top-1 and Top-5 localization under any protocol, and with the `wsoleval-v1`
and `wsoleval-v2` protocols MaxBoxAcc and MaxBoxAccV2.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from common.measuring.arrays import Array, Boxes, Flags, Floats, Integers
from common.measuring.boxes import as_boxes, pairwise_iou
from common.measuring.geometry import GROUND_TRUTH_RULES, Frame
from common.measuring.hits import Hits, chunks
from common.measuring.pixel_metrics import PixelEvaluator, PixelResult  # by their names here, too, scripts import them
from common.measuring.protocols import Protocol
from common.measuring.ratios import ratio

__all__ = ["ImageScores", "LocalizationEvaluator", "LocalizationResult", "PixelEvaluator", "PixelResult", "score_boxes"]


@dataclass(frozen=True)
class ImageScores:
    """One image at T thresholds.

    Attributes:
        ground_truth: (M, 4) in the frame, as the protocol's rule puts them there.
        boxes: at each threshold the box (4,) in the frame that came closest, None where none was found; empty where
            only the scores were asked for.
        iou: (T,) the best over boxes and ground truths; a missing box scores as the protocol says.
        counted: (T,) False where the protocol leaves the image out of the denominator.
    """

    ground_truth: Boxes
    boxes: list[Boxes | None]
    iou: Floats
    counted: Array


def score_boxes(protocol: Protocol, boxes: Sequence[Boxes], frame: Frame, ground_truth: Boxes) -> ImageScores:
    """Compare the boxes found in one image at each threshold with its ground truth.

    Args:
        protocol: says how.
        boxes: T arrays (K, 4) in pixels of the frame, K = 0 where nothing was found. Thresholds that cut alike may
            share one array, which is then compared once.
        frame: where the network input lies in the image.
        ground_truth: (M, 4) in pixels of the original image.
    """
    truth = GROUND_TRUTH_RULES[protocol.ground_truth](as_boxes(ground_truth), frame)
    stand_in = protocol.missing_box(frame)
    distinct = {id(found): found for found in boxes}
    candidates = {key: found if len(found) or stand_in is None else stand_in for key, found in distinct.items()}
    closest: dict[int, tuple[Boxes | None, float, bool]] = {}
    if len(truth):
        best = pairwise_iou(np.concatenate(list(candidates.values())), truth, protocol.iou).max(axis=1)
    start = 0
    for key, found in distinct.items():
        end = start + len(candidates[key])
        if len(truth) == 0 or start == end:
            closest[key] = (found[0] if len(found) else None, 0.0, False)
        else:
            winner = start + int(best[start:end].argmax())
            closest[key] = (found[winner - start] if len(found) else None, float(best[winner]), True)
        start = end
    each = [closest[id(found)] for found in boxes]
    return ImageScores(
        ground_truth=truth,
        boxes=[box for box, _, _ in each],
        iou=np.array([iou for _, iou, _ in each]),
        counted=np.array([counted for _, _, counted in each]),
    )


@dataclass(frozen=True)
class LocalizationResult:
    """Accuracies in percent at every threshold; arrays have shape (criteria, thresholds).

    Attributes:
        protocol: what was measured.
        thresholds: (T,).
        gt_known, top1, top5: localization accuracy; NaN throughout where nobody classified.
        gt_known_over_images: the same over images where the protocol averages over classes, else equal to `gt_known`.
        counted: (T,) images in the denominator.
        seen: images accumulated.
        left_out: number of images by the reason for which they were left out at every threshold.
        per_class: GT-known (classes, criteria, thresholds), NaN for classes without an image.
        hits: of each image, for intervals and comparisons.
    """

    protocol: Protocol
    thresholds: Floats
    gt_known: Floats
    top1: Floats
    top5: Floats
    gt_known_over_images: Floats
    counted: Array
    seen: int
    left_out: dict[str, int] = field(default_factory=dict)
    per_class: Floats = field(default_factory=lambda: np.empty((0, 0, 0)))
    hits: Hits = field(default_factory=lambda: Hits(1, 1), compare=False, repr=False)

    @property
    def images_hit(self) -> Integers:
        """(criteria, thresholds) int: how many of the `counted` images have a right box, whatever their class says."""
        hit = (self.hits.correct(chunk).sum(axis=0) for chunk in chunks(len(self.hits)))
        counts: Integers = sum(hit, np.zeros(self.hits.shape, np.int64))
        return counts

    def best(self) -> Integers:
        """Index of the threshold of highest GT-known for each criterion, the first among equals."""
        best: Integers = np.nanargmax(np.where(np.isnan(self.gt_known), -1.0, self.gt_known), axis=1)
        return best

    def nearest(self, threshold: float) -> Integers:
        """Index of the threshold closest to `threshold`, once for each criterion."""
        return np.full(len(self.gt_known), int(np.abs(self.thresholds - threshold).argmin()))

    def at(self, indices: Integers) -> dict[str, float]:
        """The three accuracies and errors, mean over criteria, each criterion read at its own threshold index."""
        rows = np.arange(len(indices))
        values = {name: float(getattr(self, name)[rows, indices].mean()) for name in ("gt_known", "top1", "top5")}
        errors = {f"{name}_error": 100.0 - value for name, value in values.items()}
        return {**values, **errors, "over_images": float(self.gt_known_over_images[rows, indices].mean())}

    def __str__(self) -> str:
        found, thresholds = self.at(self.best()), self.thresholds[self.best()]
        accuracies = [f"GT-known {found['gt_known']:.2f} %"]
        accuracies += [f"{name} {found[key]:.2f} %" for key, name in (("top1", "Top-1"), ("top5", "Top-5"))
                       if not np.isnan(found[key])]  # fmt: skip
        counted = int(self.counted[self.best()].min())  # fewer where the protocol leaves out images without a region
        if counted == 0:
            return f"{self.protocol.name}: no figure, for none of {self.seen} images has a box to be measured by"
        left_out = f", {self.seen - counted} left out" if counted < self.seen else ""
        where = ", ".join(dict.fromkeys(f"{threshold:.3g}" for threshold in thresholds))
        return (
            f"{self.protocol.name}: {', '.join(accuracies)} of {counted} images{left_out}, "
            f"at the threshold {where}, the best on these images"
        )

    @property
    def max_box_acc(self) -> float:
        """MaxBoxAcc (V1, V2): for each criterion the best threshold's accuracy, mean over criteria, in percent."""
        return self.at(self.best())["gt_known"]


class LocalizationEvaluator:
    """Accumulates one image at a time; see `accumulate` and `compute`.

    >>> import numpy as np
    >>> from common.measuring.geometry import Frame
    >>> from common.measuring.protocols import PROTOCOLS
    >>> evaluator = LocalizationEvaluator(PROTOCOLS["wsoleval-v1"])
    >>> hot = np.zeros((224, 224), np.float32)
    >>> hot[56:168, 56:168] = 1
    >>> evaluator.accumulate(hot, Frame.squash((400, 300)), [[100, 75, 300, 225]], label=3)   # hit
    >>> evaluator.accumulate(hot, Frame.squash((400, 300)), [[0, 0, 20, 20]], label=3)        # miss
    >>> print(evaluator.compute())
    wsoleval-v1: GT-known 50.00 % of 2 images, at the threshold 0, the best on these images

    Args:
        protocol: how to measure.
        thresholds: the curve's thresholds; None takes the protocol's own.
        count_missing: count what the protocol leaves out of its denominator as misses instead (SPOL quirk 2).
    """

    def __init__(self, protocol: Protocol, thresholds: Sequence[float] | None = None, count_missing: bool = False):
        self.protocol = protocol
        self.thresholds = np.asarray(protocol.sweep if thresholds is None else thresholds, dtype=np.float64)
        self.count_missing = count_missing
        self.left_out: Counter[str] = Counter()
        self.seen = 0
        self._classified = True
        self._classes: dict[int, _ClassTally] = {}
        self._hits = Hits(len(protocol.criteria), len(self.thresholds))

    def accumulate(
        self,
        localization_map: Floats,
        frame: Frame,
        ground_truth: Boxes,
        label: int,
        top5: Sequence[int] | None = None,
        image_id: str = "",
    ) -> None:
        """Score one image's map at every threshold.

        Args:
            localization_map: (H, W) float in the frame's size; in [0, 1] unless the protocol's extractor `stretches`.
            frame: where the network input lies in the original image.
            ground_truth: (M, 4) boxes `x0 y0 x1 y1` in pixels of the original image.
            label: 0-based true class.
            top5: the classifier's five best classes, best first; None where nobody classified.
            image_id: compared with the protocol's list of images that are left out by name.

        Raises:
            ValueError: a map that the extractor refuses, or of another size or frame than the protocol's.
        """
        if tuple(localization_map.shape[::-1]) != tuple(frame.size):
            raise ValueError(f"the map is {localization_map.shape[::-1]}, its frame {frame.size} (width, height)")
        boxes = self.protocol.extractor.boxes(localization_map, self.thresholds)
        if self._takes(frame, image_id):
            self._tally(score_boxes(self.protocol, boxes, frame, ground_truth), label, top5, image_id)

    def leave_out(self, reason: str) -> None:
        """Count an image that has no ground truth to compare with, and not as a miss."""
        self.seen += 1
        self.left_out[reason] += 1

    def accumulate_boxes(
        self,
        boxes: Sequence[Boxes],
        frame: Frame,
        ground_truth: Boxes,
        label: int,
        top5: Sequence[int] | None = None,
        image_id: str = "",
    ) -> None:
        """Score one image's boxes, one array (K, 4) in the frame for each threshold; the rest as `accumulate`.

        Raises:
            ValueError: a box leaves the frame, such as one in pixels of the image; or as `accumulate`.
        """
        if len(boxes) != len(self.thresholds):
            raise ValueError(f"{len(boxes)} sets of boxes for {len(self.thresholds)} thresholds")
        _refuse_outside(boxes, frame)
        if self._takes(frame, image_id):
            scores = score_boxes(self.protocol, [as_boxes(found) for found in boxes], frame, ground_truth)
            self._tally(scores, label, top5, image_id)

    def accumulate_scores(
        self, scores: ImageScores, frame: Frame, label: int, top5: Sequence[int] | None = None, image_id: str = ""
    ) -> None:
        """Count an image that has been compared already, at each threshold; the rest as `accumulate_boxes`."""
        if len(scores.iou) != len(self.thresholds):
            raise ValueError(f"scores at {len(scores.iou)} thresholds for {len(self.thresholds)}")
        _refuse_outside([box for box in scores.boxes if box is not None], frame)
        if self._takes(frame, image_id):
            self._tally(scores, label, top5, image_id)

    def _takes(self, frame: Frame, image_id: str) -> bool:
        if frame.kind != self.protocol.frame:
            raise ValueError(f"protocol {self.protocol.name} measures in the frame {self.protocol.frame!r}, "
                             f"not in {frame.kind!r}")  # fmt: skip
        self.seen += 1
        if self.protocol.leaves_out(image_id):
            self.left_out["left out by name in the released code"] += 1
            return False
        return True

    def _tally(self, scores: ImageScores, label: int, top5: Sequence[int] | None, image_id: str) -> None:
        if len(scores.ground_truth) == 0 and not self.count_missing:
            self.left_out["no ground-truth box left in the frame"] += 1
            return
        correct = self.protocol.correct(scores.iou)  # (T, criteria)
        counted = scores.counted | self.count_missing
        self._classified &= top5 is not None
        first, five = (top5[0] == label, label in list(top5)[:5]) if top5 is not None else (False, False)
        tally = self._classes.setdefault(label, _ClassTally(len(self.protocol.criteria), len(self.thresholds)))
        hit = (correct & counted[:, None]).T
        tally.add(hit, counted, first, five)
        self._hits.add(image_id, label, hit, counted, first, five)

    def merge(self, other: "LocalizationEvaluator") -> None:
        """Add what another evaluator of the same protocol and thresholds has accumulated, on other images."""
        if other.protocol != self.protocol or not np.array_equal(other.thresholds, self.thresholds, equal_nan=True):
            raise ValueError("evaluators of different protocols or thresholds can't be merged")
        self.seen += other.seen
        self.left_out += other.left_out
        self._classified &= other._classified
        self._hits.merge(other._hits)
        for label, theirs in other._classes.items():
            ours = self._classes.setdefault(label, _ClassTally(len(self.protocol.criteria), len(self.thresholds)))
            ours.merge(theirs)

    def compute(self) -> LocalizationResult:
        """The accuracies over everything accumulated; NaN at thresholds where no image is counted."""
        tallies = [self._classes[label] for label in sorted(self._classes)]
        shape = (len(self.protocol.criteria), len(self.thresholds))
        counted = sum((tally.counted for tally in tallies), np.zeros(shape[1], np.int64))

        def over_images(name: str) -> Floats:
            hits = sum((getattr(tally, name) for tally in tallies), np.zeros(shape))
            return ratio(100.0 * hits, counted)

        def over_classes(name: str) -> Floats:
            each = np.array([ratio(100.0 * getattr(tally, name), tally.counted) for tally in tallies])
            return _mean_ignoring_nan(each) if tallies else np.full(shape, np.nan)

        mean = over_classes if self.protocol.mean_over == "classes" else over_images
        nobody = np.full(shape, np.nan)
        classes = max(self._classes, default=-1) + 1
        per_class = np.full((classes, *shape), np.nan)
        for label, tally in self._classes.items():
            per_class[label] = ratio(100.0 * tally.gt_known, tally.counted)
        return LocalizationResult(
            protocol=self.protocol,
            thresholds=self.thresholds,
            gt_known=mean("gt_known"),
            top1=mean("top1") if self._classified else nobody,
            top5=mean("top5") if self._classified else nobody,
            gt_known_over_images=over_images("gt_known"),
            counted=counted,
            seen=self.seen,
            left_out=dict(self.left_out),
            per_class=per_class,
            hits=self._hits,
        )


def _refuse_outside(boxes: Sequence[Boxes], frame: Frame) -> None:
    """Refuse (`ValueError`) boxes (K, 4) or (4,) that leave their frame, such as ones in pixels of the image."""
    if not boxes:
        return
    distinct = {id(found): as_boxes(found) for found in boxes}
    each = np.concatenate(list(distinct.values()))
    outside = each[((each < -1e-6) | (each > np.tile(frame.size, 2) + 1e-6)).any(axis=1)]
    if len(outside):
        raise ValueError(f"the box {outside[0].tolist()} reaches outside its frame of {frame.size} "
                         "(width, height); boxes are in pixels of the frame, see Frame.to_frame")  # fmt: skip


class _ClassTally:
    """Hits (criteria, T) and denominators (T,) of one class."""

    def __init__(self, criteria: int, thresholds: int):
        self.gt_known, self.top1, self.top5 = (np.zeros((criteria, thresholds), np.int32) for _ in range(3))
        self.counted = np.zeros(thresholds, np.int32)

    def add(self, correct: Flags, counted: Flags, first: bool, five: bool) -> None:
        self.gt_known += correct
        self.top1 += correct & first
        self.top5 += correct & five
        self.counted += counted

    def merge(self, other: "_ClassTally") -> None:
        for name in ("gt_known", "top1", "top5", "counted"):
            getattr(self, name)[...] += getattr(other, name)


def _mean_ignoring_nan(values: Floats) -> Floats:
    present = ~np.isnan(values)
    return ratio(np.where(present, values, 0.0).sum(axis=0), present.sum(axis=0))
