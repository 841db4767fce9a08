"""Scores arrays of one's own in one call, over the evaluators of `common.measuring`."""

import operator
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from common.measuring.extraction import widened
from common.measuring.geometry import Frame, map_in_frame
from common.measuring.metrics import LocalizationEvaluator, LocalizationResult
from common.measuring.plausible import class_doubts, doubts
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
            outside its image, a class that is no whole number, or, without `shows`, maps of their image's own size or
            of 256 x 256 for a protocol that measures in the crop.

    >>> import numpy as np
    >>> map = np.zeros((224, 224), np.float32)
    >>> map[56:168, 56:168] = 1
    >>> result = score([map], [(400, 300)], [[[100, 75, 300, 225]]], [0])
    >>> result.max_box_acc
    100.0
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}", expected=f"one of {', '.join(PROTOCOLS)}")
    if shows not in (None, "frame", "image"):
        raise UserError(f"shows {shows!r}", expected="frame or image")
    given = {"maps": maps, "sizes": sizes, "boxes": boxes, "labels": labels}
    given |= {} if top5 is None else {"top5": top5}
    if generators := [name for name, each in given.items() if not hasattr(each, "__len__")]:
        raise UserError(f"{generators[0]} of the kind {type(given[generators[0]]).__name__}", expected="a list")
    if len(set(map(len, given.values()))) != 1 or not len(maps):
        raise UserError(", ".join(f"{len(each)} {name}" for name, each in given.items()),
                        expected="as many of each, one or more")  # fmt: skip
    evaluator = LocalizationEvaluator(PROTOCOLS[protocol])
    boxed: list[tuple[str, np.ndarray, tuple[int, int]]] = []
    for number, (one, size) in enumerate(zip(maps, sizes, strict=True)):
        frame = Frame.of_kind(PROTOCOLS[protocol].frame, _size(size, number))
        truth = _true_boxes(boxes[number], frame.original, number)
        if len(truth):
            boxed.append((f"image {number}", truth, frame.original))
        five = None if top5 is None else _five(top5[number], number)
        try:
            evaluator.accumulate(_in_frame(one, frame, shows), frame, truth, _label(labels[number], number), five)
        except ValueError as error:
            raise UserError(f"map {number}: {error}") from error
    if boxed:
        say(f"note: {text}" for text in doubts(*zip(*boxed, strict=True)))
    if top5 is not None:
        say(f"note: {text}" for text in class_doubts([*map(int, labels)], [[*map(int, best)] for best in top5]))
    return evaluator.compute()


def _size(size: Sequence[int], number: int) -> tuple[int, int]:
    try:
        width, height = (int(side) for side in size)
        whole = (width, height) == tuple(size) and min(width, height) > 0
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise UserError(f"size {size} of image {number}", expected="width and height in whole pixels, above 0")
    return width, height


def _five(best: Sequence[int], number: int) -> list[int]:
    if not hasattr(best, "__len__") or isinstance(best, str):
        raise UserError(f"best classes {best!r} of image {number}", expected="a list of five classes, the best first")
    five = [_label(one, number) for one in best]
    if not five or len(set(five)) < len(five):
        raise UserError(f"best classes {five} of image {number}", expected="five different classes, the best first")
    return five


def _true_boxes(boxes: np.ndarray, size: tuple[int, int], number: int) -> np.ndarray:
    try:
        given = np.asarray(boxes, dtype=np.float64)
        if given.ndim == 2 and given.size and given.shape[1] != 4 and given.shape != (2, 2):  # two corners
            raise ValueError(f"shape {given.shape}")
        truth = given.reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise UserError(f"boxes of image {number} that are no rows of four numbers ({error})",
                        expected="(M, 4), x0 y0 x1 y1") from error  # fmt: skip
    low, high = truth[:, :2], truth[:, 2:]
    if truth.size and max(size) > 1 and truth.max() <= 1 and (truth % 1 != 0).any():
        raise UserError(f"boxes of image {number}, {truth.tolist()}, are shares of it", expected="pixels",
                        do=f"multiply x by {size[0]} and y by {size[1]}")  # fmt: skip
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


def _array(localization_map: Any) -> np.ndarray:
    """A map as an array; a tensor's is taken off its graph and device, and bfloat16, which numpy lacks, is widened."""
    if hasattr(localization_map, "detach"):
        localization_map = localization_map.detach().cpu()
        if str(localization_map.dtype) == "torch.bfloat16":
            localization_map = localization_map.float()
    return np.asarray(localization_map)


def _in_frame(localization_map: Any, frame: Frame, shows: str | None) -> np.ndarray:
    """A map as its protocol measures it; one that is no map is left to the evaluator, which says what is wrong."""
    localization_map = _array(localization_map)
    size = localization_map.shape[::-1]
    of_frame = size == frame.size and (shows != "image" or frame.resized == frame.size)
    if localization_map.ndim != 2 or not localization_map.size or of_frame:
        return localization_map
    if shows is None and size in (frame.original, frame.resized) and frame.resized != frame.size:
        raise ValueError(
            f"{size[0]} x {size[1]} like its image{' before the crop' * (size != frame.original)}, while the protocol "
            "measures in a crop: say shows='image', or shows='frame' if the map shows the crop"
        )
    return map_in_frame(widened(localization_map), frame, shows or "frame")
