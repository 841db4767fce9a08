"""A sample's segmentation masks, in a frame."""

from pathlib import Path

import cv2
import numpy as np

from common.datasets.sample import Sample
from common.measuring.geometry import Frame
from common.pictures.images import read_mask
from common.system.errors import UserError


def object_and_ignore(sample: Sample, frame: Frame, mask_over: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The object's pixels (H, W) bool in a frame, the union of the sample's masks, and those to ignore or None.

    Args:
        sample: with one mask or more.
        frame: masks are brought into it with OpenCV's nearest neighbour, as wsolevaluation does.
        mask_over: mask values above it are object.

    Raises:
        UserError: a mask is missing, damaged, or of another size than its image.
    """
    masks = [_in_frame(path, frame) > mask_over for path in sample.masks]
    ignore = None if sample.ignore is None else _in_frame(sample.ignore, frame) > 0
    return np.any(masks, axis=0), ignore


def _in_frame(path: Path, frame: Frame) -> np.ndarray:
    mask = read_mask(path)
    if mask.shape[::-1] != tuple(frame.original):
        raise UserError(
            f"the mask is {mask.shape[1]}x{mask.shape[0]}", where=path, expected=f"{'x'.join(map(str, frame.original))}"
        )
    x, y, width, height = frame.crop
    return cv2.resize(mask, frame.resized, interpolation=cv2.INTER_NEAREST)[y : y + height, x : x + width]
