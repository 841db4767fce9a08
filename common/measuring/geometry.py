"""The place of a network's input in the original image, and how boxes cross between the two.

Every method here looks at an image either squashed to a square, or squashed to a larger square and cut to its centre.
A `Frame` remembers which, and moves boxes both ways. How a ground-truth box enters a frame differs between papers by
clamps, rounding and what happens to boxes the crop leaves empty: these are the `GROUND_TRUTH_RULES`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.measuring.arrays import Boxes
from common.measuring.boxes import as_boxes
from common.system.errors import UserError

Size = tuple[int, int]  # width, height

LARGEST_IMAGE, LARGEST_INPUT = 1_000_000, 8192
"""Pixels a side that a file may say an image, or a network's input, has; pictures of the latter's size are made."""


@dataclass(frozen=True)
class Frame:
    """The original image resized to `resized` (aspect not kept), of which `crop` was taken.

    Attributes:
        original: width and height of the image in pixels.
        resized: width and height it was resized to.
        crop: `x y width height` of the part taken, in pixels of the resized image.
    """

    original: Size
    resized: Size
    crop: tuple[int, int, int, int]

    def __post_init__(self) -> None:
        if min(*self.original, *self.resized, *self.crop[2:]) < 1:
            raise ValueError(f"a frame needs sides of at least one pixel, got {self}")

    @classmethod
    def squash(cls, original: tuple[int, ...], side: int = 224) -> "Frame":
        """The whole image resized to `side` x `side`: GRCAM, DGL, wsolevaluation."""
        width, height = original
        return cls((width, height), (side, side), (0, 0, side, side))

    @classmethod
    def centre_crop(cls, original: tuple[int, ...], resize: int = 256, crop: int = 224) -> "Frame":
        """Resized to `resize` x `resize`, central `crop` x `crop` taken: BAS, SPOL, ADL."""
        offset = (resize - crop) // 2
        width, height = original
        return cls((width, height), (resize, resize), (offset, offset, crop, crop))

    @classmethod
    def of_kind(cls, kind: str, original: tuple[int, ...]) -> "Frame":
        """The frame of an image by its kind: `resize 224` or `resize 256 crop 224`; see `kind`.

        Raises:
            ValueError: another wording.
        """
        match = re.fullmatch(r"resize (\d+)(?: crop (\d+))?", kind)
        if not match:
            raise ValueError(f"unknown frame {kind!r}, expected like 'resize 224' or 'resize 256 crop 224'")
        resize, crop = match.groups()
        return cls.centre_crop(original, int(resize), int(crop)) if crop else cls.squash(original, int(resize))

    @property
    def size(self) -> Size:
        """Width and height of the network input."""
        return self.crop[2:]

    @property
    def kind(self) -> str:
        """A short name without the original's size, `resize 224` or `resize 256 crop 224`: what protocols ask for."""
        squashed = self.crop == (0, 0, *self.resized)
        text = f"resize {_side(self.resized)}"
        return text if squashed else f"{text} crop {_side(self.size)}"

    def to_frame(self, boxes: ArrayLike) -> Boxes:
        """Boxes (N, 4) in pixels of the original image to pixels of the frame; nothing is clipped or rounded."""
        return as_boxes(boxes) * _twice(self.resized) / _twice(self.original) - _twice(self.crop[:2])

    def to_original(self, boxes: ArrayLike) -> Boxes:
        """Boxes (N, 4) in pixels of the frame to pixels of the original image; nothing is clipped or rounded."""
        return (as_boxes(boxes) + _twice(self.crop[:2])) * _twice(self.original) / _twice(self.resized)

    def clip(self, boxes: ArrayLike) -> Boxes:
        """Boxes (N, 4) of the frame cut at its edges; what lies outside becomes empty, never inside out."""
        boxes = as_boxes(boxes)
        return np.clip(boxes, 0.0, _twice(self.size))

    def to_json(self) -> dict[str, list[int]]:
        """Plain lists, for a predictions file."""
        return {"original": list(self.original), "resized": list(self.resized), "crop": list(self.crop)}

    @classmethod
    def from_json(cls, fields: Any) -> "Frame":
        """The inverse of `to_json`.

        Raises:
            ValueError: a field is missing, is not a list of whole numbers of the right length, or makes no frame.
        """
        values = []
        for name, length in (("original", 2), ("resized", 2), ("crop", 4)):
            value = fields.get(name) if isinstance(fields, dict) else None
            if not isinstance(value, list) or len(value) != length or not all(type(n) is int for n in value):
                raise ValueError(f"frame field {name!r} is {value!r}, expected {length} whole numbers")
            values.append(tuple(value))
        frame = cls(*values)
        x, y, width, height = frame.crop
        if max(frame.original) > LARGEST_IMAGE or max(frame.resized) > LARGEST_INPUT:
            raise ValueError(f"the frame is too large: {frame.original} resized to {frame.resized}")
        if min(x, y) < 0 or x + width > frame.resized[0] or y + height > frame.resized[1]:
            raise ValueError(f"the crop {list(frame.crop)} leaves the image, resized to {list(frame.resized)}")
        return frame


