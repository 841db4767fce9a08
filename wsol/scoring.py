"""Scores arrays of one's own in one call, over the evaluators of `common.measuring`."""

import operator
from collections.abc import Sequence
from typing import Literal

import numpy as np

from common.measuring.geometry import Frame, map_in_frame
from common.measuring.metrics import LocalizationEvaluator, LocalizationResult
from common.measuring.plausible import doubts
from common.measuring.protocols import PROTOCOLS
from common.system.errors import UserError, say


def score(
    maps: Sequence[np.ndarray],
    sizes: Sequence[tuple[int, int]],
    boxes: Sequence[np.ndarray],
    labels: Sequence[int],
    protocol: str = "wsoleval-v2",
    top5: Sequence[Sequence[int]] | None = None,
    shows: Literal["frame", "image"] | None = None,
) -> LocalizationResult:
    """Score N localization maps under a protocol.

    Args:
        maps: N of (h, w) float in [0, 1]; one of another size than the protocol's frame is enlarged or shrunk to it,
            bilinearly.
        sizes: width and height of the N original images.
        boxes: N of (M, 4), the true boxes `x0 y0 x1 y1` in pixels of the original image, end-exclusive.
        labels: N 0-based classes, over which some protocols average.
        protocol: one of `common.measuring.protocols.PROTOCOLS`.
        top5: N times the classifier's five best classes, best first; without them Top-1 and Top-5 are NaN.
        shows: what the maps show. `frame`, as is taken if omitted: what the protocol measures in, which is the whole
            image, or, for `bas`, `bas-extension`, `spol` and `adl`, the central 224 x 224 of 256 x 256 pixels.
            `image`: the whole image, of which the frame is cut.

    Returns:
        The accuracies at every threshold of the protocol; `print(result)` says the best in a sentence.

    Raises:
        UserError: an unknown protocol, numbers of images that differ, a map that is none or is transposed, a box
            outside its image, a class that is no whole number, or maps of their image's own size for a protocol that
            measures in the crop, without `shows`.

    >>> import numpy as np
    >>> map = np.zeros((224, 224), np.float32)
    >>> map[56:168, 56:168] = 1
    >>> result = score([map], [(400, 300)], [[[100, 75, 300, 225]]], [0])
    >>> result.max_box_acc
    100.0
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}", expected=f"one of {', '.join(PROTOCOLS)}")
    counts = {len(maps), len(sizes), len(boxes), len(labels), len(maps if top5 is None else top5)}
    if len(counts) != 1 or not len(maps):
        raise UserError(f"{len(maps)} maps, {len(sizes)} sizes, {len(boxes)} boxes, {len(labels)} labels",
                        expected="as many of each, one or more")  # fmt: skip
    evaluator = LocalizationEvaluator(PROTOCOLS[protocol])
    boxed: list[tuple[str, np.ndarray, tuple[int, int]]] = []
    for number, (one, size) in enumerate(zip(maps, sizes, strict=True)):
        frame = Frame.of_kind(PROTOCOLS[protocol].frame, tuple(map(int, size)))
        truth = _true_boxes(boxes[number], frame.original, number)
        if len(truth):
            boxed.append((f"image {number}", truth, frame.original))
        five = None if top5 is None else [_label(best, number) for best in top5[number]]
        try:
            evaluator.accumulate(_in_frame(one, frame, shows), frame, truth, _label(labels[number], number), five)
        except ValueError as error:
            raise UserError(f"map {number}: {error}") from error
    if boxed:
        say(f"note: {text}" for text in doubts(*zip(*boxed, strict=True)))
    return evaluator.compute()


def _true_boxes(boxes: np.ndarray, size: tuple[int, int], number: int) -> np.ndarray:
    truth = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    low, high = truth[:, :2], truth[:, 2:]
    if not np.isfinite(truth).all() or (low < 0).any() or (high > size).any() or (low >= high).any():
        raise UserError(f"boxes of image {number}: {truth.tolist()}",
                        expected=f"x0 < x1 and y0 < y1 in pixels of {size[0]} x {size[1]}")  # fmt: skip
    return truth


def _label(label: int, number: int) -> int:
    try:
        found = operator.index(label)
    except TypeError:
        found = -1
    if found < 0:
        raise UserError(f"class {label!r} of image {number}", expected="a whole number from 0 on")
    return found


def _in_frame(localization_map: np.ndarray, frame: Frame, shows: str | None) -> np.ndarray:
    """A map as its protocol measures it; one that is no map is left to the evaluator, which says what is wrong."""
    localization_map = np.asarray(localization_map)
    size = localization_map.shape[::-1]
    of_frame = size == frame.size and (shows != "image" or frame.resized == frame.size)
    if localization_map.ndim != 2 or not localization_map.size or of_frame:
        return localization_map
    if shows is None and size == frame.original and frame.resized != frame.size:
        raise ValueError(
            f"{size[0]} x {size[1]} like its image, while the protocol measures in a crop: say shows='image', or "
            "shows='frame' if the map shows the crop"
        )
    return map_in_frame(localization_map.astype(np.float32), frame, shows or "frame")
