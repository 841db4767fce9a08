"""Box conventions and intersection over union (IoU).

A box is `x0 y0 x1 y1`, float64, x to the right and y down. Whether `x1, y1` lies on the last pixel or one past it is
not a property of the numbers but of the measurement, which is why every function here that needs to know takes a
convention by name:

`continuous`
    Sides are `x1 - x0`; 1e-12 is added to the union, as SPOL's released code does.
`inclusive`
    Coordinates are pixel indices, so each side is one longer: `x1 - x0 + 1`. BAS, ADL and wsolevaluation.
`inclusive-proper`
    The same, but a box with `x0 >= x1` or `y0 >= y1` overlaps nothing. GRCAM, and DGL's later evaluation.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.measuring.arrays import Boxes
from common.measuring.ratios import ratio

IOU_CONVENTIONS = ("continuous", "inclusive", "inclusive-proper")


def as_boxes(boxes: ArrayLike) -> Boxes:
    """`boxes` as a float64 array of shape (N, 4); one box of shape (4,) becomes (1, 4), an empty list (0, 4)."""
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes have shape {np.shape(boxes)}, expected (N, 4)")
    return array


def from_xywh(boxes: ArrayLike) -> Boxes:
    """`x y width height` (CUB's own files) to `x0 y0 x1 y1` with `x1 = x + width`, nothing else changed."""
    boxes = as_boxes(boxes)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def from_x0x1y0y1(boxes: ArrayLike) -> Boxes:
    """`x0 x1 y0 y1` (GRCAM's files) to `x0 y0 x1 y1`."""
    return as_boxes(boxes)[:, [0, 2, 1, 3]]


def to_x0x1y0y1(boxes: ArrayLike) -> Boxes:
    """`x0 y0 x1 y1` to `x0 x1 y0 y1` (GRCAM's files)."""
    return as_boxes(boxes)[:, [0, 2, 1, 3]]


def pairwise_iou(boxes_a: ArrayLike, boxes_b: ArrayLike, convention: str = "continuous") -> NDArray[np.float64]:
    """IoU of every box of `boxes_a` (N, 4) with every box of `boxes_b` (M, 4).

    Args:
        boxes_a, boxes_b: `x0 y0 x1 y1`, any numbers; degenerate boxes are allowed.
        convention: one of `IOU_CONVENTIONS`.

    Returns:
        float64 (N, M). A pair whose union is not positive has IoU 0.

    Raises:
        ValueError: unknown convention, or arrays of another shape.
    """
    return aligned_iou(as_boxes(boxes_a)[:, None], as_boxes(boxes_b)[None], convention)


def aligned_iou(boxes_a: ArrayLike, boxes_b: ArrayLike, convention: str = "continuous") -> NDArray[np.float64]:
    """IoU of boxes that lie at the same place in two arrays (..., 4), which are broadcast against each other.

    Args, conventions and errors are those of `pairwise_iou`; gives float64 (...).
    """
    if convention not in IOU_CONVENTIONS:
        raise ValueError(f"unknown IoU convention {convention!r}, expected one of {', '.join(IOU_CONVENTIONS)}")
    a, b = np.asarray(boxes_a, dtype=np.float64), np.asarray(boxes_b, dtype=np.float64)
    extra = 0.0 if convention == "continuous" else 1.0

    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + extra
    sides = np.maximum(sides, 0.0)
    intersection = sides[..., 0] * sides[..., 1]
    area_a, area_b = ((box[..., 2] - box[..., 0] + extra) * (box[..., 3] - box[..., 1] + extra) for box in (a, b))
    union = area_a + area_b - intersection
    if convention == "continuous":
        union = union + 1e-12
    iou = ratio(intersection, union, none=0.0)

    if convention == "inclusive-proper":
        proper_a, proper_b = ((box[..., 0] < box[..., 2]) & (box[..., 1] < box[..., 3]) for box in (a, b))
        iou = np.where(proper_a & proper_b & (iou <= 1.0), iou, 0.0)
    return iou
