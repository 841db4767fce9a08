"""Quality of found boxes where images have true ones: CorLoc, average precision, and whether scores sort the boxes.

Boxes are compared in pixels of the original image, `x0 y0 x1 y1`, end-exclusive, IoU of convention `continuous`, and an
IoU that equals the criterion is enough. An object's class is the image's, or one of the image's: what is found and what
is true is told by (image, class).
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.measuring.arrays import Boxes, Flags, Floats
from common.measuring.boxes import as_boxes, pairwise_iou
from common.system.errors import UserError

CRITERIA = (0.5, 0.7, 0.9)
Place = tuple[str, int]
"""Image id and class."""


@dataclass(frozen=True, eq=False)
class Found:
    """Boxes found of one class in one image.

    Attributes:
        boxes: (N, 4), the one that stands for the image first.
        scores: (N,).
    """

    boxes: Boxes
    scores: Floats


@dataclass(frozen=True)
class Sorting:
    """Shares in percent of boxes whose IoU reaches each of `CRITERIA`.

    Attributes:
        boxes: how many there are.
        best_half: among the half with the highest scores.
        all: among all.
    """

    boxes: int
    best_half: tuple[float, ...]
    all: tuple[float, ...]


def closest_iou(boxes: Boxes, truth: Boxes) -> Floats:
    """(N,) IoU of each box (N, 4) with the true box (M, 4) that it overlaps most; M is at least 1."""
    best: Floats = pairwise_iou(boxes, truth).max(axis=1)
    return best


def _reach(ious: Floats, criteria: Floats | float) -> Flags:
    """Whether an IoU reaches a criterion, with a tolerance for rounding and for the 1e-12 added to the union."""
    return ious >= criteria - 1e-9


def corloc(found: Mapping[Place, Found], truth: Mapping[Place, Boxes], criterion: float = 0.5) -> float:
    """CorLoc in percent (Deselaers et al., IJCV 2012): the share of images whose first box reaches the criterion.

    Args:
        found: by image and class; what is not there was not found, and is a miss.
        truth: (M, 4) each. An image of several classes counts once for each of them.
        criterion: least IoU with any of the true boxes of that class.
    """
    if not truth:
        return float("nan")
    hits = sum(
        bool(_reach(closest_iou(found[place].boxes[:1], boxes), criterion)[0])
        for place, boxes in truth.items()
        if place in found and len(found[place].boxes)
    )
    return 100.0 * hits / len(truth)


def sorting(found: Mapping[Place, Found], truth: Mapping[Place, Boxes]) -> Sorting:
    """Measure how well scores sort the boxes of those images and classes that have true ones.

    Boxes of one score at the border between the halves count in part, as if they were drawn from at random.
    """
    known = [place for place in found if place in truth]
    ious = np.concatenate([closest_iou(found[place].boxes, truth[place]) for place in known] or [np.empty(0)])
    scores = np.concatenate([found[place].scores for place in known] or [np.empty(0)])
    return shares(ious, scores)


def shares(ious: Floats, scores: Floats) -> Sorting:
    """Measure how well scores (N,) sort boxes by their IoUs (N,); of an odd number the middle box counts half."""
    if len(ious) == 0:
        return Sorting(0, (float("nan"),) * len(CRITERIA), (float("nan"),) * len(CRITERIA))
    reached = _reach(ious[:, None], np.array(CRITERIA))
    weights = _upper_half(scores)
    half = weights @ reached / weights.sum()
    return Sorting(len(ious), tuple((100.0 * half).tolist()), tuple((100.0 * reached.mean(axis=0)).tolist()))


def _upper_half(scores: Floats) -> Floats:
    """(N,) weights that sum to N / 2: 1 above the median, 0 below, and those equal to it share the rest."""
    count = len(scores) / 2
    border = np.sort(scores)[::-1][int(np.ceil(count)) - 1]
    above, equal = scores > border, scores == border
    weights: Floats = above + equal * (count - above.sum()) / equal.sum()
    return weights


def average_precision(
    found: Mapping[Place, Found], truth: Mapping[Place, Boxes], sizes: Mapping[str, tuple[int, int]]
) -> float:
    """COCO's average precision at IoU 0.5 in percent, the mean over classes, by pycocotools.

    Args:
        found: by image and class; boxes of images without a true one are left out.
        truth: (M, 4) each.
        sizes: width and height by image id.

    Raises:
        UserError: pycocotools is not installed.
    """
    need_pycocotools()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    number = {image_id: place for place, image_id in enumerate(dict.fromkeys(image_id for image_id, _ in truth), 1)}
    annotations = [
        {"id": 0, "image_id": number[image_id], "category_id": label, "iscrowd": 0, **_as_coco(box)}
        for (image_id, label), boxes in truth.items()
        for box in as_boxes(boxes)
    ]
    for place, annotation in enumerate(annotations, start=1):  # 0 is no id to pycocotools
        annotation["id"] = place
    results = [
        {"image_id": number[image_id], "category_id": label, "score": float(score), **_as_coco(box)}
        for (image_id, label), each in found.items()
        if image_id in number
        for box, score in zip(each.boxes, each.scores, strict=True)
    ]
    if not results or not annotations:
        return 0.0 if annotations else float("nan")
    images = [{"id": place, "width": sizes[each][0], "height": sizes[each][1]} for each, place in number.items()]
    categories = [{"id": label} for label in sorted({label for _, label in (*truth, *found)})]
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(results), "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, -1]  # recalls x classes: of all sizes, 100 boxes an image
    return float(100.0 * precision[precision > -1].mean())


def need_pycocotools() -> None:
    """Refuse what can't be measured without it.

    Raises:
        UserError: pycocotools is not installed.
    """
    try:
        import pycocotools  # noqa: F401
    except ImportError as error:
        raise UserError(
            "average precision needs pycocotools",
            do="pip install pycocotools, this project's extra 'detection', or leave out --regions all",
        ) from error


def _as_coco(box: Boxes) -> dict[str, object]:
    x0, y0, x1, y1 = (float(value) for value in box)
    return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}


def lines(
    found: Mapping[Place, Found], truth: Mapping[Place, Boxes], sizes: Mapping[str, tuple[int, int]] | None = None
) -> Sequence[str]:
    """Describe the boxes of one split, a line each; with average precision where `sizes` are given."""
    counted = f"{len(truth)} images" if len({image_id for image_id, _ in truth}) == len(truth) else (
        f"{len(truth)} pairs of image and class")  # fmt: skip
    told = sorting(found, truth)
    criteria = ", ".join(map(str, CRITERIA))
    best, everything = (" ".join(f"{share:.1f}" for share in each) for each in (told.best_half, told.all))
    said = [
        f"CorLoc {corloc(found, truth):.2f} of {counted} with true boxes",
        f"IoU of at least {criteria}: {best} % of the best half by score, {everything} % of all {told.boxes} boxes",
    ]
    if sizes is not None:
        said.append(
            f"average precision at IoU 0.5, with the image's own class: {average_precision(found, truth, sizes):.2f}"
        )
    return said
