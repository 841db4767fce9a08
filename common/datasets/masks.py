"""A sample's segmentation masks, in a frame.

| a mask file holds | object is |
|---|---|
| grey values | what exceeds the data set's `mask_over`: 128 in CUB, where values count annotators, else 0 |
| only 0 and 1, or one bit | 1 |
| only 0 and one value up to `mask_over` | that value; a mask of several such values is left out |
| colours, by palette or in full | what is not black, which must be there; VOC's `void` (224 224 192) is ignored |
| transparency | as black; of a picture in one colour, the opacity |
| JPEG or WebP, which blur zeros | what exceeds half of the greatest value |
| 16-bit grey of values over 255 | as grey, by the high byte where `mask_over` is not 0; ids of objects are any |

A mask of another resolution is brought into the frame from its own, as wsolevaluation does with OpenImages' masks, if
its sides have the image's proportions; otherwise it shows something else. Several masks of an image are united. One
that lacks one of its masks, or whose mask can't be read or shows something else, is left out of pixel metrics and
counted; box metrics don't look at masks.
"""

from pathlib import Path

import cv2
import numpy as np

from common.datasets.sample import Sample
from common.measuring.geometry import Frame
from common.pictures.images import ImageError, is_lossy, read_stored
from common.system.errors import UserError

VOID = (224, 224, 192)
"""RGB of the borders in PASCAL VOC's masks."""
PROPORTIONS = 0.02
"""Difference that the sides' quotients may have, besides a pixel that rounding takes."""


def object_and_ignore(sample: Sample, frame: Frame, mask_over: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The object's pixels (H, W) bool in a frame, the union of the sample's masks, and those to ignore or None.

    Args:
        sample: with one mask or more.
        frame: masks are brought into it with OpenCV's nearest neighbour, as wsolevaluation does.
        mask_over: mask values above it are object; see the table above.

    Raises:
        UserError: a mask is missing, damaged, or of other proportions than its image.
    """
    masks, ignored = [], []
    for path in sample.masks:
        inside, void = read_object(path, mask_over)
        masks.append(_in_frame(path, inside, frame))
        if void is not None:
            ignored.append(_in_frame(path, void, frame))
    if sample.ignore is not None:
        ignored.append(_in_frame(sample.ignore, read_object(sample.ignore, 0)[0], frame))
    return np.any(masks, axis=0), np.any(ignored, axis=0) if ignored else None


def read_object(path: Path, mask_over: int) -> tuple[np.ndarray, np.ndarray | None]:
    """A mask file's object (H, W) bool, and its void or None, by the table above.

    Raises:
        ImageError: the file is missing or can't be decoded.
    """
    stored = read_stored(path)
    if is_lossy(path):
        brightest = stored if stored.ndim == 2 else stored.max(axis=2)
        return brightest > brightest.max() / 2, None
    if stored.ndim == 2:
        if mask_over and stored.max() > 255:
            mask_over = (mask_over << 8) + 255
        return stored > _greatest_background(stored, mask_over, path), None
    coloured = stored.any(axis=2)
    void = (stored == VOID).all(axis=2)
    if coloured.all() and len(np.unique(stored[~void], axis=0)) > 1:
        raise ImageError("the mask has several colours and no black", where=path, expected="a black background")
    return coloured & ~void, void if void.any() else None


def _greatest_background(stored: np.ndarray, mask_over: int, path: Path) -> int:
    """The grey that the object exceeds.

    Raises:
        ImageError: no pixel exceeds `mask_over`, and which of several values is the object can't be told.
    """
    greatest = int(stored.max())
    if greatest > max(1, mask_over) or stored.min() > 1:
        return mask_over
    if ((stored > 0) & (stored < greatest)).any():
        raise ImageError(f"no value of the mask exceeds {mask_over}, the greatest is {greatest}", where=path,
                         expected=f"an object above {mask_over}, or of one value")  # fmt: skip
    return 0


def same_proportions(size: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether pictures of two sizes can show the same: one side scaled as the other, give or take a pixel."""
    (width, height), (other_width, other_height) = size, other
    apart = abs(width * other_height - other_width * height)
    return apart <= max(PROPORTIONS * width * other_height, max(width, height, other_width, other_height))


def _in_frame(path: Path, mask: np.ndarray, frame: Frame) -> np.ndarray:
    size = mask.shape[::-1]
    if not same_proportions(size, frame.original):
        raise ImageError(f"the mask is {size[0]}x{size[1]}, its image {frame.original[0]}x{frame.original[1]}",
                         where=path, expected="the image's proportions")  # fmt: skip
    x, y, width, height = frame.crop
    enlarged = cv2.resize(mask.astype(np.uint8), frame.resized, interpolation=cv2.INTER_NEAREST)
    return enlarged[y : y + height, x : x + width] > 0


def why_not(problem: UserError) -> str:
    """A mask's fault as it is counted: without sizes and names, so that equal faults are one."""
    return (
        "the mask has other proportions than its image" if "proportions" in str(problem) else f"mask: {problem.found}"
    )
