"""The true label map of a sample: 0 background, class + 1, 255 where nothing is counted."""

from pathlib import Path

import cv2
import numpy as np

from common.datasets.sample import Outlines, Sample
from common.measuring.segmentation import IGNORE
from common.pictures.images import read_labels
from common.system.errors import UserError


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
    covered = np.zeros((height, width), np.uint8)
    if shape and not isinstance(shape[0], tuple):  # run lengths down the columns, beginning with what is not covered
        if sum(shape) != width * height or min(shape) < 0:
            raise UserError(f"run lengths of {sum(shape)} pixels", expected=f"{width * height}, the image's")
        flags = np.arange(len(shape)) % 2
        return np.repeat(flags, shape).reshape(width, height).T.astype(bool)
    for polygon in shape:
        points = np.round(np.array(polygon).reshape(-1, 2)).astype(np.int32)
        cv2.fillPoly(covered, [points], (1,))
    return covered.astype(bool)