def map_in_frame(localization_map: NDArray[np.floating[Any]], frame: Frame, shows: str) -> NDArray[np.floating[Any]]:
    """A localization map of any size enlarged or shrunk to a frame, bilinearly.

    Args:
        localization_map: (h, w) float32 or float64.
        frame: the frame that it is brought to.
        shows: what the map shows: the `frame` alone, or the whole `image`, of which the frame is cut.

    Returns:
        (H, W) of the same type and of the frame's size.

    Raises:
        ValueError: the map has height and width of the original image in each other's place.
    """
    height, width = localization_map.shape
    if (height, width) == frame.original != (width, height):
        raise ValueError(f"{width} x {height} for an image of {frame.original[0]} x {frame.original[1]}: transposed")
    x, y, width, height = (0, 0, *frame.size) if shows == "frame" else frame.crop
    size = frame.size if shows == "frame" else frame.resized
    resized = cv2.resize(localization_map, size, interpolation=cv2.INTER_LINEAR)
    return resized.astype(localization_map.dtype, copy=False)[y : y + height, x : x + width]


def _twice(pair: tuple[int, int]) -> NDArray[np.float64]:
    return np.array([*pair, *pair], np.float64)


def _side(size: Size) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def clip_one_sided(boxes: Boxes, frame: Frame) -> Boxes:
    """BAS: the first corner is raised to the crop's, the second lowered to it, and nothing else.

    A box outside the crop ends up inside out and stays in the list, where it can never be hit (BAS quirk Q12).
    """
    boxes = frame.to_frame(boxes)
    return np.concatenate([np.maximum(boxes[:, :2], 0.0), np.minimum(boxes[:, 2:], frame.size)], axis=1)


def clip_one_sided_to_pixels(boxes: Boxes, frame: Frame) -> Boxes:
    """BAS's later re-release: as `clip_one_sided`, but to the last pixel, and truncated to whole numbers."""
    boxes = frame.to_frame(boxes)
    last = np.array(frame.size) - 1
    clipped: Boxes = np.concatenate([np.maximum(boxes[:, :2], 0.0), np.minimum(boxes[:, 2:], last)], axis=1)
    return np.trunc(clipped)


def clip_and_drop_empty(boxes: Boxes, frame: Frame) -> Boxes:
    """SPOL: clipped to the image's last pixel, moved, clipped to the frame; boxes without area left are dropped."""
    last = _twice(frame.original) - 1.0
    boxes = frame.clip(frame.to_frame(np.clip(as_boxes(boxes), 0.0, last)))
    return boxes[(boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])]


def round_half_even(boxes: Boxes, frame: Frame) -> Boxes:
    """GRCAM, DGL: multiplied by the factor 224/side and rounded half to even; nothing is clipped."""
    factor = _twice(frame.resized) / _twice(frame.original)
    return np.round(as_boxes(boxes) * factor) - _twice(frame.crop[:2])


def truncate(boxes: Boxes, frame: Frame) -> Boxes:
    """wsolevaluation: truncated towards zero; nothing is clipped."""
    return np.trunc(frame.to_frame(boxes))


def truncate_product(boxes: Boxes, frame: Frame) -> Boxes:
    """ADL: the same, but multiplied by the factor 256/side, which puts some whole numbers a last digit lower."""
    factor = _twice(frame.resized) / _twice(frame.original)
    whole: Boxes = np.trunc(as_boxes(boxes) * factor - _twice(frame.crop[:2]))
    return whole


GROUND_TRUTH_RULES: dict[str, Callable[[Boxes, Frame], Boxes]] = {
    "clip-one-sided": clip_one_sided,
    "clip-one-sided-to-pixels": clip_one_sided_to_pixels,
    "clip-and-drop-empty": clip_and_drop_empty,
    "round-half-even": round_half_even,
    "truncate": truncate,
    "truncate-product": truncate_product,
}


CENTRE_CROP = "resize 256 crop 224"
SQUASH = "resize 224"
FRAMES = {"crop": CENTRE_CROP, "squash": SQUASH}
"""The two frames by the names that commands take."""


def frame_kinds(names: Sequence[str], least: str | None = None) -> list[str]:
    """The kinds of frame that `--frames` names.

    Args:
        names: keys of `FRAMES`.
        least: one that must be among them.

    Raises:
        UserError: none, one twice, or `least` is missing.
    """
    if not names or len(set(names)) != len(names) or (least and least not in names):
        expected = f"{least}, or both" if least else "crop, squash or both"
        raise UserError(f"--frames {' '.join(names)}", expected=expected)
    return [FRAMES[name] for name in names]


SIDE = 224
"""Pixels a side of both frames, and of what a network sees that was not trained at others."""


def seen_kind(kind: str, side: int) -> str:
    """Part of an image that a network for `side` pixels sees, so that its map covers a frame made for `SIDE`.

    A frame of `resize 256 crop 224` is seen as `resize 110 crop 96` by a network that was trained at 96.
    """
    return re.sub(r"\d+", lambda length: str(round(int(length.group()) * side / SIDE)), kind)
