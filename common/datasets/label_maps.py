"""The true label map of a sample: 0 background, class + 1, 255 where nothing is counted."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.datasets.sample import Outlines, Sample
from common.measuring.segmentation import IGNORE
from common.pictures.images import read_labels
from common.system.errors import UserError

FINE = 5
"""Steps a pixel in which outlines are walked."""
MAX_WALK = 10_000_000
"""Steps of an outline; a border of 2 million pixels."""


def read_label_map(path: Path, size: tuple[int, ...], num_classes: int) -> np.ndarray:
    """A label map file, checked: (H, W) uint8.

    Args:
        path: an 8-bit image whose pixels are labels.
        size: width and height that it must have.
        num_classes: C; labels are 0 to C, or 255.

    Raises:
        UserError: no such file, another size, or a label above C.
    """
    labels = read_labels(path)
    if labels.shape[::-1] != tuple(size):
        raise UserError(f"the label map is {labels.shape[1]}x{labels.shape[0]}", where=path,
                        expected="x".join(map(str, size)))  # fmt: skip
    wrong = labels[(labels > num_classes) & (labels != IGNORE)]
    if len(wrong):
        raise UserError(f"the label map holds {wrong[0]}", where=path, expected=f"0 to {num_classes}, or 255")
    return labels


def true_label_map(sample: Sample, num_classes: int) -> np.ndarray:
    """The label map (H, W) uint8 of a sample.

    Raises:
        UserError: it has none, or as `read_label_map`.
    """
    if sample.truth is None:
        raise UserError(f"{sample.image_id} has no label map", do="evaluate on a split that has them")
    if isinstance(sample.truth, Path):
        return read_label_map(sample.truth, sample.size, num_classes)
    return drawn(sample.truth)


def drawn(outlines: Outlines) -> np.ndarray:
    """COCO's objects as a label map (H, W) uint8: later ones lie on top, crowds are ignored."""
    width, height = outlines.size
    labels = np.zeros((height, width), np.uint8)
    for label, shape, crowd in outlines.objects:
        labels[_covered(shape, width, height)] = IGNORE if crowd else label
    return labels


def _covered(shape: tuple, width: int, height: int) -> np.ndarray:
    covered = np.zeros((height, width), bool)
    if shape and not isinstance(shape[0], tuple):  # run lengths down the columns, beginning with what is not covered
        if sum(shape) != width * height or min(shape) < 0:
            raise UserError(f"run lengths of {sum(shape)} pixels", expected=f"{width * height}, the image's")
        flags = np.arange(len(shape)) % 2
        return np.repeat(flags, shape).reshape(width, height).T.astype(bool)
    for polygon in shape:
        covered |= _filled(polygon, width, height)
    return covered


def _filled(polygon: Sequence[float], width: int, height: int) -> np.ndarray:
    """The pixels (height, width) bool of an outline x y x y ..., exactly as COCO's own tools fill it (`rleFrPoly` of
    pycocotools): the outline is walked on a grid five times as fine, and a column's pixels change sides where the walk
    passes the column's middle.

    Raises:
        UserError: an outline too long for any image.
    """
    x, y = np.trunc(FINE * np.array(polygon, float).reshape(-1, 2) + 0.5).astype(np.int64).T
    to_x, to_y = np.roll(x, -1), np.roll(y, -1)
    flat = np.abs(to_x - x) >= np.abs(to_y - y)
    steps = np.maximum(np.abs(to_x - x), np.abs(to_y - y))
    if steps.sum() > MAX_WALK:
        raise UserError(f"an outline of {steps.sum() // FINE:,} pixels' length", expected="one inside its image")
    backwards = np.where(flat, x > to_x, y > to_y)  # each side is walked from its lesser end, and read in its own order
    (x, to_x), (y, to_y) = (
        (np.where(backwards, to, of), np.where(backwards, of, to)) for of, to in ((x, to_x), (y, to_y))
    )
    side = np.repeat(np.arange(len(steps)), steps + 1)
    step = np.arange(len(side)) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    step = np.where(backwards[side], steps[side] - step, step)
    slope = np.where(flat, to_y - y, to_x - x) / np.maximum(steps, 1)
    slanting = np.trunc(np.where(flat, y, x)[side] + slope[side] * step + 0.5).astype(np.int64)
    walk_x = np.where(flat[side], x[side] + step, slanting)
    walk_y = np.where(flat[side], slanting, y[side] + step)
    column, row = (np.minimum(walk[1:], walk[:-1]) for walk in (walk_x, walk_y))
    passed = (walk_x[1:] != walk_x[:-1]) & (column % FINE == FINE // 2) & (column >= 0) & (column < FINE * width)
    rows = np.ceil(((row[passed] + 0.5) / FINE - 0.5).clip(0, height)).astype(np.int64)
    changes = np.bincount(column[passed] // FINE * height + rows, minlength=width * height + 1)[:-1]
    return (np.cumsum(changes) % 2).reshape(width, height).T.astype(bool)
